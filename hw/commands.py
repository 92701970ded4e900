"""The command set: one definition for RTL, compiler, functional simulator and documentation.

A command is a fixed 64-byte descriptor in external memory, little-endian. The device fetches a
stream of them in order and hands each to the queue of its engine. Engines run concurrently and
meet only at counting semaphores, one for each ordered pair of engines: a command lists from which
engines it consumes a token before it starts, and to which engines it gives one when it is done.
"""

from typing import Any

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum

__all__ = ["COMMAND_BYTES", "Engine", "Opcode", "Memory", "Header", "LoadCommand", "MatrixCommand",
           "StoreCommand", "ChannelParameters", "COMMANDS", "ENGINES", "encode", "decode",
           "disassemble"]


COMMAND_BYTES = 64
_COMMAND_BITS = COMMAND_BYTES * 8


class Engine(enum.Enum, shape=2):
    """The engines, in the order of their bits in wait and post masks."""
    LOAD   = 0
    MATRIX = 1
    VECTOR = 2
    STORE  = 3


class Opcode(enum.Enum, shape=8):
    """What a command does. Zero is no opcode, so that cleared memory is no program."""
    LOAD   = 0x01
    MATRIX = 0x02
    STORE  = 0x03


class Memory(enum.Enum, shape=2):
    """On-chip memories a LOAD can fill. Addresses count units of the memory, not bytes."""
    ACTIVATION = 0
    WEIGHT     = 1
    PARAMETER  = 2


class Header(data.Struct):
    """The first 32 bits of every command."""
    opcode: Opcode
    wait:   unsigned(4)   # consume a token from each of these engines before starting
    post:   unsigned(4)   # give a token to each of these engines when done
    _0:     unsigned(16)


class LoadCommand(data.Struct):
    """Copy ``lines`` runs of ``units`` units each from external memory to an on-chip memory.

    A unit is an activation word, a weight row or a parameter entry; in external memory it takes
    the next power of 2 of its bytes. Addresses in external memory are in bytes and must be
    multiples of the beat size.
    """
    header:        Header
    memory:        Memory
    _0:            unsigned(14)
    lines:         unsigned(16)  # 1..65535
    address:       unsigned(64)  # of the first line, bytes
    stride:        unsigned(32)  # from line to line, bytes
    units:         unsigned(24)  # per line, at least 1
    _1:            unsigned(8)
    local_address: unsigned(24)  # of the first line, units
    _2:            unsigned(8)
    local_stride:  unsigned(24)  # from line to line, units
    _3:            unsigned(_COMMAND_BITS - 248)


class StoreCommand(data.Struct):
    """Copy activation words to external memory; fields as in :class:`LoadCommand`."""
    header:        Header
    _0:            unsigned(16)
    lines:         unsigned(16)
    address:       unsigned(64)
    stride:        unsigned(32)
    units:         unsigned(24)
    _1:            unsigned(8)
    local_address: unsigned(24)
    _2:            unsigned(8)
    local_stride:  unsigned(24)
    _3:            unsigned(_COMMAND_BITS - 248)


class MatrixCommand(data.Struct):
    """One convolution (a fully connected layer is one of 1x1 output) over on-chip data.

    The engine walks, outermost first: column tiles, pixel tiles, kernel rows, kernel columns,
    channel blocks, pixels. Weight tiles lie in the weight memory in that order. Each pixel tile
    is requantized to the output while the next one is accumulated. Addresses and plane sizes are
    in words of the activation memory; all sizes are at least 1.

    Products that the compiler can form are fields, so that the engine only adds:
    ``pixel_row_step = stride_h * in_w`` and ``kernel_row_step = dilation_h * in_w``;
    ``in_base`` is the address of pixel (0, 0) of channel block 0 less ``pad_top * in_w +
    pad_left``, modulo 2**24.
    """
    header:          Header
    in_base:         unsigned(24)
    in_zero:         signed(8)     # input zero point, injected for taps that fall outside
    in_plane:        unsigned(24)  # from channel block to channel block
    pad_top:         unsigned(8)
    in_h:            unsigned(16)
    in_w:            unsigned(16)
    channel_blocks:  unsigned(16)
    kernel_h:        unsigned(8)
    kernel_w:        unsigned(8)
    stride_h:        unsigned(8)
    stride_w:        unsigned(8)
    dilation_h:      unsigned(8)
    dilation_w:      unsigned(8)
    pixel_row_step:  unsigned(24)
    pad_left:        unsigned(8)
    kernel_row_step: unsigned(24)
    _0:              unsigned(8)
    out_w:           unsigned(16)
    tile_pixels:     unsigned(16)  # pixels of a full pixel tile, at most accumulator_pixels
    out_pixels:      unsigned(24)  # out_h * out_w
    out_zero:        signed(8)
    out_base:        unsigned(24)
    clamp_min:       signed(8)
    out_plane:       unsigned(24)
    clamp_max:       signed(8)
    col_tiles:       unsigned(16)
    last_groups:     unsigned(8)   # requantization groups in use in the last column tile
    _1:              unsigned(8)
    weight_base:     unsigned(24)  # weight row of the first tile
    _2:              unsigned(8)
    parameter_base:  unsigned(24)  # parameter entry of the first group
    _3:              unsigned(_COMMAND_BITS - 472)


