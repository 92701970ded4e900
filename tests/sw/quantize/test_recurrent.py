"""Recurrent layers of float models become time steps that the accelerator runs."""

import numpy as np
import onnx
import pytest
from float_models import recurrent
from onnx import helper, numpy_helper

from weft.hw.isa.commands import Engine
from weft.quantize import quantize
from weft.quantize.recurrent import unroll
from weft.quantize.static import quantize_frames
from weft.quantize.unquantized import without_quantizers
from weft.reference.golden import GoldenSession
from weft.runtime.runner import run_frames
from weft.runtime.session import InferenceSession

KINDS = [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})]


def inputs_of(model, seed, frames=None):
    rng = np.random.default_rng(seed)
    return {value.name: rng.standard_normal(
        [frames or 1, *[dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]]).astype(
            np.float32) for value in model.graph.input}


def unrolled(model):
    result, steps = unroll(onnx.shape_inference.infer_shapes(model))
    onnx.checker.check_model(result, full_check=True)
    return result, steps


@pytest.mark.parametrize("op, attributes", KINDS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("steps, size, values, states, bias", [
    (1, 3, 2, False, True), (2, 1, 1, False, True), (5, 7, 3, True, True), (4, 4, 9, False, False),
    (3, 5, 1, True, False)])
def test_time_steps_compute_what_the_layer_does(op, attributes, direction, steps, size, values,
                                                states, bias):
    model = recurrent(op, values=values, size=size, steps=steps, direction=direction, states=states,
                      bias=bias, **attributes)
    result, _ = unrolled(model)
    assert all(node.op_type != op for node in result.graph.node)
    given = inputs_of(model, 1)
    for name in given.keys() - {"signal"}:
        given[name] = np.random.default_rng(2).standard_normal(
            (2 if direction == "bidirectional" else 1, 1, size)).astype(np.float32)
    found, wanted = (GoldenSession(each).run(given) for each in (result, model))
    assert found.keys() == wanted.keys()
    for name, values_ in wanted.items():
        np.testing.assert_allclose(found[name], values_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [
    {"clip": 2.0}, {"activations": ["Sigmoid", "Tanh", "Relu"]}, {"input_forget": 1}])
def test_what_is_not_as_usual_stays(change):
    model = recurrent("LSTM", **change)
    result, steps = unrolled(model)
    assert [node.op_type for node in result.graph.node] == ["Transpose", "LSTM"] and not steps


def test_weights_that_are_no_constants_stay():
    model = recurrent("GRU")
    del model.graph.initializer[0]
    model.graph.input.append(onnx.helper.make_tensor_value_info("W", 1, (1, 18, 5)))
    assert unrolled(model)[0].graph.node[1].op_type == "GRU"


@pytest.mark.parametrize("op, attributes", KINDS)
@pytest.mark.parametrize("config, size, direction, outputs", [
    ("tiny", 6, "bidirectional", (0, 1, 2)),
    pytest.param("tiny", 16, "forward", (0,), marks=pytest.mark.slow),
    ("base", 32, "reverse", (1, 2))])
def test_all_of_it_is_accelerated_and_exact(op, attributes, config, size, direction, outputs):
    outputs = tuple(number for number in outputs if number < 2 or op == "LSTM")
    model = recurrent(op, size=size, steps=5, direction=direction, outputs=outputs, **attributes)
    frames = inputs_of(model, 3, frames=6)
    quantized = quantize(model, frames)
    assert len(quantized.plan.graphs) == 1
    assert all(layer.snr > 15 for layer in quantized.layers)
    with InferenceSession(quantized.model, config=config, device="functional") as session:
        layers = InferenceSession(session.plan, config=config, device="functional",
                                  keep_tensors=True)
        run = run_frames(session, frames, model="", device="functional", verify=True,
                         layers=layers)
    assert run.compared > 0 and run.differing == 0


def test_a_layer_is_exact_on_the_rtl():
    model = recurrent("GRU", size=5, steps=3)
    frames = inputs_of(model, 4, frames=2)
    with InferenceSession(quantize(model, frames).model, config="tiny") as session:
        run = run_frames(session, frames, model="", device="sim", verify=True)
    assert run.compared > 0 and run.differing == 0


def test_steps_have_one_scale_and_load_their_constants_once():
    model = recurrent("LSTM", size=16, steps=9, outputs=(1,))
    quantized = quantize(model, inputs_of(model, 5, frames=6)).model
    constants = {tensor.name: numpy_helper.to_array(tensor)
                 for tensor in quantized.graph.initializer}
    scales: dict[str, set[float]] = {}
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0].startswith("cell/d0/"):
            *_, number, role = node.input[0].split("/")
            if number.isdigit():
                scales.setdefault(role, set()).add(float(constants[node.input[1]]))
    assert {"h", "cell", "sum", "recurrent0", "tanh"} <= scales.keys()
    assert all(len(found) == 1 for found in scales.values()), scales
    assert scales["i"] == scales["o"] == scales["f"] and scales["new"] == scales["cell"]
    with InferenceSession(quantized, config="base", device="functional") as session:
        program, = session.programs
    loading = [info.text for info in program.infos if info.engine is Engine.LOAD]
    assert any("d0/0/i table" in text for text in loading)
    assert any("d0/1/recurrent0 weights" in text for text in loading)
    assert not [text for text in loading if any(f"d0/{step}/" in text for step in range(2, 8))]


