"""What a program takes at least: the limits of the array, the vector engine and the memory port.

From its commands, however well they are ordered and whatever they wait for::

    array   pixels of a weight tile, or the cycles in which the next one is shifted in if those are
            more, for each weight tile: MACs / (rows * cols), with channels rounded up to rows and
            columns
    vector  a cycle for each word that is read, or pair of operands where both are read at a time,
            or for each part of a result that is requantized
    read    bytes that are read, in whole beats, / bytes of a beat
    write   the same of bytes that are written

The engines run side by side, and the port reads and writes at the same time: so a layer takes at
least the largest of the four, and a program the largest of their sums.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode

from .ops import FieldValues
from .program import Program
from .timing.engines import command_cost, step_cycles, transfer_size

__all__ = ["Limits", "ProgramLimits", "program_limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What something takes at least of each resource, in cycles.

    Attributes
    ----------
    array, vector : :class:`int`
        Of the multipliers of the matrix engine, and of the vector engine.
    read, write : :class:`int`
        Of the memory port in either direction: beats.
    """

    array: int = 0
    vector: int = 0
    read: int = 0
    write: int = 0

    @property
    def cycles(self) -> int:
        """What it takes at least."""
        return max(self.array, self.vector, self.read, self.write)

    @property
    def resource(self) -> str:
        """The one that it takes most of, by its attribute's name; empty if it takes nothing."""
        most = max(fields(self), key=lambda field: int(getattr(self, field.name)))
        return most.name if self.cycles else ""

    def share(self, cycles: int) -> float:
        """What part of the possible speed something has that takes ``cycles``, from 0 to 1."""
        return min(1.0, self.cycles / cycles) if cycles else 0.0

    @staticmethod
    def sum(parts: "Iterable[Limits]") -> "Limits":
        """What several things take."""
        columns = [(each.array, each.vector, each.read, each.write) for each in parts]
        array, vector, read, write = map(sum, zip(*columns, strict=True)) if columns else [0] * 4
        return Limits(array=array, vector=vector, read=read, write=write)


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """The limits of a command stream.

    Attributes
    ----------
    layers : :class:`tuple` of :class:`Limits`
        Of each layer of the program; tensors and constants that its commands load and store are
        its own.
    inputs : :class:`Limits`
        Of loads and stores that belong to no layer.
    commands : :class:`Limits`
        Of the fetch of the stream.
    """

    layers: tuple[Limits, ...]
    inputs: Limits
    commands: Limits

    @property
    def total(self) -> Limits:
        """Of the whole stream."""
        return Limits.sum([*self.layers, self.inputs, self.commands])


def program_limits(program: Program, *, warm: bool = False) -> ProgramLimits:
    """The limits of a program, or of its warm stream."""
    config = program.config
    raw, infos = ((program.warm_commands, program.warm_infos) if warm else
                  (program.commands, program.infos))
    found: dict[int | None, list[Limits]] = {}
    for index, info in enumerate(infos):
        opcode, values = decode(raw[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES])
        found.setdefault(info.layer, []).append(_command(config, opcode, values))
    return ProgramLimits(
        layers=tuple(Limits.sum(found.get(layer, ())) for layer in range(len(program.layers))),
        inputs=Limits.sum(found.get(None, ())),
        commands=Limits(read=len(raw) // config.axi_bytes))


def _command(config: AcceleratorConfig, opcode: Opcode, values: FieldValues) -> Limits:
    match opcode:
        case Opcode.MATRIX:
            return Limits(array=_array_cycles(config, values))
        case Opcode.VECTOR:
            return Limits(vector=command_cost(config, opcode, values).busy)
        # Beside the array, and not at the memory port.
        case Opcode.TURN | Opcode.SOFTMAX | Opcode.NORMALIZE:
            return Limits()
    lines, beats, _ = transfer_size(config, opcode, values)
    return (Limits(read=lines * beats) if opcode is Opcode.LOAD else
            Limits(write=lines * beats))


def _array_cycles(config: AcceleratorConfig, values: FieldValues) -> int:
    steps = (values["col_tiles"] * values["kernel_h"] * values["kernel_w"]
             * values["channel_blocks"])
    if config.sequential:  # a lane of a word in each cycle
        return steps * values["out_pixels"] * config.rows
    tiles, rest = divmod(values["out_pixels"], values["tile_pixels"])
    return steps * (tiles * step_cycles(config, values["tile_pixels"])
                    + (step_cycles(config, rest) if rest else 0))
