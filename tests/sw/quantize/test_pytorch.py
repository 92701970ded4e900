"""From a module of PyTorch to a session; runs where PyTorch is installed (`make torch-test`)."""

import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from models import assert_plan_is_golden

import weft
from weft.errors import InputError, ModelError
from weft.frontend import partition
from weft.ir import Where
from weft.quantize import random_frames, to_int8
from weft.quantize.loss import layer_losses
from weft.quantize.source import load_float
from weft.reference.golden import cpu_is_exact

torch = pytest.importorskip("torch", reason="needs PyTorch: make torch-test")

from torch import nn  # noqa: E402
from torch_models import MODELS, fill  # noqa: E402

from weft.quantize.pytorch import export_module  # noqa: E402

exact_cpu = pytest.mark.skipif(not cpu_is_exact(), reason=cpu_is_exact().reason or "exact")
TINY = {"config": "tiny", "device": "functional"}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(8 * 9, 10)

    def forward(self, picture):
        x = torch.max_pool2d(torch.relu(self.norm(self.conv(picture))), 2)
        return self.fc(self.drop(x.flatten(1)))


def pictures(count=8, seed=0):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def wrong(kind, message, module, *arguments, **options):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        weft.from_torch(module, *arguments, **options)


@pytest.mark.parametrize("calibration", [
    pictures(), pictures().numpy(), [(pictures(4), torch.zeros(4)), (pictures(4), torch.zeros(4))],
    {"picture": pictures()}], ids=["tensor", "array", "batches", "mapping"])
def test_module_becomes_a_session_of_onnxruntime_s_interface(calibration, tmp_path):
    module = fill(Classifier()).train()
    path = tmp_path / "int8.onnx"
    with weft.from_torch(module, pictures(2), calibration, output=path, **TINY) as session:
        assert [info.name for info in session.get_inputs()] == ["picture"]
        assert [info.name for info in session.get_outputs()] == ["output"]
        found, = session.run(None, {"picture": pictures(3).numpy()})
        golden = session.plan.model.golden()
        for image, row in zip(pictures(3).numpy(), found):
            np.testing.assert_array_equal(golden.run({"picture": image[None]})["output"][0], row)
    assert module.training and module.norm.training and module.drop.training
    module.eval()
    with torch.no_grad():
        np.testing.assert_allclose(found, module(pictures(3)), atol=0.05 * np.abs(found).max())
    assert onnx.load(path) == session.plan.model.proto or path.stat().st_size > 1000
    with weft.InferenceSession(path, **TINY) as kept:
        np.testing.assert_array_equal(kept.run(None, {"picture": pictures(3).numpy()})[0], found)


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 6), nn.Linear(8, 6)

        def forward(self, left, right):
            a, b = torch.relu(self.a(left)), torch.relu(self.b(right))
            return {"sum": a + b, "rest": [a, None]}

    x = torch.randn(5, 8)
    with weft.from_torch(fill(Two()), (x, x), [(x, x)], **TINY) as session:
        assert [info.name for info in session.get_inputs()] == ["left", "right"]
        assert [info.name for info in session.get_outputs()] == ["output0", "output1"]
        outputs = session.run(None, {"left": x.numpy(), "right": x.numpy()})
        assert [each.shape for each in outputs] == [(5, 6)] * 2


