"""What a model format offers."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from weft.ir import Misfits, Partition

__all__ = ["FrontEnd", "RuledFrontEnd"]


class FrontEnd(Protocol):
    """A model format: a package beside :mod:`weft.frontend.onnx`, and an entry in
    :data:`weft.frontend.registry.FRONT_ENDS`.

    Everything else about a format is in the :class:`weft.ir.Partition` that it makes: names, what
    the host runs and with what, and golden values.

    Attributes
    ----------
    format : :class:`str`
        For messages.
    """

    @property
    def format(self) -> str: ...

    def reads(self, path: Path, head: bytes) -> bool:
        """Whether a file seems to be of this format, by its name or by its first bytes.

        Parameters
        ----------
        path : :class:`pathlib.Path`
            It need not exist.
        head : :class:`bytes`
            Its first 64 bytes, as far as there are any.
        """
        ...

    def takes(self, model: object) -> bool:
        """Whether ``model`` is a model of this format in memory."""
        ...

    def partition(self, model: object, misfits: Misfits | None = None) -> Partition:
        """The model in segments, each for the accelerator or for the host.

        Parameters
        ----------
        model : path, or what :meth:`takes` accepts
        misfits : callable
            Asked of the graphs; what it names is left to the host instead, with its reason.

        Raises
        ------
        ModelError
            In one line: the file or node, what was expected, what came. Also if nothing at all can
            run on the accelerator.
        """
        ...


@runtime_checkable
class RuledFrontEnd(FrontEnd, Protocol):
    """A format whose models may be rounded by several rules.

    Attributes
    ----------
    rules : :class:`tuple` of :class:`str`
        Their names; the first is that of the format itself.
    """

    @property
    def rules(self) -> tuple[str, ...]: ...

    def partition(self, model: object, misfits: Misfits | None = None,
                  rule: str = "") -> Partition:
        """As :meth:`FrontEnd.partition`, by the rule of a name.

        Raises
        ------
        InputError
            If there is no such rule.
        """
        ...
