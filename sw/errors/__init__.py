"""Errors that are the user's to mend: one clear line, no traceback on the command line."""

from .text import printable

__all__ = ["WeftError", "ModelError", "CompileError", "InputError", "ToolError", "HostOnlyWarning",
           "OtherDesignWarning"]


class WeftError(Exception):
    """Base of all errors that the command line prints as one line, with exit code 2.

    As text it is one line, whatever the names in it are made of.

    Parameters
    ----------
    text : :class:`str`
    cure : :class:`str`
        What to change, if that is known and the text does not say it.
    """

    def __init__(self, text: str = "", *, cure: str = ""):
        super().__init__(text)
        self.cure = cure

    def __str__(self) -> str:
        return printable(super().__str__())


class ModelError(WeftError):
    """A model that cannot be read, or asks for something that is not supported."""


class CompileError(WeftError):
    """A model that does not fit the configuration."""


class InputError(WeftError):
    """Input data of the wrong shape or type, or an argument that makes no sense."""


class ToolError(WeftError):
    """A tool that is missing, too old, or failed; the message gives the cure."""


class HostOnlyWarning(UserWarning):
    """Nothing of a model runs on the accelerator; the message gives the reason."""


class OtherDesignWarning(UserWarning):
    """A board was built from something else than this release of Weft has for it."""
