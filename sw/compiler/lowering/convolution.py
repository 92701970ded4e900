"""Convolutions on the matrix engine."""


import numpy as np

from weft.compiler.ops import Address, Buffer, Op, Region, Space
from weft.compiler.planning.columns import tile_pixels
from weft.errors import CompileError
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, Tensor, layout

from .channel_parameters import requantization
from .context import LoweringContext
from .view import View

__all__ = ["lower_convolution"]


def lower_convolution(context: LoweringContext, index: int, layer: Convolution) -> None:
    """Commands of a convolution: for each tile of rows and each group of column tiles, in the
    order of the plan, one MATRIX."""
    _Convolution(context, index, layer).run()


class _Convolution:
    def __init__(self, context: LoweringContext, index: int, layer: Convolution):
        self._context = context
        self._index = index
        self._layer = layer
        self._plan = context.plan(index)
        self._channels, self._weights, self._parameters = context.once(
            (index,), lambda: self._pack(context))

    def _pack(self, context: LoweringContext) -> tuple[int, np.ndarray, np.ndarray]:
        """Output channels, weights and parameters as they lie in external memory."""
        config, layer = context.config, self._layer
        source = context.tensor(layer.input)
        weights, bias = layer.weights, layer.bias
        inputs, outputs = context.channels(layer.input), context.channels(layer.output)
        if not inputs.plain(config):
            weights = inputs.spread(config, weights.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
        _prove(config, layer, weights, source)
        if not outputs.plain(config):
            weights = outputs.spread(config, weights)
            bias = outputs.spread(config, bias)
        return len(weights), layout.pack_weights(config, weights), requantization(
            config, layer, layout.fold_bias(config, weights, bias, source.zero_point), outputs)

    def run(self) -> None:
        context, index, plan = self._context, self._index, self._plan
        constants: tuple[Buffer, Buffer] | None = None
        if plan.columns_outer:
            for chunk in plan.chunks:
                constants = None
                for rows in context.tiles(index):
                    source = context.read(index, self._layer.input, rows)
                    constants = constants or self._constants(chunk)
                    target = context.write(index, rows, blocks=self._blocks(chunk))
                    self._compute(chunk, constants, source, target)
                    context.finish(index, target)
            return
        for rows in context.tiles(index):
            source = context.read(index, self._layer.input, rows)
            target = context.write(index, rows)
            for chunk in plan.chunks:
                if constants is None or len(plan.chunks) > 1:
                    constants = self._constants(chunk)
                self._compute(chunk, constants, source, target.part(self._blocks(chunk)))
            context.finish(index, target)

    def _last(self, chunk: range) -> bool:
        return chunk.stop == len(self._weights)

    def _blocks(self, chunk: range) -> range:
        """Output channel blocks that a group of column tiles makes."""
        config = self._context.config
        stop = (layout.channel_blocks(config, self._channels) if self._last(chunk)
                else chunk.stop * config.cols // config.rows)
        return range(chunk.start * config.cols // config.rows, stop)

    def _part(self, chunk: range) -> str:
        count = len(self._plan.chunks)
        return f" {self._plan.chunks.index(chunk) + 1}/{count}" if count > 1 else ""

    def _constants(self, chunk: range) -> tuple[Buffer, Buffer]:
        part = self._part(chunk)
        return (self._context.constant(self._index, f"weights{part}", Space.WEIGHT,
                                        self._weights, part=chunk),
                self._context.constant(self._index, f"parameters{part}", Space.PARAMETER,
                                        self._parameters, part=chunk))

    def _compute(self, chunk: range, constants: tuple[Buffer, Buffer], source: View,
                 target: View) -> None:
        context, layer, config = self._context, self._layer, self._context.config
        weights, parameters = constants
        rows = target.rows
        out_pixels = len(rows) * target.width
        groups = config.requant_groups
        if self._last(chunk):
            last_channels = self._channels - (len(self._weights) - 1) * config.cols
            groups = -(-last_channels // config.requant_lanes)
        tile = ("" if len(rows) == target.tensor.shape[1]
                else f" rows {rows.start}..{rows.stop - 1}")
        context.emit(self._index, Op(
            opcode=Opcode.MATRIX, layer=self._index,
            text=f"{layer.name}{self._part(chunk)}{tile}",
            fields={
                "in_base": source.at(-(source.padding * source.width + layer.pads.left)),
                "in_zero": source.tensor.zero_point,
                "in_plane": source.plane,
                "pad_top": source.padding,
                "in_h": len(source.rows),
                "in_w": source.width,
                "channel_blocks": len(source.blocks),
                "kernel_h": layer.weights.shape[2],
                "kernel_w": layer.weights.shape[3],
                "stride_h": layer.strides[0],
                "stride_w": layer.strides[1],
                "dilation_h": layer.dilations[0],
                "dilation_w": layer.dilations[1],
                "pixel_row_step": layer.strides[0] * source.width,
                "pad_left": layer.pads.left,
                "kernel_row_step": layer.dilations[0] * source.width,
                "out_w": target.width,
                "tile_pixels": tile_pixels(config, out_pixels),
                "out_pixels": out_pixels,
                "out_zero": target.tensor.zero_point,
                "out_base": target.at(),
                "clamp_min": layer.clamp[0],
                "out_plane": target.plane,
                "clamp_max": layer.clamp[1],
                "col_tiles": len(chunk),
                "last_groups": groups,
                "rule": layer.rounding,
                "weight_base": Address(weights),
                "parameter_base": Address(parameters),
            },
            reads=(*source.regions(), Region.whole(weights),
                   Region(parameters, 0, (len(chunk) - 1) * config.requant_groups + groups)),
            writes=target.regions()))


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
