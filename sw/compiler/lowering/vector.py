"""Layers that work channel by channel, on the vector engine.

A layer becomes one VECTOR for each tile of rows, an enlargement one for each place that a word is
copied to. Those with a window are in ``windows``, what all share is in ``vector_work``.
"""

from dataclasses import replace

import numpy as np

from weft import reference
from weft.compiler.ops import Address, Difference
from weft.compiler.planning.loop_order import ROW_BY_ROW, Axis
from weft.hw.isa.commands import Rounding, VectorOp
from weft.hw.isa.vector_rules import add_entries, multiplier_passes
from weft.ir import (
    Add,
    Affine,
    ChannelSum,
    Depthwise,
    Interleave,
    Layer,
    Lookup,
    Multiply,
    Pool,
    PoolKind,
    Resize,
)
from weft.reference.exact import ScaleConstants, add_constants, multiply_constants
from weft.reference.exact_fixed_point import fixed_add_constants

from .context import LoweringContext
from .vector_constants import fixed_point_entries, pack_multipliers, pack_scales, scale_entries
from .vector_work import Fields, VectorConstants, VectorTile, VectorWork, clamp_fields
from .view import View
from .windows import lower_average, lower_depthwise, lower_maximum

__all__ = ["lower_move", "lower_vector"]


def _sum(work: VectorWork, layer: Add) -> None:
    config = work.config
    a, b, y = (work.quantization(name) for name in (layer.a, layer.b, layer.output))
    rule, zero = Rounding.FLOAT32, 0
    if layer.rounding is Rounding.FIXED_POINT:
        fixed, _ = fixed_add_constants(a, b, y, layer.clamp, layer.subtract)
        first, second, rule, zero = fixed.first, fixed.second, fixed.rounding, y.zero_point
        parameters = fixed_point_entries(config, fixed.bias, fixed.multiplier, fixed.shift)
    else:
        first, second, bias, scale = add_constants(a, b, y, layer.clamp)[0]
        parameters = scale_entries(config, ScaleConstants(bias, scale, 0), 0)
    swap = _swaps(work, layer)
    factors = (second, first) if swap else (first, second)
    packed = VectorConstants(
        weights=pack_multipliers(config, *(np.full(config.word_lanes, factor)
                                           for factor in factors)),
        parameters=parameters)
    for tile in work.tiles(packed):
        _pair(work, tile, VectorOp.ADD, {
            "kernel_inner": multiplier_passes(config), "out_zero": zero, "rule": rule,
            "subtract": int(layer.subtract), **clamp_fields(layer.clamp)}, swap=swap)


def _affine(work: VectorWork, layer: Affine) -> None:
    """A difference of a tensor and itself: one of the two factors is zero, by the sign."""
    constants = _channel_constants(work, layer, np.maximum(layer.factor, 0),
                                   np.maximum(-layer.factor, 0))
    for tile in work.tiles(constants):
        _pair(work, replace(tile, sources=tile.sources * 2), VectorOp.ADD, {
            "kernel_inner": multiplier_passes(work.config), "shared": 0, "subtract": 1,
            **clamp_fields(layer.clamp)})


def _channel_sum(work: VectorWork, layer: ChannelSum) -> None:
    constants = _channel_constants(work, layer, layer.first, np.abs(layer.second))
    for tile in work.tiles(constants):
        _pair(work, tile, VectorOp.ADD, {
            "kernel_inner": multiplier_passes(work.config), "shared": 0,
            "subtract": int((layer.second < 0).any()), "out_zero": layer.zero,
            **clamp_fields(layer.clamp)})


def _channel_constants(work: VectorWork, layer: Affine | ChannelSum, first: np.ndarray,
                       second: np.ndarray) -> VectorConstants:
    """Multipliers of two operands, 0 to 2**24 - 1, and parameters, all of each channel."""
    def spread(values: np.ndarray) -> np.ndarray:
        return work.context.spread(layer.output, values)

    return work.context.once((work.index, "channel constants"), lambda: VectorConstants(
        weights=pack_multipliers(work.config, spread(first), spread(second)),
        parameters=pack_scales(work.config, spread(layer.bias), spread(layer.scale)),
        shared=False))


def _product(work: VectorWork, layer: Multiply) -> None:
    parameters, out_zero = _product_parameters(work, layer)
    zeros = [work.context.tensor(name).zero_point for name in layer.inputs]
    swap = _swaps(work, layer)
    for tile in work.tiles(VectorConstants(parameters=parameters)):
        _pair(work, tile, VectorOp.MULTIPLY, {
            "in_zero": zeros[swap], "second_zero": zeros[not swap],
            "out_zero": out_zero, "rule": layer.rounding, **clamp_fields(layer.clamp)}, swap=swap)


