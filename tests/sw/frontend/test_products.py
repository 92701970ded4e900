"""Products of two activations in ONNX models: the graph that they become, against onnxruntime."""

import re

import numpy as np
import pytest
from models import QdqBuilder, golden_plan, random_inputs
from onnx import helper, numpy_helper

from weft.errors import ModelError
from weft.frontend import load_graph
from weft.hw.isa.presets import load_config
from weft.ir import Alias, HostPart, MatMul, Selection
from weft.runtime.session import InferenceSession

TINY = load_config("tiny,products=true")


def rng_of(*seed):
    return np.random.default_rng([*seed, 17])


def golden(model, *, seed=0):
    return golden_plan(model, rng_of(seed))


def products(plan):
    return [layer for graph in plan.graphs for layer in graph.layers if isinstance(layer, MatMul)]


def dimensions(rng, number):
    """Batch, and the sizes of a product."""
    batch = [(), (1,), (3,), (1, 2), (2, 3), (1, 1)][number % 6]
    return batch, *(int(rng.choice([1, rng.integers(2, 20)])) for _ in range(3))


@pytest.mark.parametrize("unsigned", [False, True])
def test_products_between_quantizers(unsigned):
    for number in range(18):
        rng = rng_of(number, unsigned)
        batch, rows, depth, columns = dimensions(rng, number)
        b = QdqBuilder(rng, unsigned=unsigned)
        x, y = b.input("x", (*batch, rows, depth)), b.input("y", (*batch, depth, columns))
        if number % 3 == 0:
            x, y = y, x
            x, y = (b.node("Transpose", [value], perm=[*range(len(batch)), len(batch) + 1,
                                                       len(batch)]) for value in (x, y))
        product = b.quantize(b.node("MatMul", [x, y], "product"), scale=0.02 * depth ** 0.5)
        if number % 4 == 1:     # bounds of the product
            scale, zero = (b.initializers[f"product_{name}"] for name in ("scale", "zero"))
            product = b.quantize(b.node("Relu", [product], "relu"), scale=scale,
                                 zero_point=int(zero))
        b.output(product)
        layer, = products(golden(b.build(), seed=number))
        assert (layer.depth, layer.heads) == (depth, int(np.prod(batch)))


