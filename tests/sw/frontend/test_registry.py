"""A model format that is not ONNX, from its file to ``weft run`` and ``weft check``."""

import json
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from weft import cli, frontend
from weft.errors import InputError, ModelError
from weft.frontend import partition, registry
from weft.frontend.onnx import OnnxFrontEnd
from weft.ir import (
    Convolution,
    Edge,
    Graph,
    HostPart,
    Partition,
    Placement,
    Tensor,
    TensorInfo,
    Where,
)
from weft.reference.golden import GoldenSession
from weft.runtime.session import InferenceSession

SW = Path(frontend.__file__).parent.parent


def test_formats_are_known_to_front_ends_alone():
    for folder in ("ir", "compiler", "runtime"):
        for source in (SW / folder).rglob("*.py"):
            assert not re.search(r"^\s*(import|from) (onnx|onnxruntime)\b", source.read_text(),
                                 re.MULTILINE), source


class Quantizer:
    """Host part: real values of an image to int8 ones."""

    def __init__(self, scale, zero_point):
        self.scale, self.zero_point = scale, zero_point

    def load(self):
        return self

    def run(self, inputs):
        steps = np.rint(inputs["image"] / np.float32(self.scale)) + self.zero_point
        return {"image_q": np.clip(steps, -128, 127).astype(np.int8)}


class IntegerArithmetic:
    """Golden values, tap by tap in 64-bit integers."""

    name = "integer arithmetic"
    caveats = ("nobody has looked at this format for long",)
    wrong_by = 0

    def __init__(self, model):
        self.model = model

    def run(self, inputs):
        given, graph = self.model.content, self.model.graph
        layer, = graph.layers
        x = self.model.quantizer.run(inputs)["image_q"][0].astype(np.int64) - given["zero_point"]
        filters, _, height, width = layer.weights.shape
        out_h, out_w = x.shape[1] - height + 1, x.shape[2] - width + 1
        sums = np.zeros((filters, out_h, out_w), np.int64) + layer.bias[:, None, None]
        for n, c, v, u in np.ndindex(layer.weights.shape):
            sums[n] += int(layer.weights[n, c, v, u]) * x[c, v:v + out_h, u:u + out_w]
        real = sums.astype(np.float32) * layer.multiplier[:, None, None]
        result = np.clip(np.rint(real) + given["out_zero_point"], -128, 127).astype(np.int8)
        return {"result": result[None] + np.int8(self.wrong_by)}


class OneConvolution:
    """A file's content as a :class:`weft.ir.Model`."""

    tensors = frozenset({"result"})
    states: ClassVar[dict[str, str]] = {}

    def __init__(self, content):
        self.content = content
        weights = np.array(content["weights"], np.int8)
        filters, _, height, width = weights.shape
        channels, in_h, in_w = content["shape"]
        out = (filters, in_h - height + 1, in_w - width + 1)
        multiplier = np.float32(content["scale"] * content["weight_scale"] / content["out_scale"])
        self.inputs = (TensorInfo(name="image", shape=(1, channels, in_h, in_w),
                                  dtype=np.dtype(np.float32)),)
        self.outputs = (TensorInfo(name="result", shape=(1, *out), dtype=np.dtype(np.int8)),)
        self.quantizer = Quantizer(content["scale"], content["zero_point"])
        self.graph = Graph(
            name=content["name"],
            tensors={"image_q": Tensor(name="image_q", shape=(channels, in_h, in_w),
                                       scale=content["scale"], zero_point=content["zero_point"]),
                     "result": Tensor(name="result", shape=out, scale=content["out_scale"],
                                      zero_point=content["out_zero_point"])},
            layers=(Convolution(name="only", op="CONV", input="image_q", output="result",
                                weights=weights, bias=np.array(content["bias"], np.int32),
                                multiplier=np.full(filters, multiplier)),),
            inputs=(Edge(name="image_q", shape=(1, channels, in_h, in_w), tensor="image_q"),),
            outputs=(Edge(name="result", shape=(1, *out), tensor="result"),))

    def golden(self, tensors=()):
        assert set(tensors) <= self.tensors
        return IntegerArithmetic(self)


class JsonFrontEnd:
    """A front end for files of one convolution in JSON."""

    format = "one convolution"

    def reads(self, path, head):
        return path.suffix == ".conv" or head.startswith(b'{"one convolution"')

    def takes(self, model):
        return isinstance(model, dict) and "one convolution" in model

    def partition(self, model, misfits=None):
        content = model if isinstance(model, dict) else json.loads(Path(model).read_text())
        if content["one convolution"] != 1:
            raise ModelError("Version must be 1")
        whole = OneConvolution(content)
        return Partition(
            name=content["name"], model=whole,
            segments=(HostPart(program=whole.quantizer, inputs=("image",), outputs=("image_q",)),
                      whole.graph),
            placements=(Placement(name="quantizer", op="QUANTIZE", where=Where.HOST, segment=0,
                                  reason="QUANTIZE makes integers of real values"),
                        Placement(name="only", op="CONV", where=Where.ACCELERATOR, segment=1,
                                  layer="only")))


