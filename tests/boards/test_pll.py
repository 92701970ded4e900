import re
import subprocess

import pytest

from weft.boards.pll import Ecp5Pll
from weft.boards.tools import find_tool
from weft.config import ConfigError


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
