"""The rules that a graph must keep, checked between the passes that change it."""

import numpy as np

from weft import reference
from weft.hw.isa.commands import Rounding
from weft.ir import (
    Add,
    Affine,
    Alias,
    ChannelSum,
    Concat,
    Convolution,
    Depthwise,
    Graph,
    Interleave,
    Layer,
    Lookup,
    MatMul,
    Multiply,
    Normalization,
    Pool,
    Resize,
    Softmax,
)

__all__ = ["verify"]


def verify(graph: Graph) -> Graph:
    """``graph`` itself, if it keeps the rules. One that does not is a mistake of the front end or
    of a pass, not of the user.

    Raises
    ------
    ValueError
        If a tensor is read before it is made, made twice, or not of the shape that its layer
        makes; or weights, parameters or bounds do not fit the layer; or a constant does not fit its
        tensor.
    """
    made = set(graph.given)
    for name, values in graph.constants.items():
        if values.dtype != np.int8 or values.shape != graph.tensors[name].shape:
            raise ValueError(f"Constant {name!r} must be int8 {graph.tensors[name].shape}, "
                             f"not {values.dtype} {values.shape}")
    for layer in graph.layers:
        for name in layer.inputs:
            if name not in made:
                raise ValueError(f"Layer {layer.name!r} must come after the one that makes "
                                 f"{name!r}")
        if layer.output in made:
            raise ValueError(f"Layer {layer.name!r} must make a tensor of its own, not "
                             f"{layer.output!r} again")
        made.add(layer.output)
        match layer:
            case Convolution():
                _convolution(graph, layer)
            case Concat():
                _concat(graph, layer)
            case MatMul():
                _matmul(graph, layer)
            case Softmax():
                _softmax(graph, layer)
            case Normalization():
                _normalization(graph, layer)
            case Alias():
                _alias(graph, layer)
            case _:
                _channelwise(graph, layer)
    for edge in graph.outputs:
        if edge.tensor not in made:
            raise ValueError(f"Output {edge.name!r} must be made by a layer, or be an input")
    return graph


def _convolution(graph: Graph, layer: Convolution) -> None:
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
    if layer.function is not None:
        _table(layer, layer.function.table, outputs)


