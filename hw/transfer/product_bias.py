"""Channel parameters of weights that are made on the device: what the products must be freed of."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import ChannelParameters
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay
from weft.hw.lib.multiplier import Multiplier
from weft.hw.memory.scratch import unit_write_layout

__all__ = ["ProductBias"]


class ProductBias(wiring.Component):
    """Forms the biases of a column tile from its weight rows, as they are written.

    A column takes one product of a row: ``(w0 + input_zero) * (w1 + input_zero)`` with the fast
    inner product, ``w * input_zero`` without. Its bias is the constant less all of them, modulo
    2**32. A row may come in every cycle; the entries of a tile are written, one in each cycle, from
    :attr:`LATENCY` cycles after its last row on, while rows of the next tile come. So a tile must
    have as many rows as entries, at least.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    rows : :py:`In(StructLayout)`
        ``data`` (array of ``weight_row_lanes`` weights), ``valid``; ``first`` and ``last``: the row
        is that of its column tile; ``final``: with ``last``, the tile is the last one.
    begin : :py:`In(1)`
        Entries that come are written from ``entry`` on.
    entry : :py:`In(24)`
    input_zero : :py:`In(signed(8))`
    bias : :py:`In(32)`
        The constant.
    scale : :py:`In(32)`
        Of all channels. These three stay from the first row to the last entry.
    write : :py:`Out(stream.Signature(unit_write_layout(parameter_entry_data_bytes), \
always_ready=True))`
        Only inside the parameter memory.
    beyond : :py:`Out(1)`
        An entry lies outside it.
    done : :py:`Out(1)`
        In the cycle after that of the last write of the last tile.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from the last row of a tile to its first entry.
    """

    MULTIPLIER_LATENCY = 2
    LATENCY = MULTIPLIER_LATENCY + 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "rows":       In(data.StructLayout({
                "data": data.ArrayLayout(config.weight_type.shape, config.weight_row_lanes),
                "valid": 1, "first": 1, "last": 1, "final": 1})),
            "begin":      In(1),
            "entry":      In(24),
            "input_zero": In(signed(8)),
            "bias":       In(32),
            "scale":      In(32),
            "write":      Out(stream.Signature(
                unit_write_layout(config.parameter_entry_data_bytes), always_ready=True)),
            "beyond":     Out(1),
            "done":       Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        rows  = self.rows
        flags = Signal(4)
        m.d.comb += flags.eq(Mux(rows.valid, Cat(Const(1, 1), rows.first, rows.last, rows.final),
                                 0))
        late: Any = delay(m, flags, self.MULTIPLIER_LATENCY, name="flags")
        adds, first, last, final = late
        sums = []
        for column in range(self._config.cols):
            total   = Signal(32, name=f"sum_{column}", reset_less=True)
            product = self._product(m, column)
            with m.If(adds):
                m.d.sync += total.eq(Mux(first, self.bias, total) - product)
            sums.append(total)
        complete: Any = delay(m, Cat(last, final), 1, name="complete")
        self._write_out(m, sums, complete[0], complete[1])
        return m

    def _product(self, m: Module, column: int) -> Value:
        config  = self._config
        weights = [self.rows.data[column * config.pe_weights + number]
                   for number in range(config.pe_weights)]
        m.submodules[f"multiplier_{column}"] = multiplier = Multiplier(
            a_width=9, b_width=9, latency=self.MULTIPLIER_LATENCY, role="bias")
        if config.fip:
            m.d.comb += [multiplier.a.eq(weights[0] + self.input_zero),
                         multiplier.b.eq(weights[1] + self.input_zero)]
        else:
            m.d.comb += [multiplier.a.eq(weights[0]), multiplier.b.eq(self.input_zero)]
        return multiplier.o

    def _write_out(self, m: Module, sums: list[Signal], complete: Value, final: Value) -> None:
        """Takes the sums of a tile when they are complete, and writes a group in each cycle."""
        config = self._config
        groups, lanes = config.requant_groups, config.requant_lanes
        held   = Signal(32 * config.cols, reset_less=True)
        left   = Signal(groups)             # a bit for each group that is left
        ending = Signal(reset_less=True)    # they are those of the last tile
        entry  = Signal(25, reset_less=True)    # does not wrap
        inside = Signal()
        writes = left[0]
        m.d.comb += inside.eq(entry < config.parameter_depth)
        require(m, ~complete | ~left[1:].any(), "the entries of a tile are written before the next")
        with m.If(complete):
            m.d.sync += [held.eq(Cat(sums)), left.eq((1 << groups) - 1), ending.eq(final)]
        with m.Else():
            m.d.sync += [held.eq(held >> 32 * lanes), left.eq(left >> 1)]
        with m.If(writes):
            m.d.sync += entry.eq(entry + 1)
        with m.If(self.begin):
            m.d.sync += entry.eq(self.entry)

        values = Signal(data.ArrayLayout(ChannelParameters, lanes))
        m.d.comb += [
            *(Value.cast(values[lane]).eq(Cat(held[32 * lane:32 * lane + 32], self.scale))
              for lane in range(lanes)),
            self.write.valid.eq(writes & inside),
            self.write.p.address.eq(entry),
            Value.cast(self.write.p.data).eq(Value.cast(values)),
            self.write.p.mask.eq(~0),
            self.beyond.eq(writes & ~inside),
        ]
        m.d.sync += self.done.eq(writes & ending & ~left[1:].any())
