"""What the compiler makes: a command stream, and everything that a host needs to run it."""

from dataclasses import dataclass, field

from weft.config import AcceleratorConfig
from weft.hw.commands import COMMAND_BYTES, Engine, disassemble
from weft.ir import Graph

__all__ = ["Program", "CommandInfo", "LayerInfo", "Slot", "Section"]


@dataclass(frozen=True, kw_only=True)
class CommandInfo:
    """What a command is for.

    Attributes
    ----------
    layer : :class:`int` or :py:`None`
        Index of the layer; :py:`None` for loads and stores of the graph's inputs.
    engine : :class:`weft.hw.commands.Engine`
    text : :class:`str`
    reads, writes : :class:`tuple` of (space, start, stop)
        All that it may touch; units on chip, bytes in space "external".
    """

    layer: int | None
    engine: Engine
    text: str
    reads: tuple[tuple[str, int, int], ...] = field(repr=False)
    writes: tuple[tuple[str, int, int], ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """A layer, and the commands that compute it.

    Attributes
    ----------
    macs : :class:`int`
        Multiply-accumulates of the network, padded taps included, idle lanes not.
    commands : :class:`tuple` of :class:`int`
        Indices of all its commands: loads of constants, matrix commands, store of its output.
    """

    name: str
    op: str
    engine: Engine
    macs: int
    output: str
    shape: tuple[int, int, int]
    commands: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a tensor lies in external memory."""
    tensor: str
    address: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of external memory, for the memory map."""
    name: str
    address: int
    size: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A compiled graph.

    Attributes
    ----------
    commands : :class:`bytes`
        The command stream, at ``command_address`` of external memory (and part of ``image``).
    infos : :class:`tuple` of :class:`CommandInfo`
        One for each command.
    image : :class:`tuple` of (address, bytes)
        All constants: to be written to external memory once.
    inputs, outputs, kept : :class:`tuple` of :class:`Slot`
        Tensors to write before a frame, and to read after it. ``inputs`` and ``outputs`` follow
        the graph's edges; an input that nothing uses has no slot. ``kept`` are the further layer
        outputs that are stored.
    memory_bytes : :class:`int`
        External memory in use, from address 0.
    peak_words : :class:`int`
        Activation words in use.
    """

    graph: Graph
    config: AcceleratorConfig
    commands: bytes = field(repr=False)
    command_address: int
    infos: tuple[CommandInfo, ...] = field(repr=False)
    image: tuple[tuple[int, bytes], ...] = field(repr=False)
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    kept: tuple[Slot, ...]
    layers: tuple[LayerInfo, ...]
    sections: tuple[Section, ...] = field(repr=False)
    memory_bytes: int
    peak_words: int

    @property
    def count(self) -> int:
        """Commands in the stream."""
        return len(self.commands) // COMMAND_BYTES

    def command(self, index: int) -> bytes:
        """The 64 bytes of one command."""
        return self.commands[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES]

    def dump(self) -> str:
        """The program as text: layers, memory map, commands."""
        lines = [f"program {self.graph.name} for {self.config.name}: {len(self.layers)} layers, "
                 f"{self.count} commands, {self.memory_bytes} bytes of external memory, "
                 f"{self.peak_words} of {self.config.activation_depth} activation words", "",
                 "layers"]
        for number, (layer, info) in enumerate(zip(self.graph.layers, self.layers, strict=True)):
            source = self.graph.tensors[layer.input]
            kernel = "x".join(str(size) for size in layer.weights.shape[2:])
            lines.append(
                f"  {number:3} {info.name}: {info.op} {layer.input} {_shape(source.shape)} -> "
                f"{info.output} {_shape(info.shape)} kernel {kernel} strides "
                f"{layer.strides[0]},{layer.strides[1]} pads {','.join(map(str, layer.pads))} "
                f"dilations {layer.dilations[0]},{layer.dilations[1]} clamp "
                f"{layer.clamp[0]}..{layer.clamp[1]} macs {info.macs}")
        lines += ["", "external memory"]
        lines += [f"  {section.address:#010x} {section.size:9} {section.name}"
                  for section in self.sections]
        lines += ["", "commands"]
        for index, command in enumerate(self.infos):
            lines.append(f"  {index:4} {command.text}")
            lines.append(f"       {disassemble(self.command(index))}")
        return "\n".join(lines) + "\n"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
