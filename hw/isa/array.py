"""The shape of a systolic array and its operands, and all widths that follow from them."""

from dataclasses import dataclass
from functools import cached_property

from .element import ElementType, signed_width

__all__ = ["ArrayShape"]


@dataclass(frozen=True, kw_only=True)
class ArrayShape:
    """A systolic array of ``rows x cols`` multiply-accumulates per cycle.

    Without ``fip`` the factors of a product are an activation ``a`` and a weight ``w``. With it
    both are sums of an activation and a weight, whatever the width of either:
    ``(a0 + w1) * (a1 + w0)``. All widths follow from the least and the greatest value, and are the
    narrowest that hold both; so no sum of operands and no product ever wraps. For signed operands
    of ``A`` and ``W`` bits, and ``M = max(A, W)``:

    ============ ============================ ====================================================
    \\            without ``fip``              with ``fip``
    ============ ============================ ====================================================
    factors      ``A`` and ``W``              ``M + 1`` both: at least
                                              ``-(2**(A-1) + 2**(W-1))``
    product      ``A + W``: at most           ``2*M + 2`` if ``A == W``, ``2*M + 1`` if they
                 ``2**(A+W-2)``               differ by one, else ``2*M``: at most
                                              ``(2**(A-1) + 2**(W-1))**2``
    partial sum  the product's and            the same
                 ``ceil(log2(pe_rows))`` more
    ============ ============================ ====================================================

    The terms that the fast inner product adds are no wider: ``alpha``, the sum of ``a0 * a1``, is
    what a column of PEs yields for weights of zero, and ``beta``, the sum of ``w0 * w1``, what it
    yields for activations of zero.

    An accumulator holds at least a partial sum. It may wrap on the way, as ``alpha`` is taken off
    modulo its width: what must fit is the dot product and ``beta`` of all ``K`` products of an
    output, at most ``K * 2**(A+W-2) + K/2 * 2**(2*W-2)``. The compiler proves it for the weights at
    hand.

    Parameters
    ----------
    rows : :class:`int`
        Input channels taken per cycle, at least 1; even with ``fip``.
    cols : :class:`int`
        Output channels per cycle, at least 1.
    fip : :class:`bool`
        Use the fast inner product: one multiplier for two multiply-accumulates.
    products : :class:`bool`
        One more column than ``cols`` has a weight, the same in all its lanes: what it yields, the
        drain takes off. With ``fip`` there is such a column anyway, whose weights are zero.
    activation, weight : :class:`ElementType`
        The operands; independent of each other.

    Raises
    ------
    ValueError
        If there are no such rows or columns.
    """

    rows: int
    cols: int
    fip: bool
    activation: ElementType
    weight: ElementType
    products: bool = False

    def __post_init__(self) -> None:
        if self.fip and (self.rows < 2 or self.rows % 2):
            raise ValueError(f"Rows must be an even number of at least 2 when fip is on, "
                             f"not {self.rows}")
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"Rows and cols must be at least 1, not {self.rows} and {self.cols}")

    @property
    def pe_weights(self) -> int:
        """Weights held by one PE: 2 with FIP, else 1."""
        return 2 if self.fip else 1

    @property
    def pe_rows(self) -> int:
        """Rows of PEs: ``rows / 2`` with FIP, else ``rows``."""
        return self.rows // self.pe_weights

    @property
    def columns(self) -> int:
        """Columns of PEs, the one whose sums are taken off included."""
        return self.cols + self.corrects

    @property
    def corrects(self) -> bool:
        """Whether there is a column whose sums are taken off those of the others."""
        return self.fip or self.products

    @property
    def weight_row_lanes(self) -> int:
        """Weights of one row of PEs, shifted into the array in one cycle."""
        return self.cols * self.pe_weights

    @property
    def factors(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Least and greatest value of each of the two factors of a product."""
        a, w = ((element.low, element.high) for element in (self.activation, self.weight))
        if not self.fip:
            return a, w
        total = a[0] + w[0], a[1] + w[1]
        return total, total

    @property
    def factor_widths(self) -> tuple[int, int]:
        """Bits of the two signed factors: the widths of a PE's multiplier."""
        first, second = self.factors
        return signed_width(*first), signed_width(*second)

    @cached_property
    def product_width(self) -> int:
        """Bits of a PE's signed product."""
        first, second = self.factors
        corners = [a * b for a in first for b in second]
        return signed_width(min(corners), max(corners))

    @property
    def psum_width(self) -> int:
        """Bits of the partial sum that leaves a column of PEs."""
        return self.product_width + (self.pe_rows - 1).bit_length()
