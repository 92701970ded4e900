"""What is wrong with a file or an argument is named in one line, before anything is allocated."""

import re

import numpy as np
import onnx
import pytest
from models import QdqBuilder, conv_model
from onnx import TensorProto, helper
from places import REPRODUCERS

from weft import cli
from weft.compiler import batch
from weft.digits import MODEL
from weft.errors import CompileError, InputError, ModelError
from weft.errors.limits import HOST_BYTES, TENSOR_ELEMENTS
from weft.files.arrays import read_arrays, write_arrays
from weft.frontend import load_graph, partition
from weft.hw.isa.config import ConfigError
from weft.hw.isa.presets import load_config
from weft.runtime.runner import random_frames
from weft.runtime.session import InferenceSession


def model_of(change=None):
    model = conv_model(np.random.default_rng(0))
    if change is not None:
        change(model)
    return model


def constant(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def node(model, name):
    return next(node for node in model.graph.node if node.name == name)


def set_raw(name, raw):
    return lambda model: setattr(constant(model, name), "raw_data", raw)


def set_type(name, kind):
    return lambda model: setattr(constant(model, name), "data_type", kind)


def set_input_type(kind):
    def change(model):
        model.graph.input[0].type.tensor_type.elem_type = kind
    return change


def set_dims(name, *dims):
    return lambda model: constant(model, name).dims.__setitem__(slice(None), dims)


def set_input_shape(*sizes):
    def change(model):
        shape = model.graph.input[0].type.tensor_type.shape
        for dim, size in zip(shape.dim, sizes, strict=True):
            dim.dim_value = size
    return change


def add_attribute(name, key, value):
    return lambda model: node(model, name).attribute.append(helper.make_attribute(key, value))


def set_opset(version):
    def change(model):
        model.opset_import[0].version = version
    return change


_NEWEST = onnx.defs.onnx_opset_version()
_TYPES = "only integers, bool, float16, float and double are supported"


@pytest.mark.parametrize("change, message", [
    (set_raw("conv_w", bytes(109)),
     "Constant 'conv_w' must have 108 bytes of data, for int8 [4, 3, 3, 3], not 109"),
    (set_raw("conv_b", b""), "Constant 'conv_b' must have 16 bytes of data, for int32 [4], not 0"),
    (set_type("conv_bz", 99),
     "Constant 'conv_bz' must have an element type that ONNX knows, not type 99"),
    (set_type("conv_bz", -1),
     "Constant 'conv_bz' must have an element type that ONNX knows, not type -1"),
    (set_dims("conv_w", 4, 3, 3, -3),
     "Constant 'conv_w' must have sizes of at least 0, not [4, 3, 3, -3]"),
    (set_dims("conv_w", 1 << 20, 1 << 20),
     f"Constant 'conv_w' must have at most {HOST_BYTES:,} elements, not {1 << 40:,}"),
    (set_input_type(TensorProto.STRING), f"Input 'x' of network has string values; {_TYPES}"),
    (set_input_type(TensorProto.BFLOAT16), f"Input 'x' of network has bfloat16 values; {_TYPES}"),
    (set_input_type(99), f"Input 'x' of network has type 99 values; {_TYPES}"),
    (set_input_type(0), f"Input 'x' of network has undefined values; {_TYPES}"),
    (set_input_type(TensorProto.FLOAT16),
     "QuantizeLinear 'x_q' must read float values, as its scale is, not float16"),
    (set_input_type(TensorProto.DOUBLE),
     "QuantizeLinear 'x_q' must read float values, as its scale is, not double"),
    (set_opset(99), f"network must be of an opset from 1 to {_NEWEST}, the newest that onnx "
                    f"{onnx.__version__} knows, not 99"),
    (add_attribute("x_q", "output_dtype", [2, 3]),
     "QuantizeLinear 'x_q' must have an integer as output_dtype, not [2, 3]"),
    (set_input_shape(1, 3, 20000, 20000),
     f"Tensor 'x' must have at most {TENSOR_ELEMENTS:,} elements, not 1,200,000,000 "
     f"(1x3x20000x20000)"),
    (add_attribute("conv", "pads", [10 ** 6] * 4),
     f"Tensor 'conv' of Conv 'conv' must have at most {TENSOR_ELEMENTS:,} elements, not "
     f"{4 * 2000004 ** 2:,} (1x4x2000004x2000004)"),
    (lambda model: setattr(node(model, "conv_q"), "name", "a\nb\x1b[31m")
     or set_raw("conv_scale", np.float32(-1).tobytes())(model),
     "QuantizeLinear 'a\\nb\\x1b[31m' must have positive scales, not -1.0"),
])
def test_damaged_model_wrong(change, message):
    with pytest.raises(ModelError) as error:
        partition(model_of(change))
    assert "\n" not in str(error.value)
    assert str(error.value) == message


@pytest.mark.parametrize("old, new", [(b"x_scale", b"x_\xff\xfeale"),
                                      (b"QuantizeLinear", b"QuantizeLinea\xff")])
def test_names_that_are_no_text_wrong(old, new, tmp_path):
    raw = model_of().SerializeToString()
    assert old in raw
    (tmp_path / "m.onnx").write_bytes(raw.replace(old, new))
    with pytest.raises(ModelError, match=r"^m.onnx must have names in UTF-8, not b'"):
        partition(tmp_path / "m.onnx")


def test_enlargement_without_bounds_wrong():
    b = QdqBuilder(np.random.default_rng(0))
    x = b.input("x", (1, 4, 8, 8))
    roi = b.constant("roi", np.zeros(0, np.float32))
    scales = b.constant("scales", np.array([1, 1, 1 << 14, 1 << 14], np.float32))
    b.output(b.quantize(b.node("Resize", [x, roi, scales], name="up", mode="nearest")))
    with pytest.raises(ModelError, match=r"^Tensor 'up' of Resize 'up' must have at most "):
        partition(b.build())


def test_average_of_scales_far_apart_is_left_to_the_host():
    for scale in (1e-30, 1e30):
        b = QdqBuilder(np.random.default_rng(0))
        x = b.quantize(b.conv(b.input("x", (1, 4, 6, 6)), 4, 4), scale=scale)
        x = b.quantize(b.node("AveragePool", [x], name="mean", kernel_shape=[2, 2]), scale=0.1)
        b.output(b.quantize(b.conv(x, 4, 4)))
        reasons = [row.reason for row in partition(b.build()).placements if row.name == "mean"]
        assert "must be from 2^-32 to 256" in reasons[0]


@pytest.fixture
def fail(capsys):
    def call(*arguments):
        assert cli.main([str(argument) for argument in arguments]) == 2
        text = capsys.readouterr().err
        *_, last = text.splitlines()
        assert text.count("weft: error: ") == 1 and "mistake" not in last
        return last.removeprefix("weft: error: ")
    return call


def test_too_many_frames_and_a_negative_seed_wrong(fail):
    run = ("run", MODEL, "--device", "functional", "--random")
    assert re.fullmatch(r"Number of frames must be at most [\d,]+ for a model of this size, not "
                        r"1,000,000,000", fail(*run, 10 ** 9))
    assert fail(*run, 1, "--seed", -1) == "Seed must be at least 0, not -1"


def test_as_many_frames_as_there_is_memory_for(monkeypatch):
    with InferenceSession(MODEL, device="functional") as session:
        monkeypatch.setattr("weft.errors.limits.HOST_BYTES", 3 * (1024 + 8 * (64 + 10)))
        assert len(random_frames(session, 3)["input"]) == 3
        with pytest.raises(InputError, match=r"^Number of frames must be at most 3 "):
            random_frames(session, 4)


def test_too_large_a_batch_wrong(fail):
    assert re.fullmatch(r"Batch must be at most \d+ for a model of \d+ layers, not 100000000: a "
                        r"stream can have 65535 commands",
                        fail("estimate", MODEL, "--batch", 10 ** 8))
    graph = load_graph(MODEL)
    most = 65535 // len(graph.layers)
    assert batch(graph, 50).frames == 50
    with pytest.raises(InputError, match=rf"^Batch must be at most {most} "):
        batch(graph, most + 1)


def test_external_memory_without_bounds_wrong(monkeypatch):
    plan = partition(MODEL)
    monkeypatch.setattr("weft.errors.limits.HOST_BYTES", 4096)
    with pytest.raises(CompileError, match=r"^External memory of digits_int8.onnx must take at "
                                           r"most 4,096 bytes, not [\d,]+$"):
        InferenceSession(plan, device="functional")


@pytest.mark.parametrize("text, message", [
    ("preset = []", "Preset must be one of .*, not \\[\\]"),
    ("preset = {a = 1}", "Preset must be one of .*, not {'a': 1}"),
    ("preset = 'tiny'\nrows = 0x" + "f" * 5000,
     "Config file .* must have numbers of at most 64 bits; rows has 20000"),
    ("preset = 'tiny'\nrows = 1" + "0" * 5000, "Config file .* is not TOML: .*"),
    ("preset = 'tiny'\nrows = 9999999998", "Rows must be between 2 and 64, not 9999999998"),
    ("preset = 'tiny'\nrows = [4]", "Rows must be an integer, not \\[4\\]"),
    ("preset = 'tiny'\nname = '" + "a" * 65 + "'", "Name must have at most 64 characters, not 65"),
    ("a = " + "[" * 5000, "Config file .* is not TOML: .*"),
    ("#" * 70000, "Config file .* must have at most 65536 characters"),
])
def test_odd_configuration_wrong(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=f"^{message}$"):
        load_config(str(tmp_path / "c.toml"))


@pytest.mark.parametrize("source, message", [
    ("tiny,row=4", "Config tiny,row=4 has an unknown field 'row'; the fields are accumulator_pixels"
                   ", .*"),
    ("tiny,preset='base'", "Config .* has an unknown field 'preset'; the fields are .*"),
    ("tiny,rows", "Config tiny,rows must have field=value behind each comma, not 'rows'"),
    ("tiny,", "Config tiny, must have field=value behind each comma, not ''"),
    ("tiny,rows=" + "[" * 5000, "Config .* must have field=value behind each comma, not .*"),
    ("tiny,rows=[4", "Config tiny,rows=\\[4 must have field=value behind each comma, not .*"),
    ("tiny,rows='4'", "Rows must be an integer, not '4'"),
    ("nano,rows=4", "Config must be one of tiny, small, wide, base or a .toml file, not 'nano'"),
])
def test_changes_of_a_configuration_wrong(source, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        load_config(source)


def test_changes_of_a_configuration(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("preset = 'tiny'\nvector_taps = 2")
    assert load_config("tiny,fixed_point=true,vector_taps=5") == load_config("tiny").replace(
        name="custom", fixed_point=True, vector_taps=5)
    assert load_config(f"{path},name='other',fixed_point = true") == load_config("tiny").replace(
        name="other", fixed_point=True, vector_taps=2)


def test_arrays_come_back_under_any_name(tmp_path):
    arrays = {"file": np.arange(6).reshape(2, 3), "allow_pickle": np.ones(1, np.float32),
              "a/b c": np.zeros((0, 2), np.int8)}
    write_arrays(tmp_path / "x.npz", arrays)
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_arrays_without_bounds_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr("weft.errors.limits.HOST_BYTES", 1000)
    write_arrays(tmp_path / "x.npz", {"x": np.zeros(2000, np.int8)})
    with pytest.raises(InputError, match=r"x.npz must take at most 1,000 bytes, not 2,128$"):
        read_arrays(tmp_path / "x.npz")


def test_outputs_of_a_run_are_checked_first(fail, tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(MODEL.read_bytes())
    (tmp_path / "link").symlink_to(model)
    before = model.read_bytes()
    for option in ("--json", "--output"):
        assert "must be a file of its own, not that of the model" in fail(
            "run", model, "--device", "functional", option, tmp_path / "link")
    assert "not that of --output" in fail("run", model, "--device", "functional", "--json",
                                          tmp_path / "x", "--output", tmp_path / "x")
    assert "not that of the model" in fail("report", model, "-o", model)
    assert model.read_bytes() == before


@pytest.mark.skipif(not REPRODUCERS.is_dir(), reason="the reproducers are not here")
@pytest.mark.parametrize("path", sorted(REPRODUCERS.glob("[!r]*.onnx")), ids=lambda path: path.stem)
def test_reproducer_gives_a_result_or_a_line(path, capsys):
    for command in (("check",), ("compile", "--dump")):
        code = cli.main([command[0], str(path), *command[1:]])
        captured = capsys.readouterr()
        assert code in (0, 2) and captured.err.count("\n") == (code == 2)
        assert not re.search("[\x00-\x09\x0b-\x1f]", captured.out) and "mistake" not in captured.err
