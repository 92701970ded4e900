"""Layers of the vector engine, channel by channel."""

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Self

import numpy as np

from weft.hw.isa.commands import Rounding

from .layer import NO_PADS, Layer, Pads, Weighted
from .tensor import Tensor

__all__ = ["Add", "Affine", "ChannelSum", "Depthwise", "Lookup", "Multiply", "Padding", "Pool",
           "PoolKind"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Depthwise(Weighted):
    """A depthwise convolution: output channel ``c`` is made of input channel ``c`` alone.

    Parameters
    ----------
    weights : int8 [C, kernel_h, kernel_w]
    """

    def macs(self, output: Tensor) -> int:
        return self.weights.size * prod(output.shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Padding(Depthwise):
    """Planes with rows and columns of zeros around them: taps of 1, which are exact."""

    @classmethod
    def of(cls, channels: int, pads: Pads, *, name: str, op: str, input: str, output: str) -> Self:
        """The layer for a tensor of so many channels."""
        return cls(name=name, op=op, input=input, output=output, pads=pads,
                   weights=np.ones((channels, 1, 1), np.int8), bias=np.zeros(channels, np.int32),
                   multiplier=np.ones(channels, np.float32))

    def macs(self, output: Tensor) -> int:
        return 0


class PoolKind(StrEnum):
    """What a pooling window yields."""
    MAX     = "max"
    AVERAGE = "average"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool(Layer):
    """Max or average pooling; a global one is one whose kernel covers its whole input.

    Parameters
    ----------
    kind : :class:`PoolKind`
    kernel, strides, dilations : (h, w)
    pads : :class:`Pads`
        With what ``ceil_mode`` adds after the input. Those of a maximum may be negative: so many
        rows or columns of the input are left out.
    count_pads : :class:`Pads`
        The part of the padding that counts in the divisor of an average: ``pads`` with
        ``count_include_pad``, else zeros.
    multiplier : :class:`float` or :py:`None`
        For an average whose exact sum is requantized as that of a convolution is, a float32 value:
        ``fl32(sx / fl32(sy * count))``, the rule of QLinearGlobalAveragePool. :py:`None` for the
        rule of QLinearAveragePool, which works in float32.
    late_zero : :class:`bool`
        Whether the zero point of an average in float32 is added after rounding, as by a
        QuantizeLinear, and not before, as by QLinearAveragePool.
    weights : two :class:`tuple` of :class:`int`, or :py:`None`
        For an average whose taps have weights, the products of one of the row and one of the
        column: a linear interpolation (see :mod:`weft.reference.interpolation`). The divisor is the
        weight inside the input. It has neither ``multiplier``, ``late_zero`` nor ``count_pads``.
    clamp : (low, high)
        Bounds of the output in the int8 domain.
    rounding : :class:`Rounding`
        ``FIXED_POINT`` for an average of integers, halves rounded away from zero: the rule of
        AVERAGE_POOL_2D of TFLite, whose output has the input's scale and zero point. It has neither
        ``multiplier``, ``late_zero`` nor ``count_pads``.
    """

    input: str
    kind: PoolKind
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = NO_PADS
    dilations: tuple[int, int] = (1, 1)
    count_pads: Pads = NO_PADS
    clamp: tuple[int, int] = (-128, 127)
    multiplier: float | None = None
    late_zero: bool = False
    weights: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    rounding: Rounding = Rounding.FLOAT32

    def __post_init__(self) -> None:
        _need_rule(self)
        if (self.rounding is Rounding.FIXED_POINT or self.weights is not None) and (
                self.kind is not PoolKind.AVERAGE or self.multiplier is not None
                or self.late_zero or self.count_pads != NO_PADS):
            raise ValueError(f"Layer {self.name!r} must be an average without multiplier, late "
                             f"zero point or padding that counts to be rounded in fixed point, or "
                             f"to have weights")
        if self.kind is not PoolKind.MAX and min(self.pads) < 0:
            raise ValueError(f"Layer {self.name!r} must be a maximum to leave out parts of its "
                             f"input, not an {self.kind} with pads {tuple(self.pads)}")
        if self.weights is not None and tuple(map(len, self.weights)) != self.kernel:
            raise ValueError(f"Layer {self.name!r} must have weights for a kernel of "
                             f"{self.kernel}, not {tuple(map(len, self.weights))}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def taps(self) -> np.ndarray:
        """Weights of an average: int8 [kernel_h, kernel_w]."""
        rows, columns = self.weights or tuple((1,) * size for size in self.kernel)
        return np.multiply.outer(np.array(rows, np.int8), np.array(columns, np.int8))


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Layer):
    """Element-wise sum, or difference, of two tensors: of one shape, or one is [C, 1, 1] and holds
    one term for each channel of the other.

    Parameters
    ----------
    rounding : :class:`Rounding`
        ``FLOAT32`` for the rule of QLinearAdd, ``FIXED_POINT`` for that of ADD of TFLite.
    subtract : :class:`bool`
        The difference ``a - b``, by the rule of SUB of TFLite. There ``a`` has the shape of the
        result.
    """

    a: str
    b: str
    clamp: tuple[int, int] = (-128, 127)
    rounding: Rounding = Rounding.FLOAT32
    subtract: bool = False

    def __post_init__(self) -> None:
        _need_rule(self)
        if self.subtract and self.rounding is not Rounding.FIXED_POINT:
            raise ValueError(f"Layer {self.name!r} must be rounded in fixed point to subtract, not "
                             f"as {self.rounding.name}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


@dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Layer):
    """Element-wise product of two tensors: of one shape, or ``b`` is [C, 1, 1] and holds one factor
    for each channel of ``a``.

    Parameters
    ----------
    rounding : :class:`Rounding`
        ``FLOAT32`` for the rule of QLinearMul, ``FIXED_POINT`` for that of MUL of TFLite.
    """

    a: str
    b: str
    clamp: tuple[int, int] = (-128, 127)
    rounding: Rounding = Rounding.FLOAT32

    def __post_init__(self) -> None:
        _need_rule(self)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup(Layer):
    """Any function of one value, or of one value and its channel: an activation, or a change of
    scale.

    Parameters
    ----------
    table : int8 [256] or [C, 256]
        Result for input value ``v``, int8, at index ``v + 128``; of each channel, if they differ.
    """

    input: str
    table: np.ndarray

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(Layer):
    """A linear function of each value, another one for each channel:
    ``clamp(RNE(fl32(fl32(value * factor + bias) * scale)))``.

    Parameters
    ----------
    factor : int32 [C]
        Of less than 2^24 in magnitude.
    bias : int32 [C]
        No sum may leave int32.
    scale : float32 [C]
        Positive.
    """

    input: str
    factor: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    clamp: tuple[int, int] = (-128, 127)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelSum(Layer):
    """A sum of two tensors of one shape, other multiples of them for each channel:
    ``clamp(RNE(fl32(fl32(a * first + b * second + bias) * scale)) + zero)``.

    Parameters
    ----------
    first : int32 [C]
        0 to 2^24 - 1.
    second : int32 [C]
        Of less than 2^24 in magnitude; of one sign in all channels, but for zeros.
    bias : int32 [C]
        No sum may leave int32.
    scale : float32 [C]
        Positive.
    zero : :class:`int`
        int8.
    """

    a: str
    b: str
    first: np.ndarray
    second: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    zero: int = 0
    clamp: tuple[int, int] = (-128, 127)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


def _need_rule(layer: "Pool | Add | Multiply") -> None:
    if layer.rounding is Rounding.FIXED_POINT_ONCE:
        raise ValueError(f"Layer {layer.name!r} must be rounded as float32 or fixed-point: only "
                         f"convolutions have {layer.rounding.name}")
