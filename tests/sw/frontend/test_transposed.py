"""Transposed convolutions, from the ONNX node to values that equal onnxruntime's."""

import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden, random_inputs
from places import MODELS

from weft.frontend import annotate, partition
from weft.ir import Convolution, Depthwise, Interleave, Where
from weft.reference.exact import exactness
from weft.reference.golden import cpu_is_exact
from weft.runtime.compare import Verifier
from weft.runtime.session import InferenceSession


def rng_of(seed=0):
    return np.random.default_rng([seed, 35])


def transposed(b, x, channels, filters, kernel, *, bias=True, **attributes):
    """A ConvTranspose with random weights, quantized."""
    depthwise = attributes.get("group", 1) > 1
    shape = (channels, 1 if depthwise else filters, *kernel)
    weights, scales = b.weights("t", shape, 0 if depthwise else 1)
    scale = float(b.initializers[x.split("_d")[0] + "_scale"]) if "_d" in x else 1.0
    inputs = [x, weights]
    if bias:
        inputs.append(b.bias("t", np.float32(scale) * scales))
    y = b.node("ConvTranspose", inputs, "t", **attributes)
    taps = np.prod(shape) / shape[0 if depthwise else 1]
    return b.quantize(y, scale=scale * float(scales.mean()) * 74 * 4 * np.sqrt(taps))


def model(channels=6, filters=5, kernel=(3, 3), size=(5, 7), *, unsigned=False, bias=True,
          seed=0, **attributes):
    b = QdqBuilder(rng_of(seed), unsigned=unsigned)
    x = b.input("x", (1, channels, *size))
    b.output(transposed(b, x, channels, filters, kernel, bias=bias, **attributes))
    return b.build()


def check(proto, seed=0):
    plan = partition(proto)
    graph, = plan.graphs
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng_of(seed), proto), exact=False)
    return graph


GEOMETRIES = [
    ((2, 2), {"strides": [2, 2]}),
    ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ((4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((3, 3), {"pads": [1, 1, 1, 1]}), ((3, 2), {}),
    ((5, 3), {"strides": [3, 2], "pads": [2, 0, 1, 1], "output_padding": [2, 0]}),
    ((1, 1), {"strides": [3, 2]}), ((2, 3), {"strides": [1, 4], "output_padding": [0, 3]}),
    ((3, 3), {"strides": [2, 2], "dilations": [2, 1]}),
    ((3, 2), {"strides": [2, 3], "dilations": [3, 2], "pads": [2, 1, 0, 3]}),
    ((3, 3), {"strides": [4, 4], "dilations": [2, 2], "pads": [4, 4, 4, 4]}),
    ((2, 2), {"strides": [2, 2], "pads": [2, 1, 3, 1]}),
    ((3, 3), {"strides": [2, 1], "auto_pad": "VALID"})]


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("kernel, attributes", GEOMETRIES)
def test_geometries(kernel, attributes, unsigned):
    graph = check(model(kernel=kernel, unsigned=unsigned, **attributes))
    strides = attributes.get("strides", [1, 1])
    convolutions = [layer for layer in graph.layers if isinstance(layer, Convolution)]
    assert len(convolutions) == strides[0] * strides[1]
    assert all(layer.strides == (1, 1) and layer.real_sums for layer in convolutions)
    if strides != [1, 1]:
        assert isinstance(graph.layers[-1], Interleave)


def test_no_multiplication_by_zeros_between_inputs():
    graph = check(model(kernel=(4, 4), strides=[2, 2], pads=[1, 1, 1, 1]))
    macs = sum(layer.macs(graph.tensors[layer.output]) for layer in graph.layers)
    assert macs == 6 * 5 * 16 * 5 * 7


@pytest.mark.parametrize("attributes", [
    {"strides": [2, 2]}, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}])
def test_depthwise(attributes):
    graph = check(model(channels=6, kernel=(3, 3), group=6, **attributes))
    assert [type(layer) for layer in graph.layers] == [Depthwise] * 4 + [Interleave]


@pytest.mark.parametrize("kernel, attributes", [
    ((4,), {"strides": [2], "pads": [1, 1]}), ((3,), {"strides": [3], "output_padding": [1]})])
def test_over_one_axis(kernel, attributes):
    graph = check(model(kernel=kernel, size=(19,), **attributes))
    assert graph.layers[-1].factors == (attributes["strides"][0], 1)


def test_bounds_and_no_bias():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 4, 5, 6))
    weights, _ = b.weights("t", (4, 3, 2, 2), 1)
    y = b.node("ConvTranspose", [x, weights], "t", strides=[2, 2])
    b.output(b.quantize(b.node("Relu", [y], "relu"), scale=0.5, zero_point=-20))
    graph = check(b.build())
    assert all(layer.clamp == (-20, 127) for layer in graph.layers[:-1])


def test_how_many_sums_may_differ_is_known_and_noted():
    plan = annotate(partition(model(channels=16, kernel=(2, 2), strides=[2, 2])))
    graph, = plan.graphs
    row, = (row for row in plan.placements if row.name == "t")
    assert row.note == "onnxruntime computes it in float32, and may round differently"
    proof = exactness(graph, graph.layers[0])
    assert 0 < proof.differing < proof.checked / 500


@pytest.mark.parametrize("attributes, reason", [
    ({"group": 3, "channels": 6, "filters": 1},
     "ConvTranspose 't' has group 3; only 1 and one for each channel are supported"),
    ({"auto_pad": "SAME_UPPER", "strides": [2, 2]},
     "ConvTranspose 't' has auto_pad SAME_UPPER; only NOTSET and VALID are supported")])
def test_what_the_host_runs(attributes, reason):
    b = QdqBuilder(rng_of())
    channels, filters = attributes.pop("channels", 4), attributes.pop("filters", 3)
    x = b.quantize(b.conv(b.input("x", (1, 3, 5, 6)), 3, channels, name="one"))
    y = transposed(b, x, channels, filters, (3, 3), bias=False, **attributes)
    b.output(b.quantize(b.node("Relu", [y]), scale=0.1))
    row, = (row for row in partition(b.build()).placements if row.name == "t")
    assert row.where is Where.HOST and row.reason == reason


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
def test_real_network_runs_in_one_part():
    with InferenceSession(MODELS / "real" / "tv_unet_convt.onnx", config="base",
                          device="functional", keep_tensors=True) as session:
        assert len(session.plan.graphs) == 1
        feed = random_inputs(rng_of(), session.plan.model.proto)
        result = session.run_batch([feed], tensors=True)
        if cpu_is_exact():
            verdict = Verifier(session.plan).check(feed, result.outputs[0], result.tensors[0])
            assert verdict.mismatches == ()
