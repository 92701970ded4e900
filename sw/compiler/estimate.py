"""What a layer will cost on its engine, without compiling it.

What a frame takes is more than that, or less: layers wait for memory and for one another, and
engines overlap. :mod:`weft.runtime.estimate` has those figures, from the same model of the engines.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from weft.compiler.planning.columns import tile_pixels
from weft.compiler.planning.loop_order import layer_cycles, requantizes
from weft.compiler.planning.products import matmul_cycles, row_layer_cycles
from weft.compiler.planning.skip import runs
from weft.compiler.timing.engines import command_cost, vector_overhead
from weft.errors import CompileError
from weft.hw.isa.commands import Engine, Opcode, Rounding
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import RowConstant
from weft.hw.isa.limits import MOST_NORMALIZED
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.subset import roundings
from weft.ir import (
    Alias,
    Concat,
    Convolution,
    Graph,
    Layer,
    MatMul,
    Normalization,
    RowLayer,
    Softmax,
    Sums,
    layout,
)

from .channel_layout import ChannelLayout, lay_out_channels
from .first_layer import pack
from .folding import fold_lookups
from .misfit import MisfitError

__all__ = ["Crossing", "LayerEstimate", "check_engines", "crossing", "engine_of", "estimate",
           "least_cycles"]


@dataclass(frozen=True, kw_only=True)
class LayerEstimate:
    """What is known of a layer beforehand.

    Attributes
    ----------
    name : :class:`str`
    engine : :class:`weft.hw.isa.commands.Engine` or :py:`None`
        :py:`None` if nothing is to be done.
    cycles : :class:`int`
        On its engine as one command, if nothing keeps it waiting: see
        :mod:`weft.compiler.timing.engines`.
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
    """The engine that computes a layer; none for what is a matter of places."""
    if isinstance(layer, Concat | Alias):
        return None
    if isinstance(layer, RowLayer):
        return Engine.LOAD
    return Engine.MATRIX if isinstance(layer, Convolution | MatMul) else Engine.VECTOR


def check_engines(graph: Graph, config: AcceleratorConfig) -> None:
    """Raises :class:`MisfitError` if layers need an engine that the configuration lacks, and a
    :class:`CompileError` if they need a rule of rounding that it lacks: the model is another one
    without it."""
    for layer in graph.layers:
        if isinstance(layer, Sums):
            continue
        if getattr(layer, "rounding", Rounding.FLOAT32) not in roundings(config, Engine.MATRIX):
            raise CompileError(f"Layer {layer.name!r} ({layer.op}) rounds in fixed point as TFLite "
                               f"does: the configuration {config.name!r} must have fixed_point = "
                               f"true (--config base,fixed_point=true), or the rule must be "
                               f"onnxruntime (--rule onnxruntime)")
    if config.sequential:
        whole = {index: CompileError(
                     f"Layer {layer.name!r} ({layer.op}) asks for int32 sums: the configuration "
                     f"{config.name!r} must be one of an array, not sequential",
                     cure="use a configuration with an array, such as --config tiny")
                 for index, layer in enumerate(graph.layers) if isinstance(layer, Sums)}
        if whole:
            raise MisfitError(whole)
    attention = _attention(graph, config)
    if attention:
        raise MisfitError(attention)
    if config.vector:
        return
    folded, origins = fold_lookups(graph, config)
    lacking = {index: CompileError(
                   f"Layer {layer.name!r} ({layer.op}) runs on the vector engine: the "
                   f"configuration {config.name!r} must have vector taps between 1 and 8, not 0",
                   cure="use a configuration with a vector engine, such as --config tiny")
               for layer, index in zip(folded.layers, origins, strict=True)
               if engine_of(layer) is Engine.VECTOR}
    if lacking:
        raise MisfitError(lacking)


def _attention(graph: Graph, config: AcceleratorConfig) -> dict[int, CompileError]:
    """Layers of a transformer that need what the configuration lacks, by their index. The cure is
    one for all of them."""
    longest = max((graph.tensors[layer.output].shape[0] for layer in graph.layers
                   if isinstance(layer, Normalization)), default=0)
    channels = max(longest + -longest % config.normalize_step, config.normalize_channels)
    shares = config.softmax or any(isinstance(layer, Softmax) for layer in graph.layers)
    start = config.name if config.name in PRESETS else "..."
    cure = f"use --config {start},products=true" + ",softmax=true" * shares
    if 0 < channels <= MOST_NORMALIZED:
        cure += f",normalize_channels={channels}"
    found: dict[int, CompileError] = {}
    for index, layer in enumerate(graph.layers):
        length = graph.tensors[layer.output].shape[0]
        if isinstance(layer, MatMul) and not config.products:
            lack = "multiplies two activations", "products = true"
        elif isinstance(layer, Softmax) and not config.softmax:
            lack = "divides by sums of exponentials", "softmax = true"
        elif isinstance(layer, Normalization) and length > config.normalize_channels:
            lack = (f"normalizes rows of {length} channels",
                    f"normalize_channels of at least {length + -length % config.normalize_step}")
        else:
            continue
        found[index] = CompileError(
            f"Layer {layer.name!r} ({layer.op}) {lack[0]}: the configuration {config.name!r} must "
            f"have {lack[1]}", cure=cure)
    return found


