"""Operators and networks of TFLite against LiteRT's reference kernels, byte for byte: the kernels
in numpy, the graphs with the reference, and the functional device."""

import numpy as np
import pytest
from models import assert_plan_is_golden
from tflite_cases import ACCELERATED, CASES, case
from tflite_models import TfliteBuilder
from tflite_networks import network

from weft.errors import ModelError
from weft.frontend import partition
from weft.frontend.tflite.model import TfliteProgram
from weft.frontend.tflite.reader import read_file
from weft.frontend.tflite.rules import Rule
from weft.hw.isa.presets import load_config
from weft.ir import Where
from weft.runtime.session import InferenceSession

litert = pytest.importorskip("weft.frontend.tflite.litert", reason="LiteRT is not installed",
                             exc_type=ImportError)

CONFIGS = [load_config(name).replace(fixed_point=True) for name in ("tiny", "small")]

SEEDS = 14      # of each operator: 322 models in all


def feeds(file, values):
    return {tensor.name: value for tensor, value in zip(file.inputs, values, strict=True)}


def golden(file, values):
    return litert.LiteRtGolden(file, [tensor.name for tensor in file.outputs]).run(
        feeds(file, values))


def check_kernels(op, seeds):
    """The kernels alone; returns how many different bytes there were."""
    found = set()
    for seed in seeds:
        content, values = case(op, seed)
        file = read_file(content)
        program = TfliteProgram(file.operators, Rule.TFLITE, (file.outputs[0].name,))
        expected = golden(file, values)[file.outputs[0].name]
        got = program.run(feeds(file, values))[file.outputs[0].name]
        np.testing.assert_array_equal(got, expected, err_msg=f"{op} {seed}", strict=True)
        found |= set(np.unique(expected).tolist())
    return len(found)


def planned(op, content, rule=None):
    """The plan of a model of one operator; none if the operator has attributes that no layer
    has."""
    try:
        return partition(content, rule=rule)
    except ModelError as error:
        message = str(error)
    assert message.startswith(op)
    return None


def check_device(content, values, config, rule=None, message=""):
    """A model on the functional device; returns how many of its operators are accelerated."""
    plan = partition(content, rule=rule)
    inputs = {info.name: value for info, value in zip(plan.model.inputs, values, strict=True)}
    expected = plan.model.golden().run(inputs)
    with InferenceSession(plan, config=config, device="functional") as session:
        got = session.run(None, inputs)
    for info, value in zip(plan.model.outputs, got, strict=True):
        np.testing.assert_array_equal(value, expected[info.name], err_msg=f"{message} {info.name}",
                                      strict=True)
    return sum(row.where is Where.ACCELERATOR for row in plan.placements)


@pytest.mark.parametrize("op", CASES)
def test_kernels_are_litert(op):
    assert check_kernels(op, range(SEEDS)) > 40


@pytest.mark.parametrize("op", ACCELERATED)
def test_layers_are_litert(op):
    """All that has a layer; an operator whose attributes are not supported says so."""
    accelerated = 0
    for seed in range(SEEDS):
        content, values = case(op, seed)
        plan = planned(op, content)
        if plan is None:
            continue
        inputs = {info.name: value for info, value
                  in zip(plan.model.inputs, values, strict=True)}
        assert assert_plan_is_golden(plan, inputs, exact=False) > 0
        check_device(content, values, CONFIGS[seed % len(CONFIGS)], message=f"{op} {seed}")
        accelerated += 1
    assert accelerated >= SEEDS // 4


@pytest.mark.parametrize("op", ACCELERATED)
def test_layers_by_the_rule_of_onnxruntime(op):
    """On a configuration without fixed point, against the kernels by that rule."""
    for seed in range(3):
        content, values = case(op, seed)
        if planned(op, content, "onnxruntime") is None:
            continue
        check_device(content, values, "tiny", "onnxruntime", f"{op} {seed}")


@pytest.mark.parametrize("op", [op for op in CASES if op not in ("RELU6", "RELU_N1_TO_1", "TANH")])
def test_kernels_are_tflite_micro(op):
    """But for functions whose kernels there take scales for granted."""
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime",
                                  reason="TFLite Micro is not installed", exc_type=ImportError)
    for seed in range(300, 330):
        content, values = case(op, seed)
        interpreter = runtime.Interpreter.from_bytes(content)
        for index, value in enumerate(values):
            interpreter.set_input(value, index)
        interpreter.invoke()
        file = read_file(content)
        program = TfliteProgram(file.operators, Rule.TFLITE_MICRO, (file.outputs[0].name,))
        got = program.run(feeds(file, values))[file.outputs[0].name]
        np.testing.assert_array_equal(got, interpreter.get_output(0), err_msg=f"{op} {seed}")


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_other_types_at_the_edges(kind):
    """The host quantizes and dequantizes: real values, ties among them, or uint8."""
    rng, b = np.random.default_rng(9), TfliteBuilder()
    quantized = {} if kind is np.float32 else {"scale": 0.05, "zero_point": 131}
    x, inner = b.input((1, 5, 6, 4), dtype=kind, **quantized), b.tensor((1, 5, 6, 4), 0.05, 3)
    y, z = b.tensor((1, 5, 6, 4), 0.1, -20), b.tensor((1, 5, 6, 4), dtype=kind, **quantized)
    b.operator("QUANTIZE", [x], [inner], "QuantizeOptions", version=2)
    b.operator("LEAKY_RELU", [inner], [y], "LeakyReluOptions", Alpha=0.2, version=2)
    b.operator("DEQUANTIZE" if kind is np.float32 else "QUANTIZE", [y], [z], version=2)
    b.output(z)
    values = rng.integers(0, 256, (1, 5, 6, 4)).astype(np.uint8)
    if kind is np.float32:
        values = (rng.integers(-300, 300, values.shape) * np.float32(0.025)).astype(np.float32)
    assert check_device(b.build(), [values], CONFIGS[0]) == 1


def check_network(seed):
    content, values = network(seed)
    plan = partition(content)
    inputs = {info.name: value for info, value in zip(plan.model.inputs, values, strict=True)}
    assert_plan_is_golden(plan, inputs, exact=False)
    return check_device(content, values, CONFIGS[seed % len(CONFIGS)], message=f"network {seed}")


@pytest.mark.parametrize("seed", range(20))
def test_networks_are_litert(seed):
    assert check_network(seed) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
def test_kernels_are_litert_at_length(op):
    check_kernels(op, range(1000, 1300))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_networks_are_litert_at_length(seed):
    check_network(seed)
