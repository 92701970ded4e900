"""The control port: registers, doorbell, errors, limits of time, interrupt and counters."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import *
from amaranth.lib import wiring
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
from weft.hw.lib.delay import register

from .core_control import CoreControl

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
    meanwhile, so it also aborts a command stream; then the core is reset, and busy, done, error and
    interrupt are cleared. The other registers keep their values. If STATUS never shows QUIET, the
    memory owes a response and only a reset of the whole system helps. START is ignored while a
    RESET waits, and when it is written together with one.

    The registers are 32 bits wide; COMMAND_ADDR, COMMAND_ADDRH and COMMAND_COUNT may be written
    for the next stream as soon as the doorbell has been answered.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        What the configuration ROM tells.
    faults : :class:`int`
        Sources of faults in the core, at least 1.

    Members
    -------
    s_axi : :py:`In(LiteSignature())`
        The bus.
    irq : :py:`Out(1)`
        High after the end of a stream, good or bad, until acknowledged; gated by IRQ_ENABLE.
    core : :py:`Out(CoreControl(faults=faults))`
        The core. ``count_up`` is ignored if the configuration has no counters.

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
        self._config = config
        super().__init__({
            "s_axi": In(LiteSignature()),
            "irq":   Out(1),
            "core":  Out(CoreControl(faults=faults)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.target = target = LiteTarget()
        connect(m, flipped(self.s_axi), target.bus)

        enable  = Signal()
        limit   = Signal(32, init=WATCHDOG_CYCLES)
        longest = Signal(32)  # run, in cycles
        settings: dict[int, Any] = {
            Register.COMMAND_ADDR:  self.core.address[:32],
            Register.COMMAND_ADDRH: self.core.address[32:],
            Register.COMMAND_COUNT: self.core.count,
            Register.IRQ_ENABLE:    enable,
            Register.WATCHDOG:      limit,
            Register.CYCLE_LIMIT:   longest,
        }
        written, bits = self._write(m, target, settings)

        busy    = Signal()
        done    = Signal()
        failed  = Signal()
        pending = Signal()  # an end that is not acknowledged
        m.d.sync += self.irq.eq(pending & enable)

        quiet = Signal()
        m.d.sync += quiet.eq(self.core.quiet)
        resetting, cleared = self._reset(
            m, asked=written[Register.CONTROL] & ((bits & Control.RESET) != 0), quiet=quiet)
        m.d.sync += self.core.halt.eq(failed | resetting)

        doorbell = Signal()
        m.d.comb += doorbell.eq(written[Register.CONTROL] & (bits[:2] == Control.START) &
                                ~busy & ~failed & ~resetting)
        m.d.sync += self.core.start.eq(doorbell)
        finished = self._find_end(m, busy=busy)

        counting = Signal()  # the counters count
        m.d.sync += counting.eq(busy)
        counters = self._count(m, counting=counting, clear=doorbell)
        expired  = Signal()
        m.d.sync += expired.eq(counting & (longest != 0)
                               & (counters[Counter.CYCLES] == longest))
        stalled = self._watch(m, busy=busy, limit=limit, reload=written[Register.WATCHDOG])
        failing, error = self._find_fault(m, [
            *self.core.faults,
            self._timeout(m, "stalled", stalled, Error.WATCHDOG),
            self._timeout(m, "late", expired & busy, Error.CYCLE_LIMIT),
        ], clear=cleared, failed=failed)

        # Plain logic: as enables and resets these would take a level more. A fault wins over an end
        # that comes with it, and an end that comes with its acknowledgement was not seen by the
        # host and is not lost.
        acknowledged = Signal()
        m.d.comb += acknowledged.eq(doorbell | (written[Register.IRQ_CLEAR] & bits[0]))
        m.d.sync += [
            busy.eq((doorbell | (busy & ~finished)) & ~failing & ~cleared),
            done.eq((finished | (done & ~acknowledged)) & ~failing & ~cleared),
            pending.eq((finished | failing | (pending & ~acknowledged)) & ~cleared),
        ]

        status = Signal(32)
        m.d.comb += status.eq(Mux(busy | resetting, Status.BUSY, 0) | Mux(done, Status.DONE, 0) |
                              Mux(failed, Status.ERROR, 0) | Mux(quiet, Status.QUIET, 0))
        words: dict[Any, Any] = {
            **settings,
            Register.ID:          DEVICE_ID,
            Register.VERSION:     VERSION,
            Register.STATUS:      status,
            Register.ERROR:       error.code,
            Register.ERROR_INDEX: error.index,
            Register.COMPLETED:   self.core.completed,
            **{COUNTER_BASE + 4 * counter: value for counter, value in counters.items()},
            **{CONFIG_BASE + 4 * n: value
               for n, value in enumerate(config_words(self._config).values())},
        }
        m.d.comb += target.read_data.eq(self._choose(m, words, target.read_word))

        return m

    def _write(self, m: Module, target: LiteTarget,
               settings: dict[int, Any]) -> tuple[dict[int, Signal], Signal]:
        """Writes the registers that keep what is written. Returns which register was written in
        the cycle before, and the bits that were written as 1."""
        written: dict[int, Signal] = {
            register: Signal(name=f"written_{register.name.lower()}") for register in Register}
        for address, hit in written.items():
            m.d.sync += hit.eq(target.write & (target.write_word == address >> 2))
        bits = Signal(32)
        m.d.comb += bits.eq(target.write_data & target.write_mask)
        for address, value in settings.items():
            with m.If(written[address]):
                m.d.sync += value.eq((value & ~target.write_mask) | bits)
        return written, bits

    def _reset(self, m: Module, *, asked: Value, quiet: Value) -> tuple[Signal, Signal]:
        """Resets the core once the memory is quiet. Returns whether a reset is going on, and when
        the core has been reset: only then is the state of this component cleared, since faults
        that are held go away with the core's reset."""
        resetting = Signal()
        cleared   = Signal()  # the core takes a cycle to pass its reset on
        quiet_for = Signal(range(QUIET_CYCLES + 1))
        m.d.sync += [self.core.reset.eq(0), cleared.eq(self.core.reset)]
        with m.If(~quiet | ~resetting):
            m.d.sync += quiet_for.eq(0)
        with m.Else():
            m.d.sync += quiet_for.eq(quiet_for + 1)
        with m.If(asked):
            m.d.sync += resetting.eq(1)
        with m.If(quiet_for == QUIET_CYCLES):
            m.d.sync += self.core.reset.eq(1)
        with m.If(cleared):
            m.d.sync += [resetting.eq(0), quiet_for.eq(0)]
        return resetting, cleared

    def _find_end(self, m: Module, *, busy: Value) -> Signal:
        """Returns when all commands of the stream are done."""
        core     = self.core
        total    = Signal(32, reset_less=True)  # `count` at the doorbell
        reached  = Signal()
        ended    = Signal()
        finished = Signal()
        with m.If(~busy):
            m.d.sync += total.eq(core.count)
        # `completed` is of the last stream while `start` is high. A count of zero is never
        # reached: it is a fault that takes a few cycles to arrive.
        m.d.sync += reached.eq(core.completed == total)
        m.d.sync += ended.eq(busy & ~core.start & core.idle & (total != 0))
        m.d.comb += finished.eq(busy & reached & ended)
        return finished

    def _timeout(self, m: Module, name: str, condition: Value, error: Error) -> Any:
        """A fault of the oldest command while ``condition`` holds."""
        fault = Signal(Fault, name=name)
        m.d.comb += [
            fault.code.eq(Mux(condition, error, Error.NONE)),
            fault.index.eq(self.core.oldest),
        ]
        return fault

    def _choose(self, m: Module, words: dict[Any, Any], address: Value) -> Value:
        """The word of ``words``, by byte addresses, at ``address`` in words; two cycles later."""
        groups: dict[int, dict[int, Value]] = {}
        for byte_address in sorted(words):
            group, number = divmod(byte_address >> 2, _CHOICE)
            groups.setdefault(group, {})[number] = words[byte_address]
        # A few words at a time, each group by its own copy of the address, which would have
        # thousands of sinks. All groups but the addressed one give zero.
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

    def _find_fault(self, m: Module, faults: Any, *, clear: Value,
                    failed: Signal) -> tuple[Signal, Any]:
        """Keeps the first fault, of the lowest number if several come at once. Sets ``failed`` from
        then on, until ``clear``. Returns when the fault comes, and which it is (two cycles
        later)."""
        # Faults come at the end of long paths: each source has a register that keeps its own first
        # fault, and the first of all is found a cycle later.
        came    = Signal(len(faults))
        first   = Signal(len(faults))
        failing = Signal()
        chosen  = []
        error   = Signal(Fault)
        m.d.comb += failing.eq(came.any() & ~failed)
        m.d.sync += failed.eq((failed | failing) & ~clear)
        with m.If(failing):
            m.d.sync += first.eq(came & -came)
        with m.If(clear):
            m.d.sync += first.eq(0)
        for number, fault in enumerate(faults):
            kept = Signal(Fault, name=f"fault_{number}", reset_less=True)
            m.d.sync += came[number].eq((came[number] | fault.code.any()) & ~clear)
            with m.If(~came[number]):
                m.d.sync += kept.eq(fault)
            chosen.append(Mux(first[number], Value.cast(kept), 0))
        m.d.sync += Value.cast(error).eq(reduce(or_, chosen))
        return failing, error

    def _watch(self, m: Module, *, busy: Value, limit: Value, reload: Value) -> Signal:
        """Returns when ``limit`` cycles have gone without progress."""
        left     = Signal(32, reset_less=True)
        reloaded = Signal()
        progress = Signal()
        enabled  = Signal()
        expires  = Signal()
        m.d.sync += [
            reloaded.eq(reload),
            progress.eq(self.core.progress),
            enabled.eq(limit != 0),
        ]
        with m.If(~busy | progress | reloaded):
            m.d.sync += left.eq(limit)
        with m.Elif(enabled):
            m.d.sync += left.eq(left - 1)
            m.d.comb += expires.eq(left == 1)
        return expires

    def _count(self, m: Module, *, counting: Value, clear: Value) -> dict[Counter, Signal]:
        """The performance counters. What they count is registered once, so that they are no load
        on the signals that move data; a read of theirs could not be answered before that."""
        counted = Signal.like(self.core.count_up)
        m.d.sync += counted.eq(self.core.count_up)
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
