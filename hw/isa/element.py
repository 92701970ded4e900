"""The type of an operand: its bits, its sign, and the bytes it takes in memory."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

# A configuration is read by commands that need neither, and both take their time.
if TYPE_CHECKING:
    import numpy as np
    from amaranth.hdl import Shape, Value

__all__ = ["ElementType", "signed_width"]


@dataclass(frozen=True)
class ElementType:
    """An integer operand of an inner product.

    In memory an element takes 1, 2 or 4 bytes, the lowest first, and its upper bits repeat the
    sign: so it never straddles two beats, and a host reads it as an integer of numpy.

    Parameters
    ----------
    width : :class:`int`
        Bits, 2..32.
    signed : :class:`bool`
        Two's complement, or without a sign.

    Raises
    ------
    ValueError
        If the width is out of its range.
    """

    width: int
    signed: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.width, int) or not 2 <= self.width <= 32:
            raise ValueError(f"Element width must be an integer between 2 and 32, "
                             f"not {self.width!r}")

    @property
    def shape(self) -> "Shape":
        """Its shape in the hardware."""
        from amaranth.hdl import Shape

        return Shape(self.width, self.signed)

    @cached_property
    def bytes(self) -> int:
        """Bytes that it takes in memory: a power of 2."""
        return 1 << (-(-self.width // 8) - 1).bit_length()

    @property
    def dtype(self) -> "np.dtype":
        """Its type in memory, as numpy reads it."""
        import numpy as np

        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bytes}")

    @property
    def low(self) -> int:
        """The least value."""
        return -(1 << self.width - 1) if self.signed else 0

    @property
    def high(self) -> int:
        """The greatest value."""
        return (1 << self.width - self.signed) - 1

    def unpack(self, raw: "Value") -> "list[Value]":
        """The elements of ``raw``, the bytes of a unit on chip."""
        pitch = 8 * self.bytes
        elements = [raw[start:start + self.width] for start in range(0, len(raw), pitch)]
        return [element.as_signed() if self.signed else element for element in elements]

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.width}"


def signed_width(low: int, high: int) -> int:
    """Bits of the narrowest signed number that holds both ``low`` and ``high``."""
    return max(value.bit_length() if value >= 0 else (~value).bit_length()
               for value in (low, high)) + 1