def test_export_is_silent(capfd):
    class Unknown(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    export_module(fill(Classifier()), pictures())
    wrong(ModelError, "Unknown cannot be exported to ONNX: Exporting the operator "
                      "'aten::special_bessel_j0' to ONNX opset version 17 is not supported",
          Unknown(), torch.zeros(1, 3), "random:2")
    print("printed")
    assert capfd.readouterr() == ("printed\n", "")


def test_module_that_looks_at_values_wrong():
    class Sign(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else -self.fc(x)

    wrong(ModelError, "Sign gives another 'output' once it is exported: its forward() must not "
                      "depend on values, or on chance", fill(Sign()), torch.ones(1, 4),
          -torch.ones(2, 4))


def test_bad_arguments_wrong(tmp_path):
    module = fill(Classifier())
    wrong(ModelError, "Classifier cannot be exported to ONNX: Expected 3D (unbatched) or 4D "
                      "(batched) input to conv2d, but got input of size: [1, 3]",
          module, torch.zeros(1, 3), "random:2")
    wrong(InputError, "Example inputs of Classifier must be tensors, not int", module, 1)
    wrong(InputError, "Module must be a torch.nn.Module, not type", Classifier, pictures())
    wrong(InputError, "Classifier is a float network, and must be given data to calibrate on",
          module, pictures())
    wrong(InputError, "Array 'picture' of calibration item 1 must have shape [frames, 1, 8, 8], "
                      "not [8, 1, 8, 7]", module, pictures(), [pictures()[:, :, :, 1:]])
    wrong(InputError, "Calibration must have at least 1 frame, not 0", module, pictures(), [])
    wrong(InputError, f"Output {tmp_path} cannot be written: it is a folder", module, pictures(),
          pictures(), output=tmp_path)
    spoilt = fill(Classifier())
    with torch.no_grad():
        spoilt.conv.weight[0, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match=r"^Conv '/conv/Conv' of Classifier must have finite "
                                         r"weights: 1 of 72 values of '.*' are not, such as nan$"):
        weft.from_torch(spoilt, pictures(), "random:2", **TINY)


# Quantization-aware training ----------------------------------------------------------------------

class FakeQuantized(nn.Module):
    """A layer as such training leaves it: weights and results go through their quantization."""

    def __init__(self, layer, scale):
        super().__init__()
        self.layer = layer
        self.register_buffer("weight_scale", layer.weight.detach().flatten(1).abs().amax(1) / 127)
        self.register_buffer("weight_zero", torch.zeros(len(layer.weight), dtype=torch.int32))
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("zero", torch.tensor(0, dtype=torch.int32))

    def forward(self, x):
        weight = torch.fake_quantize_per_channel_affine(
            self.layer.weight, self.weight_scale, self.weight_zero, 0, -128, 127)
        layer = self.layer
        if isinstance(layer, nn.Linear):
            x = nn.functional.linear(x, weight, layer.bias)
        else:
            x = nn.functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding)
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, -128, 127)


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = FakeQuantized(nn.Conv2d(1, 8, 3, padding=1), 0.03)
        self.second = FakeQuantized(nn.Conv2d(8, 16, 3, 2, 1), 0.05)

    def forward(self, x):
        x = torch.fake_quantize_per_tensor_affine(x, 0.03, 0, -128, 127)
        return self.second(self.first(x))


@exact_cpu
def test_quantization_aware_module_keeps_its_quantization():
    module = Trained()
    fill(module)
    with weft.from_torch(module, pictures(1), **TINY) as session:
        operators = [place.op for place in session.plan.placements
                     if place.where is Where.ACCELERATOR]
        assert operators.count("Conv") == 2
        found, = session.run(None, {"x": pictures(4).numpy()})
        golden = session.plan.model.golden()
        for image, row in zip(pictures(4).numpy(), found):
            np.testing.assert_array_equal(golden.run({"x": image[None]})["output"][0], row)
    with torch.no_grad():
        differing = np.abs(found - module(pictures(4)).numpy()) > 1e-5
    assert differing.mean() < 0.01


# Well-known networks ------------------------------------------------------------------------------

ON_HOST = {
    "vgg": ["AveragePool"],             # windows of 2 x 2 whose float32 sums have ties
    "densenet": ["AveragePool"],
}
VIEWS = ("DequantizeLinear", "Flatten", "QuantizeLinear", "Reshape", "Unsqueeze")


@exact_cpu
@pytest.mark.parametrize("name", MODELS)
def test_well_known_network_is_onnxruntime_and_accelerated(name):
    make, shape = MODELS[name]
    source = load_float(export_module(fill(make()), torch.zeros(shape)))
    frames = random_frames(source.shapes, 4)
    model = to_int8(source, frames)
    plan = partition(model)
    assert sorted(place.op for place in plan.placements if place.where is Where.HOST
                  and place.op not in VIEWS) == ON_HOST.get(name, [])
    assert assert_plan_is_golden(plan, dict(frames[0]), exact=False) > 70
    losses = layer_losses(source.model, model, frames[:1])
    assert min(layer.snr for layer in losses) > 20 and losses[-1].snr > 25


def test_weft_does_not_import_torch_by_itself():
    code = ("import sys, weft, weft.quantize, weft.cli; weft.from_torch; "
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
