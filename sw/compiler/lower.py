"""First pass: layers become loads, matrix commands and stores on symbolic buffers."""

from math import gcd

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data

from weft import layout
from weft.config import AcceleratorConfig
from weft.errors import CompileError
from weft.hw.commands import COMMANDS, Memory, Opcode
from weft.ir import Convolution, Graph, Tensor

from .ops import Address, Buffer, Lowered, Op, Region, Space

__all__ = ["lower", "tile_pixels", "column_chunks"]


_MEMORIES = {Space.ACTIVATION: Memory.ACTIVATION, Space.WEIGHT: Memory.WEIGHT,
             Space.PARAMETER: Memory.PARAMETER}


def tile_pixels(config: AcceleratorConfig, out_pixels: int) -> int:
    """Pixels of a full pixel tile: as few tiles as the accumulators allow, all about equal.

    Equal tiles keep every step longer than the ``pe_rows`` cycles that its weights take to shift
    in, and give the drain of a tile the time of a whole tile to hide behind.
    """
    tiles = -(-out_pixels // config.accumulator_pixels)
    return -(-out_pixels // tiles)


def column_chunks(config: AcceleratorConfig, layer: str, tiles: int,
                  tile_rows: int) -> list[range]:
    """Column tiles of a layer in groups that are loaded and computed together.

    A group takes at most half of the weight and parameter memories where it can, so that the next
    one is loaded while it is computed; and it starts at the first lane of an output word, because
    a command's output does.

    Parameters
    ----------
    layer : :class:`str`
        Its name, for the error.
    tiles : :class:`int`
        Column tiles of the layer.
    tile_rows : :class:`int`
        Weight rows of one column tile.

    Raises
    ------
    CompileError
        If the smallest possible group does not fit.
    """
    step = config.rows // gcd(config.rows, config.cols)
    smallest = min(step, tiles)
    for what, each, lanes, depth in (
            ("weight", tile_rows, config.weight_row_lanes, config.weight_depth),
            ("parameter", config.requant_groups, config.parameter_entry_lanes,
             config.parameter_depth)):
        if smallest * each > depth:
            raise CompileError(
                f"Layer {layer!r} needs {smallest * each * lanes} bytes of {what} memory for "
                f"{smallest * config.cols} output channels, {depth * lanes} are available")
    limit = min(config.weight_depth // 2 // tile_rows,
                config.parameter_depth // 2 // config.requant_groups)
    limit = max(limit - limit % step, step)
    count = -(-tiles // limit)
    size = -(-tiles // count)
    size += -size % step
    return [range(first, min(first + size, tiles)) for first in range(0, tiles, size)]


def lower(graph: Graph, config: AcceleratorConfig, *, keep_tensors: bool = False) -> Lowered:
    """Symbolic commands for ``graph``.

    The loads of a layer come right before its matrix command: the queues in front of the engines
    let them run ahead, and the fetch of a matrix command never waits behind the loads of a later
    layer.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Store the output of every layer, not only the graph's outputs.

    Raises
    ------
    CompileError
        If a layer exceeds a field of a command, the accumulators, or the weight memory.
    """
    return _Lowering(graph, config, keep_tensors).run()


class _Lowering:
    def __init__(self, graph: Graph, config: AcceleratorConfig, keep_tensors: bool):
        self._graph = graph
        self._config = config
        self._ops: list[Op] = []
        self._constants: list[Buffer] = []
        self._slots: dict[str, Buffer] = {}
        self._tensors: dict[str, Buffer] = {}  # on chip, once loaded or computed
        self._inputs = {edge.tensor for edge in graph.inputs}
        self._stored = {edge.tensor for edge in graph.outputs}
        if keep_tensors:
            self._stored |= {layer.output for layer in graph.layers}

    def run(self) -> Lowered:
        for index, layer in enumerate(self._graph.layers):
            _verify(self._graph, layer)
            self._convolution(index, layer)
        for edge in self._graph.outputs:  # an input that is an output as well
            if edge.tensor in self._inputs:
                self._store(None, edge.tensor, self._source(edge.tensor, "output"))
        return Lowered(ops=tuple(self._ops), slots=self._slots,
                       external=(*self._constants, *self._slots.values()))

    # Tensors ----------------------------------------------------------------------------------

    def _on_chip(self, tensor: Tensor, layer: str) -> Buffer:
        buffer = Buffer(name=tensor.name, space=Space.ACTIVATION, layer=layer,
                        size=layout.tensor_words(self._config, tensor.shape))
        self._tensors[tensor.name] = buffer
        return buffer

    def _source(self, name: str, layer: str) -> Buffer:
        """On-chip buffer of a tensor, which is loaded at its first use if it is an input."""
        if name not in self._tensors:
            if name not in self._inputs:
                raise ValueError(f"Tensor {name!r} is used before it is computed")
            buffer = self._on_chip(self._graph.tensors[name], layer)
            self._load(None, f"input {name}", self._slot(name, layer), buffer,
                       self._config.word_bytes)
        return self._tensors[name]

    def _slot(self, name: str, layer: str) -> Buffer:
        if name not in self._slots:
            size = layout.tensor_bytes(self._config, self._graph.tensors[name].shape)
            self._slots[name] = Buffer(name=name, space=Space.EXTERNAL, size=size, layer=layer)
        return self._slots[name]

    # Commands ---------------------------------------------------------------------------------

    def _load(self, index: int | None, text: str, source: Buffer, target: Buffer,
              unit_bytes: int) -> None:
        self._emit(target.layer, Op(
            opcode=Opcode.LOAD, layer=index, text=text,
            fields={"memory": _MEMORIES[target.space], "lines": 1,
                    "address": Address(source), "stride": 0,
                    "units": source.size // unit_bytes,
                    "local_address": Address(target), "local_stride": 0},
            reads=(Region.whole(source),), writes=(Region.whole(target),)))

    def _constant(self, index: int, layer: str, what: str, space: Space,
                  packed: np.ndarray) -> Buffer:
        """Loads ``packed`` units, int8 [..., unit_bytes], to the on-chip ``space``."""
        unit_bytes = packed.shape[-1]
        source = Buffer(name=f"{layer} {what}", space=Space.EXTERNAL, size=packed.size,
                        layer=layer, data=packed.tobytes())
        target = Buffer(name=f"{layer} {what}", space=space, size=packed.size // unit_bytes,
                        layer=layer)
        self._constants.append(source)
        self._load(index, f"{layer} {what}", source, target, unit_bytes)
        return target

    def _store(self, index: int | None, name: str, source: Buffer) -> None:
        target = self._slot(name, source.layer)
        self._emit(source.layer, Op(
            opcode=Opcode.STORE, layer=index, text=f"output {name}",
            fields={"lines": 1, "address": Address(target), "stride": 0, "units": source.size,
                    "local_address": Address(source), "local_stride": 0},
            reads=(Region.whole(source),), writes=(Region.whole(target),)))

    def _emit(self, layer: str, op: Op) -> None:
        fields = data.Layout.cast(COMMANDS[op.opcode])
        for name, value in op.fields.items():
            if not isinstance(value, int):  # known only to later passes
                continue
            shape = Shape.cast(fields[name].shape)
            low = -(1 << (shape.width - 1)) if shape.signed else 0
            high = (1 << (shape.width - shape.signed)) - 1
            if not low <= value <= high:
                raise CompileError(f"Layer {layer!r}: {name} must be between {low} and {high}, "
                                   f"not {value}")
        self._ops.append(op)

    def _convolution(self, index: int, layer: Convolution) -> None:
        config, graph = self._config, self._graph
        source, target = graph.tensors[layer.input], graph.tensors[layer.output]
        outputs, inputs, kernel_h, kernel_w = layer.weights.shape
        _, in_h, in_w = source.shape
        _, out_h, out_w = target.shape
        in_plane, out_plane = in_h * in_w, out_h * out_w
        bias = _fold(config, layer, source)
        weights = layout.pack_weights(config, layer.weights)
        parameters = layout.pack_parameters(config, bias, layout.hardware_scale(layer.multiplier))
        tiles, tile_rows = weights.shape[:2]
        last_channels = outputs - (tiles - 1) * config.cols
        last_groups = -(-last_channels // config.requant_lanes)

        chunks = column_chunks(config, layer.name, tiles, tile_rows)
        in_buffer = self._source(layer.input, layer.name)
        out_buffer = self._on_chip(target, layer.name)
        for number, chunk in enumerate(chunks):
            part = f" {number + 1}/{len(chunks)}" if len(chunks) > 1 else ""
            tiles_of = slice(chunk.start, chunk.stop)
            weight_buffer = self._constant(index, layer.name, f"weights{part}", Space.WEIGHT,
                                           weights[tiles_of])
            parameter_buffer = self._constant(index, layer.name, f"parameters{part}",
                                              Space.PARAMETER, parameters[tiles_of])
            first_block = chunk.start * config.cols // config.rows
            last = chunk.stop == tiles
            stop_block = (layout.channel_blocks(config, outputs) if last
                          else chunk.stop * config.cols // config.rows)
            groups = last_groups if last else config.requant_groups
            self._emit(layer.name, Op(
                opcode=Opcode.MATRIX, layer=index, text=f"{layer.name}{part}",
                fields={
                    "in_base": Address(in_buffer, -(layer.pads[0] * in_w + layer.pads[1])),
                    "in_zero": source.zero_point,
                    "in_plane": in_plane,
                    "pad_top": layer.pads[0],
                    "in_h": in_h,
                    "in_w": in_w,
                    "channel_blocks": layout.channel_blocks(config, inputs),
                    "kernel_h": kernel_h,
                    "kernel_w": kernel_w,
                    "stride_h": layer.strides[0],
                    "stride_w": layer.strides[1],
                    "dilation_h": layer.dilations[0],
                    "dilation_w": layer.dilations[1],
                    "pixel_row_step": layer.strides[0] * in_w,
                    "pad_left": layer.pads[1],
                    "kernel_row_step": layer.dilations[0] * in_w,
                    "out_w": out_w,
                    "tile_pixels": tile_pixels(config, out_plane),
                    "out_pixels": out_plane,
                    "out_zero": target.zero_point,
                    "out_base": Address(out_buffer, first_block * out_plane),
                    "clamp_min": layer.clamp[0],
                    "out_plane": out_plane,
                    "clamp_max": layer.clamp[1],
                    "col_tiles": len(chunk),
                    "last_groups": groups,
                    "weight_base": Address(weight_buffer),
                    "parameter_base": Address(parameter_buffer),
                },
                reads=(Region.whole(in_buffer), Region.whole(weight_buffer),
                       Region(parameter_buffer, 0,
                              (len(chunk) - 1) * config.requant_groups + groups)),
                writes=(Region(out_buffer, first_block * out_plane, stop_block * out_plane),)))
        if layer.output in self._stored:
            self._store(index, layer.output, out_buffer)


def _verify(graph: Graph, layer: Convolution) -> None:
    """A graph that breaks these rules is a mistake of the front end, not of the user."""
    source, target = graph.tensors[layer.input], graph.tensors[layer.output]
    outputs, inputs, *kernel = layer.weights.shape
    top, left, bottom, right = layer.pads
    size = tuple((size + pad - dilation * (taps - 1) - 1) // stride + 1
                 for size, pad, dilation, taps, stride in zip(
                     source.shape[1:], (top + bottom, left + right), layer.dilations, kernel,
                     layer.strides, strict=True))
    if inputs != source.shape[0]:
        raise ValueError(f"Layer {layer.name!r} must have {source.shape[0]} input channels, "
                         f"not {inputs}")
    if (outputs, *size) != target.shape:
        raise ValueError(f"Layer {layer.name!r} must have an output of shape {(outputs, *size)}, "
                         f"not {target.shape}")
    if layer.bias.shape != (outputs,) or layer.multiplier.shape != (outputs,):
        raise ValueError(f"Layer {layer.name!r} must have {outputs} biases and multipliers, "
                         f"not {layer.bias.shape} and {layer.multiplier.shape}")
    if not (np.isfinite(layer.multiplier) & (layer.multiplier >= 0)).all():
        raise ValueError(f"Layer {layer.name!r} must have finite multipliers of at least 0")
    if not layer.clamp[0] <= layer.clamp[1]:
        raise ValueError(f"Layer {layer.name!r} must have a clamp in order, not {layer.clamp}")


def _fold(config: AcceleratorConfig, layer: Convolution, source: Tensor) -> np.ndarray:
    """The folded bias, once it is sure that no sum can overflow, whatever the input."""
    flat = layer.weights.reshape(len(layer.weights), -1).astype(np.int64)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    high = 127 * positive - 128 * negative
    low = 127 * negative - 128 * positive
    beta = layout.fip_beta(config, layer.weights)
    offset = layer.bias.astype(np.int64) - source.zero_point * flat.sum(axis=1)
    for what, shift, width in (("accumulator", beta, config.accumulator_width),
                               ("int32 sum with bias", offset, 32)):
        limit = 1 << (width - 1)
        for reach in (int((high + shift).max()), int((low + shift).min())):
            if not -limit <= reach < limit:
                raise CompileError(
                    f"Layer {layer.name!r} may reach {reach} in its {what}, which holds "
                    f"{-limit} to {limit - 1}")
    return layout.fold_bias(config, layer.weights, layer.bias, source.zero_point)
