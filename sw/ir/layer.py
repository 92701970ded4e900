"""What all layers have."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from weft.hw.isa.commands import Rounding

from .tensor import Tensor

__all__ = ["NO_PADS", "Function", "Layer", "Pads", "check_fixed_point"]


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


def check_fixed_point(layer: str, rounding: Rounding, constants: object) -> None:
    """Whether a layer has the constants of fixed point if, and only if, its rule wants them."""
    if (rounding in (Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE)) != (constants is not None):
        raise ValueError(f"Layer {layer!r} must have a fixed-point multiplier and "
                         f"shift if that is its rule, and only then")
