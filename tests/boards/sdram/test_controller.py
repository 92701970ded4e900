"""The controller at the model of its chip, run by run."""

# amaranth: UnusedElaboratable=no
import random
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from sdram_model import ModelChip, connect_chip
from stream_bench import make_simulator, stream_put

from weft.boards.sdram.chip import M12L64322A_UNMASKED, MT48LC16M16_CLASS, SdramTiming
from weft.boards.sdram.controller import SdramController
from weft.hw.isa.config import ConfigError

# Rows and the start are short, and refreshes come often.
SMALL = {"row_bits": 4, "column_bits": 6, "startup_us": 1, "refresh_ms": 0.05}
CHIP = replace(MT48LC16M16_CLASS, **SMALL)
WIDE = replace(M12L64322A_UNMASKED, **SMALL)
CLOCK_MHZ = 100
BEATS = 8


def run(model, runs, *, chip=CHIP, real=CHIP, words=4, clock_mhz=CLOCK_MHZ, idle=0):
    """Executes ``runs`` and compares what is read; the cycles in which beats were issued."""
    beat_bits = words * chip.data_width
    timing = SdramTiming(chip, clock_mhz)
    dut = SdramController(timing, beat_bits=beat_bits, beats=BEATS, tag=8)
    simulator = make_simulator(dut)
    attached = ModelChip(model, real, clock_mhz=clock_mhz, beat_bits=beat_bits)
    connect_chip(simulator, attached, dut.chip)
    rng = random.Random(7)
    memory = bytearray(attached.read(0, real.size))
    lanes = beat_bits // 8
    beats = []      # in the order in which they are issued: address, data, mask, last, tag
    expected = []   # what the reads among them yield
    for number, each in enumerate(runs):
        base = (((each["row"] << chip.bank_bits | each["bank"]) << chip.column_bits)
                * chip.data_width // 8)
        for beat in range(each["beats"] + 1):
            address = base + lanes * (each["column"] + beat)
            data, mask = rng.getrandbits(beat_bits), rng.getrandbits(lanes)
            if not chip.byte_masks:  # all bytes of a beat, or none
                mask = (mask & 1) * ((1 << lanes) - 1)
            beats.append((data, mask, beat == each["beats"], number & 0xff))
            if each["write"]:
                for lane in range(lanes):
                    if not mask >> lane & 1:
                        memory[address + lane] = data >> 8 * lane & 0xff
            else:
                expected.append(int.from_bytes(memory[address:address + lanes], "little"))
    issued, read = [], []

    async def feed(ctx):
        for number, each in enumerate(runs):
            await stream_put(ctx, dut.runs, {**each, "tag": number & 0xff})

    async def follow(ctx):
        cycle, reads = 0, []
        while len(read) < len(expected) or len(issued) < len(beats) or cycle < idle:
            if len(issued) < len(beats):
                data, mask, last, tag = beats[len(issued)]
                ctx.set(dut.write_data, data)
                ctx.set(dut.write_mask, mask)
            _clk, _rst, issue, write, *about, valid, value = await ctx.tick().sample(
                dut.issue, dut.issue_write, dut.issue_last, dut.issue_tag, dut.read_valid,
                dut.read_data)
            if issue:
                assert about == [last, tag]
                issued.append(cycle)
                reads += [] if write else [cycle]
            if valid:
                assert cycle == reads[len(read)] + dut.read_latency
                read.append(value)
            cycle += 1
        await ctx.tick().repeat(20)  # the last words are on their way

    simulator.add_testbench(feed)
    simulator.add_testbench(follow)
    simulator.run()
    assert read == expected
    assert attached.read(0, real.size) == memory
    return issued


def random_runs(count, *, words=4, seed=0):
    rng = random.Random(seed)
    columns = (1 << CHIP.column_bits) // words
    runs = []
    for _ in range(count):
        beats = rng.choice([0, 0, 1, 3, BEATS - 1])
        runs.append({"write": rng.randrange(2), "row": rng.randrange(3),
                     "bank": rng.randrange(4), "column": rng.randrange(columns - beats),
                     "beats": beats})
    return runs


@pytest.mark.parametrize("chip, words, clock_mhz, cas_latency", [
    (CHIP, 4, 100, 3), (CHIP, 2, 133, 3), (CHIP, 8, 48, 2), (WIDE, 2, 90, 3), (WIDE, 4, 142, 3),
    (WIDE, 2, 40, 2)])
def test_random_runs(model, chip, words, clock_mhz, cas_latency):
    chip = replace(chip, cas_latency=cas_latency)
    run(model, random_runs(60, words=words), chip=chip, real=chip, words=words,
        clock_mhz=clock_mhz)


def test_row_after_row_without_a_gap(model):
    """Refreshes apart, a beat is read or written every four cycles."""
    chip = replace(CHIP, refresh_ms=64)
    for write in (0, 1):
        issued = run(model, [{"write": write, "row": row, "bank": bank, "column": column,
                              "beats": BEATS - 1}
                             for row in range(2) for bank in range(4) for column in (0, BEATS)],
                     chip=chip, real=chip)
        assert [after - before for before, after in pairwise(issued)] == \
            [4] * (len(issued) - 1)


SPOILED = {"t_rcd": 10, "t_rp": 10, "t_ras": 10, "t_wr": 5, "t_rfc": 40, "refresh_ms": 0.2,
           "startup_us": 0.9, "startup_refreshes": 7, "cas_latency": 2}
RULES = {"t_rcd": "tRCD", "t_rp": "tRP", "t_ras": "tRAS", "t_wr": "tWR", "t_rfc": "tRFC",
         "refresh_ms": "refresh", "startup_us": "power-up", "startup_refreshes": "start-up",
         "cas_latency": "mode register"}


@pytest.mark.parametrize("chip, words", [(CHIP, 4), (WIDE, 2)])
@pytest.mark.parametrize("name", RULES)
def test_controller_that_is_too_fast_is_found(model, name, chip, words):
    real = replace(chip, refresh_ms=0.016)
    if name == "t_ras":  # else the READ in between takes longer
        real = replace(real, t_ras=100, t_rc=10)
    if name == "t_wr":  # else tRAS does
        real = replace(real, t_wr=40)
    wrong = replace(real, **{name: SPOILED[name]})
    # Each run needs another row of a bank, and is short.
    runs = [{"write": number & 1, "row": number & 7, "bank": 1, "column": 2, "beats": 0}
            for number in range(6)]
    with pytest.raises(AssertionError, match=f"^{RULES[name]}, in cycle "):
        run(model, runs, chip=wrong, real=real, words=words,
            idle=1200 if name == "refresh_ms" else 0)


@pytest.mark.parametrize("clock_mhz", [5, 150])
def test_clock_wrong(clock_mhz):
    with pytest.raises(ConfigError, match=re.escape(
            f"Clock must be between 10 and 133 MHz for the SDRAM (16M x 16 SDRAM, CAS latency 3), "
            f"not {clock_mhz} MHz")):
        SdramTiming(MT48LC16M16_CLASS, clock_mhz)


def test_beat_wrong():
    with pytest.raises(ValueError, match=r"^Bits of a beat must be 2, 4 or 8 words of 16 bits, "
                                         r"not 256$"):
        SdramController(SdramTiming(CHIP, 100), beat_bits=256, beats=8, tag=1)
