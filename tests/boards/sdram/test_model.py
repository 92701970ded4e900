"""The model of the chip finds each rule that a controller can break."""

from dataclasses import replace

import pytest
from sdram_model import ModelChip

from weft.boards.sdram.chip import MT48LC16M16_CLASS, SdramTiming
from weft.boards.sdram.signals import ALL_BANKS, Command, mode_register

CHIP = replace(MT48LC16M16_CLASS, startup_us=1)
CLOCK_MHZ = 100
TIMING = SdramTiming(CHIP, CLOCK_MHZ)
BURST = 4

ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE = (
    Command.ACTIVATE, Command.READ, Command.WRITE, Command.PRECHARGE, Command.REFRESH, Command.MODE)


class Bench:
    """Commands, each some cycles after the one before."""

    def __init__(self, model, chip=CHIP):
        self.chip = ModelChip(model, chip, clock_mhz=CLOCK_MHZ, beat_bits=BURST * chip.data_width)
        self.shown = []

    def wait(self, cycles):
        for _ in range(cycles):
            self.shown.append(self.chip.step())
        return self

    def give(self, command, bank=0, address=0, *, after=1, **pins):
        self.wait(after - 1)
        self.shown.append(self.chip.step(command, bank, address, **pins))
        return self

    def write(self, bank, column, words, *, after=1, masks=(0,) * BURST):
        self.give(WRITE, bank, column, after=after, word=words[0], mask=masks[0], drives=True)
        for word, mask in zip(words[1:], masks[1:], strict=True):
            self.give(Command.NOP, word=word, mask=mask, drives=True)
        return self

    def start(self, *, startup=TIMING.startup, refreshes=CHIP.startup_refreshes, all_banks=True,
              mode=None, rfc=TIMING.rfc):
        self.give(PRECHARGE, address=ALL_BANKS if all_banks else 0, after=startup + 1)
        for number in range(refreshes):
            self.give(REFRESH, after=rfc if number else TIMING.rp)
        mode = mode_register(CHIP, BURST) if mode is None else mode
        return self.give(MODE, address=mode, after=rfc if refreshes else TIMING.rp)

    def opened(self, bank=0, row=5):
        return self.start().give(ACTIVATE, bank, row, after=CHIP.t_mrd)


T = TIMING
WORDS = [0x1234, 0x5678, 0x9abc, 0xdef0]


def written(bench):
    return bench.opened().write(0, 0, WORDS, after=T.rcd)


