"""Convolutions whose weights or input are too much for the chip even for one column tile.

Their input channels are computed in chunks: the sums of a column tile stay in the accumulators
from one command to the next, and the last one writes them.
"""

from dataclasses import dataclass

import numpy as np

from weft.compiler.ops import Buffer, Region, Space
from weft.compiler.planning.columns import weights_stay
from weft.ir import Convolution, layout

from .context import LoweringContext
from .matrix import convolution_constants, load_table, matrix_op, table_of, tile_text
from .view import View

__all__ = ["lower_deep_convolution"]


def lower_deep_convolution(context: LoweringContext, index: int, layer: Convolution) -> None:
    """Commands of a convolution: for each tile of pixels and each column tile, in the order of the
    plan, one MATRIX for each chunk of input channels."""
    _DeepConvolution(context, index, layer).run()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Packed:
    """Constants of a layer as they lie in external memory.

    Attributes
    ----------
    channels : :class:`int`
        Output channels, with lanes that have none.
    parts : list of list of (:class:`range`, :class:`range`, :class:`range`)
        For each column tile the chunks that it reads: of the plan, the channel blocks of it that
        are read, and their weight rows.
    weights : int8 [rows, weight_row_bytes]
    parameters : int8 [column tiles, requant_groups, parameter_entry_bytes]
    """

    channels: int
    parts: list[list[tuple[range, range, range]]]
    weights: np.ndarray
    parameters: np.ndarray

    def rows(self, columns: range) -> range:
        """Weight rows of some column tiles."""
        _, _, first = self.parts[columns.start][0]
        _, _, last = self.parts[columns.stop - 1][-1]
        return range(first.start, last.stop)


class _DeepConvolution:
    def __init__(self, context: LoweringContext, index: int, layer: Convolution):
        self._context = context
        self._index = index
        self._layer = layer
        self._plan = context.plan(index)
        packed: _Packed = context.once((index, self._plan.depths), self._pack)
        self._packed = packed
        self._table: Buffer | None = None   # once it is loaded

    def _pack(self) -> _Packed:
        context, config = self._context, self._context.config
        weights, parameters = convolution_constants(context, self._layer)
        parts: list[list[tuple[range, range, range]]] = []
        packed: list[np.ndarray] = []
        start = 0
        for run in context.runs(self._layer):
            for column in run.columns:
                parts.append([])
                for chunk in self._plan.depths:
                    blocks = range(max(chunk.start, run.blocks.start),
                                   min(chunk.stop, run.blocks.stop))
                    if not blocks:
                        continue
                    part = weights[column * config.cols:(column + 1) * config.cols,
                                   blocks.start * config.rows:blocks.stop * config.rows]
                    packed.append(layout.pack_weights(config, part)[0])
                    stop = start + len(packed[-1])
                    parts[-1].append((chunk, blocks, range(start, stop)))
                    start = stop
        return _Packed(channels=len(weights), parts=parts, weights=np.concatenate(packed),
                       parameters=parameters)

    def run(self) -> None:
        context, index, plan = self._context, self._index, self._plan
        self._table = load_table(context, index, self._layer)
        if plan.columns_outer:
            for group in plan.chunks:
                parameters, weights = self._parameters(group), self._weights(group)
                for tile in context.tiles(index):
                    target = context.write(index, *tile, blocks=self._blocks(group))
                    self._compute(group, tile, target, parameters, weights)
                    context.finish(index, target)
            return
        every = range(len(self._packed.parts))
        together = len(every) * context.config.requant_groups <= context.config.parameter_depth
        held = self._parameters(every) if together else None
        for tile in context.tiles(index):
            target = context.write(index, *tile)
            for group in plan.chunks:
                self._compute(group, tile, target.part(self._blocks(group)),
                              held or self._parameters(group), None)
            context.finish(index, target)

    def _blocks(self, columns: range) -> range:
        """Output channel blocks that some column tiles make a part of."""
        config = self._context.config
        stop = min(columns.stop * config.cols, self._packed.channels)
        return range(columns.start * config.cols // config.rows,
                     layout.channel_blocks(config, stop))

    def _parameters(self, columns: range) -> tuple[Buffer, int]:
        """Parameters of some column tiles, and the first of these."""
        text = "parameters" + self._text(columns)
        return self._context.constant(self._index, text, Space.PARAMETER,
                                      self._packed.parameters, part=columns), columns.start

    def _weights(self, group: range) -> tuple[Buffer, int] | None:
        """Weights of a group, and their first row, if they stay."""
        rows = self._packed.rows(group)
        if not weights_stay(self._context.config, self._plan.columns_outer, len(rows)):
            return None
        return self._load(f"weights{self._text(group)}", rows), rows.start

    def _load(self, text: str, rows: range) -> Buffer:
        return self._context.constant(self._index, text, Space.WEIGHT, self._packed.weights,
                                      part=rows)

    def _text(self, columns: range) -> str:
        every = len(self._packed.parts)
        if len(columns) == every:
            return ""
        last = f"..{columns.stop}" if len(columns) > 1 else ""
        return f" {columns.start + 1}{last}/{every}"

    def _compute(self, group: range, tile: tuple[range, range], target: View,
                 parameters: tuple[Buffer, int], weights: tuple[Buffer, int] | None) -> None:
        """The column tiles of a group for a tile of pixels: their output is ``target``."""
        context, config, layer = self._context, self._context.config, self._layer
        where = tile_text(self._plan, target)
        for column in group:
            one = range(column, column + 1)
            channels = min(config.cols, self._packed.channels - column * config.cols)
            groups = -(-channels // config.requant_lanes)
            entry = (column - parameters[1]) * config.requant_groups
            parts = self._packed.parts[column]
            for chunk, blocks, at in parts:
                source = context.read(self._index, layer.input, *tile, blocks=chunk).part(blocks)
                depth = f" blocks {blocks.start}..{blocks.stop - 1}"
                buffer, first = weights or (
                    self._load(f"weights{self._text(one)}{depth}", at), at.start)
                context.emit(self._index, matrix_op(
                    context, self._index, layer, source=source,
                    target=target.part(self._blocks(one)), columns=1, groups=groups,
                    text=f"{layer.name}{self._text(one)}{depth}{where}",
                    weights=Region(buffer, at.start - first, at.stop - first),
                    parameters=Region(parameters[0], entry, entry + groups),
                    table=table_of(layer, self._table, column),
                    slot=column * config.cols % config.rows // config.requant_lanes,
                    accumulate=at.start > parts[0][2].start, keep=at.stop < parts[-1][2].stop))
