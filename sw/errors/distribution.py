"""The distribution that this package comes in, whose name is not that of the import."""

from importlib.metadata import packages_distributions

__all__ = ["install_command"]


_PACKAGE = __name__.partition(".")[0]


def install_command(extra: str) -> str:
    """The command that installs what an extra of the distribution consists of.

    The distribution is named as it is installed: its name on a package index may be another
    project's. From a clone that is not installed, the command is that for its folder.
    """
    names = packages_distributions().get(_PACKAGE, ())
    # A distribution that is called as the import is what an older installation left behind.
    name = min(names, key=lambda name: (name == _PACKAGE, name), default=".")
    return f"pip install '{name}[{extra}]'"
