"""States that a session keeps from one frame to the next."""

import numpy as np
import onnx
import pytest
from float_models import recurrent
from models import QdqBuilder
from onnx import TensorProto

from weft.errors import InputError
from weft.quantize import quantize
from weft.runtime.runner import random_frames, run_frames
from weft.runtime.session import InferenceSession

STATES = {"LSTM": {"y1": "initial0", "y2": "initial1"}, "GRU": {"y1": "initial0"},
          "RNN": {"y1": "initial0"}}
STEPS = 5


def cells(op, *, values=5, size=6, **attributes):
    """A recurrent layer of some steps and of one, int8, with the same scales and weights."""
    models = []
    for steps in (STEPS, 1):
        model = recurrent(op, values=values, size=size, steps=steps, states=True, **attributes)
        rng = np.random.default_rng(7)
        models.append(quantize(model, {value.name: rng.standard_normal(
            [6, *[dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]]).astype(
                np.float32) for value in model.graph.input}).model)
    whole, step = models
    constants = {tensor.name: tensor for tensor in whole.graph.initializer}
    same = {tensor.name: tensor.name for tensor in step.graph.initializer
            if tensor.name in constants and tensor.data_type != TensorProto.INT64}  # no shapes
    quantizers = {node.input[0]: node for node in whole.graph.node
                  if node.op_type == "QuantizeLinear"}
    for node in step.graph.node:
        if node.op_type == "QuantizeLinear":
            same |= zip(node.input[1:3], quantizers[node.input[0]].input[1:3])
    for tensor in step.graph.initializer:
        if tensor.name in same:
            name, values = tensor.name, constants[same[tensor.name]]
            tensor.CopyFrom(values)
            tensor.name = name
    return whole, step


@pytest.mark.parametrize("device", ["functional", "verilator"])
@pytest.mark.parametrize("op, attributes", [("LSTM", {}), ("GRU", {}),
                                            ("GRU", {"linear_before_reset": 1}), ("RNN", {})])
def test_steps_with_kept_states_are_one_run_of_all(op, attributes, device):
    whole, step = cells(op, **attributes)
    rng = np.random.default_rng(3)
    signal = rng.standard_normal((1, 5, STEPS)).astype(np.float32)
    initial = {name: rng.uniform(-1, 1, (1, 1, 6)).astype(np.float32)
               for name in STATES[op].values()}
    with InferenceSession(whole, config="tiny", device=device) as session:
        names = [info.name for info in session.get_outputs()]
        expected = [dict(zip(names, session.run(None, {"signal": signal, **states})))
                    for states in (initial, {name: np.zeros_like(each)
                                             for name, each in initial.items()})]
    with InferenceSession(step, config="tiny", device=device, states=STATES[op]) as session:
        assert [info.name for info in session.get_inputs()] == ["signal"]
        for states, wanted in zip((initial, None), expected, strict=True):
            session.reset_state(states)
            for at in range(STEPS):
                found = dict(zip(names, session.run(None, {"signal": signal[:, :, at:at + 1]})))
                np.testing.assert_array_equal(found["y0"][0], wanted["y0"][at])
            for output, source in STATES[op].items():
                np.testing.assert_array_equal(found[output], wanted[output])
                np.testing.assert_array_equal(session.get_state()[source], wanted[output])


def stepping(op="GRU", frames=12, **options):
    """A layer of one step, calibrated on a sequence with the states that it makes itself."""
    model = recurrent(op, states=True, steps=1, **options)
    signal = np.random.default_rng(4).standard_normal((frames, 5, 1)).astype(np.float32)
    return quantize(model, {"signal": signal}, states=STATES[op]).model, signal


def test_frames_follow_each_other_and_are_verified():
    model, signal = stepping("LSTM")
    with InferenceSession(model, config="tiny", device="functional",
                          states=STATES["LSTM"]) as session:
        layers = InferenceSession(session.plan, config="tiny", device="functional",
                                  keep_tensors=True, states=session.states)
        run = run_frames(session, {"signal": signal}, model="", device="functional", verify=True,
                         layers=layers)
        assert run.compared > 0 and run.differing == 0
        session.reset_state()
        outputs = session.run(None, {"signal": signal})
        for found, wanted in zip(outputs, run.outputs, strict=True):
            np.testing.assert_array_equal(found, wanted)
        # The states do matter.
        session.reset_state()
        again = session.run(["y1"], {"signal": signal[5:6]})[0]
        assert not np.array_equal(again, outputs[1][5:6])


