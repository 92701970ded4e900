"""How an engine says that a command cannot be executed."""

from amaranth.hdl import unsigned
from amaranth.lib import data

__all__ = ["Fault", "CODE_WIDTH", "INDEX_WIDTH", "indexed_layout"]


CODE_WIDTH = 4
"""Bits of a :class:`~weft.hw.isa.registers.Error`."""

INDEX_WIDTH = 16
"""Bits of the index of a command in its stream."""


def indexed_layout(command: type[data.Struct]) -> data.StructLayout:
    """A command with its index in the command stream."""
    return data.StructLayout({"index": INDEX_WIDTH, "command": command})


class Fault(data.Struct):
    """Why the device must stop, and the command at fault.

    ``code`` is a :class:`~weft.hw.isa.registers.Error`; while it is ``Error.NONE`` (zero) there is
    no fault and ``index`` means nothing.
    """
    code:  unsigned(CODE_WIDTH)
    index: unsigned(INDEX_WIDTH)
