"""Layers of the matrix engine: convolutions, and products of two tensors."""

from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np

from weft.hw.isa.commands import Rounding

from .layer import NO_PADS, Layer, Pads, Weighted
from .tensor import Tensor

__all__ = ["Convolution", "MatMul", "Selection", "Sums"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Weighted):
    """A convolution with requantization and clamp; a fully connected layer is one whose kernel
    covers its whole input.

    Parameters
    ----------
    weights : int8 [N, C, kernel_h, kernel_w]
    groups : :class:`int`
        Groups of the model's convolution. The weights are dense whatever it is, with zeros between
        channels of different groups: only ``1 / groups`` of the products are the model's work.
    weight_scale : float32 [N] or [1], or :py:`None`
        Where it is known: only another rule of rounding asks for it.
    """

    groups: int = 1
    weight_scale: np.ndarray | None = None

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the windows."""
        _, _, height, width = self.weights.shape
        return height, width

    def macs(self, output: Tensor) -> int:
        return self.weights.size // self.groups * prod(output.shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection(Convolution):
    """Some channels of a tensor, in any order, and channels of zeros: a convolution whose weights
    are rows of the identity, or zero, and no work of the model's."""

    @classmethod
    def of(cls, channels: np.ndarray, count: int, *, name: str, op: str, input: str, output: str,
           clamp: tuple[int, int] = (-128, 127)) -> Self:
        """The layer that takes ``channels`` of an input of ``count``, -1 for one of zeros; both
        tensors must have one scale and zero point."""
        rows = np.zeros((len(channels), count), np.int8)
        taken, = np.nonzero(channels >= 0)
        rows[taken, channels[taken]] = 1
        return cls(name=name, op=op, input=input, output=output, clamp=clamp,
                   weights=rows[:, :, None, None],
                   bias=np.zeros(len(channels), np.int32),
                   multiplier=np.ones(len(channels), np.float32),
                   weight_scale=np.ones(1, np.float32))

    @property
    def channels(self) -> np.ndarray:
        """int64 [N]: for each channel that of the input, -1 for one of zeros."""
        rows = self.weights[:, :, 0, 0]
        return np.where(rows.any(axis=1), rows.argmax(axis=1), -1)

    def macs(self, output: Tensor) -> int:
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums(Convolution):
    """The int32 sums of a convolution as they are: channel ``k * N + n`` of the output holds byte
    ``k`` of the sums of filter ``n``, less 128, the lowest byte first.

    Parameters
    ----------
    parts : :class:`int`
        Bytes of each sum that are needed, with its sign; each takes the sums once more.
    asked : :class:`bool`
        Whether the model asks for these products, and not only the way in which they are made.
    """

    parts: int
    asked: bool = True

    @classmethod
    def of(cls, weights: np.ndarray, parts: int, *, name: str, op: str, input: str, output: str,
           strides: tuple[int, int] = (1, 1), pads: Pads = NO_PADS,
           dilations: tuple[int, int] = (1, 1), groups: int = 1, asked: bool = True) -> Self:
        """The layer of ``weights``, int8 [N, C, kernel_h, kernel_w], as in :class:`Convolution`."""
        which = np.repeat(np.arange(parts, dtype=np.uint32), len(weights))
        return cls(name=name, op=op, input=input, output=output, parts=parts,
                   weights=np.tile(weights, (parts, 1, 1, 1)),
                   bias=np.zeros(len(which), np.int32),
                   multiplier=(np.float32(1).view(np.uint32) + which).view(np.float32),
                   strides=strides, pads=pads, dilations=dilations, groups=groups, asked=asked,
                   rounding=Rounding.BYTE)

    def macs(self, output: Tensor) -> int:
        return super().macs(output) // self.parts if self.asked else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMul(Layer):
    """Matrix products of two tensors, one for each of ``heads``: runs of channels, of each tensor
    as many as there are heads, all of one length.

    With the pixels of a plane counted through, and ``h`` for a head, it is ``output[h, n, m] =
    sum over k of a[h, k, m] * b[h, n, k]``; ``transposed``, of ``a[h, k, m] * b[h, k, n]``.

    Parameters
    ----------
    a, b : :class:`str`
        Tensor names; those of ``b`` have one row or one column.
    transposed : :class:`bool`
        Whether the pixels of ``b`` become channels of the output, and not its channels.
    depth : :class:`int`
        Terms of a sum: channels of a head of ``a``.
    multiplier : :class:`float`
        A float32 value, ``fl32(fl32(sa * sb) / sy)``, as QLinearMatMul has it.
    """

    a: str
    b: str
    depth: int
    multiplier: float
    transposed: bool = False
    heads: int = 1
    clamp: tuple[int, int] = (-128, 127)

    # As of a convolution.
    kernel = strides = dilations = (1, 1)
    rounding = Rounding.FLOAT32

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def macs(self, output: Tensor) -> int:
        return self.depth * prod(output.shape)
