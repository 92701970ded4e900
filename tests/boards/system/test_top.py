# amaranth: UnusedElaboratable=no
import re
from dataclasses import replace

import pytest

from weft.boards.flow.bitstream import design
from weft.boards.registry import BOARDS
from weft.boards.system.top import Top
from weft.hw.isa.config import ConfigError

BOARD = BOARDS["ulx3s-25f"]


@pytest.fixture(scope="module")
def files():
    return design(replace(BOARD, clock_mhz=66))


def test_pins_are_those_of_the_board(files):
    sites = dict(re.findall(r'LOCATE COMP "(\w+)__io" SITE "(\w+)";', files[1]["top.lpf"]))
    # Named as seen from the FPGA; M1 is what the USB bridge sends, L4 what it receives.
    assert sites == {"clk25_0": "G2", "uart_0__rx": "M1", "uart_0__tx": "L4", "led_0": "B2",
                     "led_1": "C2", "led_2": "C1", "esp32_idle_0": "L2"}


def test_clock_is_made_by_the_pll(files):
    clock_mhz, texts = files
    # 25 MHz / 5 * 13 is as near to 66 MHz as it goes.
    assert clock_mhz == pytest.approx(66, abs=1)
    text = texts["top.il"]
    pll = text[text.index("cell \\EHXPLLL"):]
    settings = {name: int(value) for name, value in
                re.findall(r"parameter .*\\(CLK\w+_DIV) (\d+)", pll[:pll.index("\nend")])}
    assert 25 * settings["CLKFB_DIV"] / settings["CLKI_DIV"] == pytest.approx(clock_mhz)


def test_more_is_asked_of_the_tools_than_the_clock(files):
    hertz, = re.findall(r'^FREQUENCY PORT "clk25_0__io" ([\d.]+) HZ;$', files[1]["top.lpf"],
                        re.MULTILINE)
    assert float(hertz) == pytest.approx(1.03 * 25e6)


def test_multipliers_of_the_array_and_of_several_blocks_are_placed(files):
    places = re.findall(r'attribute \\BEL "(\w+/\w+/\w+)"', files[1]["top.il"])
    requantization = 2 * 4 * BOARD.config.requant_lanes  # of the matrix and the vector engine
    assert len(set(places)) == len(places) == BOARD.config.multipliers + requantization


def test_clock_that_misses_the_baud_rate_wrong():
    with pytest.raises(ConfigError, match=r"^Baud must be within 2 % of the clock over a whole "
                                          r"number, not 3000000: "):
        Top(replace(BOARD, clock_mhz=25))


def test_clock_wrong():
    with pytest.raises(ConfigError, match=r"^Clock must be one that the board's 25 MHz can be "
                                          r"turned into, not 1000 MHz$"):
        Top(replace(BOARD, clock_mhz=1000))
