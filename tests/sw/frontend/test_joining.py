"""Concat, Pad, Resize and DepthToSpace, from the ONNX node to values that equal onnxruntime's."""

import numpy as np
import pytest
from operator_models import builder, check, end, image, quantized_like

from weft.frontend import annotate, partition
from weft.ir import Concat, Convolution, Interleave, Lookup, Resize, Selection, Where

# Concat, Pad, Resize ------------------------------------------------------------------------------

@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
def test_concat(rescaled, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b, 5)
    scale, zero = b.initializers["x_conv_scale"], int(b.initializers["x_conv_zero"])
    y = b.quantize(b.conv(x, 5, 3, name="two"), scale=float(scale), zero_point=zero)
    end(b, b.node("Concat", [x, y, x], "joined", axis=1), zero_point=zero,
        scale=float(scale) * (0.8 if rescaled else 1))
    layers = check(b)
    joined = layers[-1]
    assert isinstance(joined, Concat) and len(joined.sources) == 3
    assert joined.sources[0] == joined.sources[2]
    assert [type(layer) for layer in layers[2:]] == ([Lookup] * 2 if rescaled else []) + [Concat]


def test_concat_of_an_input_and_a_layer():
    b = builder()
    x = b.input("x", (1, 3, 8, 9))
    y = b.quantize(b.conv(x, 3, 4, name="one"), scale=float(b.initializers["x_scale"]),
                   zero_point=int(b.initializers["x_zero"]))
    joined = b.quantize(b.node("Concat", [y, x], "joined", axis=-3),
                        scale=float(b.initializers["x_scale"]),
                        zero_point=int(b.initializers["x_zero"]))
    end(b, b.conv(joined, 7, 2, (3, 3), name="two"))
    assert [type(layer) for layer in check(b)] == [Convolution, Concat, Convolution]


def test_concat_of_channels_last():
    b = builder()
    x = image(b, 5)
    y = b.quantize(b.conv(x, 5, 3, name="two"))
    turned = [b.node("Transpose", [value], perm=[0, 2, 3, 1]) for value in (x, y)]
    joined = b.quantize(b.node("Concat", turned, "joined", axis=3), scale=0.1)
    back = b.node("Transpose", [joined], perm=[0, 3, 1, 2])
    end(b, b.conv(back, 8, 2, (3, 3), name="three"))
    assert isinstance(check(b)[-1], Convolution)


def test_concat_of_vectors():
    b = builder()
    x = b.input("x", (1, 10))
    parts = [b.quantize(b.gemm(x, 10, size)) for size in (4, 7)]
    end(b, b.gemm(b.quantize(b.node("Concat", parts, "joined", axis=1), scale=0.1), 11, 3))
    check(b)


def padded_model(opset, pads, quantized, *more):
    b = builder(opset=opset)
    x = image(b, 5)
    scale, zero = float(b.initializers["x_conv_scale"]), int(b.initializers["x_conv_zero"])
    y = b.node("Pad", [x, b.constant("pads", np.array(pads)), *(
        b.constant(f"more{index}", value) for index, value in enumerate(more))], "padded")
    if quantized:
        y = b.quantize(y, scale=scale, zero_point=zero)
    b.output(b.quantize(b.conv(y, 5, 4, (3, 3), name="two", pads=[0, 1, 0, 0])))
    end(b, b.node("AveragePool", [y], "mean", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), scale=scale)
    return b


@pytest.mark.parametrize("unsigned", [False, True])
def test_pad_is_left_to_the_layers_that_read_it(unsigned):
    b = padded_model(13, [0, 0, 1, 0, 0, 0, 2, 3], True)
    layers = {layer.name: layer for layer in check(b)}
    assert layers["two"].pads == (1, 1, 2, 3)
    assert layers["mean"].pads == (2, 1, 3, 4) and layers["mean"].count_pads == (1, 0, 2, 3)


def test_pad_may_name_its_axes():
    # onnxruntime 1.31 cannot run this one: it moves the axes of the Pad and then loses them.
    b = padded_model(18, [1, 0, 2, 3], True, np.float32(0), np.array([2, -1]))
    plan = partition(b.build())
    layers = {layer.name: layer for layer in plan.graphs[0].layers}
    assert layers["two"].pads == (1, 1, 2, 3)