class ChannelParameters(data.Struct):
    """What requantization needs to know of one output channel; a parameter entry holds those of
    ``requant_lanes`` consecutive channels."""
    bias:  signed(32)
    scale: unsigned(32)  # bits of a float32: zero, or positive and normal


COMMANDS: dict[Opcode, type[data.Struct]] = {
    Opcode.LOAD: LoadCommand, Opcode.MATRIX: MatrixCommand, Opcode.STORE: StoreCommand,
}
"""Layout of each opcode."""

ENGINES: dict[Opcode, Engine] = {
    Opcode.LOAD: Engine.LOAD, Opcode.MATRIX: Engine.MATRIX, Opcode.STORE: Engine.STORE,
}
"""Engine that executes each opcode."""

assert all(data.Layout.cast(layout).size == _COMMAND_BITS for layout in COMMANDS.values())


def _fields(layout: Any) -> dict[str, data.Field]:
    return {name: field for name, field in data.Layout.cast(layout) if not name.startswith("_")}


def encode(opcode: Opcode, *, wait: int = 0, post: int = 0, **fields: Any) -> bytes:
    """Bytes of one command; every field of the opcode's layout must be given.

    Raises
    ------
    ValueError
        If a field is missing, unknown, or its value does not fit.
    """
    layout = COMMANDS[opcode]
    known = set(_fields(layout)) - {"header"}
    if known != set(fields):
        raise ValueError(f"Fields of {opcode.name} must be {', '.join(sorted(known))}, "
                         f"not {', '.join(sorted(fields))}")
    for name, field in _fields(layout).items():
        if name == "header":
            continue
        shape = field.shape
        value = fields[name]
        if isinstance(value, enum.Enum):
            continue
        low = -(1 << (shape.width - 1)) if shape.signed else 0
        high = (1 << (shape.width - shape.signed)) - 1
        if not low <= value <= high:
            raise ValueError(f"{opcode.name} {name} must be between {low} and {high}, not {value}")
    header = {"opcode": opcode, "wait": wait, "post": post}
    const = data.Layout.cast(layout).const({"header": header, **fields})
    return const.as_bits().to_bytes(COMMAND_BYTES, "little")


def decode(raw: bytes) -> tuple[Opcode, dict[str, int]]:
    """Opcode and fields (``wait`` and ``post`` among them) of one command.

    Raises
    ------
    ValueError
        If the opcode is illegal.
    """
    bits = int.from_bytes(raw, "little")
    try:
        opcode = Opcode(bits & 0xff)
    except ValueError:
        raise ValueError(f"Opcode {bits & 0xff:#04x} is illegal") from None
    values = {"wait": bits >> 8 & 0xf, "post": bits >> 12 & 0xf}
    for name, field in _fields(COMMANDS[opcode]).items():
        if name == "header":
            continue
        width = field.width
        value = bits >> field.offset & ((1 << width) - 1)
        if isinstance(field.shape, type):  # an enum
            values[name] = value
            continue
        negative = field.shape.signed and value >> (width - 1)
        values[name] = value - (1 << width) if negative else value
    return opcode, values


def disassemble(raw: bytes) -> str:
    """One line of text for one command."""
    opcode, values = decode(raw)

    def engines(mask: int) -> str:
        return "+".join(e.name.lower() for e in Engine if mask >> e.value & 1) or "-"

    wait, post = engines(values.pop("wait")), engines(values.pop("post"))
    text = " ".join(f"{name}={Memory(value).name.lower() if name == 'memory' else value}"
                    for name, value in values.items())
    return f"{opcode.name.lower():6} wait={wait} post={post} {text}"