KEPT = {
    "read": lambda b: b.opened().give(READ, after=T.rcd).give(PRECHARGE, after=BURST),
    "reads without a gap": lambda b: b.opened().give(READ, after=T.rcd).give(READ, after=BURST)
                                      .wait(9),
    "write and read": lambda b: written(b).give(READ).give(PRECHARGE, after=BURST),
    "read and write": lambda b: b.opened().give(READ, after=T.rcd).write(
        0, 0, WORDS, after=CHIP.cas_latency + BURST + 1).give(PRECHARGE, after=T.wr),
    "close and open": lambda b: b.opened().give(PRECHARGE, after=T.ras).give(ACTIVATE, after=T.rp),
    "two banks": lambda b: b.opened().give(ACTIVATE, 1, after=T.rrd).give(READ, 0, after=T.rcd)
                            .give(READ, 1, after=BURST).wait(9),
    "refresh": lambda b: b.opened().give(PRECHARGE, address=ALL_BANKS, after=T.ras)
                          .give(REFRESH, after=T.rp).give(ACTIVATE, after=T.rfc),
    "eight refreshes late": lambda b: b.start().wait(8 * T.refi),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_allowed(model, name):
    assert KEPT[name](Bench(model)).chip.error == ""


BROKEN = {
    "power-up": lambda b: b.start(startup=TIMING.startup - 1),
    "start-up, precharge": lambda b: b.start(all_banks=False),
    "start-up, refreshes": lambda b: b.start(refreshes=CHIP.startup_refreshes - 1),
    "start-up, mode": lambda b: b.wait(200).give(ACTIVATE),
    "mode register": lambda b: b.start(mode=mode_register(CHIP, 8)),
    "tMRD": lambda b: b.start().give(ACTIVATE, after=CHIP.t_mrd - 1),
    "tRFC": lambda b: b.start(rfc=T.rfc - 1),
    "tRFC, ACTIVATE": lambda b: b.start().give(REFRESH, after=T.rfc).give(ACTIVATE,
                                                                          after=T.rfc - 1),
    "tRCD, READ": lambda b: b.opened().give(READ, after=T.rcd - 1),
    "tRCD, WRITE": lambda b: b.opened().write(0, 0, WORDS, after=T.rcd - 1),
    "tRAS": lambda b: b.opened().give(PRECHARGE, after=T.ras - 1),
    "tRP": lambda b: b.opened().give(PRECHARGE, after=T.ras).give(ACTIVATE, after=T.rp - 1),
    "tRP, REFRESH": lambda b: b.opened().give(PRECHARGE, after=T.ras).give(REFRESH,
                                                                           after=T.rp - 1),
    "tRC": lambda b: Bench(b.model, replace(CHIP, t_rc=90)).opened().give(
        PRECHARGE, after=T.ras).give(ACTIVATE, after=T.rp),
    "tRRD": lambda b: b.opened().give(ACTIVATE, 1, after=T.rrd - 1),
    "tWR": lambda b: written(b).wait(2 * T.ras).write(0, 8, WORDS).give(PRECHARGE, after=T.wr - 1),
    "tRAS, longest": lambda b: Bench(b.model, replace(CHIP, refresh_ms=1000)).opened().give(
        PRECHARGE, after=10_001),
    "bank state, READ": lambda b: b.start().give(READ, after=9),
    "bank state, ACTIVATE": lambda b: b.opened().give(ACTIVATE, after=9),
    "bank state, REFRESH": lambda b: b.opened().give(REFRESH, after=9),
    "burst, READ": lambda b: b.opened().give(READ, after=T.rcd).give(READ, after=BURST - 1),
    "burst, PRECHARGE": lambda b: b.opened().wait(T.ras).give(READ).give(PRECHARGE,
                                                                        after=BURST - 1),
    "data lines, turned": lambda b: b.opened().give(READ, after=T.rcd).write(
        0, 0, WORDS, after=CHIP.cas_latency + BURST),
    "data lines, nobody": lambda b: b.opened().give(WRITE, after=T.rcd),
    "data lines, nothing": lambda b: b.opened().give(Command.NOP, drives=True),
    "data lines, DQM": lambda b: b.opened().give(READ, after=T.rcd).give(
        Command.NOP, mask=1, after=2).wait(9),
    "address, column": lambda b: b.opened().give(READ, address=1 << 10, after=T.rcd),
    "refresh": lambda b: b.start().wait(9 * T.refi + 10),
    "command": lambda b: b.opened().give(1),
    "data lines, no DQM": lambda b: Bench(b.model, replace(CHIP, byte_masks=False)).opened().write(
        0, 0, WORDS, after=T.rcd, masks=(0, 1, 0, 0)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_is_found(model, name):
    bench = Bench(model)
    bench.model = model
    error = (BROKEN[name](bench) or bench).chip.error
    rule = name.rpartition(", ")[0] or name
    assert error.startswith(f"{rule if name != 'tRAS, longest' else name}, in cycle "), error


def test_message_names_rule_bank_and_cycle(model):
    bench = Bench(model).opened(bank=2)
    bench.give(READ, 2, after=2)
    cycle = T.startup + T.rp + CHIP.startup_refreshes * T.rfc + CHIP.t_mrd + 2
    assert bench.chip.error == (f"tRCD, in cycle {cycle}: READ of bank 2 after 20.0 ns, must be "
                                f"21.0 ns at least")


def test_words_come_and_go(model):
    bench = written(Bench(model))
    bench.write(0, 4, WORDS[::-1], masks=(1, 2, 3, 0))
    old = bench.chip.read(2 * (512 * 4 * 5 + 4), 8)
    del bench.shown[:]
    bench.give(READ, address=2).give(READ, address=4, after=BURST).wait(9)
    # From the cycle after CAS latency - 1 on; a burst wraps within its block.
    start = CHIP.cas_latency - 1
    assert bench.shown[:start] == [None] * start
    assert bench.shown[start:start + 4] == [WORDS[2], WORDS[3], WORDS[0], WORDS[1]]
    assert bench.shown[start + 4:start + 8] == [int.from_bytes(old[i:i + 2], "little")
                                                for i in range(0, 8, 2)]
    assert bench.shown[start + 8:] == [None] * (len(bench.shown) - start - 8)
    assert old[1] == 0xde and old[2] == 0xbc and old[6:] == bytes([0x34, 0x12])
    assert bench.chip.error == ""


def test_words_of_32_bits_come_and_go(model):
    bench = Bench(model, replace(CHIP, data_width=32)).opened()
    words = [word << 16 | ~word & 0xffff for word in WORDS]
    bench.write(0, 8, words, after=T.rcd, masks=(0, 8, 1, 6))
    old = bench.chip.read(4 * (512 * 4 * 5 + 8), 16)
    del bench.shown[:]
    bench.give(READ, address=8).wait(9)
    start = CHIP.cas_latency - 1
    assert bench.shown[start] == words[0]
    assert bench.shown[start + 1] & 0xffffff == words[1] & 0xffffff
    assert bench.shown[start + 2] >> 8 == words[2] >> 8
    assert bench.shown[start + 3] & 0xff0000ff == words[3] & 0xff0000ff
    assert bench.shown[start:start + 4] == [int.from_bytes(old[i:i + 4], "little")
                                            for i in range(0, 16, 4)]
    assert bench.chip.error == ""


def test_reset_asks_for_a_new_start(model):
    bench = written(Bench(model))
    bench.chip.reset()
    assert bench.give(ACTIVATE, after=500).chip.error.startswith("start-up, ")
    assert bench.chip.read(2 * 512 * 4 * 5, 2) == bytes([0x34, 0x12])


# A chip of few rows, which are all refreshed in 16 us.
SHORT = replace(CHIP, row_bits=4, refresh_ms=0.016)


def held(model, cycles, *, broken, every=0):
    """What a row holds of what was written to it, so many cycles later; every so many of them it is
    opened."""
    bench = Bench(model, SHORT).start().give(ACTIVATE, 1, 5, after=CHIP.t_mrd)
    if broken:
        bench.chip.break_refresh()
    bench.write(1, 0, [0xffff] * BURST, after=T.rcd).give(
        PRECHARGE, address=ALL_BANKS, after=T.wr + T.ras)
    start, used = 0, 0
    while start < cycles:
        bench.give(REFRESH, after=T.rp)
        start += T.rp + 90
        bench.wait(90)
        if every and start - used > every:
            bench.give(ACTIVATE, 1, 5).give(PRECHARGE, address=ALL_BANKS, after=T.ras).wait(T.rp)
            used = start
    assert bench.chip.error == ""
    return bench.chip.read((5 * 4 + 1) * 1024, 2 * BURST)


@pytest.mark.parametrize("broken, cycles, every, kept", [
    (False, 12_000, 0, True), (True, 3_000, 0, True), (True, 4_000, 0, False),
    (True, 12_000, 2_000, True)])
def test_a_row_that_is_not_refreshed_loses_bits(model, broken, cycles, every, kept):
    """Within the time for all rows and what a controller may be late, 33 us, it does not; nor while
    it is used."""
    assert (held(model, cycles, broken=broken, every=every) == b"\xff" * 2 * BURST) == kept
