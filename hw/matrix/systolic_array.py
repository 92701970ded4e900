"""The systolic array: a weight-stationary grid of processing elements."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.array import ArrayShape
from weft.hw.lib.delay import register

from .pe import ProcessingElement
from .skew import Skew

__all__ = ["SystolicArray"]


class SystolicArray(wiring.Component):
    """Multiplies a stream of pixels by a ``rows x cols`` tile of weights.

    Pixels travel to the right, partial sums and weights down; each hop is a register and takes a
    cycle. The flags that shift and switch weights travel along with what they concern, so no
    signal reaches further than the neighbour. The array skews its inputs itself. It has no
    handshake: it works in every cycle, and who feeds it knows which sums are wanted.

    With ``fip`` column ``c < cols`` yields ``sum(FIP) = dot + alpha + beta``, where ``beta``, the
    sum of ``w0 * w1``, belongs to the channel and ``alpha``, the sum of ``a0 * a1``, to the pixel;
    column ``cols`` yields ``alpha``. Without ``fip`` there is no such column and column ``c``
    yields the dot product. Sums never wrap: ``psum_width`` holds any of them.

    With ``products`` there is a column ``cols`` in any case, and it has a weight, the same in all
    its lanes, that comes with those of a tile.

    Throughput is one pixel and one weight row per cycle. A pixel presented in cycle ``t`` comes
    out of column ``c`` in cycle ``t + column_latency(c)``. A tile is ``pe_rows`` load cycles, with
    or without gaps. A pixel with ``switch`` may be presented from :attr:`shift_to_switch` cycles
    after the tile's last load cycle on; the next tile's first load cycle may come from
    :attr:`switch_to_shift` cycles after that pixel on. Tiles can thus follow one another every
    ``pe_rows`` cycles.

    Parameters
    ----------
    shape : :class:`ArrayShape`
        Rows, columns, operands, and all widths.

    Members
    -------
    i : :py:`In(StructLayout({"data": ArrayLayout(activation.shape, rows), "switch": 1}))`
        One pixel per cycle. ``switch`` is 1 with the first pixel of a weight tile: that pixel and
        all after it use the shadow weights.
    weights : :py:`In(StructLayout({"data": ArrayLayout(weight.shape, weight_row_lanes), \
"load": 1}))`, with ``products`` and ``"zero": weight.shape``
        One weight row in each cycle with ``load``, the last PE row first. Lane
        ``c * pe_weights + k`` is column ``c``'s weight for lane ``pe_row * pe_weights + k`` of a
        pixel. ``zero`` is column ``cols``'s.
    o : :py:`Out(ArrayLayout(signed(psum_width), columns))`
        Sums, skewed: column ``c``'s belong to the pixel before column ``c - 1``'s.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from a pixel at ``i`` to column 0's sum at ``o``.
    shift_to_switch : :class:`int`
        Fewest cycles from the last load cycle of a tile to the pixel that switches to it.
    switch_to_shift : :class:`int`
        Fewest cycles from a pixel that switches to the first load cycle of the next tile.
    """

    # The PE in row r and column c sees a load flag and a switch flag of the ports r + c cycles
    # later alike, so their distance at the PEs is that at the ports. A PE's shadow weights are
    # there one cycle after its load flag, and may change in the cycle after its switch flag.
    shift_to_switch = 1
    switch_to_shift = 0

    def __init__(self, shape: ArrayShape):
        self._shape = shape
        super().__init__({
            "i": In(data.StructLayout({
                "data": data.ArrayLayout(shape.activation.shape, shape.rows),
                "switch": 1,
            })),
            "weights": In(data.StructLayout({
                "data": data.ArrayLayout(shape.weight.shape, shape.weight_row_lanes),
                "load": 1,
                **({"zero": shape.weight.shape} if shape.products else {}),
            })),
            "o": Out(data.ArrayLayout(signed(shape.psum_width), shape.columns)),
        })

    @property
    def latency(self) -> int:
        return self.latency_of(self._shape)

    @staticmethod
    def latency_of(shape: ArrayShape) -> int:
        """:attr:`latency` of an array of that shape."""
        return ProcessingElement.psum_delay + shape.pe_rows

    @property
    def _weighted(self) -> int:
        """Columns whose PEs have weights."""
        return self._shape.columns if self._shape.products else self._shape.cols

    def column_latency(self, column: int) -> int:
        """Cycles from a pixel at ``i`` to the sum of ``column`` at ``o``."""
        return self.latency + column

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self._shape
        n = shape.pe_weights

        m.submodules.skew_rows = skew_rows = Skew(
            lanes=shape.pe_rows, width=n * shape.activation.width)
        m.submodules.skew_columns = skew_columns = Skew(
            lanes=self._weighted, width=n * shape.weight.width)
        weights = Value.cast(self.weights.data)
        if shape.products:
            weights = Cat(weights, Value.cast(self.weights.zero).replicate(n))
        m.d.comb += [
            Value.cast(skew_rows.i).eq(Value.cast(self.i.data)),
            Value.cast(skew_columns.i).eq(weights),
        ]

        pes = [[ProcessingElement(shape, weighted=c < self._weighted, position=(r, c))
                for c in range(shape.columns)] for r in range(shape.pe_rows)]

        # The flags of a row of PEs, one bit for each, are a register: quick to simulate. They need
        # no reset: what is left of a stream stays ahead of the weights and pixels that come after.
        # Those of a diagonal are equal; a tool that made one of them would broadcast it.
        switch, loads = self.i.switch, self._spread(m, self.weights.load, "loads_0")
        for r in range(shape.pe_rows):
            switches = self._spread(m, switch, f"switches_{r}")
            if r > 0:
                loads = register(m, loads, f"loads_{r}", keep=True)
            for c in range(self._weighted):
                m.d.comb += [pes[r][c].i_switch.eq(switches[c]), pes[r][c].i_load.eq(loads[c])]
            switch = register(m, switch, f"switch_{r + 1}", keep=True)

        for r in range(shape.pe_rows):
            for c in range(shape.columns):
                pe = m.submodules[f"pe_{r}_{c}"] = pes[r][c]
                m.d.comb += Value.cast(pe.i_pixel).eq(
                    Value.cast(pes[r][c - 1].o_pixel) if c > 0 else skew_rows.o[r])
                if r > 0:
                    m.d.comb += pe.i_psum.eq(pes[r - 1][c].o_psum)
                if c < self._weighted:
                    m.d.comb += Value.cast(pe.i_weights).eq(
                        Value.cast(pes[r - 1][c].o_weights) if r > 0 else skew_columns.o[c])

        m.d.comb += [self.o[c].eq(pes[-1][c].o_psum) for c in range(shape.columns)]
        return m

    def _spread(self, m: Module, flag: Value, name: str) -> Value:
        """``flag`` at the columns of a row: bit ``c`` is that of ``c`` cycles ago."""
        later = Signal(self._weighted - 1, name=name, reset_less=True, attrs={"keep": 1})
        spread = Cat(flag, later)
        m.d.sync += later.eq(spread)
        return spread
