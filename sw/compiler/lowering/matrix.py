"""A MATRIX command, and the constants of a convolution."""

import numpy as np

from weft.compiler.ops import Address, Buffer, Op, Quotient, Region, Space
from weft.compiler.planning.columns import tile_pixels
from weft.compiler.planning.tiles import LayerPlan
from weft.errors import CompileError
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import TABLE_ENTRIES
from weft.ir import Convolution, MatMul, Tensor, layout

from .channel_parameters import requantization
from .context import LoweringContext
from .vector_constants import pack_lane_tables, pack_table
from .view import View

__all__ = ["convolution_constants", "load_table", "matrix_op", "table_of", "tile_text"]


def convolution_constants(context: LoweringContext,
                          layer: Convolution) -> tuple[np.ndarray, np.ndarray]:
    """Weights with their channels where those of the tensors lie, int8 [outputs, inputs, height,
    width]; and the parameters, int8 [column tiles, requant_groups, parameter_entry_bytes].

    Raises
    ------
    CompileError
        If a sum may overflow.
    """
    config = context.config
    source = context.tensor(layer.input)
    weights, bias = layer.weights, layer.bias
    inputs, outputs = context.channels(layer.input), context.channels(layer.output)
    if not inputs.plain(config):
        weights = inputs.spread(config, weights.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    _prove(config, layer, weights, source)
    if not outputs.plain(config):
        weights = outputs.spread(config, weights)
        bias = outputs.spread(config, bias)
    return weights, requantization(
        config, layer, layout.fold_bias(config, weights, bias, source.zero_point), outputs)


def tile_text(plan: LayerPlan, target: View) -> str:
    """Which rows and columns of its output a command makes, if not all."""
    rows, columns = target.rows, target.columns
    text = ("" if len(rows) == target.tensor.shape[1]
            else f" rows {rows.start}..{rows.stop - 1}")
    return text + (f" columns {columns.start}..{columns.stop - 1}" if plan.columns else "")


def load_table(context: LoweringContext, index: int,
               layer: Convolution | MatMul) -> Buffer | None:
    """Loads the table that a layer's results go through, if there is one; or those of all its
    channel blocks."""
    if layer.function is None:
        return None
    values = layer.function.table
    if values.ndim == 1:
        return context.constant(index, "table", Space.TABLE, pack_table(values))
    packed = context.once((index, "tables"), lambda: pack_lane_tables(
        context.config, context.spread(layer.output, values)))
    return context.constant(index, "tables", Space.TABLE, packed, part=range(len(packed)))


def table_of(layer: Convolution | MatMul, table: Buffer | None, column: int) -> Region | None:
    """Where the table for a column tile is, in the buffer of :func:`load_table`. Those of channel
    blocks are for column tiles of as many channels."""
    if table is None or layer.function is None:
        return None
    first = 0 if layer.function.table.ndim == 1 else TABLE_ENTRIES * column
    return Region(table, first, first + TABLE_ENTRIES)


def matrix_op(context: LoweringContext, index: int, layer: Convolution | MatMul, *, text: str,
              source: View, target: View, columns: int, groups: int, weights: Region,
              parameters: Region, table: Region | None, weight_zero: int = 0, slot: int = 0,
              accumulate: bool = False, keep: bool = False) -> Op:
    """The command that computes ``target`` from ``source``.

    Parameters
    ----------
    index : :class:`int`
        Of the layer.
    text : :class:`str`
        For dumps and reports.
    columns, groups : :class:`int`
        Column tiles, and requantization groups of the last one.
    weights, parameters : :class:`Region`
        Where they lie on chip.
    table : :class:`Region`
        That of :func:`table_of`, for all column tiles.
    weight_zero : :class:`int`
        Zero point of weights that were made on chip.
    slot : :class:`int`
        Part of the first word of ``target`` that the output begins at.
    accumulate, keep : :class:`bool`
        Goes on with sums; leaves them to the next command, and all but ``source`` and ``weights``
        alone.
    """
    out_pixels = len(target.rows) * target.width
    if keep:
        table = None
    return Op(
        opcode=Opcode.MATRIX, layer=index, text=text,
        fields={
            "in_base": source.at(-(source.padding * source.width + source.left)),
            "in_zero": source.tensor.zero_point,
            "in_plane": source.plane,
            "pad_top": source.padding,
            "in_h": len(source.rows),
            "in_w": source.width,
            "channel_blocks": len(source.blocks),
            "kernel_h": layer.kernel[0],
            "kernel_w": layer.kernel[1],
            "stride_h": layer.strides[0],
            "stride_w": layer.strides[1],
            "dilation_h": layer.dilations[0],
            "dilation_w": layer.dilations[1],
            "pixel_row_step": layer.strides[0] * source.width,
            "pad_left": source.left,
            "kernel_row_step": layer.dilations[0] * source.width,
            "out_w": target.width,
            "tile_pixels": tile_pixels(context.config, out_pixels),
            "out_pixels": out_pixels,
            "out_zero": layer.result(target.tensor).zero_point,
            "out_base": target.at(),
            "clamp_min": layer.clamp[0],
            "out_plane": target.plane,
            "clamp_max": layer.clamp[1],
            "col_tiles": columns,
            "last_groups": groups,
            "rule": layer.rounding,
            "accumulate": int(accumulate),
            "keep": int(keep),
            "weight_base": Address(weights.buffer, weights.start),
            "weight_zero": weight_zero,
            "out_slot": slot,
            "parameter_base": Address(parameters.buffer, parameters.start),
            # Tables are counted from 1.
            "table": Quotient(Address(table.buffer, table.stop), TABLE_ENTRIES) if table else 0,
        },
        reads=(*source.regions(), weights, *((table,) if table else ()),
               *(() if keep else (parameters,))),
        writes=() if keep else target.regions())


def _prove(config: AcceleratorConfig, layer: Convolution, weights: np.ndarray,
           source: Tensor) -> None:
    """Makes sure that no sum can overflow, whatever the input."""
    flat = weights.reshape(len(weights), -1).astype(np.int64)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    most, least = config.activation_type.high, config.activation_type.low
    high = most * positive + least * negative
    low = most * negative + least * positive
    beta = layout.fip_beta(config, weights)
    offset = layer.bias.astype(np.int64) - source.zero_point * flat.sum(axis=1)
    for what, shift, width in (("accumulator", beta, config.accumulator_width),
                               ("int32 sum with bias", offset, 32)):
        limit = 1 << (width - 1)
        for reach in (int((high + shift).max()), int((low + shift).min())):
            if not -limit <= reach < limit:
                raise CompileError(
                    f"Layer {layer.name!r} may reach {reach} in its {what}, which holds "
                    f"{-limit} to {limit - 1}")
