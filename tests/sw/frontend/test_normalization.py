"""LayerNormalization in ONNX models: the graph that it becomes, against onnxruntime."""


import numpy as np
import pytest
from models import QdqBuilder, golden_plan, layers_of, random_inputs

from weft.hw.isa.presets import load_config
from weft.ir import Add, Convolution, MatMul, Normalization, Softmax
from weft.reference.golden import cpu_is_exact
from weft.runtime.session import InferenceSession

TINY = load_config("tiny,products=true,softmax=true,normalize_channels=64")


def rng_of(*seed):
    return np.random.default_rng([*seed, 31])


def golden(model, *, seed=0):
    return golden_plan(model, rng_of(seed))


def normal(b, x, length, *, bias=True, quantized=False, name="normal", seed=0, **attributes):
    """A LayerNormalization and its QuantizeLinear."""
    rng = rng_of(seed, length)
    scale = rng.normal(1, 0.3, length).astype(np.float32)
    inputs = [x, b.weights(f"{name}_own", (length,), 0)[0] if quantized
              else b.constant(f"{name}_own", scale)]
    if bias:
        inputs.append(b.constant(f"{name}_shift", rng.normal(0, 0.3, length).astype(np.float32)))
    return b.quantize(b.node("LayerNormalization", inputs, name, **attributes), scale=0.025)


def reason(plan):
    """Why the normalization is the host's."""
    row, = (row for row in plan.placements if row.op == "LayerNormalization")
    return row.reason


def between(change, *, length=16, unsigned=False, **attributes):
    """A model with a LayerNormalization between two products, which ``change`` may change."""
    b = QdqBuilder(rng_of(7), unsigned=unsigned)
    x = b.quantize(b.matmul(b.input("x", (1, 5, 8)), 8, length))
    x = normal(b, x, length, **attributes)
    b.output(b.quantize(b.matmul(x, length, 8)))
    change(b)
    return b.build()


def transformer(b, *, tokens, depth, heads):
    """A layer of a transformer."""
    width = heads * depth
    x = b.input("x", (1, tokens, width))
    start = normal(b, x, width, name="first")

    def split(source, *, last):
        source = b.quantize(b.matmul(source, width, width))
        source = b.reshape(source, (1, tokens, heads, depth))
        return b.node("Transpose", [source], perm=[0, 2, 3, 1] if last else [0, 2, 1, 3])
    q, k, v = split(start, last=False), split(start, last=True), split(start, last=False)
    scores = b.quantize(b.node("MatMul", [q, k], "scores"), scale=0.05)
    shares = b.quantize(b.node("Softmax", [scores], "share"), scale=1 / 256)
    seen = b.quantize(b.node("MatMul", [shares, v], "context"), scale=0.03)
    seen = b.reshape(b.node("Transpose", [seen], perm=[0, 2, 1, 3]), (1, tokens, width))
    x = b.quantize(b.node("Add", [x, b.quantize(b.matmul(seen, width, width))], "sum"), scale=0.05)
    b.output(b.quantize(b.matmul(normal(b, x, width, name="second"), width, width)))


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("shape", [(1, 5, 16), (1, 1, 64), (7, 24), (1, 2, 3, 8), (1, 40)])
def test_any_rows_along_the_last_axis(shape, unsigned):
    b = QdqBuilder(rng_of(len(shape), unsigned), unsigned=unsigned)
    b.output(normal(b, b.input("x", shape), shape[-1], bias=shape[-1] != 24))
    plan = golden(b.build())
    layer, = layers_of(plan, Normalization)
    graph, = plan.graphs
    assert graph.tensors[layer.output].shape == (shape[-1], int(np.prod(shape[:-1])), 1)
    assert (layer.shift == 0).all() == (shape[-1] == 24)


def test_a_plane_with_channels_last():
    """As ConvNeXt has it, between convolutions: no value is moved."""
    b = QdqBuilder(rng_of(2))
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 5)), 3, 16))
    x = normal(b, b.node("Transpose", [x], perm=[0, 2, 3, 1]), 16)
    x = b.node("Transpose", [x], perm=[0, 3, 1, 2])
    b.output(b.quantize(b.conv(x, 16, 4)))
    plan = golden(b.build())
    assert len(layers_of(plan, Normalization)) == 1 and len(plan.graphs) == 1