def content_of(version=1):
    rng = np.random.default_rng(5)
    return {"one convolution": version, "name": "edges", "shape": [3, 7, 9], "scale": 0.05,
            "zero_point": -7, "weights": rng.integers(-128, 128, (5, 3, 2, 3)).tolist(),
            "bias": rng.integers(-1000, 1000, 5).tolist(), "weight_scale": 0.01,
            "out_scale": 0.4, "out_zero_point": 11}


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file in the format, with the format registered."""
    monkeypatch.setattr(registry, "FRONT_ENDS", [*registry.FRONT_ENDS, JsonFrontEnd()])
    path = tmp_path / "edges.conv"
    path.write_text(json.dumps(content_of()))
    return path


def run(path, *options):
    return cli.main(["run", str(path), "--config", "tiny", "--device", "functional", "--random",
                     "3", "--verify", *options])


def test_run_verifies_with_the_values_of_the_format(path, capsys):
    assert run(path, "--output", str(path.with_suffix(".npz"))) == 0
    text = capsys.readouterr().out
    # Both the outputs and the layer that makes them.
    assert f"0 of {2 * 3 * 5 * 6 * 7} output bytes differ from integer arithmetic" in text
    assert "note: nobody has looked at this format for long" in text
    with np.load(path.with_suffix(".npz")) as archive:
        result = archive["output"]
    assert result.shape == (3, 5, 6, 7) and len(np.unique(result)) > 100


def test_run_names_what_gave_another_value(path, capsys, monkeypatch):
    monkeypatch.setattr(IntegerArithmetic, "wrong_by", 1)
    assert run(path) == 1
    assert re.search(r"first difference: frame 0, only: element \[0, 0, 0, 0\] of tensor 'result' "
                     r"is -?\d+, integer arithmetic gives -?\d+ ", capsys.readouterr().out)


def test_check_says_where_every_node_runs(path, capsys):
    assert cli.main(["check", str(path), "--config", "tiny", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["op"], row["where"], row["engine"]) for row in found["nodes"]] == [
        ("quantizer", "QUANTIZE", "host", ""), ("only", "CONV", "accelerator", "matrix")]
    assert found["macs"] == 5 * 3 * 2 * 3 * 6 * 7


def test_session_takes_a_model_in_memory(path):
    image = np.random.default_rng(6).uniform(-6, 6, (1, 3, 7, 9)).astype(np.float32)
    with InferenceSession(content_of(), config="tiny", device="functional") as session:
        got, = session.run(None, {"image": image})
    expected = partition(path).model.golden().run({"image": image})["result"]
    np.testing.assert_array_equal(got, expected)


def test_file_is_known_by_its_first_bytes_too(path):
    other = path.rename(path.with_name("edges"))
    assert partition(other).name == partition(str(other)).name == "edges"


def test_file_that_nobody_claims_is_taken_for_onnx(path):
    other = path.with_name("what.bin")
    other.write_bytes(b"\xff" * 100)
    assert isinstance(registry.find_front_end(other), OnnxFrontEnd)
    with pytest.raises(ModelError, match=r"^what.bin is not an ONNX file$"):
        partition(other)
    with pytest.raises(ModelError, match=r"^Model file '.*/none.bin' does not exist$"):
        partition(path.with_name("none.bin"))


def test_errors_of_a_format_reach_the_command_line(path, capsys):
    path.write_text(json.dumps(content_of(version=2)))
    assert cli.main(["check", str(path)]) == 2
    assert capsys.readouterr().err.endswith("weft: error: Version must be 1\n")


def test_model_of_no_format_wrong(path):
    with pytest.raises(InputError, match=r"^Model must be a path or a model in memory \(ONNX, "
                                         r"TFLite, one convolution\), not a list$"):
        partition([])


def test_graph_alone_is_compared_with_the_reference():
    graph = OneConvolution(content_of()).graph
    with InferenceSession(graph, config="tiny", device="functional") as session:
        golden = session.plan.model.golden(["image_q"])
        image = np.random.default_rng(7).integers(-128, 128, (1, 3, 7, 9)).astype(np.int8)
        values = golden.run({"image_q": image})
        np.testing.assert_array_equal(values["image_q"], image)
        np.testing.assert_array_equal(values["result"],
                                      session.run(None, {"image_q": image})[0])
    assert not isinstance(golden, GoldenSession) and golden.name == "the reference"
