"""Whole networks, quantized by onnxruntime's own quantizer in both formats."""

from collections import Counter

import numpy as np
import onnx
import pytest
from models import assert_plan_is_golden, quantize_model, random_inputs
from onnxruntime.quantization import QuantFormat

from weft.bench.networks import NETWORKS
from weft.frontend import load_graph, partition
from weft.ir import Graph, HostPart, Where
from weft.reference.golden import cpu_is_exact

pytestmark = pytest.mark.skipif(not cpu_is_exact(), reason=cpu_is_exact().reason or "exact")

SMALL = [name for name in NETWORKS if name != "resnet50"]

LAYERS = {
    "mobilenet_v1": {"Convolution": 15, "Depthwise": 13, "Pool": 1},
    "mobilenet_v2_block": {"Convolution": 6, "Depthwise": 2, "Add": 1, "Pool": 1},
    "squeezenet_fire": {"Convolution": 8, "Pool": 2, "Lookup": 2, "Concat": 2},
    "autoencoder": {"Convolution": 10},
    "resnet18_stages": {"Convolution": 11, "Pool": 2, "Add": 4},
    "unet": {"Convolution": 7, "Pool": 1, "Lookup": 6, "Resize": 2, "Concat": 2},
    "resnet50": {"Convolution": 54, "Pool": 2, "Add": 16},
}


def check(name, **options):
    rng = np.random.default_rng([len(name), 31])
    model = quantize_model(rng, NETWORKS[name](rng), **options)
    plan = partition(model)
    # With the scale of its input, an average of 2 x 2 too often ends in one half.
    parts = 2 if name == "unet" and "quant_format" not in options else 1
    assert [type(segment) for segment in plan.segments] == [HostPart, *[Graph, HostPart] * parts]
    assert_plan_is_golden(plan, random_inputs(rng, plan.model.proto))
    return plan


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_network_is_onnxruntime_in_every_layer(name, unsigned):
    plan = check(name, unsigned=unsigned)
    assert Counter(type(layer).__name__ for graph in plan.graphs
                   for layer in graph.layers) == LAYERS[name]
    on_host = {row.op for row in plan.placements if row.where is Where.HOST}
    edges = {"QuantizeLinear", "DequantizeLinear", "Softmax"}
    assert on_host <= edges | ({"AveragePool"} if name == "unet" else set())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_network_in_qoperator_format_is_onnxruntime(name, unsigned, per_channel):
    plan = check(name, unsigned=unsigned, per_channel=per_channel,
                 quant_format=QuantFormat.QOperator)
    integer = {row.op for row in plan.placements if row.where is Where.ACCELERATOR}
    assert integer & {"QLinearConv", "QGemm"}
    # Nodes that the front end put in between are not the user's.
    known = {node.name for node in plan.model.proto.graph.node}
    assert {row.name for row in plan.placements} <= known


@pytest.mark.slow
@pytest.mark.parametrize("unsigned", [False, True])
def test_resnet50_is_onnxruntime_in_every_layer(unsigned):
    plan = check("resnet50", unsigned=unsigned)
    graph, = plan.graphs
    assert Counter(type(layer).__name__ for layer in graph.layers) == LAYERS["resnet50"]
    macs = sum(layer.macs(graph.tensors[layer.output]) for layer in graph.layers)
    assert 4.0e9 < macs < 4.2e9


def test_whole_network_is_one_graph_with_its_host_parts():
    rng = np.random.default_rng(0)
    model = quantize_model(rng, NETWORKS["squeezenet_fire"](rng))
    before, graph, after = partition(model).segments
    assert len(graph.layers) == len(load_graph(model).layers)
    assert [node.op_type for node in before.program.proto.graph.node] == ["QuantizeLinear"]
    assert [node.op_type for node in after.program.proto.graph.node] == ["DequantizeLinear"]
    onnx.checker.check_model(before.program.proto)