def surrounded(model, *, size, steps, values):
    """A recurrent layer with a convolution in front and a fully connected layer behind."""
    rng = np.random.default_rng(size)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for name, array in {
            "kernel": rng.standard_normal((values, values, 3)).astype(np.float32),
            "dense": rng.standard_normal((size, 4)).astype(np.float32),
            "flat": np.array((steps, size))}.items():
        graph.initializer.append(numpy_helper.from_array(array, name))
    graph.node[0].input[0] = "mixed"
    graph.node.insert(0, helper.make_node("Conv", ["signal", "kernel"], ["mixed"], name="mix",
                                          pads=[1, 1]))
    graph.node.append(helper.make_node("Reshape", ["y0", "flat"], ["states"], name="line"))
    graph.node.append(helper.make_node("Gemm", ["states", "dense"], ["classes"], name="classify"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("classes", onnx.TensorProto.FLOAT,
                                                      (steps, 4)))
    return onnx.shape_inference.infer_shapes(result)


@pytest.mark.parametrize("op, per_channel", [("LSTM", True), ("GRU", False)])
def test_what_is_quantized_but_for_recurrent_layers_is_quantized_wholly(op, per_channel):
    """onnxruntime's quantizer leaves them float, between quantizers of all else."""
    model = surrounded(recurrent(op, values=6, size=5, steps=3, outputs=(0,)), size=5, steps=3,
                       values=6)
    frames = [inputs_of(model, seed) for seed in range(4)]
    partly = quantize_frames(model, frames, per_channel=per_channel)
    kinds = {node.op_type for node in partly.graph.node}
    assert {op, "QuantizeLinear", "DequantizeLinear"} <= kinds
    plain = without_quantizers(partly)
    assert {node.op_type for node in plain.graph.node} <= kinds - {
        "QuantizeLinear", "DequantizeLinear"} | {"Identity"}
    for given in frames:
        (found,), (wanted,) = (list(GoldenSession(each).run(given).values())
                               for each in (plain, model))
        np.testing.assert_allclose(found, wanted, atol=0.06 * np.abs(wanted).max())
    result = quantize(partly, frames)
    assert not any(node.op_type == op for node in result.model.graph.node)
    with InferenceSession(result.model, device="functional") as session:
        run = run_frames(session, inputs_of(model, 5, 2), model="", device="functional",
                         verify=True)
    assert run.differing == 0
