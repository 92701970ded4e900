"""Tensors of known values in ONNX models: the graph that they become, against onnxruntime."""

import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden, random_inputs

from weft.frontend import partition
from weft.hw.isa.presets import PRESETS, load_config
from weft.ir import Add, Affine, Concat, Lookup, MatMul, Multiply, Where
from weft.reference.golden import cpu_is_exact
from weft.runtime.session import InferenceSession

TINY = PRESETS["tiny"]
CONFIGS = [TINY, TINY.replace(fip=False, activation_bytes=4096), PRESETS["base"]]


def rng_of(*seed):
    return np.random.default_rng([*seed, 41])


def known(b, rng, name, shape, *, unsigned=False, scale=None, zero=None):
    """A constant behind a DequantizeLinear, extremes among its values."""
    kind = np.uint8 if unsigned else np.int8
    info = np.iinfo(kind)
    values = np.clip(rng.integers(info.min - 40, info.max + 41, shape), info.min, info.max)
    b.constant(f"{name}_i", values.astype(kind))
    b.constant(f"{name}_s", np.float32(scale or rng.uniform(0.01, 0.06)))
    b.constant(f"{name}_z", kind(rng.integers(info.min, info.max + 1) if zero is None else zero))
    return b.node("DequantizeLinear", [f"{name}_i", f"{name}_s", f"{name}_z"], f"{name}_d")


def check(b, *, seed=0, config=TINY, batch=1):
    """The layers of a model that has one part and hands the host none, compared with onnxruntime
    and run on the functional device."""
    model = b.build()
    plan = partition(model)
    graph, = plan.graphs
    assert graph.constants
    assert {row.op for row in plan.placements if row.where is Where.HOST} <= {
        "QuantizeLinear", "DequantizeLinear"}
    feeds = random_inputs(rng_of(seed), model)
    if cpu_is_exact():
        assert_plan_is_golden(plan, feeds)
    with InferenceSession(model, config=config, device="functional", batch=batch) as session:
        frames = {name: np.concatenate([value, *[value[::-1, ..., ::-1]] * (batch - 1)])
                  for name, value in feeds.items()}
        found = session.run(None, frames)
        golden = plan.model.golden()
        for frame in range(batch):
            expected = golden.run({name: value[frame:frame + 1] for name, value in frames.items()})
            for info, value in zip(session.get_outputs(), found, strict=True):
                np.testing.assert_array_equal(value[frame:frame + 1], expected[info.name])
    return graph.layers


def random_shape(rng, number):
    """Of tokens, a signal, a plane; some of one row, some larger than the chip."""
    sizes = [int(rng.choice([1, rng.integers(1, 20)])) for _ in range(3)]
    if number % 5 == 4:
        sizes = [17, 33, 5]
    return (1, *sizes[:2]) if number % 2 else (1, *sizes)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("op, kind", [("Add", Add), ("Mul", Multiply)])
