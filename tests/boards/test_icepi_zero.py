"""The Icepi Zero: pins of its design, and its memory."""

import re

from weft.boards.flow.bitstream import design
from weft.boards.registry import BOARDS

BOARD = BOARDS["icepi-zero"]


def test_pins_are_those_of_the_board_and_its_sdram():
    clock_mhz, files = design(BOARD)
    assert clock_mhz == 90
    sites = dict(re.findall(r'LOCATE COMP "(.+)__io(?:\[0\])?" SITE "(\w+)";', files["top.lpf"]))
    # Named as seen from the FPGA; K16 is what the USB bridge sends, K15 what it receives.
    assert {name: site for name, site in sites.items() if not name.startswith("sdram")} == {
        "clk50_0": "M1", "uart_0__rx": "K16", "uart_0__tx": "K15", "led_0": "E13",
        "led_1": "D14", "led_2": "E12"}
    assert (sites["sdram_0__clk"], sites["sdram_0__clk_en"], sites["sdram_0__we"]) == \
        ("A3", "B4", "A13")
    assert "CABGA256" in BOARD.fpga.place
    # The chip's clock is a second output of the loop.
    assert "CLKOS_ENABLE" in files["top.il"]
