"""What is simulated: the accelerator behind a register in its reset."""

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

__all__ = ["SimulationTop"]


class SimulationTop(wiring.Component):
    """A component with the ports of ``inner``, whose reset comes one cycle late.

    A simulator evaluates all logic between inputs and registers twice in a clock cycle. Every
    register hangs on the reset; with a register in between, that logic is evaluated once, and the
    simulation is a quarter faster.
    """

    def __init__(self, inner: wiring.Component):
        self._inner = inner
        super().__init__(inner.signature)  # type: ignore[no-untyped-call]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.device = ClockDomain()
        m.domains.late = ClockDomain(reset_less=True)  # or the reset would clear itself
        m.d.comb += ClockSignal("device").eq(ClockSignal())
        m.d.comb += ClockSignal("late").eq(ClockSignal())
        m.d.late += ResetSignal("device").eq(ResetSignal())
        m.submodules.inner = DomainRenamer("device")(self._inner)
        connect(m, flipped(self), self._inner)
        return m
