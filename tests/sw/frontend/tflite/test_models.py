"""TFLite networks of MLPerf Tiny against golden outputs of TFLite's reference kernels, and through
the command line."""

import json

import numpy as np
import pytest
from models import run_plan
from places import MODELS
from tflite_networks import network

from weft import cli
from weft.frontend import partition
from weft.hw.isa.presets import load_config
from weft.runtime.session import InferenceSession

NAMES = ("ic_resnet8_int8", "kws_dscnn_int8")

real = pytest.mark.skipif(not (MODELS / "tflite").is_dir(), reason="needs ../shared/models/tflite")


def golden_frames(name):
    path = MODELS / "tflite" / f"{name}.tflite"
    with np.load(f"{path}.npz") as archive:
        return path, archive["input"], archive["output"]


@real
@pytest.mark.parametrize("name", NAMES)
def test_reference_gives_the_golden_outputs(name):
    path, inputs, outputs = golden_frames(name)
    plan = partition(path)
    entry, = plan.model.inputs
    last, = plan.model.outputs
    for frame, expected in zip(inputs, outputs, strict=True):
        values, _ = run_plan(plan, {entry.name: frame.reshape(entry.shape)})
        np.testing.assert_array_equal(values[last.name].reshape(-1), expected)


@real
@pytest.mark.parametrize("name", NAMES)
def test_device_gives_the_golden_outputs(name):
    path, inputs, outputs = golden_frames(name)
    config = load_config("small").replace(fixed_point=True)
    with InferenceSession(path, config=config, device="functional") as session:
        entry, = session.get_inputs()
        frames = inputs[:3].reshape(-1, *entry.shape[1:])
        result, = session.run(None, {entry.name: frames})
    np.testing.assert_array_equal(result.reshape(len(frames), -1), outputs[:3])


@pytest.fixture
def files(tmp_path):
    """A network, and a configuration that has its rule."""
    model, config = tmp_path / "net.tflite", tmp_path / "fixed.toml"
    model.write_bytes(network(3)[0])
    config.write_text('preset = "tiny"\nfixed_point = true\n')
    return model, config


def test_run_verifies_every_layer(files, capsys):
    model, config = files
    assert cli.main(["run", str(model), "--config", str(config), "--device", "functional",
                     "--random", "2", "--verify"]) == 0
    assert "output bytes differ from" in capsys.readouterr().out


def test_run_by_the_rule_of_onnxruntime(files, capsys):
    model, _ = files
    assert cli.main(["run", str(model), "--config", "tiny", "--device", "functional", "--verify",
                     "--rule", "onnxruntime"]) == 0
    text = capsys.readouterr().out
    assert "differ from Weft's kernels" in text
    assert "note: LiteRT does not follow this rule" in text


def test_run_needs_a_configuration_with_fixed_point(files, capsys):
    model, _ = files
    for command in ("run", "check", "estimate", "compile"):
        options = ["--device", "functional"] if command == "run" else []
        assert cli.main([command, str(model), "--config", "tiny", *options]) == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith(
            "rounds in fixed point as TFLite does: the configuration 'tiny' must have "
            "fixed_point = true (--config base,fixed_point=true), or the rule must be onnxruntime "
            "(--rule onnxruntime)")


def test_check_lists_operators(files, capsys):
    model, config = files
    assert cli.main(["check", str(model), "--config", str(config), "--json"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert nodes[0]["op"] == "DEPTHWISE_CONV_2D" and nodes[0]["engine"] == "vector"
    assert nodes[-1]["op"] == "SOFTMAX" and nodes[-1]["where"] == "host"
    assert nodes[-1]["reason"].startswith("SOFTMAX '")


@pytest.mark.parametrize("command", ["estimate", "compile"])
def test_other_commands_take_the_file(files, capsys, command):
    model, config = files
    assert cli.main([command, str(model), "--config", str(config)]) == 0
    assert "net.tflite" in capsys.readouterr().out


def test_rule_of_another_format_wrong(files, capsys):
    from weft.digits import MODEL

    assert cli.main(["check", str(MODEL), "--rule", "tflite"]) == 2
    assert capsys.readouterr().err == \
        "weft: error: Rule must be onnxruntime for ONNX models, not tflite\n"


def test_file_is_known_by_its_mark(files, tmp_path):
    model, _ = files
    other = tmp_path / "no_suffix"
    other.write_bytes(model.read_bytes())
    assert partition(other).name == "no_suffix"


def test_golden_values_without_litert(monkeypatch):
    import importlib.util

    content, values = network(3)
    plan = partition(content)
    inputs = {info.name: value for info, value in zip(plan.model.inputs, values, strict=True)}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    golden = plan.model.golden()
    assert golden.name == "Weft's kernels" and "pip install ai-edge-litert" in golden.caveats[0]
    expected = run_plan(plan, inputs)[0]
    for name, value in golden.run(inputs).items():
        np.testing.assert_array_equal(value, expected[name])
