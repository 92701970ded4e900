"""The bytes of every command."""

from collections.abc import Sequence
from typing import Any

from weft.compiler.ops import Address, Difference, Op, Quotient
from weft.hw.isa.encoding import encode
from weft.hw.isa.limits import LOCAL_ADDRESSES

from .allocate import Allocation
from .schedule import Tokens

__all__ = ["emit"]

# The only address that may be negative: padding is subtracted from it.
_WRAPPING = {"in_base": LOCAL_ADDRESSES}


def emit(ops: Sequence[Op], tokens: Sequence[Tokens], allocation: Allocation) -> bytes:
    """The command stream: 64 bytes for each op."""
    stream = bytearray()

    def resolve(address: Address) -> int:
        return allocation.addresses[address.buffer] + address.offset

    for op, token in zip(ops, tokens, strict=True):
        fields: dict[str, Any] = {}
        for name, value in op.fields.items():
            if isinstance(value, Address):
                fields[name] = resolve(value) % _WRAPPING.get(name, 1 << 64)
            elif isinstance(value, Quotient):
                fields[name] = resolve(value.address) // value.divisor
            elif isinstance(value, Difference):
                fields[name] = (resolve(value.after) - resolve(value.before)) % LOCAL_ADDRESSES
            else:
                fields[name] = value
        stream += encode(op.opcode, wait=token.wait, post=token.post, **fields)
    return bytes(stream)
