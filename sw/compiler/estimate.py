"""What a layer will cost, without compiling it."""

from dataclasses import dataclass

from weft import layout
from weft.config import AcceleratorConfig
from weft.hw.commands import Engine
from weft.ir import Concat, Convolution, Graph, Layer

from .maps import Mapped, map_channels
from .pack import pack
from .vector import layer_cycles

__all__ = ["LayerEstimate", "engine_of", "estimate"]


_PIPELINE = 50  # cycles from the last pixel to the last result, and for a command to begin


@dataclass(frozen=True, kw_only=True)
class LayerEstimate:
    """What is known of a layer beforehand.

    Attributes
    ----------
    name : :class:`str`
    engine : :class:`weft.hw.commands.Engine` or :py:`None`
        :py:`None` if nothing is to be done.
    cycles : :class:`int`
        On its engine, if nothing keeps it waiting.
    macs : :class:`int`
        Multiply-accumulates of the network.
    output_bytes : :class:`int`
        Activation memory of its output.
    constant_bytes : :class:`int`
        Weights and parameters on chip.
    """

    name: str
    engine: Engine | None
    cycles: int
    macs: int
    output_bytes: int
    constant_bytes: int


def engine_of(layer: Layer) -> Engine | None:
    """The engine that computes a layer; none for a concatenation, which is a matter of places."""
    if isinstance(layer, Concat):
        return None
    return Engine.MATRIX if isinstance(layer, Convolution) else Engine.VECTOR


def estimate(graph: Graph, config: AcceleratorConfig) -> tuple[LayerEstimate, ...]:
    """An estimate for every layer of ``graph``; what the compiler adds counts for the layer that
    it adds it to."""
    mapped = map_channels(pack(graph, config).graph, config)
    totals = [[0, 0, 0] for _ in graph.layers]
    for layer, origin in zip(mapped.graph.layers, mapped.origins, strict=True):
        blocks = mapped.channels[layer.output].blocks(config)
        _, height, width = mapped.graph.tensors[layer.output].shape
        cycles, constants = _layer(mapped, layer, config, blocks)
        totals[origin][0] += cycles
        totals[origin][1] = blocks * height * width * config.word_lanes
        totals[origin][2] += constants
    return tuple(
        LayerEstimate(name=layer.name, engine=engine_of(layer), cycles=cycles,
                      macs=layer.macs(graph.tensors[layer.output]), output_bytes=output,
                      constant_bytes=constants)
        for layer, (cycles, output, constants) in zip(graph.layers, totals, strict=True))


def _layer(mapped: Mapped, layer: Layer, config: AcceleratorConfig,
           blocks: int) -> tuple[int, int]:
    """Cycles, and bytes of constants."""
    if isinstance(layer, Concat):
        return 0, 0
    if not isinstance(layer, Convolution):
        return layer_cycles(config, mapped.graph, layer, blocks) + _PIPELINE, 0
    _, height, width = mapped.graph.tensors[layer.output].shape
    taps = layer.weights.shape[2] * layer.weights.shape[3]
    columns = layout.col_tiles(config, layer.weights.shape[0])
    steps = columns * taps * mapped.channels[layer.input].blocks(config)
    cycles = steps * max(height * width, config.pe_rows) + _PIPELINE
    weights = steps * config.weight_tile_rows * config.weight_row_lanes
    return cycles, weights + columns * config.cols * 8
