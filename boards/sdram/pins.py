"""A controller's signals at the pins of an FPGA."""

from typing import Any

from amaranth import *
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In

from .chip import SdramChip
from .signals import SdramSignature

__all__ = ["SdramPins", "clock_degrees"]


_DEGREES = 240
_BEFORE_NS = 3.75


def clock_degrees(clock_mhz: float) -> float:
    """By how much the chip's clock is late, in degrees of a period.

    Of 10 ns, with 3.5 ns from a clock edge inside the FPGA to a pin (2 ns at least), 1 ns from a
    pin to its register, and 5.4 ns from the chip's clock to its data, which it holds for 2.5 ns: a
    command is there 6.7 ns before the chip's edge (1.5 ns are needed) and for 3.3 ns after it
    (0.8 ns). Data is there 3.3 ns before the edge that takes it and stays for 2.2 ns, whatever the
    CAS latency is. Both hold for as long as the chip's edge is that much before the FPGA's next
    one: not for a slower clock, so that it is 3.75 ns before that at most.
    """
    return max(_DEGREES, 360 * (1 - _BEFORE_NS * clock_mhz / 1000))


class SdramPins(wiring.Component):
    """Registers in the pins, see :data:`~weft.boards.sdram.signals.PIN_CYCLES`, and the chip's
    clock.

    Parameters
    ----------
    port
        A platform's ``sdram`` resource, as ``amaranth_boards`` describes it. A board need not
        connect ``cs``, which is low then, ``clk_en``, which is high, and, of a chip without byte
        masks, ``dqm``.
    chip : :class:`~weft.boards.sdram.chip.SdramChip`

    Members
    -------
    signals : :py:`In(SdramSignature(chip))`

    The domain ``chip`` is the parent's: as ``sync``, but :func:`clock_degrees` later.
    """

    def __init__(self, port: Any, chip: SdramChip):
        self._port = port
        self._byte_masks = chip.byte_masks
        super().__init__({"signals": In(SdramSignature(chip))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        port, signals = self._port, self.signals
        we, cas, ras = Value.cast(signals.command)
        # The register of CLK_EN starts with zero, as all do: until the clock runs the chip takes
        # no notice of the others.
        values = {"clk_en": 1, "cs": 1, "ras": ras, "cas": cas, "we": we, "ba": signals.bank,
                  "a": signals.address, "dqm": signals.mask}
        fixed = {"clk_en", "cs"} | (set() if self._byte_masks else {"dqm"})
        for name, value in values.items():
            if name not in fixed or hasattr(port, name):
                m.submodules[name] = buffer = io.FFBuffer("o", getattr(port, name))
                m.d.comb += buffer.o.eq(value)
        m.submodules.dq = dq = io.FFBuffer("io", port.dq)
        m.d.comb += [dq.o.eq(signals.dq_o), dq.oe.eq(signals.dq_oe), signals.dq_i.eq(dq.i)]
        m.submodules.clk = clock = io.DDRBuffer("o", port.clk, o_domain="chip")
        running: Value = Const(1)
        if not hasattr(port, "clk_en"):
            # Instead the chip's clock stands still until the others have their first values.
            running = Signal()
            m.d.sync += running.eq(1)
        m.d.comb += [clock.o[0].eq(running), clock.o[1].eq(0)]
        return m
