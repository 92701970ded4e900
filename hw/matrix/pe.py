"""The processing element: weights, a multiplier, and one adder in the chain of its column."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.array import ArrayShape
from weft.hw.lib.derived import derived
from weft.hw.lib.multiplier import Multiplier

__all__ = ["ProcessingElement"]


class ProcessingElement(wiring.Component):
    """Multiplies the pixels that pass by its weights and adds the product to a partial sum.

    Without ``fip`` a pixel is one activation ``a`` and the product is ``a * w``. With ``fip`` it
    is a pair and the product is that of the fast inner product (Winograd 1968):
    ``(a0 + w1) * (a1 + w0) = a0*w0 + a1*w1 + a0*a1 + w0*w1``.

    There are two sets of weights. Shadow weights shift in while the active ones are in use;
    a pixel that carries ``switch`` makes the shadow weights active, for itself and for all that
    follow it. Shadow weights may start to shift in the very cycle that pixel comes in.

    Data leaves for the neighbours through registers, one cycle after it came in: pixels for the
    next column, weights for the next row. The flags that go along with it are for whoever places
    the PEs to delay. The next row shifts one cycle later, so it is shown what the shadow weights
    were one cycle ago. One pixel per cycle; the product of a pixel
    is added to the ``i_psum`` of :attr:`psum_delay` cycles later.

    Parameters
    ----------
    array : :class:`ArrayShape`
        The array that it is for: operands and widths.
    weighted : :class:`bool`
        Whether there are weights. Without, they count as zero and there are neither weight
        registers nor weight ports: with ``fip`` that leaves ``a0 * a1``, the correction term.
    position : :class:`tuple` of two :class:`int`, or ``None``
        Row and column in the array, for a platform that places the multiplier.

    Members
    -------
    i_pixel, o_pixel : :py:`ArrayLayout(array.activation.shape, n)`
        Activations of a pixel, ``n = 2`` with ``fip`` and 1 without.
    i_switch : :py:`In(1)`
        The pixel carries ``switch``. Absent without weights.
    i_weights, o_weights : :py:`ArrayLayout(array.weight.shape, n)`
        Weights to shift in. Absent without weights.
    i_load : :py:`In(1)`
        Shift ``i_weights`` in. Absent without weights.
    i_psum, o_psum : :py:`signed(array.psum_width)`
        Partial sum from the row above, and to the row below one cycle later.

    Attributes
    ----------
    MULTIPLIER_LATENCY : :class:`int`
        Cycles from the operands of the multiplier to its product, at least 2.
    psum_delay : :class:`int`
        Cycles from a pixel to the ``i_psum`` its product is added to.
    """

    MULTIPLIER_LATENCY = 3  # one more than it takes: the way from an adder to a block is long

    @derived
    def psum_delay(cls) -> int:
        # A cycle to latch the pixel, during which the weights it asks for become active.
        return 1 + cls.MULTIPLIER_LATENCY

    def __init__(self, array: ArrayShape, *, weighted: bool = True,
                 position: tuple[int, int] | None = None):
        self._array = array
        self._weighted = weighted
        self._position = position

        pixel = data.ArrayLayout(array.activation.shape, array.pe_weights)
        psum = signed(array.psum_width)
        ports: dict[str, Any] = {"i_pixel": In(pixel), "o_pixel": Out(pixel),
                                 "i_psum": In(psum), "o_psum": Out(psum)}
        if weighted:
            weights = data.ArrayLayout(array.weight.shape, array.pe_weights)
            ports |= {"i_switch": In(1), "i_load": In(1),
                      "i_weights": In(weights), "o_weights": Out(weights)}
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        pixel = Signal.like(self.i_pixel, reset_less=True)
        m.d.sync += pixel.eq(self.i_pixel)
        m.d.comb += self.o_pixel.eq(pixel)

        active: Any = [Const(0)] * self._array.pe_weights
        if self._weighted:
            active = self._elaborate_weights(m)

        a_width, b_width = self._array.factor_widths
        m.submodules.multiplier = multiplier = Multiplier(
            a_width=a_width, b_width=b_width, latency=self.MULTIPLIER_LATENCY, role="array",
            position=self._position)
        if self._array.fip:
            m.d.comb += [multiplier.a.eq(pixel[0] + active[1]),
                         multiplier.b.eq(pixel[1] + active[0])]
        else:
            m.d.comb += [multiplier.a.eq(pixel[0]), multiplier.b.eq(active[0])]

        psum = Signal.like(self.o_psum, reset_less=True)
        m.d.sync += psum.eq(self.i_psum + multiplier.o)
        m.d.comb += self.o_psum.eq(psum)
        return m

    def _elaborate_weights(self, m: Module) -> Any:
        """Shadow and active weights; returns the active ones."""
        shadow = Signal.like(self.i_weights, reset_less=True)
        before = Signal.like(self.i_weights, reset_less=True)
        active = Signal.like(self.i_weights, reset_less=True)
        with m.If(self.i_load):
            m.d.sync += shadow.eq(self.i_weights)
        m.d.sync += before.eq(shadow)
        with m.If(self.i_switch):
            m.d.sync += active.eq(shadow)

        m.d.comb += self.o_weights.eq(before)
        return active
