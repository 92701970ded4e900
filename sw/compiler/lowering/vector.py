"""Layers that work channel by channel, on the vector engine.

A layer becomes one VECTOR for each tile of rows; for an average one for each kind of window, for an
enlargement one for each place that a word is copied to.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from weft import reference
from weft.compiler.misfit import with_field
from weft.compiler.ops import Address, Buffer, Difference, Op, Quotient, Region, Space
from weft.compiler.planning.loop_order import (
    ROW_BY_ROW,
    Axis,
    LoopOrder,
    window_axes,
    window_loop_order,
)
from weft.errors import CompileError
from weft.hw.isa.commands import Memory, Opcode, Rounding, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import TABLE_ENTRIES
from weft.hw.isa.vector_rules import add_entries, line_columns, multiplier_passes
from weft.ir import (
    Add,
    Affine,
    ChannelSum,
    Depthwise,
    Graph,
    Interleave,
    Layer,
    Lookup,
    Multiply,
    Pool,
    PoolKind,
    Resize,
)
from weft.reference.exact import (
    Quantization,
    ScaleConstants,
    add_constants,
    average_windows,
    multiply_constants,
    pool_constants,
)
from weft.reference.exact_fixed_point import fixed_add_constants

from .channel_parameters import vector_requantization
from .context import LoweringContext
from .vector_constants import (
    pack_fixed_point,
    pack_kernel,
    pack_lane_tables,
    pack_multipliers,
    pack_scales,
    pack_table,
)
from .view import View

__all__ = ["lower_move", "lower_vector"]


_Value = int | Memory | Rounding | VectorOp | Address | Quotient | Difference
_Fields = dict[str, _Value]


# What all layers share ------------------------------------------------------------------------

@dataclass(frozen=True, kw_only=True, eq=False)
class _Constants:
    """Weight and parameter entries, int8 [channel blocks, entries of a block, entry bytes]; one
    block that all use, if ``shared``."""
    weights: np.ndarray | None = None
    parameters: np.ndarray | None = None
    shared: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """What results go through: tables from number ``first`` of a buffer on, one for each channel
    block if ``step`` is 1, or one for all."""
    buffer: Buffer
    step: int
    first: int = 0

    @property
    def number(self) -> Quotient:
        """Tables are counted from 1."""
        return Quotient(Address(self.buffer, TABLE_ENTRIES * (self.first + 1)), TABLE_ENTRIES)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tile:
    """Some rows, columns and channel blocks of a layer, and the constants for them."""
    rows: range
    columns: range
    sources: tuple[View, ...]
    target: View
    weights: Buffer | None
    parameters: Buffer | None
    text: str
    table: "_Table | None" = None

    def block(self, number: int) -> "_Tile":
        """One of its channel blocks."""
        def one(view: View) -> View:
            first = view.blocks.start + number
            return view.part(range(first, first + 1))
        table = self.table and replace(self.table, first=number * self.table.step)
        return replace(self, sources=tuple(one(view) for view in self.sources),
                       target=one(self.target), table=table)


class _Work:
    """The commands of one layer."""

    def __init__(self, context: LoweringContext, index: int, layer: Layer):
        self.context = context
        self.config = context.config
        self.index = index
        self.layer = layer
        self.target = context.tensor(layer.output)
        self.result = layer.result(self.target)

    def quantization(self, tensor: str) -> Quantization:
        """What the values of a tensor mean, or the results that become that tensor."""
        return Quantization.of(self.result if tensor == self.layer.output
                               else self.context.tensor(tensor))

    def tiles(self, constants: _Constants) -> Iterator[_Tile]:
        """All tiles, with constants loaded once: groups of channel blocks whose constants fit are
        the outer loop."""
        context, index = self.context, self.index
        chunks = self._chunks(constants)
        function = self._function()
        table: _Table | None = None

        def load(what: str, space: Space, packed: np.ndarray | None, chunk: range) \
                -> Buffer | None:
            if packed is None:
                return None
            return context.constant(index, what, space, packed,
                                     part=None if constants.shared else chunk)

        for number, chunk in enumerate(chunks):
            if not context.in_turn(chunk):
                continue
            part, blocks = "", None
            if len(chunks) > 1:
                part, blocks = f" {number + 1}/{len(chunks)}", chunk
            if not constants.shared or number == 0:
                own = "" if constants.shared else part
                weights = load(f"weights{own}", Space.VECTOR_WEIGHT, constants.weights, chunk)
                parameters = load(f"parameters{own}", Space.VECTOR_PARAMETER,
                                  constants.parameters, chunk)
            if function is not None and (table is None or table.step):
                table = self._load_table(function, part, chunk)
            for rows, columns in context.tiles(index):
                sources = tuple(context.read(index, name, rows, columns, blocks=blocks)
                                for name in self.layer.inputs)
                target = context.write(index, rows, columns, blocks=blocks)
                text = self.layer.name + part
                if len(rows) != self.target.shape[1]:
                    text += f" rows {rows.start}..{rows.stop - 1}"
                if len(columns) != self.target.shape[2]:
                    text += f" columns {columns.start}..{columns.stop - 1}"
                yield _Tile(rows=rows, columns=columns, sources=sources, target=target,
                            weights=weights, parameters=parameters, table=table, text=text)
                context.finish(index, target)

    def _function(self) -> np.ndarray | None:
        """The table of the layer, int8 [256] or [C, 256]."""
        layer = self.layer
        if isinstance(layer, Lookup):
            return layer.table
        return None if layer.function is None else layer.function.table

    def _load_table(self, values: np.ndarray, part: str, chunk: range) -> _Table:
        context = self.context
        if values.ndim == 1:
            packed = context.once((self.index, "table"), lambda: pack_table(values))
            return _Table(buffer=context.constant(self.index, "table", Space.TABLE, packed),
                          step=0)
        packed = context.once((self.index, "table"), lambda: pack_lane_tables(
            self.config, context.spread(self.layer.output, values)))
        return _Table(buffer=context.constant(self.index, f"tables{part}", Space.TABLE, packed,
                                              part=chunk), step=1)

    def _chunks(self, constants: _Constants) -> list[range]:
        """Channel blocks whose constants are loaded together: at most half of each memory, so that
        the next ones are loaded meanwhile; all, if they stay."""
        blocks = len(self.context.blocks(self.layer.output))
        limit = blocks
        for what, space, packed, field, per_entry in (
                ("vector weight", Space.VECTOR_WEIGHT, constants.weights, "vector_entries", 1),
                ("vector parameter", Space.VECTOR_PARAMETER, constants.parameters,
                 "parameter_channels", self.config.requant_lanes)):
            if packed is None:
                continue
            each = packed.shape[1]
            depth, size = space.depth(self.config), space.unit_data_bytes(self.config)
            if each > depth:
                raise CompileError(f"Layer {self.layer.name!r} needs {each * size} bytes of "
                                   f"{what} memory for {self.config.word_lanes} channels, "
                                   f"{depth * size} are available",
                                   cure=with_field(field, each * per_entry))
            if not constants.shared and not self.context.plan(self.index).in_turns:
                limit = min(limit, max(1, depth // 2 // each))
        function = self._function()
        if function is not None and function.ndim > 1 \
                and not self.context.plan(self.index).in_turns:
            limit = min(limit, max(1, self.config.vector_tables // 2))
        groups = self.context.plan(self.index).chunks or (range(blocks),)
        chunks = []
        for group in groups:
            count = -(-len(group) // limit)
            size = -(-len(group) // count)
            chunks += [range(first, min(first + size, group.stop))
                       for first in range(group.start, group.stop, size)]
        return chunks

    def loop_order(self, layer: Depthwise | Pool) -> LoopOrder:
        """The loop order of all tiles of a layer with a window."""
        plan = self.context.plan(self.index)
        blocks = max(map(len, plan.chunks or (self.context.blocks(layer.output),)))
        return window_loop_order(self.config, self.context.graph, layer, plan.tiles[0],
                                 blocks=blocks)

    def plane(self, tile: _Tile) -> tuple[Axis, Axis]:
        """Vertical and horizontal axis of an element-wise layer."""
        width = tile.target.width
        return (Axis(size=len(tile.rows), pitch=width, out=len(tile.rows), out_pitch=width),
                Axis(size=width, pitch=1, out=width, out_pitch=1))

    def emit(self, tile: _Tile, op: VectorOp, vertical: Axis, horizontal: Axis,
             loop_order: LoopOrder, fields: _Fields) -> None:
        """One command. What its axes do not say is in ``fields``, or zero."""
        outer, inner = loop_order.nest(vertical, horizontal)
        source, target = tile.sources[0], tile.target
        first = (vertical.start + horizontal.start
                 - vertical.pad * vertical.pitch - horizontal.pad * horizontal.pitch)
        known: _Fields = {
            "op": op,
            "slide": int(loop_order.slide),
            "lines": int(loop_order.lines),
            "in_base": source.at(first),
            "in_zero": 0,
            "in_block_step": source.plane,
            "in_outer_step": outer.stride * outer.pitch,
            "in_inner_step": inner.stride * inner.pitch,
            "in_outer": outer.size,
            "in_inner": inner.size,
            "pad_outer": outer.pad,
            "pad_inner": inner.pad,
            "kernel_outer": outer.kernel,
            "kernel_inner": inner.kernel,
            "kernel_outer_step": outer.dilation * outer.pitch,
            "kernel_inner_step": inner.dilation * inner.pitch,
            "stride_outer": outer.stride,
            "stride_inner": inner.stride,
            "dilation_outer": outer.dilation,
            "dilation_inner": inner.dilation,
            "second_zero": 0,
            "blocks": len(target.blocks),
            "out_outer": outer.out,
            "out_inner": inner.out,
            "out_base": target.at(vertical.out_start + horizontal.out_start),
            "out_block_step": target.plane,
            "out_outer_step": outer.out_pitch,
            "out_inner_step": inner.out_pitch,
            "out_zero": 0,
            "clamp_min": -128,
            "clamp_max": 127,
            "weight_base": Address(tile.weights) if tile.weights else 0,
            "parameter_base": Address(tile.parameters) if tile.parameters else 0,
            "broadcast": 0,
            "subtract": 0,
            "shared": 0,
            "table": tile.table.number if tile.table else 0,
            "table_step": tile.table.step if tile.table else 0,
            "rule": Rounding.FLOAT32,
            "resumes": 0,
            "quarter": 0,
        }
        constants = [Region.whole(buffer) for buffer in (tile.weights, tile.parameters) if buffer]
        if tile.table:
            begin = TABLE_ENTRIES * tile.table.first
            tables = len(target.blocks) if tile.table.step else 1
            constants.append(Region(tile.table.buffer, begin, begin + TABLE_ENTRIES * tables))
        reads = [region for view in dict.fromkeys(tile.sources) for region in view.regions()]
        writes = list(target.regions())
        if loop_order.lines:
            columns = line_columns(inner.out, kernel=inner.kernel, stride=inner.stride,
                                   pad=inner.pad)
            # A command for a part of a tile, or that goes through its columns, is by itself.
            whole = (outer.out, inner.out) == (len(tile.rows), len(tile.columns)) \
                and not loop_order.transposed
            run = (self.index, target.blocks, tile.columns) if whole else None
            known["quarter"], resumes, kept = self.context.lines(
                run, tile.rows, len(target.blocks) * columns)
            known["resumes"] = int(resumes)
            writes.append(kept)
        self.context.emit(self.index, Op(
            opcode=Opcode.VECTOR, layer=self.index, text=tile.text, fields=known | fields,
            reads=(*reads, *constants), writes=tuple(writes)))


def _clamp(clamp: tuple[int, int]) -> _Fields:
    return {"clamp_min": clamp[0], "clamp_max": clamp[1]}


# Windows --------------------------------------------------------------------------------------

def _axes(graph: Graph, layer: Depthwise | Pool, tile: _Tile) -> tuple[Axis, Axis]:
    """Vertical and horizontal axis of a tile."""
    vertical, horizontal = window_axes(graph, layer)
    source = tile.sources[0]
    vertical = replace(vertical, size=len(source.rows), pitch=source.width, pad=source.padding,
                       start=0, out_pitch=tile.target.width)
    horizontal = replace(horizontal, size=source.width, pad=source.left, start=0)
    return vertical.part(range(len(tile.rows))), horizontal.part(range(len(tile.columns)))


def _depthwise(work: _Work, layer: Depthwise) -> None:
    context, config = work.context, work.config
    loop_order = work.loop_order(layer)
    source = context.tensor(layer.input)

    def pack() -> _Constants:
        bias = _fold(layer, source.zero_point)
        weights = layer.weights.transpose(0, 2, 1) if loop_order.transposed else layer.weights
        return _Constants(
            weights=pack_kernel(config, context.spread(layer.output, weights),
                                lines=loop_order.lines),
            parameters=vector_requantization(config, layer, bias,
                                             partial(context.spread, layer.output)),
            shared=False)

    for tile in work.tiles(context.once((work.index, loop_order.transposed, loop_order.lines),
                                        pack)):
        work.emit(tile, VectorOp.CONV, *_axes(context.graph, layer, tile), loop_order,
                  {"in_zero": source.zero_point, "out_zero": work.result.zero_point,
                   "rule": layer.rounding, **_clamp(layer.clamp)})


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


def _maximum(work: _Work, layer: Pool) -> None:
    graph = work.context.graph
    loop_order = work.loop_order(layer)
    for tile in work.tiles(_Constants()):
        work.emit(tile, VectorOp.MAX, *_axes(graph, layer, tile), loop_order, _clamp(layer.clamp))


def _average(work: _Work, layer: Pool) -> None:
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
    constants = _Constants(
        weights=pack_kernel(config, np.broadcast_to(taps, (config.word_lanes, *taps.shape)),
                            lines=loop_order.lines),
        # One block with the parameters of all kinds.
        parameters=np.concatenate([_scale_entries(config, scales[kind], -zero * weight)
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
                       **_clamp(layer.clamp)})


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


def _scale_entries(config: AcceleratorConfig, constants: ScaleConstants,
                   bias: int) -> np.ndarray:
    """Parameter entries of one channel block, int8 [1, vector_groups, entry bytes]."""
    lanes = config.word_lanes
    return pack_scales(config, np.full(lanes, constants.bias + bias, np.int32),
                       np.full(lanes, constants.scale, np.float32))


def _fixed_point_entries(config: AcceleratorConfig, *values: int) -> np.ndarray:
    """The same of bias, multiplier and shift of a fixed-point rule."""
    return pack_fixed_point(config, *(np.full(config.word_lanes, value, np.int32)
                                      for value in values))


# Element by element ---------------------------------------------------------------------------

def _sum(work: _Work, layer: Add) -> None:
    config = work.config
    a, b, y = (work.quantization(name) for name in (layer.a, layer.b, layer.output))
    rule, zero = Rounding.FLOAT32, 0
    if layer.rounding is Rounding.FIXED_POINT:
        fixed, _ = fixed_add_constants(a, b, y, layer.clamp, layer.subtract)
        first, second, rule, zero = fixed.first, fixed.second, fixed.rounding, y.zero_point
        parameters = _fixed_point_entries(config, fixed.bias, fixed.multiplier, fixed.shift)
    else:
        first, second, bias, scale = add_constants(a, b, y, layer.clamp)[0]
        parameters = _scale_entries(config, ScaleConstants(bias, scale, 0), 0)
    swap = _swaps(work, layer)
    factors = (second, first) if swap else (first, second)
    packed = _Constants(
        weights=pack_multipliers(config, *(np.full(config.word_lanes, factor)
                                           for factor in factors)),
        parameters=parameters)
    for tile in work.tiles(packed):
        _pair(work, tile, VectorOp.ADD, {
            "kernel_inner": multiplier_passes(config), "out_zero": zero, "rule": rule,
            "subtract": int(layer.subtract), **_clamp(layer.clamp)}, swap=swap)


def _affine(work: _Work, layer: Affine) -> None:
    """A difference of a tensor and itself: one of the two factors is zero, by the sign."""
    constants = _channel_constants(work, layer, np.maximum(layer.factor, 0),
                                   np.maximum(-layer.factor, 0))
    for tile in work.tiles(constants):
        _pair(work, replace(tile, sources=tile.sources * 2), VectorOp.ADD, {
            "kernel_inner": multiplier_passes(work.config), "shared": 0, "subtract": 1,
            **_clamp(layer.clamp)})


def _channel_sum(work: _Work, layer: ChannelSum) -> None:
    constants = _channel_constants(work, layer, layer.first, np.abs(layer.second))
    for tile in work.tiles(constants):
        _pair(work, tile, VectorOp.ADD, {
            "kernel_inner": multiplier_passes(work.config), "shared": 0,
            "subtract": int((layer.second < 0).any()), "out_zero": layer.zero,
            **_clamp(layer.clamp)})


def _channel_constants(work: _Work, layer: Affine | ChannelSum, first: np.ndarray,
                       second: np.ndarray) -> _Constants:
    """Multipliers of two operands, 0 to 2**24 - 1, and parameters, all of each channel."""
    def spread(values: np.ndarray) -> np.ndarray:
        return work.context.spread(layer.output, values)

    return work.context.once((work.index, "channel constants"), lambda: _Constants(
        weights=pack_multipliers(work.config, spread(first), spread(second)),
        parameters=pack_scales(work.config, spread(layer.bias), spread(layer.scale)),
        shared=False))


def _product(work: _Work, layer: Multiply) -> None:
    parameters, out_zero = _product_parameters(work, layer)
    zeros = [work.context.tensor(name).zero_point for name in layer.inputs]
    swap = _swaps(work, layer)
    for tile in work.tiles(_Constants(parameters=parameters)):
        _pair(work, tile, VectorOp.MULTIPLY, {
            "in_zero": zeros[swap], "second_zero": zeros[not swap],
            "out_zero": out_zero, "rule": layer.rounding, **_clamp(layer.clamp)}, swap=swap)


def _swaps(work: _Work, layer: Add | Multiply) -> bool:
    """Whether the operands change places: the small one must be second."""
    return work.context.tensor(layer.a).shape != work.target.shape


def _product_parameters(work: _Work, layer: Multiply) -> tuple[np.ndarray, int]:
    """Parameter entries of one channel block, and the zero point to add."""
    config = work.config
    a, b, y = (work.quantization(name) for name in (*layer.inputs, layer.output))
    if layer.rounding is Rounding.FIXED_POINT:
        multiplier, shift = (int(part[0]) for part in
                             reference.product_multiplier(a.scale, b.scale, y.scale))
        return _fixed_point_entries(config, 0, multiplier, shift), y.zero_point
    constants, _ = multiply_constants(a, b, y, layer.clamp)
    return _scale_entries(config, constants, 0), constants.out_zero


def _pair(work: _Work, tile: _Tile, op: VectorOp, fields: _Fields, *,
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
            own: _Fields = {}
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


def _lookup(work: _Work) -> None:
    for tile in work.tiles(_Constants()):
        work.emit(tile, VectorOp.LOOKUP, *work.plane(tile), ROW_BY_ROW, {})


def _deal_out(work: _Work, layer: Resize | Interleave) -> None:
    """A maximum of one word is a copy: one command for each place between its neighbours that a
    word goes to, from the tensor whose words go there."""
    down, across = layer.factors
    for tile in work.tiles(_Constants()):
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
    work = _Work(context, index, context.graph.layers[index])
    rows = source.rows
    tile = _Tile(rows=rows, columns=source.columns, sources=(source,), target=target, weights=None,
                 parameters=None,
                 text=f"{source.tensor.name} keep rows {rows.start}..{rows.stop - 1}")
    work.emit(tile, VectorOp.MAX, *work.plane(tile), ROW_BY_ROW, {})


# Layers ---------------------------------------------------------------------------------------

def lower_vector(context: LoweringContext, index: int, layer: Layer) -> None:
    """Commands of one layer: for each group of channel blocks whose constants fit, and each tile
    of rows, one VECTOR or a few."""
    work = _Work(context, index, layer)
    match layer:
        case Depthwise():
            _depthwise(work, layer)
        case Pool(kind=PoolKind.MAX):
            _maximum(work, layer)
        case Pool():
            _average(work, layer)
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