@pytest.mark.parametrize("device", ["functional", "verilator"])
def test_streams_of_a_batch_have_states_of_their_own(device):
    model, signal = stepping(frames=4)
    streams = np.random.default_rng(5).standard_normal((3, 4, 5, 1)).astype(np.float32)
    with InferenceSession(model, config="tiny", device="functional",
                          states=STATES["GRU"]) as session:
        expected = []
        for stream in streams:
            session.reset_state()
            expected.append(session.run(["y1"], {"signal": stream})[0])
    with InferenceSession(model, config="tiny", device=device, batch=3,
                          states=STATES["GRU"]) as session:
        found, = session.run(["y1"], {"signal": streams.swapaxes(0, 1).reshape(12, 5, 1)})
        found = found.reshape(4, 3, 1, 6)
        np.testing.assert_array_equal(found, np.stack(expected, 1).reshape(found.shape))
        session.reset_state(stream=1)
        first = session.run(["y1"], {"signal": streams[:, 0]})[0].reshape(3, 1, 6)
        np.testing.assert_array_equal(first[1], found[0, 1])
        assert not np.array_equal(first[0], found[0, 0])
        with pytest.raises(InputError, match=r"^Inputs must hold a frame for each of 3 streams in "
                                             r"turn, not 4 frames$"):
            session.run(None, {"signal": signal})
        with pytest.raises(InputError, match=r"^Batch must hold a frame for each of 3 streams, "
                                             r"not 1$"):
            session.run_batch([{"signal": signal[:1]}])
        with pytest.raises(InputError, match=r"^Stream must be from 0 to 2, not 3$"):
            session.get_state(3)


def integers(*, same=True, shape=(1, 4, 3, 1)):
    """A model whose state is int8: the sum of what comes and what was."""
    builder = QdqBuilder(np.random.default_rng(6))
    x = builder.input("x", (1, 4, 3, 1))
    builder.constant("h_scale", np.float32(0.04))
    builder.constant("h_zero", np.int8(9))
    builder._inputs.append(onnx.helper.make_tensor_value_info("h_q", TensorProto.INT8, shape))
    h = builder.node("DequantizeLinear", ["h_q", "h_scale", "h_zero"], "h_d")
    builder._scales[h] = np.float32(0.04)
    y = builder.node("Add", [builder.quantize(builder.conv(x, 4, 4)), h], "y")
    builder.quantize(y, scale=0.04 if same else 0.05, zero_point=9)
    builder.output("y_q", TensorProto.INT8)
    builder.output("y_d0")
    return onnx.shape_inference.infer_shapes(builder.build())


def test_a_quantized_state_begins_with_its_zero_point():
    with InferenceSession(integers(), config="tiny", device="functional",
                          states={"y_q": "h_q"}) as session:
        assert (session.get_state()["h_q"] == 9).all()
        run = run_frames(session, random_frames(session, 4), model="", device="functional",
                         verify=True)
        assert run.differing == 0
        assert not (session.get_state()["h_q"] == 9).all()


@pytest.mark.parametrize("states, error", [
    ({"z": "h_q"}, "State must be an output of the model, y_q, y_d0, not z"),
    ({"y_q": "z"}, "State must be an input of the model, x, h_q, not z"),
    ({"y_q": "h_q", "y_d0": "h_q"}, "State 'h_q' must come of one output, not of 'y_q' and "
                                    "'y_d0'"),
    ({"y_d0": "h_q"}, "State 'y_d0' is float32, its input 'h_q' is int8: they must be the same"),
])
def test_states_that_are_none_are_told(states, error):
    with pytest.raises(InputError) as caught:
        InferenceSession(integers(), config="tiny", device="functional", states=states)
    assert str(caught.value) == error


@pytest.mark.parametrize("model, error", [
    (integers(shape=(1, 4, 1, 1)), "State 'y_q' is [1, 4, 3, 1], its input 'h_q' is [1, 4, 1, 1]: "
                                   "they must be the same"),
    (integers(same=False), "State 'y_q' is of scale 0.05 and zero point 9, its input 'h_q' is of "
                           "scale 0.04 and zero point 9: they must be the same"),
])
def test_states_that_do_not_fit_are_told(model, error):
    with pytest.raises(InputError) as caught:
        InferenceSession(model, config="tiny", device="functional", states={"y_q": "h_q"})
    assert str(caught.value) == error


def test_values_of_states_are_checked():
    with InferenceSession(integers(), config="tiny", device="functional",
                          states={"y_q": "h_q"}) as session:
        for initial, error in (
                ({"z": np.zeros(1)}, "State must be one of h_q, not z"),
                ({"h_q": [0]}, "State 'h_q' must be an array, not list"),
                ({"h_q": np.zeros((1, 4, 3, 1))}, "State 'h_q' must be int8 [1, 4, 3, 1], "
                                                  "not float64 [1, 4, 3, 1]")):
            with pytest.raises(InputError) as caught:
                session.reset_state(initial)
            assert str(caught.value) == error
        with pytest.raises(InputError, match=r"^Inputs must be x, not x, h_q$"):
            session.run(None, {"x": np.zeros((1, 4, 3, 1), np.float32),
                               "h_q": np.zeros((1, 4, 3, 1), np.int8)})
