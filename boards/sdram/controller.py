"""Commands for an SDRAM chip: start-up, refresh, rows that stay open, and bursts without a gap."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay

from .banks import PrechargeTimers
from .chip import SdramTiming
from .signals import ALL_BANKS, PIN_CYCLES, Command, SdramSignature, mode_register

__all__ = ["SdramController", "run_layout"]


def run_layout(timing: SdramTiming, *, beat_bits: int, beats: int, tag: Any) -> data.StructLayout:
    """A run of consecutive beats in one row: ``write`` or not, ``row``, ``bank``, ``column`` of the
    first beat (in beats), how many ``beats`` less one, and a ``tag`` for who asked."""
    chip = timing.chip
    return data.StructLayout({
        "write": 1, "row": chip.row_bits, "bank": chip.bank_bits,
        "column": chip.column_bits - exact_log2(beat_bits // chip.data_width),
        "beats": exact_log2(beats), "tag": tag})


class SdramController(wiring.Component):
    """Executes runs of beats in order, each beat one READ or WRITE whose burst is as long.

    While one run is on its way the row of the next is opened, if it lies in another bank: between
    the commands of two beats there is room for others. Rows stay open until another one of their
    bank is needed, or the chip is refreshed. So runs one behind the other keep the data bus busy
    without a gap if the next row is open, or there was time to open it. A write behind a read waits
    for the chip to leave the bus.

    Parameters
    ----------
    timing : :class:`~weft.boards.sdram.chip.SdramTiming`
    beat_bits : :class:`int`
        Bits of a beat: 2, 4 or 8 words.
    beats : :class:`int`
        Longest run. A power of 2.
    tag : shape-like

    Members
    -------
    runs : :py:`In(stream.Signature(run_layout(...)))`
    ready : :py:`Out(1)`
        The chip has started; until then no run is taken.
    issue : :py:`Out(1)`
        Pulse: a beat is read, or ``write_data`` and ``write_mask`` are taken.
    issue_write, issue_last, issue_tag : :py:`Out`
        Of the beat that is issued, or comes next: it is written; it is the last of its run; the tag
        of that.
    write_data, write_mask : :py:`In`
        The beat to write, and its bytes that are left as they are, of a chip without byte masks all
        or none; there whenever a beat of a run that writes is issued.
    read_valid : :py:`Out(1)`
        Pulse: a beat arrives, :attr:`read_latency` cycles after it was issued. Nothing can hold it
        back, or a refresh would have to wait.
    read_data : :py:`Out`
    chip : :py:`Out(SdramSignature(...))`
        Registers, but for ``dq_i``.

    Attributes
    ----------
    REFRESHES_OWED : :class:`int`
        So many of them are never late at a time.

    Raises
    ------
    ValueError
        If a beat is of another number of words.
    """

    REFRESHES_OWED = 8

    def __init__(self, timing: SdramTiming, *, beat_bits: int, beats: int, tag: Any):
        chip = timing.chip
        if beat_bits not in [words * chip.data_width for words in (2, 4, 8)]:
            raise ValueError(f"Bits of a beat must be 2, 4 or 8 words of {chip.data_width} bits, "
                             f"not {beat_bits!r}")
        self._timing = timing
        self._burst = beat_bits // chip.data_width
        super().__init__({
            "runs":        In(stream.Signature(run_layout(timing, beat_bits=beat_bits, beats=beats,
                                                          tag=tag))),
            "ready":       Out(1),
            "issue":       Out(1),
            "issue_write": Out(1),
            "issue_last":  Out(1),
            "issue_tag":   Out(tag),
            "write_data":  In(beat_bits),
            "write_mask":  In(beat_bits // 8),
            "read_valid":  Out(1),
            "read_data":   Out(beat_bits),
            "chip":        Out(SdramSignature(chip)),
        })

    @property
    def read_latency(self) -> int:
        """Cycles from a beat that is issued until it arrives: the register of the command, those of
        the pins, the chip's own, and the words of the beat."""
        return 1 + 2 * PIN_CYCLES + self._timing.chip.cas_latency + self._burst

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        banks = 1 << self._timing.chip.bank_bits

        m.submodules.timers = self._timers = PrechargeTimers(self._timing, burst=self._burst)
        self._open = Signal(banks)  # a row of the bank
        self._rows = Array(Signal(self._timing.chip.row_bits, name=f"row_{bank}", reset_less=True)
                           for bank in range(banks))
        self._next   = Signal.like(self.runs.payload, reset_less=True)  # its row is being opened
        self._now    = Signal.like(self.runs.payload, reset_less=True)  # its beats are issued
        self._active = Signal()  # beats of `now` are left
        # The FSM does nothing until so many cycles have passed.
        self._wait   = Signal(range(self._timing.startup + 1), init=self._timing.startup)
        self._waited = Signal()
        self._due    = Signal()  # a refresh

        m.d.sync += self.chip.command.eq(Command.NOP)
        with m.If(~self._waited):
            m.d.sync += [self._wait.eq(self._wait - 1), self._waited.eq(self._wait == 1)]
        refreshed = self._count_refreshes(m)
        self._issue(m)
        with m.FSM():
            self._start(m)
            self._prepare(m)
            self._refresh(m, refreshed)
        self._move_words(m)
        return m

    def _hold(self, cycles: int) -> list[Any]:
        """From now on, so many cycles pass until the FSM does something in its next state."""
        return [self._wait.eq(cycles - 1), self._waited.eq(cycles == 1)]

    def _start(self, m: Module) -> None:
        """The start-up sequence of the chip, without its first wait."""
        timing, chip = self._timing, self._timing.chip
        left = Signal(range(chip.startup_refreshes), init=chip.startup_refreshes - 1)
        with m.State("START"):
            with m.If(self._waited):
                m.d.sync += [self.chip.command.eq(Command.PRECHARGE),
                             self.chip.address.eq(ALL_BANKS), *self._hold(timing.rp)]
                m.next = "START_REFRESH"
        with m.State("START_REFRESH"):
            with m.If(self._waited):
                m.d.sync += [self.chip.command.eq(Command.REFRESH), left.eq(left - 1),
                             *self._hold(timing.rfc)]
                with m.If(left == 0):
                    m.next = "MODE"
        with m.State("MODE"):
            with m.If(self._waited):
                m.d.sync += [self.chip.command.eq(Command.MODE), self.chip.bank.eq(0),
                             self.chip.address.eq(mode_register(chip, self._burst)),
                             self.ready.eq(1), *self._hold(chip.t_mrd)]
                m.next = "IDLE"

    def _prepare(self, m: Module) -> None:
        """Opens the row of the next run, and hands it over."""
        timing, coming = self._timing, self._next
        found  = Signal()  # its row is open
        other  = Signal()  # another one of the bank is
        in_use = Signal()  # by the run before it
        m.d.sync += [
            found.eq(self._open.bit_select(coming.bank, 1)
                     & (self._rows[coming.bank] == coming.row)),
            other.eq(self._open.bit_select(coming.bank, 1)),
            in_use.eq(self._active & (self._now.bank == coming.bank)),
        ]
        with m.State("IDLE"):
            m.d.comb += self.runs.ready.eq(self._waited & ~self._due)
            with m.If(self._waited & self._due):
                m.next = "DRAIN"
            with m.Elif(self.runs.valid & self.runs.ready):
                m.d.sync += coming.eq(self.runs.payload)
                m.next = "LOOK"
        with m.State("LOOK"):
            m.next = "DECIDE"
        with m.State("DECIDE"):
            m.next = "OPEN"
            with m.If(other):
                m.next = "CLOSE"
            with m.If(found):
                m.next = "HAND"
        with m.State("CLOSE"):
            # Both flags are those of a cycle ago; neither rises meanwhile.
            with m.If(self._timers.ready.bit_select(coming.bank, 1) & ~in_use & ~self.issue):
                m.d.sync += [self.chip.command.eq(Command.PRECHARGE), self.chip.address.eq(0),
                             self.chip.bank.eq(coming.bank),
                             self._open.bit_select(coming.bank, 1).eq(0), *self._hold(timing.rp)]
                m.next = "OPEN"
        with m.State("OPEN"):
            with m.If(self._waited & ~self.issue):
                # Four cycles pass from a HAND to the next ACTIVATE, and one to the first beat.
                m.d.sync += [self.chip.command.eq(Command.ACTIVATE),
                             self.chip.address.eq(coming.row), self.chip.bank.eq(coming.bank),
                             self._open.bit_select(coming.bank, 1).eq(1),
                             self._rows[coming.bank].eq(coming.row),
                             *self._hold(max(1, timing.rcd - 1, timing.rrd - 4))]
                m.d.comb += self._timers.activate.eq(1)
                m.next = "HAND"
        m.d.comb += self._timers.activated.eq(coming.bank)
        with m.State("HAND"):
            with m.If(self._waited & (~self._active | (self.issue & self.issue_last))):
                m.d.sync += [self._now.eq(coming), self.issue_last.eq(coming.beats == 0),
                             self._active.eq(1)]
                m.next = "IDLE"

    def _count_refreshes(self, m: Module) -> Signal:
        """Says when a refresh is due; what is returned is to pulse when one is given."""
        refreshed = Signal()
        timer = Signal(range(self._timing.refi))
        tick  = Signal()
        owed  = Signal(range(self.REFRESHES_OWED + 1))
        with m.If(self.ready):
            m.d.sync += [timer.eq(Mux(tick, 0, timer + 1)),
                         tick.eq(timer == self._timing.refi - 2)]
            m.d.sync += [owed.eq(owed + tick - refreshed),
                         self._due.eq(tick | (owed > 1) | ((owed != 0) & ~refreshed))]
        require(m, owed < self.REFRESHES_OWED, "refreshes are given in time")
        return refreshed

    def _refresh(self, m: Module, refreshed: Signal) -> None:
        with m.State("DRAIN"):
            with m.If(~self._active & self._timers.ready.all()):
                m.d.sync += [self.chip.command.eq(Command.PRECHARGE),
                             self.chip.address.eq(ALL_BANKS), self._open.eq(0),
                             *self._hold(self._timing.rp)]
                m.next = "REFRESH"
        with m.State("REFRESH"):
            with m.If(self._waited):
                m.d.sync += [self.chip.command.eq(Command.REFRESH), *self._hold(self._timing.rfc)]
                m.d.comb += refreshed.eq(1)
                m.next = "IDLE"

    def _issue(self, m: Module) -> None:
        """A beat at a time, as fast as the data bus allows."""
        now, last = self._now, self.issue_last
        after_read = self._timing.chip.cas_latency + self._burst
        slot   = _Pause(m, "slot", self._burst - 1)     # the words of the beat before
        turned = _Pause(m, "turned", after_read)        # the chip has left the bus, for a cycle
        m.d.comb += [
            self.issue.eq(self._active & slot.over & (~now.write | turned.over)),
            self.issue_write.eq(now.write),
            self.issue_tag.eq(now.tag),
            slot.begins.eq(self.issue),
            turned.begins.eq(self.issue & ~now.write),
            self._timers.read.eq(self.issue & ~now.write),
            self._timers.write.eq(self.issue & now.write),
            self._timers.accessed.eq(now.bank),
        ]
        write: Any = Command.WRITE
        if not self._timing.chip.byte_masks:
            write = Mux(self.write_mask.any(), Command.NOP, Command.WRITE)
        with m.If(self.issue):
            m.d.sync += [
                self.chip.command.eq(Mux(now.write, write, Command.READ)),
                self.chip.bank.eq(now.bank),
                self.chip.address.eq(now.column << exact_log2(self._burst)),
            ]
            m.d.sync += [now.column.eq(now.column + 1), now.beats.eq(now.beats - 1),
                         last.eq(now.beats == 1)]
            with m.If(last):  # unless the next run is handed over in this cycle
                m.d.sync += self._active.eq(0)

    def _move_words(self, m: Module) -> None:
        """Beats become words, and words beats."""
        chip = self.chip
        word, mask_bits = len(chip.dq_o), len(chip.mask)
        beat  = Signal.like(self.write_data, reset_less=True)
        mask  = Signal.like(self.write_mask)
        drive = Signal(self._burst)
        shown: Any = mask
        driven: Any = -1
        if not self._timing.chip.byte_masks:
            shown, driven = 0, Mux(self.write_mask.any(), 0, Const(-1, self._burst))
            require(m, ~(self.issue & self.issue_write) | self.write_mask.all()
                    | ~self.write_mask.any(), "a beat is written whole, or not at all")
        m.d.comb += [chip.dq_o.eq(beat), chip.mask.eq(shown), chip.dq_oe.eq(drive)]
        with m.If(self.issue & self.issue_write):
            m.d.sync += [beat.eq(self.write_data), mask.eq(self.write_mask), drive.eq(driven)]
        with m.Else():
            m.d.sync += [beat.eq(beat >> word), mask.eq(mask >> mask_bits), drive.eq(drive >> 1)]

        m.d.sync += self.read_data.eq(Cat(self.read_data[word:], chip.dq_i))
        m.d.comb += self.read_valid.eq(delay(m, self.issue & ~self.issue_write, self.read_latency,
                                             name="reading"))


class _Pause:
    """``over`` falls for so many cycles after ``begins``; a register."""

    def __init__(self, m: Module, name: str, cycles: int):
        self.begins = Signal(name=f"{name}_begins")
        self.over   = Signal(name=f"{name}_over", init=1)
        left = Signal(range(cycles + 1), name=f"{name}_left")
        with m.If(self.begins):
            m.d.sync += [left.eq(cycles), self.over.eq(0)]
        with m.Elif(~self.over):
            m.d.sync += [left.eq(left - 1), self.over.eq(left == 1)]