@pytest.mark.parametrize("heads", [1, 3])
def test_a_transformer_is_one_part(heads):
    for number, tokens in enumerate((1, 5, 17)):
        b = QdqBuilder(rng_of(number, heads))
        transformer(b, tokens=tokens, depth=8, heads=heads)
        plan = golden(b.build(), seed=number)
        assert len(plan.graphs) == 1
        assert [len(layers_of(plan, kind)) for kind in (Normalization, Softmax, MatMul, Add)] \
            == [2, 1, 2, 1]


@pytest.mark.parametrize("tokens", [1, 11, 150])
def test_it_runs_on_the_device_byte_for_byte(tokens):
    b = QdqBuilder(rng_of(tokens))
    transformer(b, tokens=tokens, depth=8, heads=2)
    with InferenceSession(b.build(), config=TINY, device="functional") as session:
        feed = random_inputs(rng_of(2), session.plan.model.proto)
        found = session.run(None, feed)
        if cpu_is_exact():
            expected = session.plan.model.golden().run(feed)
            np.testing.assert_array_equal(found[0], expected[session.get_outputs()[0].name])
        assert len(session.plan.graphs) == 1


def test_scales_may_be_quantized_and_epsilon_left_out():
    layer, = layers_of(golden(between(lambda b: None, quantized=True)), Normalization)
    assert layer.scale.dtype == np.float32 and layer.epsilon == np.float32(1e-5)
    layer, = layers_of(golden(between(lambda b: None, epsilon=1e-12, axis=2)), Normalization)
    assert layer.epsilon == np.float32(1e-12)


def test_a_last_one_runs_on_the_accelerator():
    """Unlike a last softmax, which is worth no part of its own."""
    b = QdqBuilder(rng_of(3))
    x = b.quantize(b.matmul(b.input("x", (1, 3, 8)), 8, 16))
    b.output(normal(b, x, 16))
    plan = golden(b.build())
    assert len(layers_of(plan, Normalization)) == 1 and len(layers_of(plan, Convolution)) == 1


def without_channels(model):
    with InferenceSession(model, config=load_config("tiny,products=true"),
                          device="functional") as session:
        return session.plan


def test_without_channels_the_host_computes_it():
    plan = without_channels(between(lambda b: None, length=40))
    assert not layers_of(plan, Normalization) and len(plan.graphs) == 2
    row, = (row for row in plan.placements if row.op == "LayerNormalization")
    assert row.reason == (
        "Layer 'normal' (LayerNormalization) normalizes rows of 40 channels: the configuration "
        "'custom' must have normalize_channels of at least 40")
    assert row.cure == "use --config ...,products=true,normalize_channels=40"


def varying(b):
    """Scales that are not known."""
    node, = (node for node in b.nodes if node.op_type == "LayerNormalization")
    node.input[1] = b.node("ReduceMax", [node.input[0]], "most", keepdims=0, axes=[0, 1])
    b.nodes.insert(b.nodes.index(node), b.nodes.pop())


def bounded(b):
    """A Relu behind it."""
    node, = (node for node in b.nodes if node.input[0] == "normal")
    node.input[0] = b.node("Relu", ["normal"], "above")
    b.nodes.insert(b.nodes.index(node), b.nodes.pop())


@pytest.mark.parametrize("model, text", [
    (lambda: between(lambda b: None, length=12),
     "has rows of 12 values: onnxruntime adds up those behind the last multiple of 8 in another "
     "order"),
    (lambda: between(lambda b: b.output("normal")), "must be read by a QuantizeLinear alone"),
    (lambda: between(varying), "must have constant float32 parameters"),
    (lambda: between(lambda b: None, epsilon=0.0),
     "has an epsilon of 0; one from 2**-60 to 2**40 is supported"),
    (lambda: between(lambda b: b.initializers.update(normal_own=np.full(16, 1e-30, np.float32))),
     "has values in its scale that are not 0 and not from 2**-60 to 2**40"),
    (lambda: between(lambda b: b.initializers.update(normal_scale=np.float32(1e-13))),
     "has an output scale of 1e-13; one from 2**-40 to 2**40 is supported"),
    (lambda: between(bounded), "has bounds behind it, which is not supported"),
    (lambda: between(lambda b: b.initializers.update(
        normal_own=np.ones((5, 16), np.float32), normal_shift=np.zeros((5, 16), np.float32)),
        axis=1), "is not along the last axis alone"),
    (lambda: between(lambda b: b.initializers.update(normal_own=np.float32([2]))),
     "must have 16 values of each parameter, not the shape [1]"),
])
def test_what_the_host_computes(model, text):
    plan = golden(model())
    assert not layers_of(plan, Normalization)
    assert reason(plan) == f"LayerNormalization 'normal' {text}"