def test_pad_without_quantizers_is_folded_and_what_onnxruntime_makes_of_it_noted():
    plan = annotate(partition(padded_model(13, [0, 0, 1, 0, 0, 0, 2, 3], False).build()))
    rows = {row.name: row for row in plan.placements}
    for name in ("two", "mean"):
        assert rows[name].where is Where.ACCELERATOR
        assert rows[name].note == "onnxruntime computes it in float32, and may round differently"
    assert rows["x_conv"].note == ""
    layers = {layer.name: layer for layer in plan.graphs[0].layers}
    assert layers["two"].pads == (1, 1, 2, 3)


def test_pad_before_a_maximum_of_values_from_zero():
    b = builder()
    x = b.quantize(b.node("Relu", [b.conv(b.input("x", (1, 3, 8, 9)), 3, 4, name="one")], "relu"),
                   scale=10.0, zero_point=-128)
    y = b.node("Pad", [x, b.constant("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1]))], "padded")
    end(b, b.node("MaxPool", [y], "pool", kernel_shape=[3, 3], strides=[2, 2]), scale=10.0,
        zero_point=-128)
    assert check(b)[-1].pads == (0, 0, 1, 1)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("before, after", [(0, 3), (2, 0), (1, 16)])
def test_pad_of_channels(before, after, rescaled, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b, 5)
    scale, zero = float(b.initializers["x_conv_scale"]), int(b.initializers["x_conv_zero"])
    wide = b.node("Pad", [x, b.constant("p", np.array([0, before, 0, 0, 0, after, 0, 0]))], "wide")
    wide = b.quantize(wide, scale=scale * (1.3 if rescaled else 1), zero_point=zero)
    other = b.quantize(b.conv(x, 5, 5 + before + after, name="two"))
    end(b, b.node("Add", [wide, other]), scale=1.0)
    layers = check(b)
    assert layers[1].channels.tolist() == [-1] * before + [*range(5)] + [-1] * after


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("mode, nearest, factors", [
    ("asymmetric", "floor", (2, 2)), ("asymmetric", "floor", (3, 1)),
    ("half_pixel", "round_prefer_floor", (2, 2)), ("half_pixel", "round_prefer_ceil", (2, 3)),
    ("pytorch_half_pixel", "round_prefer_floor", (2, 4))])
def test_resize(mode, nearest, factors, rescaled):
    b = builder()
    x = image(b, 5)
    scale, zero = float(b.initializers["x_conv_scale"]), int(b.initializers["x_conv_zero"])
    scales = b.constant("factors", np.array([1, 1, *factors], np.float32))
    y = b.node("Resize", [x, "", scales], "large", mode="nearest", nearest_mode=nearest,
               coordinate_transformation_mode=mode)
    y = b.quantize(y, scale=scale * (0.7 if rescaled else 1), zero_point=zero)
    end(b, b.conv(y, 5, 2, name="two"))
    layers = check(b)
    layer = layers[1]
    assert isinstance(layer, Resize) and layer.factors == factors
    assert len(layers) == 3 + rescaled


def test_resize_to_a_size_computed_from_shapes():
    b = builder()
    x = image(b, 5)
    shape = b.node("Shape", [x])
    twice = b.node("Mul", [b.node("Slice", [shape, b.constant("two", np.array([2])),
                                            b.constant("four", np.array([4]))]),
                           b.constant("by", np.array([2, 2]))])
    size = b.node("Concat", [b.constant("head", np.array([1, 5])), twice], axis=0)
    y = b.node("Resize", [x, "", "", size], "large", mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    end(b, y, scale=float(b.initializers["x_conv_scale"]),
        zero_point=int(b.initializers["x_conv_zero"]))
    assert isinstance(check(b)[-1], Resize)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("mode, block, channels", [("DCR", 2, 12), ("CRD", 2, 12), ("CRD", 3, 9),
                                                   ("DCR", 1, 5)])
def test_depth_to_space(mode, block, channels, rescaled, unsigned):
    b = builder(unsigned=unsigned)
    y = b.node("DepthToSpace", [image(b, channels)], "large", blocksize=block, mode=mode)
    y = quantized_like(b, b.node("Relu", [y], "relu"), factor=0.7 if rescaled else 1)
    end(b, b.conv(y, channels // block ** 2, 4, name="two"))
    layers = check(b, exact=False)
    assert sum(isinstance(layer, Selection) for layer in layers) == block ** 2
    assert any(isinstance(layer, Interleave) for layer in layers)
