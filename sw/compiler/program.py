"""What the compiler makes: a command stream, and everything that a host needs to run it."""

from dataclasses import dataclass, field

import numpy as np

from weft.errors.text import printable
from weft.hw.isa.commands import COMMAND_BYTES, Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import disassemble
from weft.ir import Graph, Layer, layout
from weft.ir.layout import ChannelMap
from weft.reference.exact import Exactness

from .first_layer import Packing

__all__ = ["Program", "CommandInfo", "LayerInfo", "Slot", "Section", "Resident"]


@dataclass(frozen=True, kw_only=True)
class CommandInfo:
    """What a command is for.

    Attributes
    ----------
    layer : :class:`int` or :py:`None`
        Index of the layer; :py:`None` for loads and stores of the graph's inputs and constants.
    engine : :class:`weft.hw.isa.commands.Engine`
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
    engine : :class:`weft.hw.isa.commands.Engine` or :py:`None`
        What computes it; :py:`None` for a concatenation, which nothing computes.
    macs : :class:`int`
        Multiply-accumulates of the network, padded taps included, idle lanes not.
    commands : :class:`tuple` of :class:`int`
        Indices of all its commands: loads, commands of its engine, stores.
    warm_commands : :class:`tuple` of :class:`int`
        The same of the program's warm commands.
    exactness : :class:`Exactness` or :py:`None`
        For how many of all possible inputs the result is proven to be that of onnxruntime;
        :py:`None` where it always is, by construction.
    """

    name: str
    op: str
    engine: Engine | None
    macs: int
    output: str
    shape: tuple[int, int, int]
    commands: tuple[int, ...]
    exactness: Exactness | None = None
    warm_commands: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a tensor lies in external memory, and how: see :meth:`Program.pack`.

    Attributes
    ----------
    tensor : :class:`str`
    address, size : :class:`int`
        Bytes.
    shape : (C, H, W)
        As it lies there; that of the graph's tensor, unless there is a ``packing``.
    channels : :class:`ChannelMap`
    plane_bytes : :class:`int`
        From channel block to channel block.
    transposed : :class:`bool`
        Whether rows lie there as columns: the planes of the graph's tensor, transposed.
    packing : :class:`Packing` or :py:`None`
        Of an input that is rearranged, see :mod:`.first_layer`; once it is transposed.
    """

    tensor: str
    address: int
    size: int
    shape: tuple[int, int, int]
    channels: ChannelMap
    plane_bytes: int
    transposed: bool = False
    packing: Packing | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of external memory, for the memory map."""
    name: str
    address: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A buffer in activation memory, for the memory map.

    Attributes
    ----------
    name : :class:`str`
        A tensor, or a buffer for tiles of one.
    address, words : :class:`int`
    first, last : :class:`int`
        Commands between which it is in use.
    """

    name: str
    address: int
    words: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A compiled graph.

    Attributes
    ----------
    commands : :class:`bytes`
        The command stream, at ``command_address`` of external memory (and part of ``image``).
    infos : :class:`tuple` of :class:`CommandInfo`
        One for each command.
    warm_commands : :class:`bytes`
        A second stream, at ``warm_address``, that leaves out the loads of constants. It gives the
        same results once ``commands`` has run, and can be run any number of times. Empty if not
        all constants fit on the chip together.
    warm_infos : :class:`tuple` of :class:`CommandInfo`
        One for each of its commands.
    image : :class:`tuple` of (address, bytes)
        All constants, those that are tensors included: to be written to external memory once.
    residents, warm_residents : :class:`tuple` of :class:`Resident`
        Buffers in activation memory, with the commands of either stream that use them.
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
    warm_commands: bytes = field(repr=False)
    warm_address: int
    warm_infos: tuple[CommandInfo, ...] = field(repr=False)
    image: tuple[tuple[int, bytes], ...] = field(repr=False)
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    kept: tuple[Slot, ...]
    layers: tuple[LayerInfo, ...]
    sections: tuple[Section, ...] = field(repr=False)
    residents: tuple[Resident, ...] = field(repr=False)
    warm_residents: tuple[Resident, ...] = field(repr=False)
    memory_bytes: int
    peak_words: int

    @property
    def count(self) -> int:
        """Commands in the stream."""
        return len(self.commands) // COMMAND_BYTES

    def command(self, index: int) -> bytes:
        """The 64 bytes of one command."""
        return self.commands[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES]

    def pack(self, slot: Slot, values: np.ndarray) -> bytes:
        """Bytes of an input in external memory, from the int8 [C, H, W] tensor of the graph."""
        if slot.transposed:
            values = values.swapaxes(1, 2)
        if slot.packing is not None:
            values = slot.packing.apply(values)
        return layout.pack_tensor(self.config, values, channels=slot.channels,
                                  plane_bytes=slot.plane_bytes)

    def unpack(self, slot: Slot, raw: bytes) -> np.ndarray:
        """The int8 [C, H, W] tensor of the graph from the bytes of an output or kept tensor."""
        values = layout.unpack_tensor(self.config, raw, slot.shape, channels=slot.channels,
                                      plane_bytes=slot.plane_bytes)
        return np.ascontiguousarray(values.swapaxes(1, 2)) if slot.transposed else values

    def dump(self) -> str:
        """The program as text: layers, memory map, commands."""
        lines = [f"program {self.graph.name} for {self.config.name}: {len(self.layers)} layers, "
                 f"{self.count} commands, {self.memory_bytes} bytes of external memory, "
                 f"{self.peak_words} of {self.config.activation_depth} activation words", "",
                 "layers"]
        lines += [f"  {number:3} {_describe(self.graph, layer)} macs {info.macs}"
                  + (f", {info.exactness}" if info.exactness else "")
                  for number, (layer, info) in enumerate(zip(self.graph.layers, self.layers,
                                                             strict=True))]
        packed = [slot for slot in self.inputs if slot.packing is not None]
        if packed:
            lines += ["", "packed inputs"]
            lines += [f"  {slot.tensor} {_shape(self.graph.tensors[slot.tensor].shape)} as "
                      f"{_shape(slot.shape)}" for slot in packed]
        lines += ["", "external memory"]
        lines += [f"  {section.address:#010x} {section.size:9} {section.name}"
                  for section in self.sections]
        lines += ["", "activation memory (words), and the commands that use it"]
        lines += [f"  {resident.address:6}..{resident.address + resident.words - 1:<6} "
                  f"{resident.first:5}..{resident.last:<5} {resident.name}"
                  for resident in self.residents]
        lines += ["", "commands"]
        for index, info in enumerate(self.infos):
            lines.append(f"  {index:4} {self._describe_command(info)}")
            lines.append(f"       {disassemble(self.command(index))}")
        return "\n".join(map(printable, lines)) + "\n"

    def _describe_command(self, info: CommandInfo) -> str:
        """What a command does, and for which layer, if that does not go without saying."""
        name = "" if info.layer is None else self.layers[info.layer].name
        return info.text if not name or info.text.startswith(name) else f"{info.text} for {name}"


def _describe(graph: Graph, layer: Layer) -> str:
    """A layer with the shapes around it, and its numbers."""
    sources = " ".join(f"{name} {_shape(graph.tensors[name].shape)}" for name in layer.inputs)
    text = (f"{layer.name}: {layer.op} {sources} -> {layer.output} "
            f"{_shape(graph.tensors[layer.output].shape)}")
    weights = getattr(layer, "weights", None)
    kernel = getattr(layer, "kernel", None) if weights is None else weights.shape[-2:]
    if kernel is not None:
        text += f" kernel {_shape(kernel)}"
    for name in ("strides", "pads", "dilations", "factors"):
        values = getattr(layer, name, None)
        if values is not None:
            text += f" {name} {','.join(map(str, values))}"
    clamp = getattr(layer, "clamp", None)
    return text if clamp is None else f"{text} clamp {clamp[0]}..{clamp[1]}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
