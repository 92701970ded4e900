"""Softmax in ONNX models: the graph that it becomes, against onnxruntime."""

import re

import numpy as np
import pytest
from models import QdqBuilder, golden_plan, layers_of, random_inputs

from weft.hw.isa.presets import load_config
from weft.ir import MatMul, Softmax
from weft.reference.golden import cpu_is_exact
from weft.runtime.session import InferenceSession

TINY = load_config("tiny,products=true,softmax=true")


def rng_of(*seed):
    return np.random.default_rng([*seed, 29])


def golden(model, *, seed=0):
    return golden_plan(model, rng_of(seed))


def share(b, x, *, zero=-128, scale=1 / 256, **attributes):
    """A Softmax and its QuantizeLinear."""
    return b.quantize(b.node("Softmax", [x], "share", **attributes), scale=scale, zero_point=zero)


def attention(b, *, batch, tokens, depth, **quantization):
    """Scores, their softmax and the context."""
    q, k, v = (b.input(name, (*batch, tokens, depth)) for name in "qkv")
    k = b.node("Transpose", [k], perm=[*range(len(batch)), len(batch) + 1, len(batch)])
    scores = b.quantize(b.node("MatMul", [q, k], "scores"), scale=0.05)
    shares = share(b, scores, **quantization)
    return b.quantize(b.node("MatMul", [shares, v], "context"), scale=0.03)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (1, 2), (2, 2)])
def test_attention_is_one_part(batch, unsigned):
    for number, (tokens, depth) in enumerate(((5, 3), (1, 4), (17, 8))):
        b = QdqBuilder(rng_of(number, len(batch), unsigned), unsigned=unsigned)
        b.output(attention(b, batch=batch, tokens=tokens, depth=depth,
                           zero=0 if unsigned else -128))
        plan = golden(b.build(), seed=number)
        layer, = layers_of(plan, Softmax)
        assert layer.heads == int(np.prod(batch)) and layer.factor == 256
        assert len(layers_of(plan, MatMul)) == 2 and len(plan.graphs) == 1


def test_it_runs_on_the_device_byte_for_byte():
    b = QdqBuilder(rng_of(1))
    b.output(attention(b, batch=(2,), tokens=11, depth=5))
    model = b.build()
    with InferenceSession(model, config=TINY) as session:
        feed = random_inputs(rng_of(2), session.plan.model.proto)
        found = session.run(None, feed)
        if cpu_is_exact():
            expected = session.plan.model.golden().run(feed)
            np.testing.assert_array_equal(found[0], expected[session.get_outputs()[0].name])
        assert len(session.plan.graphs) == 1


def test_without_the_switch_the_host_computes_it():
    b = QdqBuilder(rng_of(3))
    b.output(attention(b, batch=(), tokens=6, depth=5))
    config = load_config("tiny,products=true")
    with InferenceSession(b.build(), config=config) as session:
        reasons = [row.reason for row in session.plan.placements if row.op == "Softmax"]
        assert not layers_of(session.plan, Softmax)
    text = "the configuration 'tiny' must have softmax = true"
    assert len(reasons) == 1 and re.search(re.escape(text.split("'")[0]), reasons[0])


@pytest.mark.parametrize("opset, axes", [(12, {2: True, -1: True, 1: False, None: False}),
                                         (13, {2: True, -1: True, 1: False, None: True})])
def test_rows_lie_along_the_last_axis(opset, axes):
    for axis, accelerated in axes.items():
        b = QdqBuilder(rng_of(4), per_channel=False, opset=opset)
        x = b.matmul(b.input("x", (1, 3, 4)), 4, 6)
        x = b.quantize(x, scale=0.1)
        b.output(behind(b, share(b, x, **({} if axis is None else {"axis": axis}))))
        plan = golden(b.build())
        assert len(layers_of(plan, Softmax)) == accelerated
        if not accelerated:
            assert reason(plan).endswith("is not along the last axis")


def behind(b, x):
    """Something that the accelerator goes on with."""
    return b.quantize(b.node("Sigmoid", [x], "behind"), scale=1 / 256, zero_point=-128)


def test_the_last_one_is_the_host_s():
    b = QdqBuilder(rng_of(7))
    x = share(b, b.quantize(b.matmul(b.input("x", (1, 3, 4)), 4, 6), scale=0.1))
    b.output(b.node("Reshape", [x, b.constant("flat", np.array([1, 18]))]))
    plan = golden(b.build())
    assert not layers_of(plan, Softmax) and len(plan.graphs) == 1


def reason(plan):
    """Why the softmax is the host's."""
    row, = (row for row in plan.placements if row.op == "Softmax")
    return row.reason


def test_factors_that_the_hardware_lacks_are_the_host_s():
    for scale, accelerated in ((1.5e-5, False), (1.53e-5, True), (1.0, True), (1.5, False)):
        b = QdqBuilder(rng_of(5))
        x = b.quantize(b.matmul(b.input("x", (1, 3, 4)), 4, 6), scale=0.1)
        b.output(behind(b, share(b, x, scale=scale)))
        plan = golden(b.build())
        assert len(layers_of(plan, Softmax)) == accelerated
        if not accelerated:
            assert "has an output scale of" in reason(plan)


def test_what_onnxruntime_computes_in_real_numbers_is_the_host_s():
    b = QdqBuilder(rng_of(6))
    x = b.quantize(b.matmul(b.input("x", (1, 3, 4)), 4, 6), scale=0.1)
    b.output(behind(b, share(b, x)))
    b.output("share")
    plan = golden(b.build())
    assert not layers_of(plan, Softmax)
    assert "must be read by a QuantizeLinear alone" in reason(plan)
