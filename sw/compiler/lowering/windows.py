"""Layers with a window of each channel: depthwise convolutions and pooling.

Each becomes one VECTOR for each tile of rows; an average one for each kind of window.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from weft.compiler.ops import Address
from weft.compiler.planning.loop_order import Axis, window_axes
from weft.errors import CompileError
from weft.hw.isa.commands import Rounding, VectorOp
from weft.ir import Depthwise, Graph, Pool
from weft.reference.exact import average_windows, pool_constants

from .channel_parameters import vector_requantization
from .vector_constants import pack_kernel, scale_entries
from .vector_work import VectorConstants, VectorTile, VectorWork, clamp_fields

__all__ = ["lower_average", "lower_depthwise", "lower_maximum"]


def _axes(graph: Graph, layer: Depthwise | Pool, tile: VectorTile) -> tuple[Axis, Axis]:
    """Vertical and horizontal axis of a tile."""
    vertical, horizontal = window_axes(graph, layer)
    source = tile.sources[0]
    vertical = replace(vertical, size=len(source.rows), pitch=source.width, pad=source.padding,
                       start=0, out_pitch=tile.target.width)
    horizontal = replace(horizontal, size=source.width, pad=source.left, start=0)
    return vertical.part(range(len(tile.rows))), horizontal.part(range(len(tile.columns)))


def lower_depthwise(work: VectorWork, layer: Depthwise) -> None:
    """Products with the weights of each channel."""
    context, config = work.context, work.config
    loop_order = work.loop_order(layer)
    source = context.tensor(layer.input)

    def pack() -> VectorConstants:
        bias = _fold(layer, source.zero_point)
        weights = layer.weights.transpose(0, 2, 1) if loop_order.transposed else layer.weights
        return VectorConstants(
            weights=pack_kernel(config, context.spread(layer.output, weights),
                                lines=loop_order.lines),
            parameters=vector_requantization(config, layer, bias,
                                             partial(context.spread, layer.output)),
            shared=False)

    for tile in work.tiles(context.once((work.index, loop_order.transposed, loop_order.lines),
                                        pack)):
        work.emit(tile, VectorOp.CONV, *_axes(context.graph, layer, tile), loop_order,
                  {"in_zero": source.zero_point, "out_zero": work.result.zero_point,
                   "rule": layer.rounding, **clamp_fields(layer.clamp)})


def _fold(layer: Depthwise, zero: int) -> np.ndarray:
    """The bias with the input's zero point in it, once it is sure that no sum can overflow."""
    flat = layer.weights.reshape(len(layer.weights), -1).astype(np.int64)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    folded = layer.bias.astype(np.int64) - zero * flat.sum(axis=1)
    limit = 1 << 31
    for reach in (int((127 * positive - 128 * negative + folded).max()),
                  int((127 * negative - 128 * positive + folded).min())):
        if not -limit <= reach < limit:
            raise CompileError(f"Layer {layer.name!r} may reach {reach} in its int32 sum with "
                               f"bias, which holds {-limit} to {limit - 1}")
    return (folded & 0xffff_ffff).astype(np.uint32).view(np.int32)


def lower_maximum(work: VectorWork, layer: Pool) -> None:
    """The largest values of windows."""
    graph = work.context.graph
    loop_order = work.loop_order(layer)
    for tile in work.tiles(VectorConstants()):
        work.emit(tile, VectorOp.MAX, *_axes(graph, layer, tile), loop_order,
                  clamp_fields(layer.clamp))


def lower_average(work: VectorWork, layer: Pool) -> None:
    """An average is a sum with a scale. Where the divisor or the padding under the window differs,
    so does the scale: the output is computed in rectangles inside which they do not. One in fixed
    point has a sum of plain values, to which padding contributes zeros."""
    config, graph = work.config, work.context.graph
    source = work.context.tensor(layer.input)
    zero = 0 if layer.rounding is Rounding.FIXED_POINT else source.zero_point
    loop_order = work.loop_order(layer)
    inside, divisors = average_windows(graph, layer)
    kinds = sorted(set(zip(inside.ravel().tolist(), divisors.ravel().tolist(), strict=True)))
    if any(not count or not divisor for count, divisor in kinds):
        raise CompileError(f"Layer {layer.name!r} averages a window that is all padding")
    scales = {kind: pool_constants(graph, layer, *kind)[0] for kind in kinds}
    taps = layer.taps.T if loop_order.transposed else layer.taps
    weight = int(taps.sum(dtype=np.int64))
    constants = VectorConstants(
        weights=pack_kernel(config, np.broadcast_to(taps, (config.word_lanes, *taps.shape)),
                            lines=loop_order.lines),
        # One block with the parameters of all kinds.
        parameters=np.concatenate([scale_entries(config, scales[kind], -zero * weight)
                                   for kind in kinds], axis=1))
    for tile in work.tiles(constants):
        assert tile.parameters is not None
        vertical, horizontal = _axes(graph, layer, tile)
        for rows, columns in _rectangles(inside, divisors, tile.rows, tile.columns):
            kind = (int(inside[rows.start, columns.start]),
                    int(divisors[rows.start, columns.start]))
            first, left = rows.start - tile.rows.start, columns.start - tile.columns.start
            work.emit(tile, VectorOp.CONV, vertical.part(range(first, first + len(rows))),
                      horizontal.part(range(left, left + len(columns))), loop_order,
                      {"shared": 1, "in_zero": zero,
                       "out_zero": scales[kind].out_zero, "parameter_base": Address(
                           tile.parameters, kinds.index(kind) * config.vector_groups),
                       **clamp_fields(layer.clamp)})


def _rectangles(inside: np.ndarray, divisors: np.ndarray, rows: range,
                across: range) -> Iterator[tuple[range, range]]:
    """Parts of the given rows and columns in which both arrays, [out_h, out_w], are constant."""
    both = np.stack((inside, divisors))[:, rows.start:rows.stop, across.start:across.stop]
    changes = (both[:, 1:] != both[:, :-1]).any(axis=(0, 2))
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(rows)]
    for top, bottom in pairwise(edges):
        line = both[:, top]
        cuts = np.flatnonzero((line[:, 1:] != line[:, :-1]).any(axis=0)) + 1
        columns = [0, *cuts.tolist(), line.shape[1]]
        for left, right in pairwise(columns):
            yield (range(rows.start + top, rows.start + bottom),
                   range(across.start + left, across.start + right))
