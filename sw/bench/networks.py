"""Float networks of well-known shapes with random weights, to be quantized for benchmarks and
tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["NETWORKS", "Builder", "FloatBuilder", "conv1x1", "conv3x3", "resnet18"]


Builder = Callable[[np.random.Generator], onnx.ModelProto]
"""Makes a float network; the generator chooses the weights."""


class FloatBuilder:
    """Builds a float network node by node. Methods take and return tensor names; shapes are kept.

    Weights are such that values neither grow nor die on the way.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], opset: int = 17):
        self._rng = rng
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._initial: dict[str, np.ndarray] = {}
        self._shapes: dict[str, tuple[int, ...]] = {"x": shape}
        self.input = "x"

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...] | None = None,
             **attributes: Any) -> str:
        """Adds a node; its output has the shape of its first input, if none is given."""
        name = f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [f"{name}_y"], name=name, **attributes))
        self._shapes[f"{name}_y"] = shape or self._shapes[inputs[0]]
        return f"{name}_y"

    def channels(self, x: str) -> int:
        """Of a tensor."""
        return self._shapes[x][1]

    def halves(self, x: str) -> tuple[str, str]:
        """Adds a Split of the channels into two halves."""
        _, channels, *size = self._shapes[x]
        first = self.node("Split", [x], (1, channels // 2, *size), axis=1)
        second = first.replace("_y", "_z")
        self._nodes[-1].output.append(second)
        self._shapes[second] = self._shapes[first]
        return first, second

    def shuffle(self, x: str, groups: int) -> str:
        """Adds Reshape, Transpose and Reshape: each group's first channel, each one's second."""
        _, channels, *size = shape = self._shapes[x]
        parts = np.array([1, groups, channels // groups, *size])
        x = self.node("Reshape", [x, self.constant(parts)], tuple(parts))
        x = self.node("Transpose", [x], tuple(parts[[0, 2, 1, 3, 4]]), perm=[0, 2, 1, 3, 4])
        return self.node("Reshape", [x, self.constant(np.array(shape))], shape)

    def constant(self, value: np.ndarray | np.float32) -> str:
        """Adds an initializer."""
        name = f"c{len(self._initial)}"
        self._initial[name] = np.asarray(value)
        return name

    def _weights(self, shape: tuple[int, ...], fan_in: int) -> str:
        return self.constant((self._rng.standard_normal(shape) * np.sqrt(2 / fan_in))
                             .astype(np.float32))

    def conv(self, x: str, filters: int, kernel: int = 1, *, stride: int = 1, group: int = 1,
             act: str | None = "Relu", pads: list[int] | None = None) -> str:
        """Adds a Conv with "same" padding, a bias, and Relu, Clip to 6, or nothing."""
        _, channels, height, width = self._shapes[x]
        pads = [kernel // 2] * 4 if pads is None else pads
        size = tuple((length + pads[axis] + pads[axis + 2] - kernel) // stride + 1
                     for axis, length in enumerate((height, width)))
        taps = channels // group * kernel * kernel
        bias = self.constant((0.1 * self._rng.standard_normal(filters)).astype(np.float32))
        y = self.node("Conv", [x, self._weights((filters, channels // group, kernel, kernel), taps),
                               bias], (1, filters, *size), group=group, pads=pads,
                      strides=[stride, stride], kernel_shape=[kernel, kernel])
        return self.activate(y, act)

    def activate(self, x: str, act: str | None) -> str:
        """Adds an activation: an operator, Clip to 6, ``SiLU`` as Sigmoid and Mul, or nothing."""
        match act:
            case None:
                return x
            case "Clip":
                return self.node("Clip", [x, self.constant(np.float32(0)),
                                          self.constant(np.float32(6))])
            case "SiLU":
                return self.node("Mul", [x, self.node("Sigmoid", [x])])
            case "HardSigmoid":  # as PyTorch has it; ONNX's own is flatter
                return self.node(act, [x], alpha=1 / 6, beta=0.5)
            case _:
                return self.node(act, [x])

    def pool(self, x: str, op: str, kernel: int, stride: int, pad: int = 0,
             **attributes: Any) -> str:
        """Adds a MaxPool or AveragePool."""
        _, channels, height, width = self._shapes[x]
        size = tuple((length + 2 * pad - kernel) // stride + 1 for length in (height, width))
        return self.node(op, [x], (1, channels, *size), kernel_shape=[kernel, kernel],
                         strides=[stride, stride], pads=[pad] * 4, **attributes)

    def add(self, a: str, b: str, act: str | None = None) -> str:
        """Adds an Add, and an activation."""
        return self.activate(self.node("Add", [a, b]), act)

    def concat(self, *inputs: str) -> str:
        """Adds a Concat along the channels."""
        shapes = [self._shapes[name] for name in inputs]
        return self.node("Concat", list(inputs),
                         (1, sum(shape[1] for shape in shapes), *shapes[0][2:]), axis=1)

    def enlarge(self, x: str, factor: int = 2) -> str:
        """Adds a nearest-neighbour Resize."""
        _, channels, height, width = self._shapes[x]
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        return self.node("Resize", [x, "", scales],
                         (1, channels, height * factor, width * factor), mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def flat(self, x: str) -> str:
        """Adds a Flatten."""
        return self.node("Flatten", [x], (1, int(np.prod(self._shapes[x][1:]))))

    def dense(self, x: str, filters: int, act: str | None = None) -> str:
        """Adds a Gemm, and an activation."""
        features = self._shapes[x][1]
        bias = self.constant((0.1 * self._rng.standard_normal(filters)).astype(np.float32))
        y = self.node("Gemm", [x, self._weights((filters, features), features), bias],
                      (1, filters), transB=1)
        return self.activate(y, act)

    def mean(self, x: str) -> str:
        """Adds a GlobalAveragePool."""
        return self.node("GlobalAveragePool", [x], (1, self._shapes[x][1], 1, 1))

    def classify(self, x: str, classes: int) -> str:
        """Adds a GlobalAveragePool, a Gemm and a Softmax."""
        return self.node("Softmax", [self.dense(self.flat(self.mean(x)), classes)])

    def build(self, *outputs: str) -> onnx.ModelProto:
        """The model."""
        graph = helper.make_graph(
            self._nodes, "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self._shapes["x"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shapes[name])
             for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self._initial.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)],
                                 ir_version=8)


def mobilenet_v1(rng: np.random.Generator) -> onnx.ModelProto:
    """MobileNetV1-0.25 for 96x96 images."""
    b = FloatBuilder(rng, (1, 3, 96, 96))
    x = b.conv(b.input, 8, 3, stride=2)
    channels = 8
    for filters, stride in [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2),
                            *[(128, 1)] * 5, (256, 2), (256, 1)]:
        # Padded after the input alone where the stride is 2, as TensorFlow does.
        x = b.conv(x, channels, 3, stride=stride, group=channels,
                   pads=[0, 0, 1, 1] if stride == 2 else None)
        x = b.conv(x, filters)
        channels = filters
    return b.build(b.classify(x, 2))


def mobilenet_v2_block(rng: np.random.Generator) -> onnx.ModelProto:
    """Two inverted residual blocks of MobileNetV2, the second one with its shortcut."""
    b = FloatBuilder(rng, (1, 3, 32, 32))
    x = b.conv(b.input, 16, 3, stride=2, act="Clip")
    x = b.conv(b.conv(b.conv(x, 96, act="Clip"), 96, 3, stride=2, group=96, act="Clip"), 24,
               act=None)
    y = b.conv(b.conv(b.conv(x, 144, act="Clip"), 144, 3, group=144, act="Clip"), 24, act=None)
    return b.build(b.classify(b.add(x, y), 10))


def squeezenet_fire(rng: np.random.Generator) -> onnx.ModelProto:
    """The stem and two fire modules of SqueezeNet."""
    b = FloatBuilder(rng, (1, 3, 47, 47))
    x = b.pool(b.conv(b.input, 32, 3, stride=2, pads=[0, 0, 0, 0]), "MaxPool", 3, 2)
    for squeeze, expand in ((8, 32), (12, 40)):
        x = b.conv(x, squeeze)
        x = b.concat(b.conv(x, expand), b.conv(x, expand, 3))
    return b.build(b.node("GlobalAveragePool", [b.conv(x, 10)], (1, 10, 1, 1)))


def autoencoder(rng: np.random.Generator) -> onnx.ModelProto:
    """The fully connected autoencoder of anomaly detection of MLPerf Tiny."""
    b = FloatBuilder(rng, (1, 640))
    x = b.input
    for size in (*[128] * 4, 8, *[128] * 4):
        x = b.dense(x, size, "Relu")
    return b.build(b.dense(x, 640))


def resnet18_stages(rng: np.random.Generator) -> onnx.ModelProto:
    """The stem and the first two stages of ResNet-18, for 64x64 images."""
    b = FloatBuilder(rng, (1, 3, 64, 64))
    x = b.pool(b.conv(b.input, 64, 7, stride=2), "MaxPool", 3, 2, 1)
    for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1)):
        y = b.conv(b.conv(x, filters, 3, stride=stride), filters, 3, act=None)
        if stride == 2:
            x = b.conv(x, filters, stride=2, act=None)
        x = b.add(x, y, "Relu")
    return b.build(b.classify(x, 10))


def unet(rng: np.random.Generator) -> onnx.ModelProto:
    """A small U-Net: down, up by Resize, Concat with the way down."""
    b = FloatBuilder(rng, (1, 3, 32, 32))
    first = b.conv(b.conv(b.input, 12, 3), 12, 3)
    second = b.conv(b.pool(first, "MaxPool", 2, 2), 24, 3)
    x = b.conv(b.pool(second, "AveragePool", 2, 2), 32, 3, act="LeakyRelu")
    x = b.conv(b.concat(b.enlarge(x), second), 24, 3)
    x = b.conv(b.concat(b.enlarge(x), first), 12, 3, act="HardSwish")
    return b.build(b.node("Sigmoid", [b.conv(x, 2, act=None)]))


def resnet18(rng: np.random.Generator) -> onnx.ModelProto:
    """ResNet-18 for 224x224 images."""
    b = FloatBuilder(rng, (1, 3, 224, 224))
    x = b.pool(b.conv(b.input, 64, 7, stride=2), "MaxPool", 3, 2, 1)
    for stage in range(4):
        for block in range(2):
            width, stride = 64 << stage, 2 if block == 0 and stage else 1
            y = b.conv(b.conv(x, width, 3, stride=stride), width, 3, act=None)
            if stride == 2:
                x = b.conv(x, width, stride=stride, act=None)
            x = b.add(x, y, "Relu")
    return b.build(b.classify(x, 1000))


def resnet50(rng: np.random.Generator) -> onnx.ModelProto:
    """ResNet-50 for 224x224 images."""
    b = FloatBuilder(rng, (1, 3, 224, 224))
    x = b.pool(b.conv(b.input, 64, 7, stride=2), "MaxPool", 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            width, stride = 64 << stage, 2 if block == 0 and stage else 1
            y = b.conv(b.conv(b.conv(x, width), width, 3, stride=stride), 4 * width, act=None)
            if block == 0:
                x = b.conv(x, 4 * width, stride=stride, act=None)
            x = b.add(x, y, "Relu")
    return b.build(b.classify(x, 1000))


def conv3x3(rng: np.random.Generator) -> onnx.ModelProto:
    """One 3x3 convolution, 64 to 64 channels, 32x32 pixels."""
    b = FloatBuilder(rng, (1, 64, 32, 32))
    return b.build(b.conv(b.input, 64, 3))


def conv1x1(rng: np.random.Generator) -> onnx.ModelProto:
    """One 1x1 convolution, 128 to 128 channels, 28x28 pixels."""
    b = FloatBuilder(rng, (1, 128, 28, 28))
    return b.build(b.conv(b.input, 128))


NETWORKS: dict[str, Builder] = {builder.__name__: builder for builder in (
    mobilenet_v1, mobilenet_v2_block, squeezenet_fire, autoencoder, resnet18_stages, unet,
    resnet50)}
"""By name, those whose every layer the tests compare with onnxruntime's."""