def _interleaved(graph: Graph, layer: Interleave,
                 shapes: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    down, across = layer.factors
    if len(shapes) != down * across or len(set(shapes)) > 1:
        raise ValueError(f"Layer {layer.name!r} must have {down * across} inputs of one shape, not "
                         f"{', '.join(map(str, shapes))}")
    channels, height, width = shapes[0]
    _, most_h, most_w = graph.tensors[layer.output].shape
    return channels, min(height * down, most_h), min(width * across, most_w)


def _affine(layer: Affine, channels: int) -> None:
    if not len(layer.factor) == len(layer.bias) == len(layer.scale) == channels:
        raise ValueError(f"Layer {layer.name!r} must have {channels} factors, biases and scales, "
                         f"not {len(layer.factor)}, {len(layer.bias)} and {len(layer.scale)}")
    factor, bias = layer.factor.astype(np.int64), layer.bias.astype(np.int64)
    if (np.abs(factor) >= 1 << 24).any() or (128 * np.abs(factor) + np.abs(bias) >= 1 << 31).any():
        raise ValueError(f"Layer {layer.name!r} must have factors below 2^24 and sums below 2^31")
    if not (np.isfinite(layer.scale) & (layer.scale > 0)).all():
        raise ValueError(f"Layer {layer.name!r} must have finite scales above 0")


def _channel_sum(layer: ChannelSum, channels: int) -> None:
    constants = layer.first, layer.second, layer.bias, layer.scale
    if any(len(values) != channels for values in constants):
        raise ValueError(f"Layer {layer.name!r} must have factors of both tensors, a bias and a "
                         f"scale for each of {channels} channels")
    first, second = (values.astype(np.int64) for values in constants[:2])
    if (first < 0).any() or ((second < 0).any() and (second > 0).any()):
        raise ValueError(f"Layer {layer.name!r} must have first factors of at least 0, and second "
                         f"ones of one sign")
    if (np.maximum(first, np.abs(second)) >= 1 << 24).any():
        raise ValueError(f"Layer {layer.name!r} must have factors below 2^24")
    if not (np.isfinite(layer.scale) & (layer.scale > 0)).all():
        raise ValueError(f"Layer {layer.name!r} must have finite scales above 0")


def _table(layer: Layer, table: np.ndarray, channels: int) -> None:
    if table.shape not in ((256,), (channels, 256)):
        raise ValueError(f"Layer {layer.name!r} must have a table of 256 values, or one for each "
                         f"of {channels} channels, not {table.shape}")


def _concat(graph: Graph, layer: Concat) -> None:
    target = graph.tensors[layer.output]
    sources = [graph.tensors[name] for name in layer.sources]
    count = sum(source.shape[0] for source in sources)
    if count != target.shape[0] or any(source.shape[1:] != target.shape[1:]
                                       for source in sources):
        raise ValueError(f"Layer {layer.name!r} must have an output of the shapes of its inputs, "
                         f"one behind the other, not {target.shape} of "
                         f"{', '.join(str(source.shape) for source in sources)}")


def _matmul(graph: Graph, layer: MatMul) -> None:
    a, b, target = (graph.tensors[name].shape for name in (layer.a, layer.b, layer.output))
    if 1 not in b[1:]:
        raise ValueError(f"Layer {layer.name!r} must have a second factor of one row or one "
                         f"column, not {b}")
    inner, outer = (b[0], layer.heads * b[1] * b[2])[::1 if layer.transposed else -1]
    if a[0] != layer.heads * layer.depth or inner != layer.heads * layer.depth \
            or target != (outer, *a[1:]) or outer % layer.heads:
        raise ValueError(f"Layer {layer.name!r} must multiply {layer.heads} heads of "
                         f"{layer.depth} channels, not {a} and {b} to {target}")
    if not 0 <= layer.multiplier < np.inf:
        raise ValueError(f"Layer {layer.name!r} must have a finite multiplier of at least 0")
    if layer.function is not None:
        _table(layer, layer.function.table, target[0])


def _softmax(graph: Graph, layer: Softmax) -> None:
    source, target = graph.tensors[layer.input].shape, graph.tensors[layer.output].shape
    if source != target or target[0] % layer.heads:
        raise ValueError(f"Layer {layer.name!r} must have an output of the shape of its input, of "
                         f"{layer.heads} heads, not {source} and {target}")
    if layer.table.shape != (256,) or not np.isfinite(layer.table).all() \
            or not (layer.table >= 0).all() or not layer.table[-1] > 0:
        raise ValueError(f"Layer {layer.name!r} must have 256 finite exponentials of at least 0")
    if not 1 <= layer.factor <= 65535:
        raise ValueError(f"Layer {layer.name!r} must have a factor between 1 and 65535, not "
                         f"{layer.factor}")
    if layer.function is not None:
        raise ValueError(f"Layer {layer.name!r} must have no function behind it")


def _normalization(graph: Graph, layer: Normalization) -> None:
    source, target = graph.tensors[layer.input], graph.tensors[layer.output]
    if source.shape != target.shape:
        raise ValueError(f"Layer {layer.name!r} must have an output of the shape of its input, "
                         f"{source.shape}, not {target.shape}")
    for values in (layer.scale, layer.shift):
        if values.shape != source.shape[:1] or values.dtype != np.float32:
            raise ValueError(f"Layer {layer.name!r} must have {source.shape[0]} scales and shifts "
                             f"of float32, not {values.dtype} {values.shape}")
    unsafe = reference.out_of_bounds(layer, source.scale, target.scale)
    if unsafe:
        raise ValueError(f"Layer {layer.name!r} has {unsafe}")
    if layer.function is not None:
        raise ValueError(f"Layer {layer.name!r} must have no function behind it")


def _alias(graph: Graph, layer: Alias) -> None:
    source, target = graph.tensors[layer.input].shape, graph.tensors[layer.output].shape
    if not 0 <= layer.first <= source[0] - target[0] \
            or source[1] * source[2] != target[1] * target[2]:
        raise ValueError(f"Layer {layer.name!r} must have an output of at most "
                         f"{source[0] - layer.first} channels of {source[1] * source[2]} pixels, "
                         f"not {target}")
    if layer.order is not None and not np.array_equal(np.sort(layer.order),
                                                      np.arange(source[0])):
        raise ValueError(f"Layer {layer.name!r} must have every channel of its input once")


def _channelwise(graph: Graph, layer: Layer) -> None:
    shapes = [graph.tensors[name].shape for name in layer.inputs]
    channels, height, width = shapes[0]
    expected = shapes[0]
    match layer:
        case Depthwise() | Pool():
            kernel = layer.kernel if isinstance(layer, Pool) else layer.weights.shape[1:]
            top, left, bottom, right = layer.pads
            expected = (channels,
                        reference.output_size(height, kernel[0], layer.strides[0], top, bottom,
                                              layer.dilations[0]),
                        reference.output_size(width, kernel[1], layer.strides[1], left, right,
                                              layer.dilations[1]))
        case Add() | Multiply():
            expected = max(shapes, key=lambda shape: shape[1] * shape[2])
            if any(shape not in (expected, (expected[0], 1, 1)) for shape in shapes):
                raise ValueError(f"Layer {layer.name!r} must combine tensors of one shape, or "
                                 f"one of them [C, 1, 1], not {shapes[0]} and {shapes[1]}")
            if isinstance(layer, Add) and layer.subtract and shapes[0] != expected:
                raise ValueError(f"Layer {layer.name!r} must subtract from a tensor of shape "
                                 f"{expected}, not {shapes[0]}")
        case Lookup():
            _table(layer, layer.table, channels)
        case Affine():
            _affine(layer, channels)
        case ChannelSum():
            _channel_sum(layer, channels)
            if shapes[1] != expected:
                raise ValueError(f"Layer {layer.name!r} must combine tensors of one shape, not "
                                 f"{shapes[0]} and {shapes[1]}")
        case Interleave():
            expected = _interleaved(graph, layer, shapes)
        case Resize():
            expected = (channels, height * layer.factors[0], width * layer.factors[1])
    if graph.tensors[layer.output].shape != expected:
        raise ValueError(f"Layer {layer.name!r} must have an output of shape {expected}, not "
                         f"{graph.tensors[layer.output].shape}")
    if isinstance(layer, Pool) and layer.rounding is Rounding.FIXED_POINT:
        ends = [graph.tensors[layer.input], layer.result(graph.tensors[layer.output])]
        if len({(end.scale, end.zero_point) for end in ends}) > 1:
            raise ValueError(f"Layer {layer.name!r} must have one scale and zero point in front "
                             f"and behind to be rounded in fixed point")
    if isinstance(layer, Depthwise):
        if not len(layer.weights) == len(layer.bias) == len(layer.multiplier) == channels:
            raise ValueError(f"Layer {layer.name!r} must have {channels} filters, biases and "
                             f"multipliers, not {len(layer.weights)}, {len(layer.bias)} and "
                             f"{len(layer.multiplier)}")
        if not (np.isfinite(layer.multiplier) & (layer.multiplier >= 0)).all():
            raise ValueError(f"Layer {layer.name!r} must have finite multipliers of at least 0")
    if layer.function is not None:
        _table(layer, layer.function.table, channels)
    clamp = getattr(layer, "clamp", (-128, 127))
    if not clamp[0] <= clamp[1]:
        raise ValueError(f"Layer {layer.name!r} must have a clamp in order, not {clamp}")
