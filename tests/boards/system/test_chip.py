# amaranth: UnusedElaboratable=no
import dataclasses
import re

import pytest
from tiny_board import TINY_BOARD

from weft.boards.memory import OnChipMemory
from weft.boards.registry import BOARDS
from weft.boards.system.chip import System
from weft.hw.isa.config import ConfigError


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_boards_fit_their_systems(board):
    chip = {"sdram"} if board.memory.chip else set()
    assert set(System(board).signature.members) == {"rx", "tx", "irq", "active"} | chip


@pytest.mark.parametrize("changes, message", [
    ({"baud": 5_000_000}, "Baud must be within 2 % of the clock over a whole number, not 5000000: "
                          "48000000 Hz / 10 is 4800000"),
    ({"memory": OnChipMemory(size=1 << 17), "config": TINY_BOARD.config.replace(axi_addr_width=16)},
     "AXI address width must be at least 17 for 131072 bytes of memory, not 16"),
])
def test_system_wrong(changes, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        System(dataclasses.replace(TINY_BOARD, **changes))
