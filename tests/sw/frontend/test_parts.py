"""Some channels, rows or columns of a tensor, from the ONNX node to values that equal
onnxruntime's."""

import numpy as np
import pytest
from onnx import helper
from operator_models import builder, check, end, image, quantized_like

from weft.ir import Alias, Convolution, Depthwise, Interleave, Lookup, Pool, Selection

# Some channels -----------------------------------------------------------------------------------

def split(b, x, sizes, axis=1):
    """A Split of version 13, and what it makes."""
    names = [f"piece{index}" for index in range(len(sizes))]
    b.nodes.append(helper.make_node("Split", [x, b.constant("sizes", np.array(sizes))], names,
                                    name="split", axis=axis))
    return names


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("sizes, size", [
    ((1, 1), (1, 1)), ((8, 8), (5, 7)), ((3, 1, 9), (8, 9)), ((16, 17), (1, 4))])
def test_split_of_channels(sizes, size, unsigned):
    b = builder(sum(sizes), unsigned=unsigned)
    pieces = split(b, image(b, sum(sizes), size), sizes)
    for index, piece in enumerate(pieces):
        end(b, b.conv(quantized_like(b, piece), sizes[index], 3, name=f"last{index}"))
    layers = check(b, exact=False)
    chosen = [layer for layer in layers if isinstance(layer, Selection)]
    assert [layer.name for layer in chosen] == [f"split/{index}" for index in range(len(sizes))]
    assert [len(layer.weights) for layer in chosen] == list(sizes)


def test_split_takes_a_scale_and_bounds():
    b = builder()
    first, second = split(b, image(b, 7), (3, 4))
    end(b, b.conv(quantized_like(b, first, factor=0.7), 3, 3, name="one"))
    bounded = b.node("Relu", [second], "relu")
    end(b, b.conv(quantized_like(b, bounded), 4, 3, name="two"))
    layers = {layer.name: layer for layer in check(b, exact=False)}
    assert isinstance(layers["split/0"], Selection)
    assert isinstance(layers["split/0/scale"], Lookup)
    assert layers["split/1"].clamp == (int(b.initializers["x_conv_zero"]), 127)


@pytest.mark.parametrize("start, end_, axis, step, chosen", [
    (2, 6, 1, 1, [2, 3, 4, 5]), (-3, 100, -3, 1, [6, 7, 8]), (8, -100, 1, -3, [8, 5, 2]),
    (0, 9, 1, 2, [0, 2, 4, 6, 8])])
def test_slice_of_channels(start, end_, axis, step, chosen):
    b = builder()
    x = image(b, 9)
    y = b.node("Slice", [x, *(b.constant(name, np.array([value])) for name, value in
                              (("s", start), ("e", end_), ("a", axis), ("t", step)))], "cut")
    end(b, b.conv(quantized_like(b, y), len(chosen), 3, name="two"))
    layer = check(b, exact=False)[1]
    assert isinstance(layer, Selection)
    np.testing.assert_array_equal(layer.weights[:, :, 0, 0], np.eye(9)[chosen])


@pytest.mark.parametrize("axis, indices, chosen", [
    (1, [3, 0, 8], [3, 0, 8]), (-3, [-1], [8]), (1, [[5, 4], [3, 2]], [5, 4, 3, 2])])
def test_gather_of_channels(axis, indices, chosen):
    b = builder()
    y = b.node("Gather", [image(b, 9), b.constant("i", np.array(indices))], "some", axis=axis)
    if np.ndim(indices) > 1:
        y = b.reshape(quantized_like(b, y), (1, len(chosen), 8, 9))
    end(b, b.conv(quantized_like(b, y), len(chosen), 3, name="two"))
    layer = check(b, exact=False)[1]
    assert isinstance(layer, Selection) and layer.channels.tolist() == chosen


# Some rows and columns ---------------------------------------------------------------------------

def cut(b, x, starts, ends, axes, steps, name="cut"):
    """A Slice."""
    return b.node("Slice", [x, *(b.constant(f"{name}_{part}", np.array(values)) for part, values in
                                 zip("seat", (starts, ends, axes, steps), strict=True))], name)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("starts, ends, axes, steps, size", [
    ([2], [6], [2], [1], (4, 9)), ([-3], [100], [3], [1], (8, 3)), ([1], [8], [2], [3], (3, 9)),
    ([3, 1], [8, 9], [2, 3], [2, 4], (3, 2)), ([7], [8], [-2], [1], (1, 9)),
    ([4], [5], [3], [1], (8, 1))])
def test_slice_of_planes(starts, ends, axes, steps, size, unsigned):
    b = builder(unsigned=unsigned)
    y = cut(b, image(b, 9), starts, ends, axes, steps)
    bounded = b.node("Relu", [y], "relu")
    end(b, b.conv(quantized_like(b, bounded), 9, 3, name="two"))
    layer = check(b, exact=False)[1]
    assert isinstance(layer, Pool) and layer.kernel == (1, 1)
    assert layer.strides[0] in (1, *steps) and min(layer.pads) < 0


