"""What all layers have."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from weft.hw.isa.commands import Rounding

from .tensor import Tensor

__all__ = ["NO_PADS", "Function", "Layer", "Pads", "Weighted"]


class Pads(NamedTuple):
    """Rows and columns of padding around a plane."""
    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


NO_PADS = Pads()


@dataclass(frozen=True, kw_only=True, eq=False)
class Function:
    """A function of one value, which the clamped results of a layer go through on their way.

    Parameters
    ----------
    before : :class:`Tensor`
        What these results mean; it is made nowhere.
    table : int8 [256] or [C, 256]
        As of a :class:`Lookup`.
    """

    before: Tensor
    table: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """What all layers have.

    Parameters
    ----------
    name : :class:`str`
        Name of the model's node.
    op : :class:`str`
        Its operator, such as Conv, Gemm or AveragePool.
    output : :class:`str`
        Name of the tensor it makes.
    function : :class:`Function` or :py:`None`
        What the results go through. The compiler makes it of a :class:`Lookup` behind the layer;
        not all layers can have one.
    """

    name: str
    op: str
    output: str
    function: Function | None = None

    def result(self, output: Tensor) -> Tensor:
        """What the layer's results are rounded to, with its output tensor given."""
        return output if self.function is None else self.function.before

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads."""
        raise TypeError(f"{type(self).__name__} does not say what it reads")

    def macs(self, output: Tensor) -> int:
        """Multiplications that the model asks for, with its output tensor given."""
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted(Layer):
    """What layers of constant weights have, over windows of a plane.

    Parameters
    ----------
    input : :class:`str`
        Tensor name.
    weights : int8
        Of output channel, and then taps.
    bias : int32 [N]
        As in the model: nothing folded in.
    multiplier : float32 [N]
        ``fl32(fl32(sx * sw) / sy)``.
    strides, dilations : (h, w)
    pads : :class:`Pads`
    clamp : (low, high)
        Bounds of the output in the int8 domain, -128..127.
    rounding : :class:`Rounding`
        How sums become int8 values.
    fixed_point : (int32 [N], int32 [N]) or :py:`None`
        Multiplier and shift of the fixed-point rules, which have no use for ``multiplier``: see
        :func:`weft.reference.fixed_point_multiplier`.
    real_sums : :class:`bool`
        Whether the model's framework adds up real values, rounded to float32, in an order that is
        not known: its result is not quite a function of the exact sum.
    """

    input: str
    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    strides: tuple[int, int] = (1, 1)
    pads: Pads = NO_PADS
    dilations: tuple[int, int] = (1, 1)
    clamp: tuple[int, int] = (-128, 127)
    rounding: Rounding = Rounding.FLOAT32
    fixed_point: tuple[np.ndarray, np.ndarray] | None = None
    real_sums: bool = False

    def __post_init__(self) -> None:
        fixed_point = self.rounding in (Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE)
        if fixed_point != (self.fixed_point is not None):
            raise ValueError(f"Layer {self.name!r} must have a fixed-point multiplier and "
                             f"shift if that is its rule, and only then")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)
