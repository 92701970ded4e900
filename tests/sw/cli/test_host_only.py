"""Models of which nothing runs on the accelerator: they run, and everyone says so."""

import json

import numpy as np
import onnx
import pytest
from models import QdqBuilder, random_inputs
from tflite_models import TfliteBuilder

from weft import cli
from weft.errors import HostOnlyWarning, ModelError
from weft.frontend import load_graph
from weft.hw.isa.presets import PRESETS
from weft.reference.golden import GoldenSession
from weft.runtime.placing import place
from weft.runtime.session import InferenceSession

WHY = "Softmax 'soft' is not supported on the accelerator"


def softmax():
    b = QdqBuilder(np.random.default_rng(3))
    x = b.input("x", (1, 5, 3, 4))
    b.output(b.quantize(b.node("Softmax", [x], "soft", axis=1), scale=1 / 64))
    return b.build()


@pytest.fixture
def path(tmp_path):
    onnx.save(softmax(), tmp_path / "soft.onnx")
    return tmp_path / "soft.onnx"


@pytest.fixture
def call(capsys):
    """Runs the command line; gives its exit code, standard output and standard error."""
    def weft(*arguments):
        code = cli.main(list(map(str, arguments)))
        return code, *capsys.readouterr()
    return weft


def test_session_runs_on_the_host_and_warns():
    model = softmax()
    with pytest.warns(HostOnlyWarning, match=rf"^0 of \d nodes of network on the accelerator, the "
                                             rf"host runs all of it: {WHY}$"):
        session = InferenceSession(model, config="tiny", device="functional")
    with session:
        feeds = random_inputs(np.random.default_rng(4), model)
        got, = session.run(None, feeds)
        assert np.array_equal(got, *GoldenSession(model).run(feeds).values())
        result = session.run_frame(feeds)
        assert (result.cycles, result.layers, result.executions, result.warm) == (0, [], (), False)
        assert session.programs == ()
        for what in ("device", "graph", "program"):
            with pytest.raises(ModelError, match=f"^{WHY}$"):
                getattr(session, what)


def test_frames_of_a_batch():
    with pytest.warns(HostOnlyWarning):
        session = InferenceSession(softmax(), config="tiny", device="functional", batch=2)
    with session:
        frames = np.random.default_rng(5).uniform(-1, 1, (3, 5, 3, 4)).astype(np.float32)
        together, = session.run(None, {"x": frames})
        alone = [session.run(None, {"x": frame[None]})[0] for frame in frames]
    assert np.array_equal(together, np.concatenate(alone))


def test_run_verifies(path, call, tmp_path):
    code, out, err = call("run", path, "--config", "tiny", "--random", 2, "--verify", "--json",
                          tmp_path / "run.json")
    assert code == 0 and "Layer" not in out and "cycles" not in out
    assert "0 of 480 output bytes differ" in out
    assert err.count("Warning: 0 of ") == 1 and WHY in err
    figures = json.loads((tmp_path / "run.json").read_text())
    assert figures["cycles"] == [0, 0] and figures["layers"] == [] and figures["mismatches"] == 0


def test_check_warns_and_fails_if_strict(path, call):
    code, out, _ = call("check", path, "--config", "tiny")
    assert code == 0 and out.count(WHY) == 2 and "warning: 0 of " in out
    assert call("check", path, "--config", "tiny", "--strict")[0] == 1
    _, out, _ = call("check", path, "--config", "tiny", "--json")
    told = json.loads(out)
    assert WHY in told["warning"] and told["parts"] == [] and told["fallbacks"] == ["soft"]


def test_strict_check_of_nothing_but_quantizers_fails(tmp_path, call):
    b = QdqBuilder(np.random.default_rng(3))
    b.output(b.input("x", (1, 3)))
    onnx.save(b.build(), tmp_path / "nothing.onnx")
    assert call("check", tmp_path / "nothing.onnx")[0] == 0
    assert call("check", tmp_path / "nothing.onnx", "--strict")[0] == 1


def test_report_has_the_reason(path, call, tmp_path):
    code, out, _ = call("report", path, "--config", "tiny", "-o", tmp_path / "page.html")
    assert code == 0 and out.endswith("page.html: nothing on the accelerator\n")
    page = (tmp_path / "page.html").read_text()
    assert WHY.replace("'", "&#39;") in page and "On the host" in page
    assert "Timeline" not in page and "<script" not in page


def test_survey_lists_it(path, call, tmp_path):
    code, out, _ = call("survey", path, "--config", "tiny", "--device", "functional", "--record",
                        tmp_path / "record.json")
    assert code == 0 and WHY in out and "refused" not in out
    network, = json.loads((tmp_path / "record.json").read_text())["networks"]
    assert (network["parts"], network["accelerated"], network["differing"]) == (0, 0, 0)
    assert network["compared"] == 2 * 240 and WHY in network["warning"]


@pytest.mark.parametrize("command", [
    ["compile"], ["estimate"], ["run", "--timeline", "{}/t.json"], ["run", "--trace", "{}/t.fst"]])
def test_what_needs_the_accelerator_wrong(command, path, call, tmp_path):
    name, *options = (part.format(tmp_path) for part in command)
    code, out, err = call(name, path, "--config", "tiny", *options)
    assert code == 2 and out == "" and err.splitlines()[-1] == f"weft: error: {WHY}"
    assert not list(tmp_path.glob("t.*"))


def test_cure_is_told():
    b = QdqBuilder(np.random.default_rng(3))
    x, y = b.input("x", (1, 5, 3, 4)), b.input("y", (1, 5, 3, 4))
    b.output(b.quantize(b.node("Sum", [x, y], "sum")))
    assert place(b.build(), PRESETS["tiny"]).warning.endswith("accelerator; replace it by Add")


def test_graph_wrong():
    with pytest.raises(ModelError, match=f"^{WHY}$"):
        load_graph(softmax())


def test_tflite():
    b = TfliteBuilder()
    x, y = b.input((1, 10), 0.1), b.tensor((1, 10), 1 / 256, -128)
    b.operator("SOFTMAX", [x], [y], "SoftmaxOptions", version=2, Beta=1.0)
    b.output(y)
    with pytest.warns(HostOnlyWarning, match="^0 of 1 nodes of model on the accelerator, the "
                                             "host runs all of it: SOFTMAX"):
        session = InferenceSession(b.build(), config="tiny", device="functional")
    with session:
        values = np.arange(-5, 5, dtype=np.int8).reshape(1, 10)
        got, = session.run(None, {"t0": values})
        golden = session.plan.model.golden().run({"t0": values})
    assert np.array_equal(got, *golden.values())
