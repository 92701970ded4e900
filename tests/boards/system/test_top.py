# amaranth: UnusedElaboratable=no
import re
import sys
import warnings
from dataclasses import replace

import pytest

from weft.boards.flow.bitstream import design
from weft.boards.registry import BOARDS
from weft.boards.system.top import Top
from weft.errors import ToolError
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


@pytest.fixture(scope="module")
def usb_files():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # LUNA is older than Amaranth
        return design(replace(BOARD, usb=True))


def test_usb_takes_the_place_of_the_serial_line(usb_files):
    sites = dict(re.findall(r'LOCATE COMP "(\w+)__io" SITE "(\w+)";', usb_files[1]["top.lpf"]))
    assert {name: site for name, site in sites.items() if name.startswith(("uart", "usb"))} \
        == {"usb_0__d_p": "D15", "usb_0__d_n": "E15", "usb_0__pullup": "B12"}


def test_clocks_of_usb_are_made_by_a_second_pll(usb_files):
    text = usb_files[1]["top.il"]
    pll = text[text.index("cell \\EHXPLLL \\usb_pll"):]
    pll = pll[:pll.index("\n  end")]
    settings = {name: int(value) for name, value in re.findall(r"parameter \\(\w+) (\d+)", pll)}
    outputs = dict(re.findall(r"connect \\(CLKOS2?) \\(\w+)", pll))
    vco_mhz = 25 * settings["CLKFB_DIV"] * settings["CLKOP_DIV"] / settings["CLKI_DIV"]
    assert 400 <= vco_mhz <= 800
    assert {outputs[name]: vco_mhz / settings[f"{name}_DIV"] for name in outputs} \
        == {"usb_io_clk": 48, "usb_clk": 12}
    # In step with each other.
    assert settings["CLKOS_CPHASE"] == settings["CLKOS2_CPHASE"]
    assert settings["CLKOS_FPHASE"] == settings["CLKOS2_FPHASE"]


@pytest.mark.parametrize("name", ["icepi-zero", "colorlight-i9", "icebreaker", "tang-nano-20k"])
def test_usb_port_wrong(name):
    with pytest.raises(ConfigError, match=fr"^Board must have a USB port at pins of its FPGA, with "
                                          fr"one pull-up, which {name} has not$"):
        Top(replace(BOARDS[name], usb=True))


def test_package_for_usb_missing(monkeypatch):
    for name in [name for name in sys.modules
                 if name.partition(".")[0] == "luna" or name == "weft.boards.usb.device"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "luna.gateware.usb.devices.acm", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(ToolError, match=r"^Package luna-usb, of which a board's USB device is "
                                            r"made, is not installed: run pip install '\S+\[usb\]'"
                                            r"$"):
            Top(replace(BOARD, usb=True))
