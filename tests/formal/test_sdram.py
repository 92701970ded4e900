"""The SDRAM controller keeps the chip's timing, whatever runs come and when.

The rules are those of a datasheet, stated anew here: how long ago each command was given to each
bank. The chip is a small one, with times that the controller could break: some commands are further
apart by themselves.
"""

from dataclasses import replace

import pytest
from amaranth.hdl import Assert, Module, Mux, Signal, Value
from formal import free

from weft.boards.sdram.chip import SdramChip, SdramTiming
from weft.boards.sdram.controller import SdramController
from weft.boards.sdram.signals import ALL_BANKS, Command

CLOCK_MHZ = 100
CHIP = SdramChip(
    name="small", bank_bits=1, row_bits=1, column_bits=2, data_width=8, cas_latency=2, t_ck=7,
    t_rcd=40, t_rp=20, t_ras=80, t_rc=100, t_rrd=15, t_wr=20, t_rfc=30, t_ras_max=100_000, t_mrd=2,
    refresh_ms=0.0016, startup_us=0.02, startup_refreshes=2)
BURST = 2  # words of a beat


class Since:
    """Cycles since something happened last, up to twelve; twelve before it ever has."""

    MOST = 12

    def __init__(self, m, happens, name):
        self.cycles = Signal(range(self.MOST + 1), init=self.MOST, name=name)
        m.d.sync += self.cycles.eq(Mux(happens, 1, Mux(self.cycles == self.MOST, self.MOST,
                                                       self.cycles + 1)))

    def __ge__(self, least):
        return self.cycles >= least


def spec(chip=CHIP, *, burst=BURST, built_for=None):
    """The rules of ``CHIP``, with the words of ``burst`` and the masks of ``chip``."""
    m = Module()
    dut = SdramController(SdramTiming(built_for or chip, CLOCK_MHZ),
                          beat_bits=burst * chip.data_width, beats=2, tag=1)
    m.submodules.dut = dut
    free(m, dut)

    pins = dut.chip
    given = {command: Value.cast(pins.command) == command.value for command in Command}
    everywhere = given[Command.PRECHARGE] & (pins.address & ALL_BANKS).any()
    opened = Signal(1 << CHIP.bank_bits)
    started = Signal()
    refreshed = Since(m, given[Command.REFRESH], "refreshed")
    set_up    = Since(m, given[Command.MODE], "set_up")
    activated = Since(m, given[Command.ACTIVATE], "activated")
    read      = Since(m, given[Command.READ], "read")
    accessed  = Since(m, given[Command.READ] | given[Command.WRITE], "accessed")
    rules = [
        given[Command.NOP] | ((refreshed >= 3) & (set_up >= 2)),
        ~(given[Command.READ] | given[Command.WRITE]) | (accessed >= burst),
        ~given[Command.WRITE] | (read >= CHIP.cas_latency + burst + 1),
        ~given[Command.ACTIVATE] | ((activated >= 2) & started),
        ~(given[Command.REFRESH] | given[Command.MODE]) | ~opened.any(),
    ]
    m.d.sync += started.eq(started | given[Command.MODE])
    for bank in range(1 << CHIP.bank_bits):
        here = pins.bank == bank
        opens  = given[Command.ACTIVATE] & here
        closes = everywhere | (given[Command.PRECHARGE] & here)
        reads, writes = (given[command] & here for command in (Command.READ, Command.WRITE))
        since_opened  = Since(m, opens, f"opened_{bank}")
        since_closed  = Since(m, closes, f"closed_{bank}")
        since_read    = Since(m, reads, f"read_{bank}")
        since_written = Since(m, writes, f"written_{bank}")
        with m.If(opens | closes):
            m.d.sync += opened[bank].eq(opens)
        rules += [
            ~opens | (~opened[bank] & (since_closed >= 2) & (since_opened >= 10)),
            ~(reads | writes) | (opened[bank] & (since_opened >= 4)),
            ~(closes & opened[bank]) | ((since_opened >= 8) & (since_read >= burst)
                                        & (since_written >= burst - 1 + 2)),
            ~(given[Command.REFRESH] | given[Command.MODE]) | (since_closed >= 2),
        ]
    # From the first word that is written to the last, and no longer, the controller drives.
    written = Since(m, given[Command.WRITE], "written")
    rules.append(pins.dq_oe == (given[Command.WRITE] | ~(written >= burst)))
    rules.append((pins.mask == 0) | chip.byte_masks)
    m.d.comb += [Assert(rule) for rule in rules]
    return m


DEPTH = 45  # cycles: the start, a refresh, and runs behind it


# The words of a beat, and whether bytes are masked, as the chips have them that boards carry.
@pytest.mark.parametrize("burst, byte_masks", [
    (2, True), *(pytest.param(*chip, marks=pytest.mark.slow) for chip in ((2, False), (4, True)))])
def test_timing(prove, burst, byte_masks):
    prove(spec(replace(CHIP, byte_masks=byte_masks, column_bits=1 + burst.bit_length() - 1),
               burst=burst), depth=DEPTH)


def test_masks_that_a_board_does_not_connect_are_found(refute):
    """The controller of a chip that has them, on such a board."""
    refute(spec(replace(CHIP, byte_masks=False), built_for=CHIP), depth=DEPTH)


WRONG = {
    "t_rcd": {"t_rcd": 10}, "t_rp": {"t_rp": 10}, "t_ras": {"t_ras": 10, "t_rc": 10},
    "t_wr": {"t_wr": 10}, "t_rfc": {"t_rfc": 20}, "cas_latency": {"cas_latency": 1},
}


@pytest.mark.parametrize("name", ["t_rcd", *(pytest.param(name, marks=pytest.mark.slow)
                                             for name in WRONG if name != "t_rcd")])
def test_wrong_timing_is_found(refute, name):
    refute(spec(replace(CHIP, **WRONG[name])), depth=DEPTH)
