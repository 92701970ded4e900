"""The Colorlight i9: pins of its design, and its memory."""

import re
from dataclasses import replace

import pytest

from weft.boards.flow.bitstream import design
from weft.boards.registry import BOARDS
from weft.boards.system.chip import System
from weft.hw.isa.config import ConfigError

BOARD = BOARDS["colorlight-i9"]

# As LiteX-Boards has them, in its order; the documentation of the board numbers the lines in
# another one.
DATA = ("D15 E14 E13 D12 E12 D11 C10 B17 B8 A8 C7 A7 A6 B6 A5 B5 "
        "D5 C5 D6 C6 E7 D7 E8 D8 E9 D9 E11 C11 C12 D13 D14 C15")
ADDRESSES = "B13 C14 A16 A17 B16 B15 A14 A13 A12 A11 B12"


def test_pins_are_those_of_the_board_and_its_sdram():
    clock_mhz, files = design(BOARD)
    assert clock_mhz == BOARD.clock_mhz
    sites = {name + bit: site for name, bit, site in re.findall(
        r'LOCATE COMP "(.+)__io(.*)" SITE "(\w+)";', files["top.lpf"])}
    # Named as seen from the FPGA: J17 is what it sends.
    assert {name: site for name, site in sites.items() if not name.startswith("sdram")} == {
        "clk25_0": "P3", "uart_0__rx": "H18", "uart_0__tx": "J17", "led_0": "L2"}
    assert sorted(sites[f"sdram_0__dq[{line}]"] for line in range(32)) == sorted(DATA.split())
    assert [sites[f"sdram_0__a[{line}]"] for line in range(11)] == ADDRESSES.split()
    assert {name: sites[f"sdram_0__{name}"] for name in (
        "clk", "ras", "cas", "we", "ba[0]", "ba[1]")} == {
        "clk": "B9", "ras": "B10", "cas": "A9", "we": "A10", "ba[0]": "B11", "ba[1]": "C8"}
    assert len(sites) == 4 + 32 + 11 + 6  # neither CKE, CS nor DQM
    assert "--45k" in BOARD.fpga.place and "CABGA381" in BOARD.fpga.place


def test_memory_is_that_of_the_chip():
    assert BOARD.memory_bytes == 8 << 20
    chip = BOARD.memory.chip
    assert chip is not None and not chip.byte_masks
    assert chip.t_refi == 64e6 / 4096


def test_a_word_must_fill_a_beat_where_bytes_are_not_masked():
    board = replace(BOARD, config=BOARD.config.replace(axi_data_width=128))
    system = System(board)
    with pytest.raises(ConfigError, match=r"^AXI data width must be at most 64 \(a word of 8 "
                                          r"rows\) for a memory without byte masks, not 128$"):
        system.elaborate(None)
