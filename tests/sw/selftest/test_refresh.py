"""The self-test at a board whose SDRAM is not refreshed."""

import re
from dataclasses import replace

import pytest
from tiny_board import TINY_BOARD

from weft.boards.memory import SdramChipMemory
from weft.boards.sdram.chip import MT48LC16M16_CLASS
from weft.runtime.device.board_sim import BoardSimDevice
from weft.selftest import self_test
from weft.sim.board import build_board

BOARD = replace(TINY_BOARD, memory=SdramChipMemory(chip=MT48LC16M16_CLASS))

pytestmark = pytest.mark.slow


def run(change=None, *, chip=MT48LC16M16_CLASS):
    """The board beside a ``chip``, to which ``change`` is made once it is open."""
    def opened():
        device = BoardSimDevice(
            BOARD.config, memory_bytes=4096, build=build_board(BOARD),
            board=replace(BOARD, memory=SdramChipMemory(chip=chip)))
        if change is not None:
            change(device.simulator)
        return device
    return self_test(BOARD, "board-sim:tiny_board", opened, sample_bytes=2048)


def test_a_sound_refresh_passes():
    report = run()
    assert report.passed
    step, = (step for step in report.steps if step.name == "memory")
    assert step.text == "2,048 of 33,554,432 bytes, held for 0.0704 s"


def test_a_chip_without_refresh_is_named():
    last = run(lambda simulator: simulator.break_refresh()).steps[-1]
    assert (last.name, last.passed) == ("memory", False)
    assert re.fullmatch(r"Memory lost [\d,]+ of 2,048 random bytes, which it keeps if they are "
                        r"read at once and not 0\.0704 s later: its refresh does not work",
                        last.text)


def test_a_controller_that_does_not_refresh_is_named():
    """The simulated chip wants a refresh more often than it gets one, and says so at once."""
    last = run(chip=replace(MT48LC16M16_CLASS, refresh_ms=1)).steps[-1]
    assert (last.name, last.passed) == ("connection", False)
    assert re.fullmatch(r"The board broke a rule of its SDRAM, which is a defect of Weft; please "
                        r"report it: refresh, in cycle \d+: 9 of them are late", last.text)
