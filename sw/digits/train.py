"""Trains the digits network, quantizes it to int8 and writes the model file.

Needs the ``train`` and ``digits`` extras; takes less than a minute on one core::

    python -m weft.digits.train [MODEL.onnx]

The steps: a float network in PyTorch, batch normalization folded into the convolutions, float
ONNX, then static quantization by onnxruntime with the training images as calibration data.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from weft.errors import ToolError
from weft.errors.distribution import install_command
from weft.errors.guard import guarded
from weft.files.output import check_writable, replacing
from weft.quantize.static import quantize_frames

from . import MODEL, load, load_training

__all__ = ["LAYERS", "Parameters", "main", "quantize", "to_onnx"]


LAYERS = (
    # name, input channels, output channels, kernel, stride
    ("conv1", 1, 32, 3, 1),
    ("conv2", 32, 64, 3, 2),
    ("conv3", 64, 32, 1, 1),
)
"""The convolutions, each followed by a Relu; a fully connected layer of 512 to 10 ends it."""

Parameters = dict[str, np.ndarray]
"""Folded float32 weights and biases by name: ``conv1.weight``, ``conv1.bias``, ``fc.weight``..."""

_SEED = 7
_EPOCHS = 60
_BATCH = 64
_OPSET = 17
_IR_VERSION = 8  # opset 17 came with it; onnxruntime 1.20 reads up to 10


def _train(images: np.ndarray, labels: np.ndarray) -> Parameters:
    import torch
    from torch import nn

    torch.manual_seed(_SEED)
    torch.use_deterministic_algorithms(True)
    modules: list[nn.Module] = []
    for _name, inputs, outputs, kernel, stride in LAYERS:
        modules += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                    nn.BatchNorm2d(outputs), nn.ReLU()]
    network = nn.Sequential(*modules, nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 4 * 4, 10))

    # Rotations and shifts of up to a pixel keep so large a network from overfitting 1347 images.
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = _EPOCHS * (-(-len(x) // _BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(_EPOCHS):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(x)).split(_BATCH):
            optimizer.zero_grad()
            loss = criterion(network(_augment(x[batch])), y[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3} of {_EPOCHS}: training loss {total / len(x):.4f}")

    network.eval()
    parameters: Parameters = {}
    with torch.no_grad():
        for index, (name, *_) in enumerate(LAYERS):
            convolution, norm = network[3 * index], network[3 * index + 1]
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weight = convolution.weight * scale[:, None, None, None]
            bias = norm.bias - norm.running_mean * scale
            parameters[f"{name}.weight"], parameters[f"{name}.bias"] = weight.numpy(), bias.numpy()
        parameters["fc.weight"] = network[-1].weight.numpy()
        parameters["fc.bias"] = network[-1].bias.numpy()
    return parameters


def _augment(images: Any) -> Any:
    import torch
    from torch.nn import functional

    count = len(images)
    angle = (torch.rand(count) - 0.5) * 0.35
    scale = 1 + (torch.rand(count) - 0.5) * 0.2
    shift = (torch.rand(count, 2) - 0.5) * 0.45  # the image spans -1..1
    matrix = torch.stack([
        torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1),
    ], 1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def to_onnx(parameters: Parameters) -> onnx.ModelProto:
    """The float network as ONNX, batch dimension 1."""
    nodes, tensor = [], "input"
    for name, _inputs, _outputs, kernel, stride in LAYERS:
        nodes.append(helper.make_node(
            "Conv", [tensor, f"{name}.weight", f"{name}.bias"], [f"{name}.sum"], name=name,
            kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4))
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [f"{name}.out"],
                                      name=f"{name}.relu"))
        tensor = f"{name}.out"
    nodes.append(helper.make_node("Flatten", [tensor], ["features"], name="flatten", axis=1))
    nodes.append(helper.make_node("Gemm", ["features", "fc.weight", "fc.bias"], ["logits"],
                                  name="fc", transB=1))
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(value, name) for name, value in parameters.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)],
                              ir_version=_IR_VERSION, producer_name="weft.digits.train")
    onnx.checker.check_model(model, full_check=True)
    return model


def quantize(model: onnx.ModelProto, images: np.ndarray, path: Path) -> None:
    """Writes the int8 network to ``path``, calibrated on ``images``."""
    result = quantize_frames(model, [{"input": image[None]} for image in images])
    with replacing(path) as temporary:
        onnx.save(result, temporary)


def _accuracy(model: bytes, images: np.ndarray, labels: np.ndarray) -> float:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"input": frame[None]})[0] for frame in images])
    return float(np.mean(logits.argmax(axis=1) == labels))


def main(arguments: list[str] | None = None) -> int:
    """Trains, quantizes and reports accuracy on the held-out images; returns the exit code."""
    return guarded(_main, arguments)


def _main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m weft.digits.train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=MODEL, metavar="MODEL.onnx",
                        help="file to write (default: the one in the package)")
    path: Path = parser.parse_args(arguments).model
    if importlib.util.find_spec("torch") is None:
        raise ToolError(f"Training needs PyTorch, which is not installed: run "
                        f"{install_command('train')}")
    check_writable(path)
    training, held_out = load_training(), load()
    float_model = to_onnx(_train(*training))
    float_accuracy = _accuracy(float_model.SerializeToString(), *held_out)
    quantize(float_model, training[0], path)
    print(f"held-out accuracy: float {float_accuracy:.2%}, "
          f"int8 {_accuracy(path.read_bytes(), *held_out):.2%}")
    print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
