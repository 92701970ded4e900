"""What all layers of the vector engine share: tiles, their constants, and a command for each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from weft.compiler.misfit import with_field
from weft.compiler.ops import Address, Buffer, Difference, Op, Quotient, Region, Space
from weft.compiler.planning.loop_order import Axis, LoopOrder, window_loop_order
from weft.errors import CompileError
from weft.hw.isa.commands import Memory, Opcode, Rounding, VectorOp
from weft.hw.isa.limits import TABLE_ENTRIES
from weft.hw.isa.vector_rules import line_columns
from weft.ir import Depthwise, Layer, Lookup, Pool
from weft.reference.exact import Quantization

from .context import LoweringContext
from .vector_constants import pack_lane_tables, pack_table
from .view import View

__all__ = ["Fields", "VectorConstants", "VectorTable", "VectorTile", "VectorWork", "clamp_fields"]


_Value = int | Memory | Rounding | VectorOp | Address | Quotient | Difference
Fields = dict[str, _Value]
"""Of a command, by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorConstants:
    """Weight and parameter entries, int8 [channel blocks, entries of a block, entry bytes]; one
    block that all use, if ``shared``."""
    weights: np.ndarray | None = None
    parameters: np.ndarray | None = None
    shared: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorTable:
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
class VectorTile:
    """Some rows, columns and channel blocks of a layer, and the constants for them."""
    rows: range
    columns: range
    sources: tuple[View, ...]
    target: View
    weights: Buffer | None
    parameters: Buffer | None
    text: str
    table: "VectorTable | None" = None

    def block(self, number: int) -> "VectorTile":
        """One of its channel blocks."""
        def one(view: View) -> View:
            first = view.blocks.start + number
            return view.part(range(first, first + 1))
        table = self.table and replace(self.table, first=number * self.table.step)
        return replace(self, sources=tuple(one(view) for view in self.sources),
                       target=one(self.target), table=table)


class VectorWork:
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

    def tiles(self, constants: VectorConstants) -> Iterator[VectorTile]:
        """All tiles, with constants loaded once: groups of channel blocks whose constants fit are
        the outer loop."""
        context, index = self.context, self.index
        chunks = self._chunks(constants)
        function = self._function()
        table: VectorTable | None = None

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
                yield VectorTile(rows=rows, columns=columns, sources=sources, target=target,
                                 weights=weights, parameters=parameters, table=table, text=text)
                context.finish(index, target)

    def _function(self) -> np.ndarray | None:
        """The table of the layer, int8 [256] or [C, 256]."""
        layer = self.layer
        if isinstance(layer, Lookup):
            return layer.table
        return None if layer.function is None else layer.function.table

    def _load_table(self, values: np.ndarray, part: str, chunk: range) -> VectorTable:
        context = self.context
        if values.ndim == 1:
            packed = context.once((self.index, "table"), lambda: pack_table(values))
            return VectorTable(step=0, buffer=context.constant(self.index, "table", Space.TABLE,
                                                               packed))
        packed = context.once((self.index, "table"), lambda: pack_lane_tables(
            self.config, context.spread(self.layer.output, values)))
        return VectorTable(step=1, buffer=context.constant(self.index, f"tables{part}", Space.TABLE,
                                                           packed, part=chunk))

    def _chunks(self, constants: VectorConstants) -> list[range]:
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

    def plane(self, tile: VectorTile) -> tuple[Axis, Axis]:
        """Vertical and horizontal axis of an element-wise layer."""
        width = tile.target.width
        return (Axis(size=len(tile.rows), pitch=width, out=len(tile.rows), out_pitch=width),
                Axis(size=width, pitch=1, out=width, out_pitch=1))

    def emit(self, tile: VectorTile, op: VectorOp, vertical: Axis, horizontal: Axis,
             loop_order: LoopOrder, fields: Fields) -> None:
        """One command. What its axes do not say is in ``fields``, or zero."""
        outer, inner = loop_order.nest(vertical, horizontal)
        source, target = tile.sources[0], tile.target
        first = (vertical.start + horizontal.start
                 - vertical.pad * vertical.pitch - horizontal.pad * horizontal.pitch)
        known: Fields = {
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


def clamp_fields(clamp: tuple[int, int]) -> Fields:
    """The bounds of results, both included."""
    return {"clamp_min": clamp[0], "clamp_max": clamp[1]}
