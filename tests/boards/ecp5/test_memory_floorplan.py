import re
from itertools import takewhile

import pytest

from weft.boards.ecp5.memory_floorplan import ECP5_MEMORY_SITES, MemoryFloorplan
from weft.boards.registry import BOARDS
from weft.hw.isa.presets import load_config

SITES = ECP5_MEMORY_SITES["85F"]


def given(config):
    """Blocks given for each role, until there are none, as (Y, X)."""
    plan = MemoryFloorplan(config, SITES)
    blocks = {}
    for role in ("accumulators", "activation", "weights", "staging"):
        bels = list(takewhile(lambda bel: bel, iter(lambda role=role: plan.bel(role), "")))
        blocks[role] = [tuple(map(int, re.fullmatch(r"X(\d+)/Y(\d+)/EBR[0-3]", bel).groups()[::-1]))
                        for bel in bels]
    assert plan.bel("other") is None
    return blocks


@pytest.mark.parametrize("config", [BOARDS["ulx3s-85f-onchip"].config, load_config("tiny"),
                                    load_config("base").replace(cols=64, rows=2, requant_lanes=2)])
def test_no_block_is_given_twice(config):
    blocks = [place for places in given(config).values() for place in places]
    assert len(set(blocks)) == len(blocks)
    assert {y for y, _x in blocks} <= set(SITES.rows)


def test_memories_of_the_board_find_their_places():
    board = BOARDS["ulx3s-85f-onchip"]
    config = board.config
    blocks = given(config)

    assert len(blocks["staging"]) >= 128 * 1024 // 2048
    assert len(blocks["activation"]) >= config.activation_bytes // 2048
    assert len(blocks["weights"]) >= config.weight_bytes // 2048
    assert len(blocks["accumulators"]) == 2 * config.array_columns
    # Below the columns, and those of a column together.
    assert {y for y, _x in blocks["accumulators"]} == {SITES.rows[2]}
    columns = [x for _y, x in blocks["accumulators"]]
    assert columns == sorted(columns)
