"""Random TFLite networks of several operators."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tflite_cases import Case, Draw

__all__ = ["network"]


@dataclass(frozen=True)
class _Image:
    """A tensor [1, H, W, C] of a network."""

    tensor: int
    shape: tuple[int, int, int]
    scale: np.float32
    zero: int


class _Network:
    """Adds operators to images; each method returns another image."""

    def __init__(self, rng: np.random.Generator):
        self.draw = Draw(rng)
        self.builder = self.draw.builder
        size, channels = self.draw.plane(4, 9), self.draw.integer(1, 8)
        scale, zero = self.draw.quantization()
        tensor = self.builder.input((1, *size, channels), scale, zero)
        self.images = [_Image(tensor, (*size, channels), scale, zero)]

    def any(self) -> _Image:
        """One of the last images."""
        return self.images[-self.draw.integer(1, min(3, len(self.images)))]

    def image(self, shape: tuple[int, int, int], like: _Image | None = None) -> _Image:
        scale, zero = (like.scale, like.zero) if like is not None else self.draw.quantization()
        return _Image(self.builder.tensor((1, *shape), scale, zero), shape, scale, zero)

    def add(self, op: str, inputs: list[int], output: _Image, options: str = "",
            **fields: object) -> _Image:
        self.builder.operator(op, inputs, [output.tensor], options, version=2, **fields)
        self.images.append(output)
        return output

    def convolution(self) -> _Image:
        source, draw = self.any(), self.draw
        kernel, plane, fields = draw.window(source.shape[:2], dilate=True)
        wide = draw.rng.random() < 0.5
        filters = draw.integer(1, 9) if wide else source.shape[2]
        output = self.image((*plane, filters))
        depth = source.shape[2] if wide else 1
        shape = (filters, *kernel, depth) if wide else (1, *kernel, filters)
        weights = draw.weights(shape, filters, 0 if wide else 3, source.scale, output.scale,
                               depth * kernel[0] * kernel[1])
        if not wide:
            fields["DepthMultiplier"] = 1
        return self.add("CONV_2D" if wide else "DEPTHWISE_CONV_2D", [source.tensor, *weights],
                        output, "Conv2DOptions" if wide else "DepthwiseConv2DOptions",
                        FusedActivationFunction=draw.activation(), **fields)

    def padded(self) -> _Image:
        source = self.any()
        amounts = np.zeros((4, 2), np.int32)
        amounts[1:3] = self.draw.rng.integers(0, 3, (2, 2))
        height, width = (size + int(pair.sum()) for size, pair
                         in zip(source.shape[:2], amounts[1:3], strict=True))
        output = self.image((height, width, source.shape[2]), source)
        return self.add("PAD", [source.tensor, self.builder.constant(amounts)], output,
                        "PadOptions")

    def pair(self) -> _Image:
        """A sum or product of two images of one shape, the second made for it if need be."""
        first = self.any()
        others = [each for each in self.images if each.shape == first.shape and each != first]
        second = others[self.draw.integer(0, len(others) - 1)] if others else self.function(first)
        op = str(self.draw.rng.choice(["ADD", "ADD", "MUL"]))
        return self.add(op, [first.tensor, second.tensor], self.image(first.shape),
                        f"{op.capitalize()}Options",
                        FusedActivationFunction=self.draw.activation())

    def pool(self) -> _Image:
        source = self.any()
        kernel, plane, fields = self.draw.window(source.shape[:2])
        return self.add(str(self.draw.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"])),
                        [source.tensor], self.image((*plane, source.shape[2]), source),
                        "Pool2DOptions", FilterHeight=kernel[0], FilterWidth=kernel[1], **fields)

    def joined(self) -> _Image:
        first = self.any()
        parts = [each for each in self.images if each.shape[:2] == first.shape[:2]
                 and (each.scale, each.zero) == (first.scale, first.zero)]
        parts = parts[-2:] if len(parts) > 1 else [first, first]
        channels = sum(each.shape[2] for each in parts)
        return self.add("CONCATENATION", [each.tensor for each in parts],
                        self.image((*first.shape[:2], channels), first), "ConcatenationOptions",
                        Axis=3)

    def function(self, source: _Image | None = None) -> _Image:
        source = source or self.any()
        op = str(self.draw.rng.choice(["QUANTIZE", "RELU6", "TANH", "LEAKY_RELU", "SUB"]))
        if op == "SUB":     # the host's
            return self.add(op, [source.tensor, source.tensor], self.image(source.shape),
                            "SubOptions")
        fields = {"Alpha": 0.3} if op == "LEAKY_RELU" else {}
        return self.add(op, [source.tensor], self.image(source.shape),
                        "LeakyReluOptions" if fields else "", **fields)

    def enlarged(self) -> _Image:
        source = self.any()
        size = (source.shape[0] * 2, source.shape[1])
        sizes = self.builder.constant(np.array(size, np.int32))
        image = self.image((*size, source.shape[2]), source)
        if size[1] % 2:     # of either kind
            return self.add("RESIZE_BILINEAR", [source.tensor, sizes], image,
                            "ResizeBilinearOptions", HalfPixelCenters=True)
        return self.add("RESIZE_NEAREST_NEIGHBOR", [source.tensor, sizes], image,
                        "ResizeNearestNeighborOptions")

    def finish(self) -> Case:
        """A head: the mean or all of the last image, a matrix and SOFTMAX."""
        draw, source = self.draw, self.images[-1]
        size, tensor, scale = int(np.prod(source.shape)), source.tensor, source.scale
        if draw.rng.random() < 0.5:
            axes = self.builder.constant(np.array([1, 2], np.int32))
            size, scale = source.shape[2], draw.scale()
            tensor = self.builder.tensor((1, size), scale, draw.zero())
            self.builder.operator("MEAN", [source.tensor, axes], [tensor], "ReducerOptions",
                                  version=2)
        elif draw.rng.random() < 0.3:
            turned = self.builder.tensor((1, *source.shape[::-1]), scale, source.zero)
            order = self.builder.constant(np.array([0, 3, 2, 1], np.int32))
            self.builder.operator("TRANSPOSE", [tensor, order], [turned], "TransposeOptions",
                                  version=2)
            tensor = turned
        elif draw.rng.random() < 0.5:
            tensor = self.builder.tensor((1, size), scale, source.zero)
            shape = self.builder.constant(np.array([1, size], np.int32))
            self.builder.operator("RESHAPE", [source.tensor, shape], [tensor], "ReshapeOptions")
        wanted = draw.scale()
        weights = draw.weights((7, size), 7, 0, scale, wanted, size)
        logits = self.builder.tensor((1, 7), wanted, draw.zero())
        self.builder.operator("FULLY_CONNECTED", [tensor, *weights], [logits],
                              "FullyConnectedOptions", version=5)
        if draw.rng.random() < 0.3:
            self.builder.output(source.tensor)
        result = self.builder.tensor((1, 7), np.float32(1 / 256), -128)
        return draw.finish("SOFTMAX", [logits], result, "SoftmaxOptions", version=2, Beta=1.0)


def network(seed: int, operators: int = 5) -> Case:
    """A network of some operators and a head."""
    made = _Network(np.random.default_rng((seed, 77)))
    steps: list[Callable[[], _Image]] = [
        made.convolution, made.convolution, made.convolution, made.pair, made.pair, made.padded,
        made.pool, made.joined, made.function, made.enlarged]
    made.convolution()
    for _ in range(operators):
        steps[made.draw.integer(0, len(steps) - 1)]()
    made.convolution()
    return made.finish()