def test_sums_and_products_of_an_activation_and_a_constant(op, kind, unsigned):
    full = 0
    for number in range(20):
        rng = rng_of(number, unsigned)
        shape = random_shape(rng, number)
        b = QdqBuilder(rng, unsigned=unsigned)
        own = shape if number % 3 else shape[1:]
        x, k = b.input("x", shape), known(b, rng, "k", own, unsigned=unsigned)
        if sum(size > 1 for size in shape) < 2:
            continue    # a value for each channel
        y = b.node(op, [k, x] if number % 4 < 2 else [x, k], "both")
        b.output(b.quantize(y, scale=float(rng.uniform(0.02, 0.2))))
        layer, = check(b, seed=number, config=CONFIGS[number % 3], batch=1 + number % 2)
        assert isinstance(layer, kind)
        full += 1
    assert full > 8


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_constants_that_repeat(op):
    kinds = set()
    for number, (shape, own) in enumerate([
            ((1, 9, 7), (1, 9, 1)), ((1, 9, 7), (1, 7)), ((1, 5, 6, 7), (1, 6, 7)),
            ((1, 5, 6, 7), (5, 1, 7)), ((1, 5, 6, 7), (1, 5, 6, 1)), ((1, 5, 6, 7), (7,)),
            ((1, 5, 6, 7), (6, 1)), ((1, 5, 6, 7), (5, 1, 1)), ((1, 5, 6, 7), (1,))]):
        for swap in (False, True):
            rng = rng_of(number)
            b = QdqBuilder(rng)
            x = b.input("x", shape)
            x = b.quantize(b.node("LeakyRelu", [x], "first", alpha=0.3), scale=0.05)
            k = known(b, rng, "k", own)
            b.output(b.quantize(b.node(op, [k, x] if swap else [x, k], "both"), scale=0.09))
            plan = partition(b.build())
            if cpu_is_exact():
                assert_plan_is_golden(plan, random_inputs(rng, plan.model.proto))
            graph, = plan.graphs
            kinds.add((own, type(graph.layers[-1])))
    constant = {own for own, kind in kinds if kind in (Add, Multiply)}
    assert constant == {(1, 9, 1), (1, 6, 7), (5, 1, 7), (1, 5, 6, 1), (7,), (6, 1)}
    assert {own for own, kind in kinds if kind in (Affine, Lookup)} == {(1, 7), (5, 1, 1), (1,)}


@pytest.mark.parametrize("unsigned", [False, True])
def test_constants_among_joined_tokens(unsigned):
    """Rows of features: on the axis of rows, and on that of features."""
    for number in range(24):
        rng = rng_of(number, unsigned)
        tokens, width = (int(rng.choice([1, rng.integers(2, 40)])) for _ in range(2))
        axis = (1, -1, 2)[number % 3]
        b = QdqBuilder(rng, unsigned=unsigned)
        x = b.input("x", (1, tokens, width))
        if number % 4:
            x = b.quantize(b.matmul(x, width, width, name="first"))
        parts = [x]
        for at in range(1 + number % 2):
            extra = int(rng.choice([1, rng.integers(1, 9)]))
            shape = (1, extra, width) if axis == 1 else (1, tokens, extra)
            parts.insert(int(rng.integers(len(parts) + 1)),
                         known(b, rng, f"k{at}", shape, unsigned=unsigned))
        y = b.quantize(b.node("Concat", parts, "joined", axis=axis), scale=0.04)
        b.output(y)
        layers = check(b, seed=number, config=CONFIGS[number % 3], batch=1 + number % 2)
        if min(tokens, width) > 1:
            assert isinstance(layers[-1], Add if axis == 1 else Concat)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_constants_among_joined_planes(axis):
    for number in range(9):
        rng = rng_of(number, axis)
        shape = [1, *(int(rng.integers(1, 9)) for _ in range(3))]
        b = QdqBuilder(rng)
        x = b.quantize(b.conv(b.input("x", (1, 3, *shape[2:])), 3, shape[1], name="first"))
        own = list(shape)
        own[axis] = int(rng.integers(1, 6))
        parts = [known(b, rng, "k", own), x]
        if number % 2:
            parts = parts[::-1]
        shape[axis] += own[axis]
        y = b.quantize(b.node("Concat", parts, "joined", axis=axis), scale=0.04)
        b.output(b.quantize(b.conv(y, shape[1], 4, name="second")))
        check(b, seed=number, config=CONFIGS[number % 3])


def test_activations_joined_below_each_other():
    for number in range(6):
        rng = rng_of(number)
        b = QdqBuilder(rng)
        x = b.input("x", (1, 7, 5 + number))
        first = b.quantize(b.matmul(x, 5 + number, 6, name="first"), scale=0.5)
        y = b.input("y", (1, 1 + number, 6))
        second = b.quantize(b.matmul(y, 6, 6, name="second"), scale=0.7)
        joined = b.node("Concat", [first, second, known(b, rng, "k", (1, 2, 6))], "joined", axis=1)
        joined = b.quantize(joined, scale=0.6)
        b.output(b.quantize(b.matmul(joined, 6, 3, name="third")))
        check(b, seed=number, config=CONFIGS[number % 3])


