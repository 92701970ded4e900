"""The control port: registers, doorbell, errors, watchdog, interrupt and counters."""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.config import AcceleratorConfig
from weft.hw.axi import LiteSignature
from weft.hw.cycle_accounting import COUNTED
from weft.hw.fault import Fault
from weft.hw.lite_target import LiteTarget
from weft.hw.registers import (
    CONFIG_BASE,
    COUNTER_BASE,
    DEVICE_ID,
    VERSION,
    Control,
    Counter,
    Error,
    Register,
    Status,
    config_words,
)

__all__ = ["QUIET_CYCLES", "WATCHDOG_CYCLES", "ControlPort"]


WATCHDOG_CYCLES = 1 << 20
"""Reset value of the WATCHDOG register: some milliseconds, far more than memory may stall."""

_CHOICE = 8  # registers that are chosen from at once

QUIET_CYCLES = 4
"""Cycles for which ``quiet`` must hold before a reset: requests on their way have shown by then."""

class ControlPort(wiring.Component):
    """Registers of :mod:`weft.hw.registers`, and the state of the device as a whole.

    The device is busy from START until ``completed`` equals the count and ``idle`` is set, or
    until a fault. The first fault, of the lowest number if several come at once, sets ERROR and
    ERROR_INDEX and raises ``halt`` until a reset. A watchdog raises a fault of its own when
    ``progress`` is missing for WATCHDOG cycles while busy, and names ``oldest``.

    RESET waits until the memory has been quiet for a few cycles, with ``halt`` raised and BUSY set
    meanwhile, so it also aborts a command stream; then ``core_reset`` is high for one cycle and
    busy, done, error and interrupt are cleared. The other registers keep their values. If STATUS
    never shows QUIET, the memory owes a response and only a reset of the whole system helps. START
    is ignored while a RESET waits, and when it is written together with one.

    The registers are 32 bits wide; COMMAND_ADDR, COMMAND_ADDRH and COMMAND_COUNT may be written
    for the next stream as soon as the doorbell has been answered.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        What the configuration ROM tells.
    faults : :class:`int`
        Number of fault inputs, at least 1.

    Members
    -------
    s_axi : :py:`In(LiteSignature())`
        The bus.
    irq : :py:`Out(1)`
        High after the end of a stream, good or bad, until acknowledged; gated by IRQ_ENABLE.
    start : :py:`Out(1)`
        Pulse: begin the stream. ``completed`` must be zero from the next cycle.
    address : :py:`Out(64)`
        Address of the command stream, valid with ``start``.
    count : :py:`Out(32)`
        Commands in the stream, valid with ``start``. Not checked here.
    halt : :py:`Out(1)`
        Start nothing more.
    core_reset : :py:`Out(1)`
        Pulse: reset everything but this component, at the latest in the cycle after.
    faults : :py:`In(Fault).array(faults)`
        A ``code`` other than zero stops the device, busy or not.
    completed : :py:`In(32)`
        Commands completed since ``start``.
    idle : :py:`In(1)`
        Nothing is being done.
    quiet : :py:`In(1)`
        No memory transaction is in flight.
    progress : :py:`In(1)`
        Something moved in this cycle.
    oldest : :py:`In(16)`
        Index of the command to blame when nothing moves.
    count_up : :py:`In(StructLayout)`
        One bit for each of :data:`~weft.hw.cycle_accounting.COUNTED`, of its name in lower case:
        count this cycle. Ignored if the configuration has no counters.
    """

    def __init__(self, config: AcceleratorConfig, *, faults: int = 6):
        if not isinstance(faults, int) or isinstance(faults, bool) or faults < 1:
            raise ValueError(f"Faults must be a positive integer, not {faults!r}")
        self._config = config
        super().__init__({
            "s_axi":      In(LiteSignature()),
            "irq":        Out(1),
            "start":      Out(1),
            "address":    Out(64),
            "count":      Out(32),
            "halt":       Out(1),
            "core_reset": Out(1),
            "faults":     In(Fault).array(faults),
            "completed":  In(32),
            "idle":       In(1),
            "quiet":      In(1),
            "progress":   In(1),
            "oldest":     In(16),
            "count_up":   In(data.StructLayout({c.name.lower(): 1 for c in COUNTED})),
        })

    def elaborate(self, platform) -> Module:
        m = Module()

        m.submodules.target = target = LiteTarget()
        connect(m, flipped(self.s_axi), target.bus)

        busy    = Signal()
        done    = Signal()
        error   = Signal(Fault)
        failed  = Signal()
        pending = Signal()   # an end that is not acknowledged
        enable  = Signal()
        limit   = Signal(32, init=WATCHDOG_CYCLES)
        m.d.comb += failed.eq(error.code != Error.NONE)
        m.d.sync += self.irq.eq(pending & enable)

        # Writes --------------------------------------------------------------------------------

        written = {register: Signal(name=f"written_{register.name.lower()}")
                   for register in Register}
        for register, hit in written.items():
            m.d.comb += hit.eq(target.write & (target.write_word == register >> 2))
        bits = Signal(32)  # of the registers that act when written
        m.d.comb += bits.eq(target.write_data & target.write_mask)

        for register, value in {
            Register.COMMAND_ADDR:  self.address[:32],
            Register.COMMAND_ADDRH: self.address[32:],
            Register.COMMAND_COUNT: self.count,
            Register.IRQ_ENABLE:    enable,
            Register.WATCHDOG:      limit,
        }.items():
            with m.If(written[register]):
                m.d.sync += value.eq((value & ~target.write_mask) | bits)

        # Reset, doorbell, end ------------------------------------------------------------------

        resetting = Signal()
        quiet_for = Signal(range(QUIET_CYCLES + 1))
        m.d.sync += self.halt.eq(failed | resetting)
        m.d.sync += self.core_reset.eq(0)
        cleared = Signal()  # the core takes a cycle to pass its reset on
        m.d.sync += cleared.eq(self.core_reset)
        with m.If(~self.quiet | ~resetting):
            m.d.sync += quiet_for.eq(0)
        with m.Else():
            m.d.sync += quiet_for.eq(quiet_for + 1)

        fault = Signal(Fault)
        bites = self._watch(m, fault, busy=busy, limit=limit, reload=written[Register.WATCHDOG])
        # Faults come from the ends of long paths, and so does the end of the stream: both a cycle
        # later, so that neither overtakes the other.
        faulty = Signal()  # one of them
        m.d.sync += faulty.eq(Cat(port.code for port in self.faults).any() & ~cleared)
        for number, port in reversed(list(enumerate(self.faults))):
            late = Signal(Fault, name=f"fault_{number}")
            m.d.sync += late.eq(port)
            with m.If(cleared):
                m.d.sync += late.code.eq(Error.NONE)
            with m.If(late.code != Error.NONE):
                m.d.comb += fault.eq(late)

        total    = Signal(32)  # `count` at the doorbell
        finished = Signal()
        # `completed` is of the last stream while `start` is high. A count of zero is never
        # reached: it is a fault that takes a few cycles to arrive.
        all_completed = Signal()
        m.d.sync += all_completed.eq(busy & ~self.start & self.idle & (total != 0) &
                                     (self.completed == total))
        m.d.comb += finished.eq(busy & all_completed)

        doorbell = Signal()
        m.d.comb += doorbell.eq(written[Register.CONTROL] & (bits[:2] == Control.START) &
                                ~busy & ~failed & ~resetting)
        m.d.sync += self.start.eq(doorbell)

        with m.If(finished):
            m.d.sync += busy.eq(0)
            m.d.sync += done.eq(1)
            m.d.sync += pending.eq(1)
        with m.If(written[Register.IRQ_CLEAR] & bits[0]):
            # An end that comes in this very cycle was not seen by the host and is not lost.
            m.d.sync += done.eq(finished)
            m.d.sync += pending.eq(finished)
        with m.If(doorbell):
            m.d.sync += busy.eq(1)
            m.d.sync += done.eq(0)
            m.d.sync += pending.eq(0)
            m.d.sync += total.eq(self.count)
        with m.If((faulty | bites) & ~failed):
            m.d.sync += error.eq(fault)
            m.d.sync += busy.eq(0)
            m.d.sync += done.eq(0)
            m.d.sync += pending.eq(1)
        with m.If(written[Register.CONTROL] & ((bits & Control.RESET) != 0)):
            m.d.sync += resetting.eq(1)
        with m.If(quiet_for == QUIET_CYCLES):
            m.d.sync += self.core_reset.eq(1)
        # Faults that are held go away with the core's reset, so the state is cleared after it.
        with m.If(cleared):
            m.d.sync += [resetting.eq(0), quiet_for.eq(0), busy.eq(0), done.eq(0), pending.eq(0)]
            m.d.sync += [error.code.eq(Error.NONE), error.index.eq(0)]

        # Reads ---------------------------------------------------------------------------------

        status = Signal(32)
        m.d.comb += status.eq(Mux(busy | resetting, Status.BUSY, 0) | Mux(done, Status.DONE, 0) |
                              Mux(failed, Status.ERROR, 0) | Mux(self.quiet, Status.QUIET, 0))
        words = {
            Register.ID:            DEVICE_ID,
            Register.VERSION:       VERSION,
            Register.STATUS:        status,
            Register.ERROR:         error.code,
            Register.ERROR_INDEX:   error.index,
            Register.COMMAND_ADDR:  self.address[:32],
            Register.COMMAND_ADDRH: self.address[32:],
            Register.COMMAND_COUNT: self.count,
            Register.IRQ_ENABLE:    enable,
            Register.WATCHDOG:      limit,
            Register.COMPLETED:     self.completed,
        }
        for counter, value in self._count(m, busy=busy, clear=self.start).items():
            words[COUNTER_BASE + 4 * counter] = value
        for n, value in enumerate(config_words(self._config).values()):
            words[CONFIG_BASE + 4 * n] = value
        # A few words at a time, with a register behind each choice.
        addresses = list(words)
        choices = []
        for first in range(0, len(addresses), _CHOICE):
            chosen = Signal(32, name=f"chosen_{first}")
            m.d.sync += chosen.eq(0)
            with m.Switch(target.read_word):
                for address in addresses[first:first + _CHOICE]:
                    with m.Case(address >> 2):
                        m.d.sync += chosen.eq(words[address])
            choices.append(chosen)
        m.d.comb += target.read_data.eq(reduce(or_, choices))

        return m

    def _watch(self, m: Module, fault, *, busy, limit, reload) -> Signal:
        """Sets ``fault`` after ``limit`` cycles without progress; returns when."""
        left     = Signal(32)
        reloaded = Signal()
        progress = Signal()
        enabled  = Signal()
        bites    = Signal()
        m.d.sync += [
            reloaded.eq(reload),
            progress.eq(self.progress),
            enabled.eq(limit != 0),
            bites.eq(0),
        ]
        with m.If(bites):
            m.d.comb += fault.code.eq(Error.WATCHDOG)
            m.d.comb += fault.index.eq(self.oldest)
        with m.If(~busy | progress | reloaded):
            m.d.sync += left.eq(limit)
        with m.Elif(enabled):
            m.d.sync += left.eq(left - 1)
            m.d.sync += bites.eq(left == 1)
        return bites

    def _count(self, m: Module, *, busy, clear) -> dict[Counter, Signal]:
        """The performance counters. What they count is registered once, so that they are no load
        on the signals that move data; a read of theirs could not be answered before that."""
        counting = Signal()
        counted  = Signal.like(self.count_up)
        m.d.sync += [counting.eq(busy), counted.eq(self.count_up)]
        values = {}
        for counter in Counter if self._config.counters else [Counter.CYCLES]:
            values[counter] = value = Signal(32, name=f"counter_{counter.name.lower()}")
            step = 1 if counter is Counter.CYCLES else counted[counter.name.lower()]
            m.d.sync += value.eq(value + (counting & step))
            with m.If(clear):
                m.d.sync += value.eq(0)
        return values
