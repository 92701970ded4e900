"""Fourth pass: the bytes of every command."""

from collections.abc import Sequence

from weft.hw.commands import encode

from .allocate import Allocation
from .ops import Address, Op
from .schedule import Tokens

__all__ = ["emit"]

# The one address that may lie in front of its memory: padding is subtracted from it.
_WRAPPING = {"in_base": 1 << 24}


def emit(ops: Sequence[Op], tokens: Sequence[Tokens], allocation: Allocation) -> bytes:
    """The command stream: 64 bytes for each op."""
    stream = bytearray()
    for op, token in zip(ops, tokens, strict=True):
        fields = {}
        for name, value in op.fields.items():
            if isinstance(value, Address):
                value = allocation.addresses[value.buffer] + value.offset
                value %= _WRAPPING.get(name, 1 << 64)
            fields[name] = value
        stream += encode(op.opcode, wait=token.wait, post=token.post, **fields)
    return bytes(stream)