@pytest.mark.parametrize("first", [False, True])
def test_products_with_a_constant_of_heads(first):
    for number in range(6):
        rng = rng_of(number)
        heads, rows, depth, columns = (int(size) for size in rng.integers(1, 9, 4))
        b = QdqBuilder(rng)
        shapes = [(heads, rows, depth), (heads, depth, columns)]
        x = b.input("x", shapes[first])
        k = known(b, rng, "k", shapes[not first])
        b.output(b.quantize(b.node("MatMul", [k, x] if first else [x, k], "product"), scale=0.05))
        model = b.build()
        plan = partition(model)
        graph, = plan.graphs
        if cpu_is_exact():
            assert_plan_is_golden(plan, random_inputs(rng, model))
        layer, = graph.layers
        assert isinstance(layer, MatMul)


def vision_transformer(rng, *, unsigned=False):
    """A class token in front of patches, positions, a layer, and the class token again."""
    b = QdqBuilder(rng, unsigned=unsigned)
    x = b.quantize(b.conv(b.input("x", (1, 3, 8, 12)), 3, 10, (4, 4), strides=[4, 4],
                          name="patches"))
    x = b.node("Transpose", [b.reshape(x, (1, 10, 6))], perm=[0, 2, 1])
    x = b.node("Concat", [known(b, rng, "class", (1, 1, 10), unsigned=unsigned), x], "tokens",
               axis=1)
    x = b.quantize(x, scale=0.9)
    x = b.quantize(b.node("Add", [x, known(b, rng, "place", (1, 7, 10), unsigned=unsigned,
                                           scale=0.8)], "placed"), scale=1.3)
    x = b.quantize(b.matmul(x, 10, 10, name="mixed"))
    x = b.node("Gather", [x, b.constant("i", np.int64(0))], "token", axis=1)
    x = b.quantize(x, scale=b.initializers["mixed_scale"], zero_point=b.initializers["mixed_zero"])
    b.output(b.quantize(b.gemm(x, 10, 4, name="classes")))
    return b


@pytest.mark.parametrize("config", [*CONFIGS, load_config("tiny,activation_bytes=1024")])
def test_vision_transformer_is_one_part(config):
    for batch in (1, 3):
        check(vision_transformer(rng_of(batch), unsigned=batch == 1), config=config, batch=batch)


def reason(build):
    rng = rng_of(0)
    b = QdqBuilder(rng)
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="first"))
    y = b.quantize(build(b, rng, x), scale=0.1)
    b.output(b.quantize(b.conv(y, 4, 40, name="last")))
    rows = {row.name: row for row in partition(b.build()).placements}
    assert rows["odd"].where is Where.HOST
    return rows["odd"].reason


def test_constants_that_are_not_quantized_as_activations_are():
    def scales(b, _rng, x):
        values = b.constant("v", np.zeros((1, 4, 6, 6), np.int8))
        k = b.node("DequantizeLinear", [values, b.constant("s", np.float32([1, 2, 3, 4]) / 99),
                                        b.constant("z", np.zeros(4, np.int8))], "k", axis=1)
        return b.node("Add", [x, k], "odd")

    assert reason(scales) == "Add 'odd' has the constant 'k', which must be int8 or uint8 with " \
                             "one scale"
    for op, verb in (("Add", "combines"), ("Concat", "joins")):
        def types(b, rng, x, op=op):
            axis = {"axis": 2} if op == "Concat" else {}
            return b.node(op, [x, known(b, rng, "k", (1, 4, 6, 6), unsigned=True)], "odd", **axis)
        assert reason(types) == f"{op} 'odd' {verb} int8 and uint8 values, one of them a constant"
