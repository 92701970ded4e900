"""Transformers with random weights: structure as in their papers, nodes as PyTorch exports them."""

from math import sqrt

import numpy as np
import onnx

from .networks import Builder, FloatBuilder

__all__ = ["TRANSFORMERS", "bert_tiny", "deit_tiny", "deit_tiny_block", "keyword_transformer"]


_MLP = 4        # channels inside, in those outside


class _TokenBuilder(FloatBuilder):
    """Builds what works on tokens: tensors of (1, tokens, channels)."""

    def width(self, x: str) -> int:
        """Channels of a token."""
        return self._shapes[x][-1]

    def parameter(self, shape: tuple[int, ...], size: float, centre: float = 0) -> str:
        """Adds an initializer of normally distributed values."""
        return self.constant((centre + size * self._rng.standard_normal(shape)).astype(np.float32))

    def linear(self, x: str, channels: int) -> str:
        """Adds a MatMul with weights and an Add of a bias."""
        width, shape = self.width(x), (*self._shapes[x][:-1], channels)
        y = self.node("MatMul", [x, self.parameter((width, channels), sqrt(1 / width))], shape)
        return self.node("Add", [y, self.parameter((channels,), 0.1)], shape)

    def normalize(self, x: str) -> str:
        """Adds a LayerNormalization."""
        width = self.width(x)
        return self.node("LayerNormalization", [x, self.parameter((width,), 0.1, 1),
                                                self.parameter((width,), 0.1)], axis=-1,
                         epsilon=1e-6)

    def heads(self, x: str, heads: int, perm: tuple[int, ...]) -> str:
        """Adds a Reshape that divides channels into heads, and a Transpose."""
        _, tokens, width = self._shapes[x]
        shape = (1, tokens, heads, width // heads)
        x = self.node("Reshape", [x, self.constant(np.array(shape))], shape)
        return self.node("Transpose", [x], tuple(shape[axis] for axis in perm), perm=perm)

    def attention(self, x: str, heads: int) -> str:
        """Adds a multi-head self-attention (Vaswani et al., 2017)."""
        _, tokens, width = shape = self._shapes[x]
        joined = self.linear(x, 3 * width)
        q, k, v = (self.node("Slice", [joined, *(self.constant(np.array([value])) for value in (
            part * width, (part + 1) * width, 2))], shape) for part in range(3))
        scores = self.node("MatMul", [self.heads(q, heads, (0, 2, 1, 3)),
                                      self.heads(k, heads, (0, 2, 3, 1))],
                           (1, heads, tokens, tokens))
        scores = self.node("Mul", [scores, self.constant(np.float32(sqrt(heads / width)))])
        context = self.node("MatMul", [self.node("Softmax", [scores], axis=-1),
                                       self.heads(v, heads, (0, 2, 1, 3))],
                            (1, heads, tokens, width // heads))
        context = self.node("Transpose", [context], (1, tokens, heads, width // heads),
                            perm=(0, 2, 1, 3))
        context = self.node("Reshape", [context, self.constant(np.array(shape))], shape)
        return self.linear(context, width)

    def gelu(self, x: str) -> str:
        """Adds a Gelu as it is written out: x / 2 * (1 + erf(x / sqrt(2)))."""
        y = self.node("Erf", [self.node("Div", [x, self.constant(np.float32(sqrt(2)))])])
        y = self.node("Mul", [x, self.node("Add", [y, self.constant(np.float32(1))])])
        return self.node("Mul", [y, self.constant(np.float32(0.5))])

    def mlp(self, x: str) -> str:
        """Adds two fully connected layers."""
        width = self.width(x)
        return self.linear(self.gelu(self.linear(x, _MLP * width)), width)

    def block(self, x: str, heads: int) -> str:
        """Adds an encoder block, normalized first (Dosovitskiy et al., 2021)."""
        x = self.node("Add", [x, self.attention(self.normalize(x), heads)])
        return self.node("Add", [x, self.mlp(self.normalize(x))])

    def late_block(self, x: str, heads: int) -> str:
        """Adds an encoder block, normalized last (Vaswani et al., 2017)."""
        x = self.normalize(self.node("Add", [x, self.attention(x, heads)]))
        return self.normalize(self.node("Add", [x, self.mlp(x)]))

    def tokens(self, x: str, width: int, size: int) -> str:
        """Adds a Conv that makes a token of each patch of an image, and puts one more in front."""
        _, channels, height, across = self._shapes[x]
        count = (height // size) * (across // size)
        x = self.node("Conv", [x, self.parameter((width, channels, size, size),
                                                 1 / sqrt(channels) / size),
                               self.parameter((width,), 0.1)],
                      (1, width, height // size, across // size), kernel_shape=[size, size],
                      strides=[size, size])
        x = self.node("Reshape", [x, self.constant(np.array((1, width, count)))], (1, width, count))
        x = self.node("Transpose", [x], (1, count, width), perm=(0, 2, 1))
        shape = (1, count + 1, width)
        x = self.node("Concat", [self.parameter((1, 1, width), 0.5), x], shape, axis=1)
        return self.node("Add", [x, self.parameter(shape, 0.5)])

    def first(self, x: str, classes: int) -> str:
        """Adds a Gather of the first token, and a Gemm."""
        width = self.width(x)
        x = self.node("Gather", [x, self.constant(np.array(0))], (1, width), axis=1)
        return self.dense(x, classes)


def deit_tiny_block(rng: np.random.Generator) -> onnx.ModelProto:
    """One encoder block of DeiT-tiny: 197 tokens of 192 channels, 3 heads."""
    b = _TokenBuilder(rng, (1, 197, 192))
    return b.build(b.block(b.input, 3))


def deit_tiny(rng: np.random.Generator) -> onnx.ModelProto:
    """DeiT-tiny for 224x224 images (Touvron et al., 2021, table 1)."""
    b = _TokenBuilder(rng, (1, 3, 224, 224))
    x = b.tokens(b.input, 192, 16)
    for _ in range(12):
        x = b.block(x, 3)
    return b.build(b.first(b.normalize(x), 1000))


def bert_tiny(rng: np.random.Generator) -> onnx.ModelProto:
    """The encoder of BERT-tiny, 128 tokens (Turc et al., 2019): 128 channels, 2 heads, 2 blocks;
    of tokens that are looked up already."""
    b = _TokenBuilder(rng, (1, 128, 128))
    x = b.normalize(b.input)
    for _ in range(2):
        x = b.late_block(x, 2)
    return b.build(x)


def keyword_transformer(rng: np.random.Generator) -> onnx.ModelProto:
    """KWT-1, keywords of 98 time steps of 40 coefficients (Berg et al., 2021): 64 channels, a head,
    12 blocks."""
    b = _TokenBuilder(rng, (1, 98, 40))
    x = b.linear(b.input, 64)
    x = b.node("Concat", [b.parameter((1, 1, 64), 0.5), x], (1, 99, 64), axis=1)
    x = b.node("Add", [x, b.parameter((1, 99, 64), 0.5)])
    for _ in range(12):
        x = b.late_block(x, 1)
    return b.build(b.first(x, 35))


TRANSFORMERS: dict[str, Builder] = {builder.__name__: builder for builder in (
    deit_tiny_block, deit_tiny, bert_tiny, keyword_transformer)}
"""By name."""
