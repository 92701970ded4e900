"""Functions of one value with constants for each channel."""

import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden

from weft.frontend import partition
from weft.ir import Affine, Lookup, Pool, Where
from weft.reference.golden import cpu_is_exact


def rng_of(seed=0):
    return np.random.default_rng([seed, 34])


def every_value(b, plane):
    """An input for ``x`` whose channels all hold every value."""
    zero = float(b.initializers["x_zero"])
    count = plane[-1] * plane[-2]
    first = 0 if b.initializers["x_zero"].dtype == np.uint8 else -128
    values = (np.arange(count) % 256 + first - zero) * float(b.initializers["x_scale"])
    order = np.arange(count).reshape(plane[-2:])
    return {"x": np.broadcast_to(values[order], (1, *plane)).astype(np.float32)}


def check(b, inputs, kind=Affine, **options):
    plan = partition(b.build())
    layers = plan.graphs[0].layers
    assert [type(layer) for layer in layers] == [kind]
    if cpu_is_exact():
        assert_plan_is_golden(plan, inputs, exact=False, **options)
    return layers[0]


def constant(b, name, values, quantized):
    """A float constant, or a quantized one."""
    if not quantized:
        return b.constant(name, values.astype(np.float32))
    kind = b.initializers["x_zero"].dtype
    zero = int(rng_of(9).integers(0, 128))
    scale = np.float32(np.abs(values).max() / (100 if kind == np.int8 else 110))
    info = np.iinfo(kind)
    integers = np.clip(np.rint(values / scale) + zero, info.min, info.max)
    b.constant(f"{name}_q", integers.astype(kind))
    b.constant(f"{name}_s", scale)
    b.constant(f"{name}_z", kind.type(zero))
    return b.node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], name)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("seed", range(2))
def test_a_constant_for_each_channel(op, seed, turned, quantized, unsigned):
    if op == "Div" and turned:
        pytest.skip("not linear")
    b = QdqBuilder(rng_of(seed), unsigned=unsigned)
    x = b.input("x", (1, 6, 16, 17), scale=0.03 + 0.001 * seed)
    values = rng_of(seed).uniform(0.3, 2, 6) * rng_of(seed).choice([-1, 1], 6)
    k = constant(b, "k", values.reshape((6, 1, 1) if seed % 2 else (1, 6, 1, 1)), quantized)
    y = b.node(op, [k, x] if turned else [x, k], "f")
    b.output(b.quantize(y, scale=0.05 + 0.0007 * seed, zero_point=100 if unsigned else 3))
    layer = check(b, every_value(b, (6, 16, 17)))
    assert layer.op == op and layer.factor.shape == (6,)
    signs = np.sign(values) if op in ("Mul", "Div") else -1 if op == "Sub" and turned else 1
    np.testing.assert_array_equal(np.sign(layer.factor), np.broadcast_to(signs, 6))


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("shape", [(1, 5, 16, 17), (1, 5, 272)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_batch_normalization(seed, relu, shape, unsigned):
    b = QdqBuilder(rng_of(seed), unsigned=unsigned)
    x = b.input("x", shape)
    rng = rng_of(seed)
    parameters = [b.constant(name, values.astype(np.float32)) for name, values in (
        ("gamma", rng.uniform(-1, 1.5, 5)), ("beta", rng.uniform(-1, 1, 5)),
        ("mean", rng.uniform(-1, 1, 5)), ("variance", rng.uniform(0.1, 2, 5)))]
    y = b.node("BatchNormalization", [x, *parameters], "norm", epsilon=1e-3)
    y = b.node("Relu", [y], "relu") if relu else y
    b.output(b.quantize(y, scale=float(b.initializers["x_scale"]) * 1.3,
                        zero_point=(0 if unsigned else -128) if relu else 3))
    inputs = every_value(b, (5, 16, 17))
    check(b, {"x": inputs["x"].reshape(shape)})


def test_chain_of_constants_is_one_layer():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 6, 16, 17))
    y = b.node("Mul", [x, b.constant("k", rng_of().random((6, 1, 1)).astype(np.float32))])
    y = b.node("Add", [y, b.constant("l", np.float32(0.2))])
    y = b.node("Sub", [y, b.constant("m", rng_of(1).random((1, 6, 1, 1)).astype(np.float32))])
    b.output(b.quantize(y, scale=0.04))
    assert check(b, every_value(b, (6, 16, 17))).op == "Sub"