def test_slice_of_planes_and_channels_at_once():
    b = builder()
    y = cut(b, image(b, 9), [1, 2, 0], [8, 7, 9], [1, 2, 3], [2, 2, 1])
    end(b, b.conv(quantized_like(b, y, factor=0.8), 4, 3, name="two"))
    assert [type(layer) for layer in check(b, exact=False)[1:4]] == [Pool, Selection, Lookup]


def test_split_of_rows_and_a_pixel():
    b = builder()
    top, bottom = split(b, image(b, 9), (3, 5), axis=2)
    row = b.node("Gather", [quantized_like(b, bottom), b.constant("four", np.array(4))], "row",
                 axis=2)
    pixel = b.node("Gather", [quantized_like(b, row), b.constant("last", np.array([-1]))], "pixel",
                   axis=2)
    end(b, b.conv(quantized_like(b, top), 9, 3, name="two"))
    end(b, b.conv(b.reshape(quantized_like(b, pixel), (1, 9, 1, 1)), 9, 3, name="three"))
    assert sum(isinstance(layer, Pool) for layer in check(b, exact=False)) == 4


def test_pixels_of_a_signal_in_another_order():
    b = builder()
    x = quantized_like(b, b.node("Relu", [image(b, 7, (1, 5))], "relu"))
    flat = b.reshape(x, (1, 7, 5))
    pixels = [quantized_like(b, cut(b, flat, [at], [at + 1], [2], [1], f"cut{at}"))
              for at in (3, 0, 4, 4 - 3)]
    joined = b.node("Concat", pixels, "joined", axis=2)
    end(b, b.conv(b.reshape(quantized_like(b, joined), (1, 7, 4, 1)), 7, 3, (2, 1), name="two"))
    layers = check(b, exact=False)
    stack, = (layer for layer in layers if isinstance(layer, Interleave))
    assert stack.factors == (4, 1) and len(stack.sources) == 4


@pytest.mark.parametrize("unsigned", [False, True])
def test_channels_of_integers_need_no_quantizers(unsigned):
    b = builder(unsigned=unsigned)
    image(b, 9)
    for name in split(b, "x_conv_q", (4, 5)):
        end(b, b.conv(dequantized_like(b, name), 4 if name == "piece0" else 5, 3))
    kept = b.node("Gather", ["x_conv_q", b.constant("i", np.array([7, 1]))], "kept", axis=1)
    first = b.node("Slice", ["x_conv_q", *(b.constant(name, np.array([value])) for name, value in (
        ("s", 0), ("e", 2), ("a", 1)))], "first")
    both = b.node("Concat", [kept, first], "both", axis=1)
    end(b, b.conv(dequantized_like(b, both), 4, 3))
    layers = check(b, exact=False)
    assert sum(isinstance(layer, Selection) for layer in layers) == 4


def dequantized_like(b, x, name="x_conv"):
    """The real values of integers that are quantized as another tensor is."""
    y = b.node("DequantizeLinear", [x, f"{name}_scale", f"{name}_zero"], f"{x}_real")
    b._scales[y] = b.initializers[f"{name}_scale"]
    return y


def shuffled(b, x, channels, groups, size=(8, 9)):
    """Channels of groups dealt out in turn."""
    y = b.reshape(x, (1, groups, channels // groups, *size))
    return b.reshape(b.node("Transpose", [y], perm=[0, 2, 1, 3, 4]), (1, channels, *size))


def test_split_of_shuffled_channels():
    b = builder()
    for index, piece in enumerate(split(b, shuffled(b, image(b, 12), 12, 2), (6, 6))):
        end(b, b.conv(quantized_like(b, piece), 6, 3, name=f"last{index}"))
    layers = [layer for layer in check(b, exact=False) if isinstance(layer, Selection)]
    assert len(layers) == 2
    np.testing.assert_array_equal(layers[1].weights[:, :, 0, 0],
                                  np.eye(12)[[3, 9, 4, 10, 5, 11]])


def test_shuffled_channels_are_one_layer_for_all_that_read_them():
    b = builder()
    y = shuffled(b, image(b, 12), 12, 3)
    end(b, b.conv(y, 12, 3, name="dense"))
    end(b, b.conv(y, 1, 12, (3, 3), name="dw", group=12))
    assert [type(layer) for layer in check(b)] == [Convolution, Alias, Convolution, Depthwise]


def test_shuffled_channels_are_read_now_and_later():
    b = builder()
    x = b.quantize(shuffled(b, image(b, 12), 12, 3), scale=float(b.initializers["x_conv_scale"]),
                   zero_point=int(b.initializers["x_conv_zero"]))
    y = b.quantize(b.conv(x, 12, 12, name="now"))
    y = b.quantize(b.node("Softmax", [y], "odd", axis=1), scale=1 / 256)
    y = b.quantize(b.conv(y, 12, 12, name="late"))
    end(b, b.node("Add", [b.quantize(b.conv(x, 12, 12, name="again")), y], "sum"))
    end(b, b.conv(x, 12, 4, name="last"))
    check(b, graphs=2, exact=False)
