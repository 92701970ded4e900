"""Float networks with states: calibrated on a sequence, with one scale on both sides of a step."""

import numpy as np
import onnx
import pytest
from float_models import recurrent
from onnx import TensorProto, helper, numpy_helper

from weft import cli
from weft.errors import InputError
from weft.frontend.onnx.model import OnnxModel
from weft.quantize import quantize
from weft.quantize.source import load_float
from weft.quantize.states import StateFrames
from weft.quantize.steps import joined
from weft.reference.golden import GoldenSession
from weft.runtime.runner import run_frames
from weft.runtime.session import InferenceSession


def window():
    """A convolution over the last three samples, the last two of which are the state."""
    rng = np.random.default_rng(1)
    constants = {"w": rng.standard_normal((6, 4, 3)).astype(np.float32), "from": np.array([1]),
                 "to": np.array([3]), "axis": np.array([2])}
    nodes = [helper.make_node("Concat", ["past", "x"], ["line"], name="line", axis=2),
             helper.make_node("Conv", ["line", "w"], ["y"], name="y"),
             helper.make_node("Slice", ["line", "from", "to", "axis"], ["next"], name="next")]
    shapes = {"x": (1, 4, 1), "past": (1, 4, 2), "y": (1, 6, 1), "next": (1, 4, 2)}
    graph = helper.make_graph(
        nodes, "window",
        *([helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names]
          for names in (("x", "past"), ("y", "next"))),
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_frames_have_the_states_that_the_float_model_makes():
    model = recurrent("LSTM", steps=1, states=True)
    states = {"y1": "initial0", "y2": "initial1"}
    source = load_float(model, states=states)
    assert source.shapes == {"signal": (1, 5, 1)}
    rng = np.random.default_rng(2)
    steps = [{"signal": rng.standard_normal((1, 5, 1)).astype(np.float32)} for _ in range(4)]
    frames = StateFrames.of(source, steps)
    assert StateFrames.of(source, frames) is frames and len(frames) == 4
    golden = GoldenSession(model)
    state = {name: np.zeros((1, 1, 6), np.float32) for name in states.values()}
    for step, frame in zip(steps, frames, strict=True):
        assert frame.keys() == {"signal", "initial0", "initial1"}
        for name, value in state.items():
            np.testing.assert_allclose(frame[name], value, rtol=1e-4, atol=1e-5)
        made = golden.run({**step, **state})
        state = {source: made[output] for output, source in states.items()}


def test_a_state_of_any_network_has_one_scale():
    signal = np.random.default_rng(3).standard_normal((20, 4, 1)).astype(np.float32)
    signal[-1] *= 9     # the state that is made has seen it, the one that is read has not
    model = quantize(window(), {"x": signal}, states={"next": "past"}).model
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = {node.input[0]: tuple(constants[name].item() for name in node.input[1:3])
              for node in model.graph.node if node.op_type == "QuantizeLinear"}
    made, = (scale for name, scale in scales.items() if name.startswith("next"))
    assert made in {scale for name, scale in scales.items() if name.startswith("past")}
    assert OnnxModel(model).states == {"next": "past"}
    with InferenceSession(model, config="tiny", device="functional") as session:
        run = run_frames(session, {"x": signal}, model="", device="functional", verify=True)
    assert run.differing == 0


def test_groups_with_a_tensor_in_common_are_one():
    found = joined((("a", "b"), ("c",), ("d", "b"), ("e", "c"), ("f",), ("g", "h"), ("i", "j"),
                    ("h", "i")))
    assert {frozenset(group) for group in found} == {
        frozenset("abd"), frozenset("ce"), frozenset("f"), frozenset("ghij")}
    assert len(found) == 4


@pytest.mark.parametrize("states, error", [
    ({"z": "past"}, "State must be an output of the model, y, next, not z"),
    ({"next": "x"}, "State 'next' is [1, 4, 2], its input 'x' is [1, 4, 1]: they must be the same"),
])
def test_wrong_states_are_told(states, error):
    with pytest.raises(InputError) as caught:
        load_float(window(), states=states)
    assert str(caught.value) == error


def test_the_command_line_keeps_states(tmp_path, capsys):
    source, target, data = (tmp_path / name for name in ("float.onnx", "int8.onnx", "x.npz"))
    onnx.save(window(), source)
    np.savez(data, input=np.random.default_rng(4).standard_normal((8, 4, 1)).astype(np.float32))
    pair = ("--state", "next=past")
    assert cli.main(["quantize", str(source), "-o", str(target), "--calibrate", str(data),
                     *pair]) == 0
    on = ("--config", "tiny", "--device", "functional", "--inputs", str(data))
    capsys.readouterr()
    for model, options in ((target, ()), (target, pair),
                           (source, (*pair, "--quantize", str(data)))):
        outputs = tmp_path / "y.npz"
        assert cli.main(["run", str(model), *on, *options, "--verify", "--output",
                         str(outputs)]) == 0
        out, err = capsys.readouterr()
        assert "0 of " in out and ("--state next=past" in err) == (model == source)
        found = dict(np.load(outputs))
        np.testing.assert_array_equal(found["next"][1:, :, 0], found["next"][:-1, :, 1])
    for wrong, error in (
            (("--state", "next"), "must be like OUT=IN, not 'next'"),
            ((*pair, "--state", "next=x"), "State 'next' must be the input of one name, not of "
                                           "'past' and 'x'")):
        try:
            code = cli.main(["run", str(target), *on, *wrong])
        except SystemExit as end:   # of the parser
            code = end.code
        assert code == 2 and error in capsys.readouterr().err
