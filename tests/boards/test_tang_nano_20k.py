"""The Tang Nano 20K: pins of its design, and its memory."""

import re
from importlib.resources import files

import pytest

from weft.boards.flow.bitstream import build, design
from weft.boards.registry import BOARDS

BOARD = BOARDS["tang-nano-20k-sdram"]
SMALL = BOARDS["tang-nano-20k"]


@pytest.fixture(scope="module")
def made():
    return design(BOARD)


def sites(made):
    """Where the pins of the design are, by their names."""
    return {name.replace("__io", ""): site for name, site in re.findall(
        r'IO_LOC "([^"]+)" (\w+);', made[1]["top.cst"])}


def test_pins_are_those_of_the_board(made):
    # Named as seen from the FPGA: 69 is what it sends.
    assert {name: site for name, site in sites(made).items() if not name.startswith("sdram")} == {
        "clk27_0": "4", "uart_0__rx": "70", "uart_0__tx": "69", "led_0": "15", "led_1": "16",
        "led_2": "17"}


def test_pads_are_those_that_the_sdram_is_bonded_to(made):
    """As Project Apicula has them, which is part of the tools."""
    chipdb = pytest.importorskip("apycula.chipdb")
    known = chipdb.load_chipdb(str(files("apycula").joinpath("GW2A-18C.msgpack.xz")))
    names = {"clk": "clk", "clk_en": "cke", "cs": "cs_n", "ras": "ras_n", "cas": "cas_n",
             "we": "wen_n", "ba": "ba", "a": "addr", "dqm": "dqm", "dq": "dq"}
    ours = {}
    for name, site in sites(made).items():
        if name.startswith("sdram"):
            signal, bit = re.fullmatch(r"sdram_0__(\w+)(\[\d+\])?", name).groups()
            ours[names[signal] + (bit or "")] = site
    theirs = {}
    for name, row, column, half, _standard in known.sip_cst["GW2AR-18C"]["QFN88"]:
        assert column in (0, 55)
        theirs[name.partition("sdram_")[2]] = f"IO{'LR'[column > 0]}{row + 1}{half}"
    assert len(theirs) == 55
    assert ours == theirs


def test_memory_and_clock(made):
    clock_mhz, texts = made
    assert clock_mhz == BOARD.clock_mhz
    assert BOARD.memory_bytes == 8 << 20
    chip = BOARD.memory.chip
    assert chip is not None and chip.byte_masks
    # The chip's clock is a second output of the loop, and the accelerator's is gated.
    assert "CLKOUTP" in texts["top.il"] and "DQCE" in texts["top.il"]
    assert "MULT9X9" in texts["top.il"] and "SDPX9B" in texts["top.il"]


def test_sequential_core_needs_no_sdram():
    clock_mhz, texts = design(SMALL)
    assert clock_mhz == SMALL.clock_mhz
    assert "sdram" not in texts["top.cst"]
    assert "connect \\CLKOUTP " not in texts["top.il"]    # the second output


@pytest.mark.slow
def test_bitstream_meets_its_clock(tmp_path):
    result = build(SMALL, tmp_path)
    assert result.met, f"{result.clock_mhz} MHz, {result.path}"
    lines = result.bitstream.read_text().splitlines()
    assert len([line for line in lines if set(line) <= {"0", "1"}]) > 1000
    for field in ("luts", "ffs", "block_rams"):
        assert 0 < getattr(result.used, field) <= getattr(result.available, field)
