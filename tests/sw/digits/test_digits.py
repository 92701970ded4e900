import hashlib
import importlib.util
import sys

import numpy as np
import onnx
import pytest

from weft.digits import MODEL, __main__, load, load_training, train
from weft.errors import ToolError
from weft.reference.golden import GoldenSession
from weft.runtime.session import InferenceSession


@pytest.fixture(scope="module")
def held_out():
    return load()


def test_held_out_images_are_pixels_of_0_to_16(held_out):
    images, labels = held_out
    assert images.shape == (450, 1, 8, 8) and images.dtype == np.float32
    assert images.min() == 0 and images.max() == 16
    assert labels.shape == (450,) and labels.dtype == np.int64


def test_split_keeps_a_quarter_of_each_digit(held_out):
    everything = np.bincount(load_training()[1]) + np.bincount(held_out[1])
    assert len(load_training()[1]) == 1347
    assert np.abs(np.bincount(held_out[1]) - everything / 4).max() <= 0.5


def test_training_and_held_out_images_are_different(held_out):
    training = {image.tobytes() for image in load_training()[0]}
    assert not any(image.tobytes() in training for image in held_out[0])


def test_split_is_the_one_the_model_was_trained_with(held_out):
    images, labels = held_out
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest[:16] == "b4532df8e5194f3c"


def test_model_is_small_and_int8():
    model = onnx.load(MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert MODEL.stat().st_size < 300_000
    assert model.ir_version <= 10 and model.opset_import[0].version == 17
    inputs, outputs = model.graph.input, model.graph.output
    assert [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim] == [1, 1, 8, 8]
    assert [dim.dim_value for dim in outputs[0].type.tensor_type.shape.dim] == [1, 10]
    weights = {item.name: item for item in model.graph.initializer if "weight_quant" in item.name}
    assert len(weights) == 4
    assert all(item.data_type == onnx.TensorProto.INT8 for item in weights.values())


def test_model_recognizes_the_held_out_digits(held_out):
    golden = GoldenSession(MODEL)
    images, labels = held_out
    logits = [golden.run({"input": image[None]})["logits"] for image in images]
    assert np.mean(np.concatenate(logits).argmax(axis=1) == labels) >= 0.97


def test_missing_scikit_learn_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ToolError, match=r"^The digit images come with scikit-learn, which is not "
                                        r"installed: run pip install 'weft-npu\[digits\]'$"):
        load()


# The program -------------------------------------------------------------------------------------

def test_program_reports_layers_accuracy_and_no_difference(capsys):
    assert __main__.main(["--device", "functional", "--frames", "12"]) == 0
    output = capsys.readouterr().out
    for layer in ("conv1", "conv2", "conv3", "fc"):
        assert layer in output
    assert "\n0 of 480 output bytes differ from onnxruntime\n" in output
    assert "of 12 held-out images)" in output


def test_program_fails_when_a_byte_differs(capsys, monkeypatch):
    run_frame = InferenceSession.run_frame

    def corrupted(self, feeds, *, tensors=False):
        result = run_frame(self, feeds, tensors=tensors)
        result.outputs[0].view(np.uint8)[0, 0] ^= 1
        return result

    monkeypatch.setattr(InferenceSession, "run_frame", corrupted)
    assert __main__.main(["--device", "functional", "--frames", "2"]) == 1
    assert "\n2 of 80 output bytes differ from onnxruntime\n" in capsys.readouterr().out


@pytest.mark.parametrize("frames", ["0", "451"])
def test_program_frames_wrong(capsys, frames):
    assert __main__.main(["--device", "functional", "--frames", frames]) == 2
    assert capsys.readouterr().err == \
        f"weft: error: Number of frames must be between 1 and 450, not {frames}\n"


# Training: all but PyTorch's part -----------------------------------------------------------------

def test_training_without_pytorch_names_the_cure(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert train.main([str(tmp_path / "model.onnx")]) == 2
    assert capsys.readouterr().err == ("weft: error: Training needs PyTorch, which is not "
                                       "installed: run pip install 'weft-npu[train]'\n")


def test_exported_network_computes_what_was_trained(held_out):
    parameters = random_parameters()
    model = train.to_onnx(parameters)
    image = held_out[0][:1]
    x = image
    for name, _inputs, _outputs, kernel, stride in train.LAYERS:
        x = np.maximum(convolve(x, parameters[f"{name}.weight"], kernel, stride)
                       + parameters[f"{name}.bias"][None, :, None, None], 0)
    expected = x.reshape(1, -1) @ parameters["fc.weight"].T + parameters["fc.bias"]
    got = GoldenSession(model).run({"input": image})["logits"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_quantized_network_has_the_form_of_the_committed_one(tmp_path):
    path = tmp_path / "model.onnx"
    train.quantize(train.to_onnx(random_parameters()), load_training()[0][:8], path)
    made, committed = onnx.load(path), onnx.load(MODEL)
    assert [(node.op_type, node.name) for node in made.graph.node] == \
        [(node.op_type, node.name) for node in committed.graph.node]
    assert {item.name: tuple(item.dims) for item in made.graph.initializer} == \
        {item.name: tuple(item.dims) for item in committed.graph.initializer}


def random_parameters():
    rng = np.random.default_rng(5)
    shapes = {name: (outputs, inputs, kernel, kernel)
              for name, inputs, outputs, kernel, _stride in train.LAYERS}
    shapes["fc"] = (10, 512)
    parameters = {}
    for name, shape in shapes.items():
        parameters[f"{name}.weight"] = rng.normal(0, 0.1, shape).astype(np.float32)
        parameters[f"{name}.bias"] = rng.normal(0, 1, shape[0]).astype(np.float32)
    return parameters


def convolve(x, weights, kernel, stride):
    pad = kernel // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], weights)