def test_maximum_of_what_is_not_quantized_yet():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 6, 16, 17))
    y = b.node("Mul", [x, b.constant("k", rng_of().uniform(-1, 1, (6, 1, 1)).astype(np.float32))])
    b.output(b.quantize(b.node("MaxPool", [y], kernel_shape=[2, 3]), scale=0.04))
    plan = partition(b.build())
    assert [type(layer) for layer in plan.graphs[0].layers] == [Affine, Pool]
    if cpu_is_exact():
        assert_plan_is_golden(plan, every_value(b, (6, 16, 17)), exact=False)


def test_channels_that_are_alike_share_a_table():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 6, 16, 17))
    b.output(b.quantize(b.node("Mul", [x, b.constant("k", np.full((6, 1, 1), 0.7, np.float32))])))
    check(b, every_value(b, (6, 16, 17)), Lookup)


@pytest.mark.parametrize("rows, features", [(300, 6), (2048, 64)])
def test_features_of_rows(rows, features):
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, rows, features))
    y = b.node("Mul", [x, b.constant("k", rng_of().random(features).astype(np.float32))])
    b.output(b.quantize(y, scale=0.04))
    plane = (features, 1, rows)
    values = every_value(b, plane)["x"].reshape(1, features, rows).transpose(0, 2, 1)
    check(b, {"x": np.ascontiguousarray(values)})


def test_vector():
    b = QdqBuilder(rng_of())
    x = b.quantize(b.gemm(b.input("x", (1, 10)), 10, 7, name="fc"), scale=0.03)
    y = b.node("Add", [x, b.constant("k", rng_of().random((1, 7)).astype(np.float32))], "sum")
    b.output(b.quantize(b.gemm(b.quantize(y, scale=0.03), 7, 3)))
    plan = partition(b.build())
    assert isinstance(plan.graphs[0].layers[1], Affine)
    if cpu_is_exact():
        assert_plan_is_golden(plan, {"x": rng_of().standard_normal((1, 10)).astype(np.float32)},
                              exact=False)


def test_what_is_not_linear_is_a_table_for_each_channel():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 6, 16, 17), scale=0.03)
    k = b.constant("k", rng_of().uniform(-2, 2, (6, 1, 1)).astype(np.float32))
    b.output(b.quantize(b.node("Sigmoid", [b.node("Mul", [x, k])], "gate"), scale=1 / 256))
    layer = check(b, every_value(b, (6, 16, 17)), Lookup)
    assert layer.table.shape == (6, 256)


@pytest.mark.parametrize("make, reason", [
    (lambda b, x: b.node("Mul", [b.node("Mul", [x, b.constant("k", rng_of().random(
        (6, 1, 1)).astype(np.float32))]), b.constant("l", np.ones(7, np.float32))], "odd"),
     "Mul 'odd' ends functions whose constants differ along the axes [1, 3]; only one is "
     "supported")])
def test_what_the_host_runs(make, reason):
    b = QdqBuilder(rng_of())
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 7)), 3, 6, name="one"), scale=0.03)
    y = make(b, x)
    b.output(b.quantize(b.conv(b.quantize(y, scale=0.02), 6, 4, name="two")))
    plan = partition(b.build())
    row, = (row for row in plan.placements if row.name == "odd")
    assert row.where is Where.HOST and row.reason.startswith(reason)
