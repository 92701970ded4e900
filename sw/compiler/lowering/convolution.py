"""Convolutions on the matrix engine."""

from dataclasses import dataclass

import numpy as np

from weft.compiler.ops import Buffer, Region, Space
from weft.compiler.planning.skip import Run
from weft.ir import Convolution, layout

from .context import LoweringContext
from .deep_convolution import lower_deep_convolution
from .matrix import convolution_constants, load_table, matrix_op, table_of, tile_text
from .view import View

__all__ = ["lower_convolution"]


def lower_convolution(context: LoweringContext, index: int, layer: Convolution) -> None:
    """Commands of a convolution: for each tile of rows and each group of column tiles, in the
    order of the plan, one MATRIX; or several for each column tile, if sums are added up."""
    if context.plan(index).depths:
        lower_deep_convolution(context, index, layer)
    else:
        _Convolution(context, index, layer).run()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Packed:
    """Constants of a layer as they lie in external memory.

    Attributes
    ----------
    channels : :class:`int`
        Output channels, with lanes that have none.
    runs : :class:`tuple` of :class:`Run`
    starts : :class:`list` of :class:`int`
        The first weight row of each column tile, and behind them their number.
    weights : int8 [rows, weight_row_bytes]
    parameters : int8 [column tiles, requant_groups, parameter_entry_bytes]
    """

    channels: int
    runs: tuple[Run, ...]
    starts: list[int]
    weights: np.ndarray
    parameters: np.ndarray

    @property
    def columns(self) -> int:
        """Column tiles."""
        return len(self.starts) - 1

    def rows(self, columns: range) -> range:
        """Weight rows of some column tiles."""
        return range(self.starts[columns.start], self.starts[columns.stop])


class _Convolution:
    def __init__(self, context: LoweringContext, index: int, layer: Convolution):
        self._context = context
        self._index = index
        self._layer = layer
        self._plan = context.plan(index)
        packed: _Packed = context.once((index,), lambda: self._pack(context))
        self._packed = packed
        self._table: Buffer | None = None   # once it is loaded

    def _pack(self, context: LoweringContext) -> "_Packed":
        config, layer = context.config, self._layer
        weights, parameters = convolution_constants(context, layer)
        parts, starts, found = [], [0], context.runs(layer)
        for run in found:
            part = weights[run.columns.start * config.cols:run.columns.stop * config.cols,
                           run.blocks.start * config.rows:run.blocks.stop * config.rows]
            parts.append(layout.pack_weights(config, part))
            starts += [starts[-1] + parts[-1].shape[1] * number
                       for number in range(1, len(run.columns) + 1)]
        return _Packed(
            channels=len(weights), runs=found, starts=starts,
            weights=np.concatenate([part.reshape(-1, part.shape[2]) for part in parts]),
            parameters=parameters)

    def run(self) -> None:
        context, index, plan = self._context, self._index, self._plan
        copies = context.copies(index)
        if copies is not None:
            self._run_together(copies)
            return
        constants: tuple[Buffer, Buffer] | None = None
        if plan.columns_outer:
            for chunk in filter(context.in_turn, plan.chunks):
                constants = None
                for tile in context.tiles(index):
                    source = context.read(index, self._layer.input, *tile)
                    constants = constants or self._constants(chunk)
                    target = context.write(index, *tile, blocks=self._blocks(chunk))
                    self._compute(chunk, constants, source, target)
                    context.finish(index, target)
            return
        for tile in context.tiles(index):
            source = context.read(index, self._layer.input, *tile)
            target = context.write(index, *tile)
            for chunk in plan.chunks:
                if constants is None or len(plan.chunks) > 1:
                    constants = self._constants(chunk)
                self._compute(chunk, constants, source, target.part(self._blocks(chunk)))
            context.finish(index, target)

    def _run_together(self, copies: range) -> None:
        """The layer for all frames, pixels of one plane; nothing for ``copies`` of none."""
        context, pixel = self._context, (range(1), range(1))
        layers = [context.graph.layers[copy] for copy in copies]
        sources = [context.read(copy, layer.inputs[0], *pixel)
                   for copy, layer in zip(copies, layers, strict=True)]
        for chunk in self._plan.chunks if copies else ():
            constants = self._constants(chunk)
            targets = [context.write(copy, *pixel, blocks=self._blocks(chunk)) for copy in copies]
            self._compute(chunk, constants, context.together(sources), context.together(targets))
            for copy, target in zip(copies, targets, strict=True):
                context.finish(copy, target)

    def _last(self, chunk: range) -> bool:
        return chunk.stop == self._packed.columns

    def _blocks(self, chunk: range) -> range:
        """Output channel blocks that a group of column tiles makes."""
        config = self._context.config
        stop = (layout.channel_blocks(config, self._packed.channels) if self._last(chunk)
                else chunk.stop * config.cols // config.rows)
        return range(chunk.start * config.cols // config.rows, stop)

    def _part(self, chunk: range) -> str:
        count = len(self._plan.chunks)
        return f" {self._plan.chunks.index(chunk) + 1}/{count}" if count > 1 else ""

    def _run(self, columns: range, chunk: range) -> str:
        if columns == chunk:
            return ""
        return f" columns {columns.start}..{columns.stop - 1}"

    def _constants(self, chunk: range) -> tuple[Buffer, Buffer]:
        part, packed = self._part(chunk), self._packed
        self._table = self._table or load_table(self._context, self._index, self._layer)
        return (self._context.constant(self._index, f"weights{part}", Space.WEIGHT,
                                       packed.weights, part=packed.rows(chunk)),
                self._context.constant(self._index, f"parameters{part}", Space.PARAMETER,
                                       packed.parameters, part=chunk))

    def _compute(self, chunk: range, constants: tuple[Buffer, Buffer], source: View,
                 target: View) -> None:
        """The column tiles ``chunk``, whose output blocks are ``target``: a command for each run
        of those that read the same channel blocks, or for each with a table of its own."""
        function = self._layer.function
        alone = function is not None and function.table.ndim > 1
        for run in self._packed.runs:
            columns = range(max(run.columns.start, chunk.start),
                            min(run.columns.stop, chunk.stop))
            for part in (range(one, one + 1) for one in columns) if alone else (columns,):
                if part:
                    self._command(chunk, part, constants, source.part(run.blocks),
                                  target.part(self._blocks(part)))

    def _command(self, chunk: range, columns: range, constants: tuple[Buffer, Buffer],
                 source: View, target: View) -> None:
        context, layer, config = self._context, self._layer, self._context.config
        weights, parameters = constants
        groups = config.requant_groups
        if self._last(columns):
            last_channels = self._packed.channels - (self._packed.columns - 1) * config.cols
            groups = -(-last_channels // config.requant_lanes)
        first = self._packed.rows(chunk).start
        weight_rows = self._packed.rows(columns)
        entry = (columns.start - chunk.start) * config.requant_groups
        tile = tile_text(self._plan, target)
        context.emit(self._index, matrix_op(
            context, self._index, layer,
            text=f"{layer.name}{self._part(chunk)}{self._run(columns, chunk)}{tile}",
            source=source, target=target, columns=len(columns), groups=groups,
            weights=Region(weights, weight_rows.start - first, weight_rows.stop - first),
            parameters=Region(parameters, entry,
                              entry + (len(columns) - 1) * config.requant_groups + groups),
            table=table_of(layer, self._table, columns.start)))