def integer_model(rng, kinds, shapes):
    """A QLinearMatMul of two inputs of these types and shapes."""
    values = {}
    for name, kind in zip("aby", kinds, strict=True):
        info = np.iinfo(kind)
        values |= {f"{name}_s": np.float32(rng.uniform(0.01, 0.1)),
                   f"{name}_z": kind(rng.choice([info.min, info.max,
                                                 rng.integers(info.min, info.max + 1)]))}
    values["y_s"] = np.float32(values["a_s"] * values["b_s"] * 70 * shapes[0][-1] ** 0.5)
    node = helper.make_node("QLinearMatMul", [
        "a", "a_s", "a_z", "b", "b_s", "b_z", "y_s", "y_z"], ["y"], name="product")
    graph = helper.make_graph(
        [node], "integers", [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)),
                                          shape)
            for name, kind, shape in zip("ab", kinds, shapes, strict=False)],
        [helper.make_tensor_value_info(
            "y", helper.np_dtype_to_tensor_dtype(np.dtype(kinds[2])),
            (*shapes[0][:-1], shapes[1][-1]))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


# Where onnxruntime's kernels are exact without VNNI, too: those of uint8 times int8 saturate.
@pytest.mark.parametrize("kinds", [(np.uint8,) * 3, (np.int8,) * 3], ids=["uint8", "int8"])
def test_integer_products(kinds):
    for number in range(12):
        rng = rng_of(number)
        batch, rows, depth, columns = dimensions(rng, number)
        model = integer_model(rng, kinds, ((*batch, rows, depth), (*batch, depth, columns)))
        plan = golden(model, seed=number)
        assert len(products(plan)) == 1
        assert not any(isinstance(part, HostPart) for part in plan.segments)


def attention_model(rng, *, tokens, heads, depth, unsigned=False, rank=4):
    """A block of attention as exports write it, with a sigmoid in the place of the softmax."""
    b = QdqBuilder(rng, unsigned=unsigned)
    width = heads * depth
    x = b.input("x", (1, tokens, width))

    def split(name):
        value = b.quantize(b.matmul(x, width, width, name=name))
        value = b.reshape(value, (1, tokens, heads, depth)[4 - rank:])
        return value

    q, k, v = (split(name) for name in "qkv")
    front, back = ([0, 2, 1, 3], [0, 2, 3, 1]) if rank == 4 else ([1, 0, 2], [1, 2, 0])
    q, v = (b.node("Transpose", [value], perm=front) for value in (q, v))
    k = b.node("Transpose", [k], perm=back)
    scores = b.quantize(b.node("MatMul", [q, k], "scores"), scale=0.05 * depth ** 0.5)
    weights = b.quantize(b.node("Sigmoid", [scores], "weights"), scale=1 / 256)
    context = b.node("MatMul", [weights, v], "context")
    context = b.node("Transpose", [b.quantize(context, scale=0.05 * tokens ** 0.5)], perm=front)
    context = b.reshape(context, (1, tokens, width))
    b.output(b.quantize(b.matmul(context, width, width, name="out")))
    return b.build()


@pytest.mark.parametrize("heads, depth, rank", [(1, 6, 4), (2, 4, 4), (3, 5, 3)])
def test_heads_of_attention_are_views(heads, depth, rank):
    for unsigned in (False, True):
        model = attention_model(rng_of(heads), tokens=7, heads=heads, depth=depth,
                                unsigned=unsigned, rank=rank)
        plan = golden(model)
        graph, = plan.graphs
        scores, context = products(plan)
        assert (scores.heads, scores.depth, scores.transposed) == (heads, depth, True)
        assert (context.heads, context.depth, context.transposed) == (heads, 7, False)
        assert not any(isinstance(layer, Alias | Selection) for layer in graph.layers)
        with InferenceSession(model, config=TINY, device="functional") as session:
            feed = random_inputs(rng_of(heads, 1), model)
            found = session.run(None, feed)
            expected = plan.model.golden().run(feed)
        for value, name in zip(found, [each.name for each in model.graph.output], strict=True):
            np.testing.assert_array_equal(value, expected[name])


def test_without_products_they_stay_on_the_host_and_the_report_says_why():
    model = attention_model(rng_of(1), tokens=5, heads=2, depth=4)
    with InferenceSession(model, config="tiny", device="functional") as session:
        reasons = {row.name: row.reason for row in session.plan.placements if row.reason}
    assert reasons["scores"] == ("Layer 'scores' (MatMul) multiplies two activations: the "
                                 "configuration 'tiny' must have products = true")


@pytest.mark.parametrize("shapes, reason", [
    (((3, 4, 5), (5, 6)), "MatMul 'odd' multiplies shapes [3, 4, 5] and [5, 6]; only matrices are "
     "supported, and batches of as many on both sides"),
    (((4, 5), (5,)), "MatMul 'odd' multiplies shapes [4, 5] and [5]; only matrices are supported, "
     "and batches of as many on both sides")])
def test_other_products_wrong(shapes, reason):
    b = QdqBuilder(rng_of())
    x, y = (b.input(name, shape) for name, shape in zip("xy", shapes, strict=True))
    b.output(b.quantize(b.node("MatMul", [x, y], "odd"), scale=0.1))
    with pytest.raises(ModelError, match=rf"^{re.escape(reason)}$"):
        load_graph(b.build())


def test_the_multiplier_is_rounded_as_onnxruntime_does():
    """Scales whose product and quotient round differently in any other order."""
    rng = rng_of(3)
    for number in range(20):
        model = integer_model(rng_of(number, 3), (np.uint8, np.uint8, np.uint8), ((9, 31), (31, 9)))
        for tensor in model.graph.initializer:
            if tensor.name.endswith("_s"):
                scale = numpy_helper.to_array(tensor) * np.float32(rng.uniform(0.99, 1.01))
                tensor.CopyFrom(numpy_helper.from_array(np.float32(scale), tensor.name))
        golden(model, seed=number)
