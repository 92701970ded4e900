"""Networks for small devices, with random weights: structure as in their papers and in torchvision,
BatchNorm folded into biases."""

import numpy as np
import onnx

from .networks import Builder, FloatBuilder

__all__ = ["MOBILE", "efficientnet_b0", "mnasnet_05", "mobilenet_v2", "mobilenet_v3_small",
           "shufflenet_v2_05", "yolov8n"]


_IMAGE = (1, 3, 224, 224)


def _squeeze_excite(b: FloatBuilder, x: str, squeezed: int, act: str, gate: str) -> str:
    """A factor for each channel, out of the means of all channels (Hu et al., 2018)."""
    channels = b.channels(x)
    y = b.conv(b.conv(b.mean(x), squeezed, act=act), channels, act=gate)
    return b.node("Mul", [x, y])


def _inverted_residual(b: FloatBuilder, x: str, hidden: int, filters: int, kernel: int,
                       stride: int, act: str, *, squeezed: int = 0, squeeze_act: str = "Relu",
                       gate: str = "HardSigmoid") -> str:
    """Expand, filter depthwise, weigh the channels, project; a shortcut where shapes allow it
    (Sandler et al., 2018)."""
    channels = b.channels(x)
    y = x if hidden == channels else b.conv(x, hidden, act=act)
    y = b.conv(y, hidden, kernel, stride=stride, group=hidden, act=act)
    if squeezed:
        y = _squeeze_excite(b, y, squeezed, squeeze_act, gate)
    y = b.conv(y, filters, act=None)
    return b.add(x, y) if stride == 1 and channels == filters else y


def mobilenet_v2(rng: np.random.Generator) -> onnx.ModelProto:
    """MobileNetV2 for 224x224 images (Sandler et al., 2018, table 2)."""
    b = FloatBuilder(rng, _IMAGE)
    x = b.conv(b.input, 32, 3, stride=2, act="Clip")
    for factor, filters, blocks, first in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1)):
        for block in range(blocks):
            x = _inverted_residual(b, x, factor * b.channels(x), filters, 3,
                                   first if block == 0 else 1, "Clip")
    return b.build(b.classify(b.conv(x, 1280, act="Clip"), 1000))


def mobilenet_v3_small(rng: np.random.Generator) -> onnx.ModelProto:
    """MobileNetV3-small for 224x224 images (Howard et al., 2019, table 2)."""
    b = FloatBuilder(rng, _IMAGE)
    x = b.conv(b.input, 16, 3, stride=2, act="HardSwish")
    for kernel, hidden, filters, squeezed, act, stride in (
            (3, 16, 16, 8, "Relu", 2), (3, 72, 24, 0, "Relu", 2), (3, 88, 24, 0, "Relu", 1),
            (5, 96, 40, 24, "HardSwish", 2), (5, 240, 40, 64, "HardSwish", 1),
            (5, 240, 40, 64, "HardSwish", 1), (5, 120, 48, 32, "HardSwish", 1),
            (5, 144, 48, 40, "HardSwish", 1), (5, 288, 96, 72, "HardSwish", 2),
            (5, 576, 96, 144, "HardSwish", 1), (5, 576, 96, 144, "HardSwish", 1)):
        x = _inverted_residual(b, x, hidden, filters, kernel, stride, act, squeezed=squeezed)
    x = b.flat(b.mean(b.conv(x, 576, act="HardSwish")))
    return b.build(b.node("Softmax", [b.dense(b.dense(x, 1024, "HardSwish"), 1000)]))


