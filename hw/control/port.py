"""The control port: registers, doorbell, errors, limits of time, interrupt and counters."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from weft.hw.bus.axi import LiteSignature
from weft.hw.bus.lite_target import LiteTarget
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import (
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
from weft.hw.lib.cycle_accounting import COUNTED
from weft.hw.lib.delay import register

__all__ = ["QUIET_CYCLES", "WATCHDOG_CYCLES", "ControlPort"]


WATCHDOG_CYCLES = 1 << 20
"""Reset value of the WATCHDOG register: some milliseconds, far more than memory may stall."""

QUIET_CYCLES = 5
"""Cycles for which ``quiet`` must hold before a reset: requests on their way have shown by then."""

_CHOICE = 4  # words that are chosen from at once

_CLEARED = 2  # counters that one register clears


class ControlPort(wiring.Component):
    """Registers of :mod:`weft.hw.isa.registers`, and the state of the device as a whole.

    The device is busy from START until ``completed`` equals the count and ``idle`` is set, or
    until a fault. The first fault, of the lowest number if several come at once, sets ERROR and
    ERROR_INDEX and raises ``halt`` until a reset. A watchdog raises a fault of its own when
    ``progress`` is missing for WATCHDOG cycles while busy, and names ``oldest``. So does a stream
    that is not done two cycles after CYCLE_LIMIT, which is to be written before the doorbell.

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
        One bit for each of :data:`~weft.hw.lib.cycle_accounting.COUNTED`, of its name in lower
        case: count this cycle. Ignored if the configuration has no counters.

    Attributes
    ----------
    DOORBELL_LATENCY : :class:`int`
        Cycles from the write of the doorbell on the bus until the device is rung.
    START_LATENCY : :class:`int`
        Cycles from there to ``start``.
    END_LATENCY : :class:`int`
        Cycles from the last command that ``completed`` counts to the end of the stream.
    """

    DOORBELL_LATENCY = 2
    START_LATENCY    = 1
    END_LATENCY      = 1

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
        failed  = Signal()
        pending = Signal()   # an end that is not acknowledged
        enable  = Signal()
        limit   = Signal(32, init=WATCHDOG_CYCLES)
        longest = Signal(32)  # run
        m.d.sync += self.irq.eq(pending & enable)

        # Writes --------------------------------------------------------------------------------

        written = {register: Signal(name=f"written_{register.name.lower()}")
                   for register in Register}
        for address, hit in written.items():
            m.d.sync += hit.eq(target.write & (target.write_word == address >> 2))
        bits = Signal(32)  # of the registers that act when written
        m.d.comb += bits.eq(target.write_data & target.write_mask)

        for address, value in {
            Register.COMMAND_ADDR:  self.address[:32],
            Register.COMMAND_ADDRH: self.address[32:],
            Register.COMMAND_COUNT: self.count,
            Register.IRQ_ENABLE:    enable,
            Register.WATCHDOG:      limit,
            Register.CYCLE_LIMIT:   longest,
        }.items():
            with m.If(written[address]):
                m.d.sync += value.eq((value & ~target.write_mask) | bits)

        # Reset, doorbell, end ------------------------------------------------------------------

        resetting = Signal()
        quiet     = Signal()
        quiet_for = Signal(range(QUIET_CYCLES + 1))
        m.d.sync += [quiet.eq(self.quiet), self.halt.eq(failed | resetting), self.core_reset.eq(0)]
        cleared = Signal()  # the core takes a cycle to pass its reset on
        m.d.sync += cleared.eq(self.core_reset)
        with m.If(~quiet | ~resetting):
            m.d.sync += quiet_for.eq(0)
        with m.Else():
            m.d.sync += quiet_for.eq(quiet_for + 1)

        doorbell = Signal()
        counting = Signal()  # the counters count
        m.d.sync += counting.eq(busy)
        counters = self._count(m, counting=counting, clear=doorbell)

        stalled, late = Signal(Fault), Signal(Fault)
        expired = Signal()
        m.d.sync += expired.eq(counting & (longest != 0)
                               & (counters[Counter.CYCLES] == longest))
        m.d.comb += [
            stalled.code.eq(Mux(self._watch(m, busy=busy, limit=limit,
                                            reload=written[Register.WATCHDOG]),
                                Error.WATCHDOG, Error.NONE)),
            stalled.index.eq(self.oldest),
            late.code.eq(Mux(expired & busy, Error.CYCLE_LIMIT, Error.NONE)),
            late.index.eq(self.oldest),
        ]
        strikes, error = self._judge(m, [*self.faults, stalled, late], clear=cleared,
                                     failed=failed)

        total    = Signal(32, reset_less=True)  # `count` at the doorbell
        reached  = Signal()
        ended    = Signal()
        finished = Signal()
        with m.If(~busy):
            m.d.sync += total.eq(self.count)
        # `completed` is of the last stream while `start` is high. A count of zero is never
        # reached: it is a fault that takes a few cycles to arrive.
        m.d.sync += reached.eq(self.completed == total)
        m.d.sync += ended.eq(busy & ~self.start & self.idle & (total != 0))
        m.d.comb += finished.eq(busy & reached & ended)

        m.d.comb += doorbell.eq(written[Register.CONTROL] & (bits[:2] == Control.START) &
                                ~busy & ~failed & ~resetting)
        m.d.sync += self.start.eq(doorbell)

        # Plain logic: as enables and resets these would take a level more. A fault wins over an end
        # that comes with it, and an end that comes with its acknowledgement was not seen by the
        # host and is not lost.
        acknowledged = Signal()
        m.d.comb += acknowledged.eq(doorbell | (written[Register.IRQ_CLEAR] & bits[0]))
        m.d.sync += [
            busy.eq((doorbell | (busy & ~finished)) & ~strikes & ~cleared),
            done.eq((finished | (done & ~acknowledged)) & ~strikes & ~cleared),
            pending.eq((finished | strikes | (pending & ~acknowledged)) & ~cleared),
        ]
        with m.If(written[Register.CONTROL] & ((bits & Control.RESET) != 0)):
            m.d.sync += resetting.eq(1)
        with m.If(quiet_for == QUIET_CYCLES):
            m.d.sync += self.core_reset.eq(1)
        # Faults that are held go away with the core's reset, so the state is cleared after it.
        with m.If(cleared):
            m.d.sync += [resetting.eq(0), quiet_for.eq(0)]

        # Reads ---------------------------------------------------------------------------------

        status = Signal(32)
        m.d.comb += status.eq(Mux(busy | resetting, Status.BUSY, 0) | Mux(done, Status.DONE, 0) |
                              Mux(failed, Status.ERROR, 0) | Mux(quiet, Status.QUIET, 0))
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
            Register.CYCLE_LIMIT:   longest,
        }
        for counter, value in counters.items():
            words[COUNTER_BASE + 4 * counter] = value
        for n, value in enumerate(config_words(self._config).values()):
            words[CONFIG_BASE + 4 * n] = value
        m.d.comb += target.read_data.eq(self._choose(m, words, target.read_word))

        return m

    def _choose(self, m: Module, words, address) -> Value:
        """The word of ``words``, by byte addresses, at ``address`` in words; two cycles later."""
        groups: dict[int, dict[int, Value]] = {}
        for byte_address, word in words.items():
            group, number = divmod(byte_address >> 2, _CHOICE)
            groups.setdefault(group, {})[number] = word
        # A few words at a time, by a copy of the address for each: it would have thousands of
        # sinks. All but the group that is meant are zero.
        choices = []
        for group, members in groups.items():
            number = register(m, address[:exact_log2(_CHOICE)], f"number_{group}", keep=True)
            meant  = register(m, address[exact_log2(_CHOICE):] == group, f"meant_{group}")
            chosen = Signal(32, name=f"chosen_{group}", reset_less=True)
            m.d.sync += chosen.eq(0)
            with m.Switch(number):
                for at, word in members.items():
                    with m.Case(at):
                        m.d.sync += chosen.eq(word)
            with m.If(~meant):
                m.d.sync += chosen.eq(0)
            choices.append(chosen)
        return reduce(or_, choices)

    def _judge(self, m: Module, faults, *, clear, failed) -> tuple[Signal, Any]:
        """Keeps the first fault, of the lowest number if several come at once. Sets ``failed`` from
        then on, until ``clear``; returns when it comes, and what it is (two cycles later)."""
        # Each source has a register that stops at its first fault, and only then it is decided
        # which one came first: faults come from the ends of long paths.
        came    = Signal(len(faults))
        first   = Signal(len(faults))
        strikes = Signal()
        blamed  = []
        error   = Signal(Fault)
        m.d.comb += strikes.eq(came.any() & ~failed)
        m.d.sync += failed.eq((failed | strikes) & ~clear)
        with m.If(strikes):
            m.d.sync += first.eq(came & -came)
        with m.If(clear):
            m.d.sync += first.eq(0)
        for number, fault in enumerate(faults):
            kept = Signal(Fault, name=f"fault_{number}", reset_less=True)
            m.d.sync += came[number].eq((came[number] | fault.code.any()) & ~clear)
            with m.If(~came[number]):
                m.d.sync += kept.eq(fault)
            blamed.append(Mux(first[number], Value.cast(kept), 0))
        m.d.sync += Value.cast(error).eq(reduce(or_, blamed))
        return strikes, error

    def _watch(self, m: Module, *, busy, limit, reload) -> Signal:
        """Returns when ``limit`` cycles have gone without progress."""
        left     = Signal(32, reset_less=True)
        reloaded = Signal()
        progress = Signal()
        enabled  = Signal()
        bites    = Signal()
        m.d.sync += [
            reloaded.eq(reload),
            progress.eq(self.progress),
            enabled.eq(limit != 0),
        ]
        with m.If(~busy | progress | reloaded):
            m.d.sync += left.eq(limit)
        with m.Elif(enabled):
            m.d.sync += left.eq(left - 1)
            m.d.comb += bites.eq(left == 1)
        return bites

    def _count(self, m: Module, *, counting, clear) -> dict[Counter, Signal]:
        """The performance counters. What they count is registered once, so that they are no load
        on the signals that move data; a read of theirs could not be answered before that."""
        counted = Signal.like(self.count_up)
        m.d.sync += counted.eq(self.count_up)
        values = {}
        for number, counter in enumerate(Counter if self._config.counters else [Counter.CYCLES]):
            if number % _CLEARED == 0:
                cleared = register(m, clear, f"clear_{number}", keep=True)
            values[counter] = value = Signal(32, name=f"counter_{counter.name.lower()}",
                                             reset_less=True)
            step = 1 if counter is Counter.CYCLES else counted[counter.name.lower()]
            m.d.sync += value.eq(value + (counting & step))
            with m.If(cleared):
                m.d.sync += value.eq(0)
        return values
