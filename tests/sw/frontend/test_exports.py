"""What exporters of quantization-aware training write: weights in float32 behind QuantizeLinear,
fewer bits by a Clip of integers, a bias in float32."""

import re

import numpy as np
import pytest
from exported_models import exported_cnn, exported_mlp
from models import QdqBuilder, assert_plan_is_golden
from onnx import TensorProto, helper

from weft.frontend import load_graph, partition
from weft.ir import Where
from weft.reference.golden import cpu_is_exact

exact_cpu = pytest.mark.skipif(not cpu_is_exact(), reason=cpu_is_exact().reason or "exact")


def check(model, *, exact=False, seed=0, frames=5):
    """Compares with onnxruntime; returns the operators that the host runs."""
    plan = partition(model)
    shape = plan.model.inputs[0].shape
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        feeds = {"input": rng.standard_normal(shape).astype(np.float32) * np.float32(3)}
        assert_plan_is_golden(plan, feeds, exact=exact)
    return [place.op for place in plan.placements if place.where is Where.HOST]


@exact_cpu
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("bias", ["int32", "float", None])
@pytest.mark.parametrize("weights", ["int8", "float"])
def test_network_is_onnxruntime_and_all_of_it_is_accelerated(weights, bias, clips):
    options = {"weights": weights, "bias": bias, "clips": clips}
    edges = ["QuantizeLinear", *["Clip"] * clips, "DequantizeLinear"]
    assert check(exported_mlp(**options)) == edges
    assert check(exported_cnn(**options, flatten=bias != "float")) == edges


@exact_cpu
@pytest.mark.parametrize("options", [
    {"per_channel": False}, {"unsigned": False}, {"opset": 13}, {"opset": 21},
    {"constant_nodes": False}], ids=str)
def test_other_forms_are_onnxruntime(options):
    for make in (exported_mlp, exported_cnn):
        assert check(make(1, weights="float", **options)) == ["QuantizeLinear", "DequantizeLinear"]


@exact_cpu
def test_float_bias_where_onnxruntime_keeps_it_stays_on_the_host():
    model = exported_cnn(bias="float")
    assert check(model) == ["QuantizeLinear", "DequantizeLinear", "Flatten", "Gemm",
                            "QuantizeLinear", "DequantizeLinear"]
    reasons = [place.reason for place in partition(model).placements if place.op == "Gemm"]
    assert reasons == ["Gemm '/classifier.out/Gemm' has a float32 bias; it must be int32 behind a "
                       "DequantizeLinear of scale input scale x weight scale, or float32 right "
                       "behind the DequantizeLinear of the input"]


def clipped(low, high, *, dtype=np.int8, shared=False):
    """A convolution whose integers are bounded; ``shared``: read before that, too."""
    b = QdqBuilder(np.random.default_rng(4), unsigned=dtype == np.uint8)
    x = b.conv(b.input("input", (1, 3, 6, 6)), 3, 5, (3, 3))
    b.quantize(x, zero_point=0)
    bounds = [b.constant(name, dtype(value)) if value is not None else ""
              for name, value in (("low", low), ("high", high))]
    dequantize = b.nodes.pop()
    dequantize.input[0] = b.node("Clip", [f"{x}_q", *bounds], "bounded")
    b.nodes.append(dequantize)
    y = dequantize.output[0]
    b.output(b.quantize(b.conv(y, 5, 4, (1, 1))))
    if shared:
        b.output(b.dequantize(x))
    return b.build()


@exact_cpu
@pytest.mark.parametrize("dtype, low, high", [
    (np.int8, -8, 7), (np.int8, -127, 127), (np.int8, None, 3), (np.uint8, 0, 15),
    (np.uint8, 4, None)])
@pytest.mark.parametrize("shared", [False, True])
def test_clip_of_integers_is_onnxruntime(dtype, low, high, shared):
    model = clipped(low, high, dtype=dtype, shared=shared)
    assert check(model, exact=True) == ["QuantizeLinear", *["DequantizeLinear"] * (1 + shared)]
    kinds = [layer.op for layer in load_graph(model).layers]
    assert kinds == (["Conv", "Clip", "Conv"] if shared else ["Conv", "Conv"])


def test_float_bias_out_of_proportion_wrong():
    model = exported_mlp(bias="float")
    bias = next(each for each in model.graph.initializer if each.name == "layer0.bias")
    bias.CopyFrom(helper.make_tensor("layer0.bias", TensorProto.FLOAT, [32], [1e9] * 32))
    reason, = [place.reason for place in partition(model).placements
               if place.name == "/layer0.out/Gemm"]
    assert re.fullmatch(r"Gemm '/layer0.out/Gemm' has a bias of 1\.\d+e\+13 x input scale x weight "
                        r"scale in channel 0, which does not fit int32", reason)
