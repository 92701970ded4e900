"""What is known of the constants of an element-wise layer: the constants, and how far they are
proven."""

from dataclasses import dataclass
from typing import NamedTuple

from weft.hw.isa.commands import Rounding
from weft.ir import Tensor

__all__ = ["AddConstants", "Exactness", "FixedAddConstants", "Quantization", "ScaleConstants"]


@dataclass(frozen=True)
class Exactness:
    """How far a layer is proven equal to its rule.

    Parameters
    ----------
    checked : :class:`int`
        Different inputs that one output value can have; all were tried.
    differing : :class:`int`
        Those for which the result may be another.
    """

    checked: int
    differing: int

    @property
    def exact(self) -> bool:
        """Whether there are none of those."""
        return self.differing == 0

    def __str__(self) -> str:
        if self.exact:
            return f"equal for all {self.checked:,} inputs"
        return f"{self.differing:,} of {self.checked:,} inputs may differ"

    def __add__(self, other: "Exactness") -> "Exactness":
        return Exactness(self.checked + other.checked, self.differing + other.differing)


class Quantization(NamedTuple):
    """What a tensor's values mean; the zero point is in the int8 domain."""
    scale: float
    zero_point: int
    unsigned: bool

    @classmethod
    def of(cls, tensor: Tensor) -> "Quantization":
        """The quantization of a tensor."""
        return cls(tensor.scale, tensor.zero_point, tensor.unsigned)

    def tensor(self) -> Tensor:
        """A tensor for one value of every pair."""
        return Tensor(name="", shape=(1, 256, 256), scale=self.scale, zero_point=self.zero_point,
                      unsigned=self.unsigned)


class AddConstants(NamedTuple):
    """Of an ADD with ``out_zero`` zero: ``RNE(fl32(fl32(a * first + b * second + bias) *
    scale))``."""
    first: int
    second: int
    bias: int
    scale: float


class FixedAddConstants(NamedTuple):
    """Of an ADD with a fixed-point rule: ``a * first + b * second + bias``, scaled with multiplier
    and shift."""
    first: int
    second: int
    bias: int
    multiplier: int
    shift: int
    rounding: Rounding


class ScaleConstants(NamedTuple):
    """Of a requantization: ``RNE(fl32(fl32(sum + bias) * scale)) + out_zero``."""
    bias: int
    scale: float
    out_zero: int
