import re
import subprocess

import pytest

from weft.boards.clock import PlainClock, PllClock
from weft.boards.ecp5.pll import Ecp5Pll
from weft.boards.flow.tools import find_tool
from weft.boards.gowin.pll import GowinPll
from weft.boards.ice40.pll import Ice40Pll
from weft.boards.sdram.pins import clock_degrees
from weft.hw.isa.config import ConfigError


@pytest.mark.parametrize("asked", [40, 60, 75, 80, 100, 110, 125, 140, 166.6])
def test_ecp5_is_as_near_as_ecppll(asked, tmp_path):
    pll = Ecp5Pll.nearest(25, asked)
    text = subprocess.run([find_tool("ecppll"), "-i", "25", "-o", str(asked)], check=True,
                          capture_output=True, text=True, cwd=tmp_path).stdout
    theirs = float(re.search(r"clkout0 frequency: ([\d.]+)", text)[1])
    assert abs(pll.output_mhz - asked) <= abs(theirs - asked) + 1e-3


@pytest.mark.parametrize("asked", range(10, 400, 7))
def test_ecp5_keeps_all_limits(asked):
    pll = Ecp5Pll.nearest(25, asked)
    assert 400 <= pll.vco_mhz <= 800
    assert pll.input_mhz / pll.input_divider >= 3.125
    assert 1 <= pll.feedback_divider <= 80
    assert 1 <= pll.output_divider <= 128


def test_clock_wrong():
    message = r"^Clock must be one that the board's 25 MHz can be turned into, not 2 MHz$"
    with pytest.raises(ConfigError, match=message):
        Ecp5Pll.nearest(25, 2)


@pytest.mark.parametrize("asked", [17, 18, 20, 24, 25.5, 30, 36, 48, 60, 120])
def test_ice40_is_as_near_as_icepll(asked):
    pll = Ice40Pll.nearest(12, asked)
    # By its rules: one divider after the other, the nearest output.
    theirs = min((12 * feedback / (1 << exponent) for feedback in range(1, 129)
                  for exponent in range(1, 7) if 533 <= 12 * feedback <= 1066),
                 key=lambda output: abs(output - asked))
    assert abs(pll.output_mhz - asked) <= abs(theirs - asked) + 1e-9


@pytest.mark.parametrize("asked", range(17, 275, 13))
@pytest.mark.parametrize("oscillator", [12, 25, 100])
def test_ice40_keeps_all_limits(oscillator, asked):
    pll = Ice40Pll.nearest(oscillator, asked)
    assert 533 <= pll.vco_mhz <= 1066
    assert 16 <= pll.output_mhz <= 275
    assert pll.input_mhz / pll.input_divider >= 10
    assert 1 <= pll.input_divider <= 16
    assert 1 <= pll.feedback_divider <= 128
    assert pll.output_divider in (2, 4, 8, 16, 32, 64)
    assert pll.output_mhz == pytest.approx(
        oscillator / pll.input_divider * pll.feedback_divider / pll.output_divider)


def test_ice40_clock_wrong():
    message = r"^Clock must be one that the board's 12 MHz can be turned into, not 13 MHz$"
    with pytest.raises(ConfigError, match=message):
        Ice40Pll.nearest(12, 13)


@pytest.mark.parametrize("asked", [27.5, 48, 50, 54, 60, 66, 72, 81, 108])
def test_gowin_is_as_near_as_gowin_pll(asked):
    pll = GowinPll.nearest(27, asked)
    command = [find_tool("gowin_pll"), "-i", "27", "-o", str(asked), "-d", "GW2AR-LV18QN88C8/I7"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs = float(re.search(r"Achieved output frequency: +([\d.]+)", text)[1])
    assert abs(pll.output_mhz - asked) <= abs(theirs - asked) + 1e-3


@pytest.mark.parametrize("asked", range(5, 300, 7))
def test_gowin_keeps_all_limits(asked):
    pll = GowinPll.nearest(27, asked)
    assert 500 <= pll.vco_mhz <= 1250
    assert pll.input_mhz / pll.input_divider >= 3
    assert 1 <= pll.feedback_divider <= 64
    assert pll.output_divider in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)


@pytest.mark.parametrize("clock_mhz", [*range(20, 91, 10), 100])
def test_an_sdram_gets_and_gives_its_words_in_time(clock_mhz):
    period = 1000 / clock_mhz
    late = period * clock_degrees(clock_mhz) / 360
    # Out to the pins in 2 to 3.5 ns, the chip's clock too; 1 ns from a pin to its register.
    assert late - 1.5 >= 1.5 and period - late - 1.5 >= 0.8
    assert late + 3.5 + 5.4 + 1 <= 2 * period
    assert late + period + 2 + 2.5 + 1 >= 2 * period


@pytest.mark.parametrize("oscillator", [12, 25, 48, 50])
def test_ecp5_makes_the_clocks_of_usb(oscillator):
    pll = Ecp5Pll.for_usb(oscillator)
    assert 400 <= pll.vco_mhz <= 800
    assert pll.vco_mhz % 48 == 0


def test_clock_of_usb_wrong():
    with pytest.raises(ConfigError, match=r"^Clocks of USB must be made from the board's "
                                          r"oscillator, which 25.1 MHz does not allow$"):
        Ecp5Pll.for_usb(25.1)
    with pytest.raises(ConfigError, match=r"^Clocks of USB must come from a second phase-locked "
                                          r"loop, not beside a Ice40Pll$"):
        PllClock(Ice40Pll.nearest(12, 24)).add_usb()
    with pytest.raises(ConfigError, match=r"^Clocks of USB must come from a phase-locked loop, not "
                                          r"from the oscillator$"):
        PlainClock(12).add_usb()