def _swaps(work: VectorWork, layer: Add | Multiply) -> bool:
    """Whether the operands change places: the small one must be second."""
    return work.context.tensor(layer.a).shape != work.target.shape


def _product_parameters(work: VectorWork, layer: Multiply) -> tuple[np.ndarray, int]:
    """Parameter entries of one channel block, and the zero point to add."""
    config = work.config
    a, b, y = (work.quantization(name) for name in (*layer.inputs, layer.output))
    if layer.rounding is Rounding.FIXED_POINT:
        multiplier, shift = (int(part[0]) for part in
                             reference.product_multiplier(a.scale, b.scale, y.scale))
        return fixed_point_entries(config, 0, multiplier, shift), y.zero_point
    constants, _ = multiply_constants(a, b, y, layer.clamp)
    return scale_entries(config, constants, 0), constants.out_zero


def _pair(work: VectorWork, tile: VectorTile, op: VectorOp, fields: Fields, *,
          swap: bool = False) -> None:
    """Commands of an operation on two tensors, in their order or in the other one."""
    if swap:
        tile = replace(tile, sources=tile.sources[::-1])
    first, second = tile.sources
    words = len(second.rows) * second.width
    broadcast = words == 1 and words != len(tile.rows) * tile.target.width
    if not broadcast and first.plane != second.plane and len(first.blocks) > 1:
        # A command has one step from block to block for both operands.
        for block in range(len(first.blocks)):
            own: Fields = {}
            if not fields.get("shared", 1):
                assert tile.weights is not None and tile.parameters is not None
                own = {"weight_base": Address(
                           tile.weights, block * add_entries(work.config)),
                       "parameter_base": Address(
                           tile.parameters, block * work.config.vector_groups)}
            _pair(work, tile.block(block), op, fields | own)
        return
    work.emit(tile, op, *work.plane(tile), ROW_BY_ROW, {
        "shared": 1, "broadcast": int(broadcast), "kernel_outer": 2,
        "kernel_outer_step": Difference(after=second.at(), before=first.at()),
        "kernel_inner_step": second.plane if broadcast else 0, "dilation_outer": 0,
        "dilation_inner": 0, **fields})


def _lookup(work: VectorWork) -> None:
    for tile in work.tiles(VectorConstants()):
        work.emit(tile, VectorOp.LOOKUP, *work.plane(tile), ROW_BY_ROW, {})


def _deal_out(work: VectorWork, layer: Resize | Interleave) -> None:
    """A maximum of one word is a copy: one command for each place between its neighbours that a
    word goes to, from the tensor whose words go there."""
    down, across = layer.factors
    for tile in work.tiles(VectorConstants()):
        in_w, out_w = tile.sources[0].width, tile.target.width
        for phase in range(down):
            first = tile.rows.start + (phase - tile.rows.start) % down
            rows = range(first, tile.rows.stop, down)
            if not rows:
                continue
            above = first // down - tile.sources[0].rows.start
            vertical = Axis(size=len(rows), pitch=in_w, out=len(rows), out_pitch=down * out_w,
                            start=above * in_w, out_start=(first - tile.rows.start) * out_w)
            for column in range(min(across, out_w)):
                count = -(-(out_w - column) // across)
                number = (phase * across + column) % len(tile.sources)
                work.emit(replace(tile, sources=(tile.sources[number],)), VectorOp.MAX, vertical,
                          Axis(size=count, pitch=1, out=count, out_pitch=across,
                               out_start=column), ROW_BY_ROW, {})


def lower_move(context: LoweringContext, index: int, source: View, target: View) -> None:
    """Words that go to another place, for layer ``index``. A maximum of one word is a copy."""
    work = VectorWork(context, index, context.graph.layers[index])
    rows = source.rows
    tile = VectorTile(rows=rows, columns=source.columns, sources=(source,), target=target,
                      weights=None, parameters=None,
                      text=f"{source.tensor.name} keep rows {rows.start}..{rows.stop - 1}")
    work.emit(tile, VectorOp.MAX, *work.plane(tile), ROW_BY_ROW, {})


def lower_vector(context: LoweringContext, index: int, layer: Layer) -> None:
    """Commands of one layer: for each group of channel blocks whose constants fit, and each tile
    of rows, one VECTOR or a few."""
    work = VectorWork(context, index, layer)
    match layer:
        case Depthwise():
            lower_depthwise(work, layer)
        case Pool(kind=PoolKind.MAX):
            lower_maximum(work, layer)
        case Pool():
            lower_average(work, layer)
        case Add():
            _sum(work, layer)
        case Affine():
            _affine(work, layer)
        case ChannelSum():
            _channel_sum(work, layer)
        case Multiply():
            _product(work, layer)
        case Lookup():
            _lookup(work)
        case Resize() | Interleave():
            _deal_out(work, layer)
        case _:
            raise TypeError(f"No vector commands for a {type(layer).__name__}")
