"""Products of integers whose sums are wanted as they are, and whose zero points come with the data:
what a dynamically quantized model is made of."""

from itertools import pairwise

import numpy as np
import pytest
from models import assert_plan_is_golden, float_cnn, quantize_dynamically, run_plan
from onnx import TensorProto, helper, numpy_helper

from weft.boards.registry import BOARDS
from weft.frontend import partition
from weft.ir import HostPart, Sums, Where
from weft.reference.golden import cpu_is_exact
from weft.runtime.placing import place
from weft.runtime.session import InferenceSession

exact_cpu = pytest.mark.skipif(not cpu_is_exact(), reason="onnxruntime is not exact here")


def rng_of(seed=0):
    return np.random.default_rng([seed, 57])


def product(op, shape, weights, zero=None, *, activations=np.uint8, **attributes):
    """Integers and their zero point, as a frame brings them, times weights: int32."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(activations))
    constants = {"w": weights} | ({} if zero is None else {"wz": zero})
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w", "z", *(["wz"] if zero is not None else [])], ["y"],
                          name="product", **attributes)], "network",
        [helper.make_tensor_value_info("x", kind, shape),
         helper.make_tensor_value_info("z", kind, ())],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def frame(rng, shape, kind):
    info = np.iinfo(kind)
    if rng.random() < 0.3:      # the largest sums that there are
        x = rng.choice([info.min, info.max], shape)
    else:
        x = rng.integers(info.min, info.max, shape, endpoint=True)
    return {"x": x.astype(kind), "z": np.asarray(rng.integers(info.min, info.max), kind)}


def check(model, shape, kind=np.uint8, *, seed=0):
    """Compares two frames of different zero points with onnxruntime; the layers."""
    plan = partition(model)
    graph, = plan.graphs
    rng = rng_of(seed)
    for _ in range(2):
        feed = frame(rng, shape, kind)
        if cpu_is_exact():
            assert_plan_is_golden(plan, feed)
    return graph.layers


def some_weights(rng, kind, shape):
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, kind, endpoint=True)


# Without a zero point, with one that the weights allow, and with one for which they are too large.
ZEROS = {"none": None, "middle": 0, "near": 3, "far": 100}


def zero_of(which, kind, shape=()):
    value = ZEROS[which]
    middle = 128 if kind == np.uint8 else 0
    return None if value is None else np.full(shape, middle + value, kind)


@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("weights", [np.int8, np.uint8])
@pytest.mark.parametrize("activations, shape", [
    (np.uint8, (1, 7)), (np.uint8, (5, 7)), (np.int8, (2, 3, 7)), (np.uint8, (1, 4, 7))])
def test_matrix_product(activations, shape, weights, zero):
    rng = rng_of(1)
    matrix = some_weights(rng, weights, (7, 6))
    if zero == "near":
        matrix = matrix // 2 + (64 if weights == np.uint8 else 0)
    layers = check(product("MatMulInteger", shape, matrix, zero_of(zero, weights),
                           activations=activations), shape, activations)
    assert all(isinstance(layer, Sums) for layer in layers)
    alone = zero in ("middle", "near") or (zero == "none" and weights == np.int8)
    assert len(layers) == (1 if alone else 2)


def test_zero_point_of_each_column():
    rng = rng_of(2)
    matrix = some_weights(rng, np.uint8, (9, 5))
    zeros = np.array([0, 255, 128, 90, 7], np.uint8)
    layers = check(product("MatMulInteger", (3, 9), matrix, zeros), (3, 9))
    assert [layer.weights.shape[0] // layer.parts for layer in layers] == [5, 1]


@pytest.mark.parametrize("zero", ["none", "middle", "far"])
@pytest.mark.parametrize("group, kernel, attributes", [
    (1, (1, 1), {}), (1, (3, 3), {"pads": [1, 1, 1, 1]}), (2, (3, 2), {"pads": [2, 0, 1, 1]}),
    (1, (3, 3), {"pads": [1, 2, 0, 1], "strides": [2, 1], "dilations": [1, 2]}),
    (6, (3, 3), {"pads": [1, 1, 1, 1]}), (1, (8, 5), {}),
    (1, (4, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 3]})])
def test_convolution(group, kernel, attributes, zero):
    rng = rng_of(group)
    weights = some_weights(rng, np.uint8, (6, 6 // group, *kernel))
    layers = check(product("ConvInteger", (1, 6, 8, 5), weights, zero_of(zero, np.uint8),
                           group=group, **attributes), (1, 6, 8, 5))
    assert len(layers) == (1 if zero == "middle" else 2)


@pytest.mark.parametrize("zero", ["none", "middle", "far"])
@pytest.mark.parametrize("group, attributes", [
    (1, {"pads": [1, 2], "strides": [2]}), (3, {"dilations": [2], "pads": [3, 0]})])
def test_convolution_of_a_signal(group, attributes, zero):
    weights = some_weights(rng_of(8), np.uint8, (6, 6 // group, 4))
    check(product("ConvInteger", (1, 6, 13), weights, zero_of(zero, np.uint8), group=group,
                  **attributes), (1, 6, 13))


@pytest.mark.parametrize("features, size, parts", [(2, 127, 2), (3, 127, 3), (516, 127, 3),
                                                   (517, 127, 4), (600, 128, 4)])
def test_as_many_bytes_as_sums_may_need(features, size, parts):
    matrix = np.full((features, 2), -size, np.int8)
    matrix[:, 1] = 127
    layer, = check(product("MatMulInteger", (2, features), matrix), (2, features))
    assert layer.parts == parts


def test_products_of_the_model_are_counted_once():
    matrix = some_weights(rng_of(3), np.uint8, (40, 6))
    plan = partition(product("MatMulInteger", (3, 40), matrix, np.uint8(3)))
    graph, = plan.graphs
    assert [layer.macs(graph.tensors[layer.output]) for layer in graph.layers] == [3 * 40 * 6, 0]
    row, = plan.placements
    assert (row.name, row.op, row.where) == ("product", "MatMulInteger", Where.ACCELERATOR)


def test_two_products_share_their_input():
    rng = rng_of(4)
    matrices = {name: numpy_helper.from_array(some_weights(rng, np.int8, (8, size)), name)
                for name, size in (("v", 3), ("w", 5))}
    graph = helper.make_graph(
        [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
         *(helper.make_node("MatMulInteger", ["q", name, "z"], [f"{name}y"]) for name in matrices)],
        "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (6, 8))],
        [helper.make_tensor_value_info(f"{name}y", TensorProto.INT32, None) for name in matrices],
        list(matrices.values()))
    plan = partition(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                                       ir_version=8))
    accelerated, = plan.graphs
    assert len(accelerated.inputs) == 1 and len(accelerated.layers) == 2
    if cpu_is_exact():
        for scale in (1, 30):
            assert_plan_is_golden(plan, {"x": scale * rng.standard_normal((6, 8)).astype("f4")})


# What the host keeps ------------------------------------------------------------------------------

def host_reason(model):
    plan = partition(model)
    segment, = plan.segments
    assert isinstance(segment, HostPart)
    return next(row.reason for row in plan.placements if row.op.endswith("Integer")), plan


def test_product_of_two_activations_stays_on_the_host():
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"], name="mm")], "network",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, (4, 4)) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)])
    reason, plan = host_reason(helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 17)]))
    assert reason == "MatMulInteger 'mm' must have constant weights"
    ones = np.ones((4, 4), np.uint8)
    assert (run_plan(plan, {"a": ones, "b": ones})[0]["y"] == 4).all()


def test_volume_stays_on_the_host():
    model = product("ConvInteger", (1, 2, 3, 9, 5), np.ones((3, 2, 1, 3, 1), np.uint8))
    assert host_reason(model)[0] == ("ConvInteger 'product' must have an input of 3 or 4 known "
                                     "dimensions")


def test_batch_stays_on_the_host():
    model = product("ConvInteger", (2, 2, 4, 4), np.ones((3, 2, 3, 3), np.uint8))
    assert host_reason(model)[0] == ("ConvInteger 'product' has a batch of 2; only a batch of 1 is "
                                     "supported")


def test_array_alone_makes_sums():
    model = product("MatMulInteger", (1, 64), some_weights(rng_of(5), np.int8, (64, 64)))
    config = BOARDS["icebreaker"].config
    plan = place(model, config)
    assert plan.graphs == ()
    assert plan.placements[0].reason == (
        f"Layer 'product' (MatMulInteger) asks for int32 sums: the configuration {config.name!r} "
        f"must be one of an array, not sequential")
    assert plan.placements[0].cure == "use a configuration with an array, such as --config tiny"


# Whole models -------------------------------------------------------------------------------------

def perceptron(rng):
    sizes = (21, 37, 16, 10)
    nodes, constants, x = [], {}, "x"
    for number, (before, after) in enumerate(pairwise(sizes)):
        constants[f"w{number}"] = rng.standard_normal((before, after)).astype(np.float32)
        constants[f"b{number}"] = rng.standard_normal(after).astype(np.float32)
        nodes += [helper.make_node("MatMul", [x, f"w{number}"], [f"m{number}"]),
                  helper.make_node("Add", [f"m{number}", f"b{number}"], [f"a{number}"]),
                  helper.make_node("Relu", [f"a{number}"], [f"r{number}"])]
        x = f"r{number}"
    graph = helper.make_graph(
        nodes, "perceptron", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, sizes[0]))],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, (1, sizes[-1]))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETWORKS = {"perceptron": perceptron, "cnn": float_cnn}


@exact_cpu
@pytest.mark.parametrize("device", ["functional", "verilator"])
@pytest.mark.parametrize("unsigned, per_channel", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("network", NETWORKS)
def test_dynamically_quantized_network(network, unsigned, per_channel, device):
    model = quantize_dynamically(NETWORKS[network](rng_of(6)), per_channel=per_channel,
                                 unsigned=unsigned)
    products = sum(node.op_type in ("ConvInteger", "MatMulInteger") for node in model.graph.node)
    rng = rng_of(7)
    with InferenceSession(model, config="tiny", device=device) as session:
        assert 3 <= len(session.plan.graphs) <= products
        golden = session.plan.model.golden()
        shape = session.get_inputs()[0].shape
        name = session.get_inputs()[0].name
        for reach in (1, 50, 0.01):     # each frame has scales of its own
            feed = {name: (reach * (rng.standard_normal(shape) + reach % 3)).astype(np.float32)}
            for info, value in zip(session.get_outputs(), session.run(None, feed), strict=True):
                np.testing.assert_array_equal(value, golden.run(feed)[info.name])
