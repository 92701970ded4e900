"""Operators over one axis, [1, C, L]: planes of one column on the accelerator."""

import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden, random_inputs
from places import MODELS

from weft.frontend import partition
from weft.ir import Convolution, Depthwise, Lookup, Multiply, Pool, Resize
from weft.reference.golden import cpu_is_exact
from weft.runtime.compare import Verifier
from weft.runtime.session import InferenceSession


def rng_of(seed=0):
    return np.random.default_rng([seed, 33])


def signal(b, channels=5, length=30):
    """An input, and a convolution of it."""
    x = b.input("x", (1, 3, length))
    return b.quantize(b.conv(x, 3, channels, (3,), name="x_conv"))


def end(b, x, *, factor=1.0):
    """The output, in the scale of ``signal`` or one that is a multiple of it."""
    b.output(b.quantize(x, scale=float(b.initializers["x_conv_scale"]) * factor,
                        zero_point=int(b.initializers["x_conv_zero"])))


def check(b, *, seed=0, exact=True):
    """Compares with onnxruntime; the layers behind the first convolution."""
    plan = partition(b.build())
    graph, = plan.graphs
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng_of(seed), plan.model.proto), exact=exact)
    assert all(tensor.shape[2] == 1 for tensor in graph.tensors.values())
    return graph.layers[1:]


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("group, kernel, attributes", [
    (1, 7, {"strides": [2], "pads": [3, 2]}), (1, 3, {"dilations": [4], "pads": [4, 4]}),
    (1, 4, {"auto_pad": "SAME_LOWER", "strides": [3]}), (2, 5, {}), (6, 3, {"pads": [2, 0]}),
    (6, 28, {})])
def test_convolution(group, kernel, attributes, unsigned):
    b = QdqBuilder(rng_of(kernel), unsigned=unsigned)
    y = signal(b, 6)
    b.output(b.quantize(b.conv(y, 6 // group, 6, (kernel,), name="two", group=group, **attributes)))
    layer, = check(b)
    assert isinstance(layer, Depthwise if group == 6 else Convolution)
    assert layer.weights.shape[-2:] == (kernel, 1)
    assert layer.strides == (*attributes.get("strides", [1]), 1)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [2], "strides": [2]}, {"kernel_shape": [3], "pads": [2, 1], "strides": [2]},
    {"kernel_shape": [3], "strides": [3], "ceil_mode": 1, "pads": [1, 0]},
    {"kernel_shape": [4], "auto_pad": "SAME_UPPER", "strides": [3]}])
def test_pool(op, attributes, unsigned):
    b = QdqBuilder(rng_of(), unsigned=unsigned)
    end(b, b.node(op, [signal(b)], "pool", **attributes), factor=1 if op == "MaxPool" else 0.73)
    layer, = check(b)
    assert isinstance(layer, Pool) and layer.kernel == (attributes["kernel_shape"][0], 1)


def test_maximum_of_dilated_windows():
    b = QdqBuilder(rng_of())
    end(b, b.node("MaxPool", [signal(b)], "pool", kernel_shape=[3], dilations=[5], pads=[2, 1]))
    layer, = check(b)
    assert layer.dilations == (5, 1) and layer.pads == (2, 0, 1, 0)


def test_averages_of_all():
    b = QdqBuilder(rng_of())
    x = signal(b)
    end(b, b.node("GlobalAveragePool", [x], "pool"), factor=0.3)
    end(b, b.node("ReduceMean", [x], "mean", axes=[2]), factor=0.73)
    assert [layer.kernel for layer in check(b, exact=False)] == [(28, 1), (28, 1)]


def test_residual_squeeze_and_slopes():
    b = QdqBuilder(rng_of())
    x = signal(b)
    slopes = np.float32([.3, .1, .7, -.2, 0])[:, None]
    y = b.node("PRelu", [x, b.constant("k", slopes)], "slope")
    y = b.quantize(y, scale=float(b.initializers["x_conv_scale"]) * 0.9)
    y = b.quantize(b.node("Add", [x, y], "sum"))
    gate = b.quantize(b.node("GlobalAveragePool", [y], "mean"), scale=0.2)
    gate = b.quantize(b.node("Sigmoid", [b.quantize(b.conv(gate, 5, 5, (1,)))], "gate"),
                      scale=1 / 256)
    end(b, b.node("Mul", [y, gate], "scaled"))
    layers = check(b)
    assert isinstance(layers[-1], Multiply)
    # The sum of a value and its slope is a function of the value and its channel, too.
    assert Lookup in {type(layer) for layer in layers}


def test_pad_and_enlargement():
    b = QdqBuilder(rng_of())
    x = signal(b)
    y = b.node("Pad", [x, b.constant("pads", np.array([0, 0, 2, 0, 0, 1]))], "padded")
    y = b.quantize(y, scale=float(b.initializers["x_conv_scale"]),
                   zero_point=int(b.initializers["x_conv_zero"]))
    y = b.conv(y, 5, 4, (3,), name="two")
    y = b.quantize(y)
    y = b.node("Resize", [y, "", b.constant("factors", np.float32([1, 1, 3]))], "large",
               mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    b.output(b.quantize(y, scale=float(b.initializers["two_scale"]),
                        zero_point=int(b.initializers["two_zero"])))
    layers = check(b)
    assert layers[0].pads == (2, 0, 1, 0)
    assert isinstance(layers[1], Resize) and layers[1].factors == (3, 1)


def test_dense_layer_of_all_and_of_each_step():
    b = QdqBuilder(rng_of())
    x = signal(b)
    b.output(b.quantize(b.gemm(b.reshape(x, (1, 5 * 28)), 5 * 28, 4, name="fc")))
    turned = b.node("Transpose", [x], perm=[0, 2, 1])
    b.output(b.quantize(b.matmul(turned, 5, 6, name="steps")))
    assert len(check(b)) == 2


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
def test_real_network_runs_in_one_part():
    with InferenceSession(MODELS / "real" / "tv_conv1d.onnx", config="base", device="functional",
                          keep_tensors=True) as session:
        assert len(session.plan.graphs) == 1
        feed = random_inputs(rng_of(), session.plan.model.proto)
        result = session.run_batch([feed], tensors=True)
        if cpu_is_exact():
            verdict = Verifier(session.plan).check(feed, result.outputs[0], result.tensors[0])
            assert verdict.mismatches == ()