def efficientnet_b0(rng: np.random.Generator) -> onnx.ModelProto:
    """EfficientNet-B0 for 224x224 images (Tan and Le, 2019, table 1)."""
    b = FloatBuilder(rng, _IMAGE)
    x = b.conv(b.input, 32, 3, stride=2, act="SiLU")
    for factor, kernel, first, filters, blocks in (
            (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
            (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)):
        for block in range(blocks):
            channels = b.channels(x)
            x = _inverted_residual(b, x, factor * channels, filters, kernel,
                                   first if block == 0 else 1, "SiLU", squeezed=channels // 4,
                                   squeeze_act="SiLU", gate="Sigmoid")
    return b.build(b.classify(b.conv(x, 1280, act="SiLU"), 1000))


def mnasnet_05(rng: np.random.Generator) -> onnx.ModelProto:
    """MNASNet-B1 of half the channels for 224x224 images (Tan et al., 2019), as in torchvision."""
    b = FloatBuilder(rng, _IMAGE)
    x = b.conv(b.input, 16, 3, stride=2)
    x = b.conv(b.conv(x, 16, 3, group=16), 8, act=None)
    for filters, kernel, first, factor, blocks in (
            (16, 3, 2, 3, 3), (24, 5, 2, 3, 3), (40, 5, 2, 6, 3), (48, 3, 1, 6, 2),
            (96, 5, 2, 6, 4), (160, 3, 1, 6, 1)):
        for block in range(blocks):
            x = _inverted_residual(b, x, factor * b.channels(x), filters, kernel,
                                   first if block == 0 else 1, "Relu")
    return b.build(b.classify(b.conv(x, 1280), 1000))


def shufflenet_v2_05(rng: np.random.Generator) -> onnx.ModelProto:
    """ShuffleNetV2 x0.5 for 224x224 images (Ma et al., 2018, table 5)."""
    b = FloatBuilder(rng, _IMAGE)
    x = b.pool(b.conv(b.input, 24, 3, stride=2), "MaxPool", 3, 2, 1)
    for filters, blocks in ((48, 4), (96, 8), (192, 4)):
        for block in range(blocks):
            stride, half = 2 if block == 0 else 1, filters // 2
            left, right = (x, x) if stride == 2 else b.halves(x)
            if stride == 2:
                left = b.conv(b.conv(left, b.channels(left), 3, stride=2, group=b.channels(left),
                                     act=None), half)
            right = b.conv(b.conv(b.conv(right, half), half, 3, stride=stride, group=half,
                                  act=None), half)
            x = b.shuffle(b.concat(left, right), 2)
    return b.build(b.classify(b.conv(x, 1024), 1000))


def yolov8n(rng: np.random.Generator, size: int = 320) -> onnx.ModelProto:
    """YOLOv8n for images of ``size`` x ``size``, 80 classes, without the decoding of its boxes
    (Ultralytics, 2023): for each of three scales the 64 numbers of a box, and of the classes."""
    b = FloatBuilder(rng, (1, 3, size, size))

    def conv(x: str, filters: int, kernel: int = 1, stride: int = 1) -> str:
        return b.conv(x, filters, kernel, stride=stride, act="SiLU")

    def c2f(x: str, filters: int, blocks: int, *, shortcut: bool = True) -> str:
        parts = list(b.halves(conv(x, filters)))
        for _ in range(blocks):
            y = conv(conv(parts[-1], filters // 2, 3), filters // 2, 3)
            parts.append(b.add(parts[-1], y) if shortcut else y)
        return conv(b.concat(*parts), filters)

    def scale(x: str) -> tuple[str, str]:
        boxes, classes = (b.conv(conv(conv(x, width, 3), width, 3), last, act=None)
                          for width, last in ((64, 64), (80, 80)))
        return boxes, classes

    x, ways = conv(b.input, 16, 3, 2), []
    for filters, blocks in ((32, 1), (64, 2), (128, 2), (256, 1)):
        x = c2f(conv(x, filters, 3, 2), filters, blocks)
        ways.append(x)
    _, p3, p4, x = ways
    x = conv(x, 128)                                        # spatial pyramid pooling
    pooled = [x]
    for _ in range(3):
        pooled.append(b.pool(pooled[-1], "MaxPool", 5, 1, 2))
    p5 = conv(b.concat(*pooled), 256)
    up4 = c2f(b.concat(b.enlarge(p5), p4), 128, 1, shortcut=False)
    out3 = c2f(b.concat(b.enlarge(up4), p3), 64, 1, shortcut=False)
    out4 = c2f(b.concat(conv(out3, 64, 3, 2), up4), 128, 1, shortcut=False)
    out5 = c2f(b.concat(conv(out4, 128, 3, 2), p5), 256, 1, shortcut=False)
    return b.build(*(name for each in (out3, out4, out5) for name in scale(each)))


MOBILE: dict[str, Builder] = {builder.__name__: builder for builder in (
    mobilenet_v2, mobilenet_v3_small, efficientnet_b0, mnasnet_05, shufflenet_v2_05, yolov8n)}
"""By name."""