def estimate(graph: Graph, config: AcceleratorConfig) -> tuple[LayerEstimate, ...]:
    """An estimate for every layer of ``graph``; what the compiler adds counts for the layer that
    it adds it to.

    Raises
    ------
    CompileError
        If a layer needs an engine or a rule that the configuration lacks.
    """
    check_engines(graph, config)
    laid_out = lay_out_channels(pack(graph, config).graph, config)
    totals = [[0, 0, 0] for _ in graph.layers]
    for layer, origin in zip(laid_out.graph.layers, laid_out.origins, strict=True):
        blocks = laid_out.channels[layer.output].blocks(config)
        _, height, width = laid_out.graph.tensors[layer.output].shape
        busy, behind, constants = _layer(laid_out, layer, config, blocks)
        totals[origin][0] += busy + behind
        totals[origin][1] = blocks * height * width * config.word_data_bytes
        totals[origin][2] += constants
    return tuple(
        LayerEstimate(name=layer.name, engine=engine_of(layer), cycles=cycles,
                      macs=layer.macs(graph.tensors[layer.output]), output_bytes=output,
                      constant_bytes=constants)
        for layer, (cycles, output, constants) in zip(graph.layers, totals, strict=True))


def least_cycles(graph: Graph, config: AcceleratorConfig) -> int:
    """Cycles that no program of ``graph`` can do with less of: those of the engine that has most
    to do, if it never waits. Known in a hundredth of the time of a sketch.

    Raises
    ------
    CompileError
        As of :func:`estimate`.
    """
    check_engines(graph, config)
    laid_out = lay_out_channels(pack(graph, config).graph, config)
    totals: Counter[Engine | None] = Counter()
    for layer in laid_out.graph.layers:
        blocks = laid_out.channels[layer.output].blocks(config)
        totals[engine_of(layer)] += _layer(laid_out, layer, config, blocks)[0]
    return max(totals.values())


def _layer(laid_out: ChannelLayout, layer: Layer, config: AcceleratorConfig,
           blocks: int) -> tuple[int, int, int]:
    """Cycles in which its engine can do nothing else, those until the last result is there, and
    bytes of constants."""
    if isinstance(layer, Concat | Alias):
        return 0, 0, 0
    _, height, width = laid_out.graph.tensors[layer.output].shape
    if isinstance(layer, MatMul):
        return matmul_cycles(config, laid_out.graph, layer), 0, 0
    if isinstance(layer, RowLayer):
        units = len(layer.table) if isinstance(layer, Softmax) else \
            RowConstant.CHANNELS + 2 * len(layer.scale)
        return row_layer_cycles(config, laid_out.graph, layer, height * width), 0, 4 * units
    if not isinstance(layer, Convolution):
        return (layer_cycles(config, laid_out.graph, layer, blocks),
                vector_overhead(config, scaled=requantizes(layer)), 0)
    outputs, _, kernel_h, kernel_w = layer.weights.shape
    if not laid_out.channels[layer.output].plain(config):
        outputs = blocks * config.word_lanes
    columns = layout.col_tiles(config, outputs)
    costs, steps = [], 0
    for run in runs(config, laid_out, layer):
        last = run.columns.stop == columns
        costs.append(command_cost(config, Opcode.MATRIX, {
            "kernel_h": kernel_h, "kernel_w": kernel_w, "channel_blocks": len(run.blocks),
            "stride_w": layer.strides[1], "tile_pixels": tile_pixels(config, height * width),
            "out_pixels": height * width, "col_tiles": len(run.columns), "keep": 0,
            "table": int(layer.function is not None),
            "last_groups": -(-(outputs - (columns - 1) * config.cols) // config.requant_lanes)
            if last else config.requant_groups}))
        steps += len(run.columns) * len(run.blocks) * kernel_h * kernel_w
    weights = steps * config.weight_tile_rows * config.weight_row_data_bytes
    # One command after the other, without a gap.
    busy = sum(cost.busy for cost in costs)
    return (busy, costs[-1].latency - costs[-1].busy,
            weights + columns * config.cols * 8)


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """What the way from the host to the accelerator and back takes in a frame.

    Attributes
    ----------
    read_bytes, write_bytes : :class:`int`
        External memory that the accelerator reads its inputs from, and writes its outputs to:
        words of channel blocks, with what is not used of them.
    read_cycles, write_cycles : :class:`int`
        Of the memory port for these, at a beat a cycle.
    """

    read_bytes: int
    write_bytes: int
    read_cycles: int
    write_cycles: int


def crossing(graph: Graph, config: AcceleratorConfig) -> Crossing:
    """What the host and the accelerator exchange for ``graph``."""
    packed = pack(graph, config).graph
    laid_out = lay_out_channels(packed, config)

    def total(names: Iterable[str]) -> int:
        found = 0
        for name in dict.fromkeys(names):
            _, height, width = packed.tensors[name].shape
            plane = height * width * config.word_bytes
            found += laid_out.channels[name].blocks(config) * (plane + -plane % config.axi_bytes)
        return found

    read = total(edge.tensor for edge in graph.inputs)
    written = total(edge.tensor for edge in graph.outputs)
    return Crossing(read_bytes=read, write_bytes=written, read_cycles=read // config.axi_bytes,
                    write_cycles=written // config.axi_bytes)
