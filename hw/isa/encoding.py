"""Commands as bytes, and back, and as text."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from amaranth.lib import data

from .commands import COMMAND_BYTES, COMMANDS, Engine, Memory, Opcode, Rounding, VectorOp

__all__ = ["field_ranges", "encode", "decode", "disassemble"]


def _fields(layout: Any) -> dict[str, data.Field]:
    return {name: field for name, field in data.Layout.cast(layout) if not name.startswith("_")}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a field of a command lies, and which values it takes."""
    name: str
    offset: int
    mask: int
    low: int
    high: int
    kind: Any    # an enum, or None

    @property
    def sign(self) -> int:
        """The bit that makes a value negative; 0 if none does."""
        return -self.low


@lru_cache
def _places(opcode: Opcode) -> tuple[_Place, ...]:
    """All fields but the header."""
    places = []
    for name, field in _fields(COMMANDS[opcode]).items():
        if name == "header":
            continue
        kind = field.shape if isinstance(field.shape, type) else None
        signed = kind is None and field.shape.signed
        places.append(_Place(
            name=name, offset=field.offset, mask=(1 << field.width) - 1, kind=kind,
            low=-(1 << (field.width - 1)) if signed else 0,
            high=(1 << (field.width - signed)) - 1))
    return tuple(places)


def field_ranges(opcode: Opcode) -> dict[str, tuple[int, int]]:
    """The smallest and the largest value of each field of a command, but for the header."""
    return {place.name: (place.low, place.high) for place in _places(opcode)}


_OPCODES = {opcode.value: opcode for opcode in Opcode}


def encode(opcode: Opcode, *, wait: int = 0, post: int = 0, **fields: Any) -> bytes:
    """Bytes of one command; every field of the opcode's layout must be given.

    Raises
    ------
    ValueError
        If a field is missing, unknown, or its value does not fit.
    """
    places = _places(opcode)
    known = {place.name for place in places}
    if known != fields.keys():
        raise ValueError(f"Fields of {opcode.name} must be {', '.join(sorted(known))}, "
                         f"not {', '.join(sorted(fields))}")
    bits = opcode.value | (wait & 0xf) << 8 | (post & 0xf) << 12
    for place in places:
        value = fields[place.name]
        if place.kind is not None:  # an enum; a plain number will do
            value = place.kind(value).value
        if not place.low <= value <= place.high:
            raise ValueError(f"{opcode.name} {place.name} must be between {place.low} and "
                             f"{place.high}, not {value}")
        bits |= (int(value) & place.mask) << place.offset
    return bits.to_bytes(COMMAND_BYTES, "little")


def decode(raw: bytes) -> tuple[Opcode, dict[str, int]]:
    """Opcode and fields (``wait`` and ``post`` among them) of one command.

    Raises
    ------
    ValueError
        If the opcode is illegal.
    """
    bits = int.from_bytes(raw, "little")
    opcode = _OPCODES.get(bits & 0xff)
    if opcode is None:
        raise ValueError(f"Opcode {bits & 0xff:#04x} is illegal")
    values = {"wait": bits >> 8 & 0xf, "post": bits >> 12 & 0xf}
    for place in _places(opcode):
        value = bits >> place.offset & place.mask
        values[place.name] = value - 2 * (value & place.sign)
    return opcode, values


def disassemble(raw: bytes) -> str:
    """One line of text for one command."""
    opcode, values = decode(raw)

    def engines(mask: int) -> str:
        return "+".join(e.name.lower() for e in Engine if mask >> e.value & 1) or "-"

    wait, post = engines(values.pop("wait")), engines(values.pop("post"))
    enums = {"memory": Memory, "op": VectorOp, "rule": Rounding}
    text = " ".join(f"{name}={enums[name](value).name.lower() if name in enums else value}"
                    for name, value in values.items())
    return f"{opcode.name.lower():6} wait={wait} post={post} {text}"
