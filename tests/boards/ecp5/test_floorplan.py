import itertools
import re

import pytest

from weft.boards.ecp5.floorplan import ECP5_SITES, Floorplan
from weft.hw.isa.config import AcceleratorConfig, ConfigError
from weft.hw.isa.presets import load_config


def config(rows, cols, **changes):
    return AcceleratorConfig(rows=rows, cols=cols, requant_lanes=2, activation_bytes=65536,
                             weight_bytes=65536, **changes)


@pytest.mark.parametrize(("device", "blocks"), [("25F", 28), ("45F", 72), ("85F", 156)])
def test_devices_have_the_blocks_of_their_data_sheet(device, blocks):
    sites = ECP5_SITES[device]
    assert sites.blocks == blocks
    assert sites.bel(0, 0) == f"X4/Y{sites.rows[0]}/MULT18_0"
    assert sites.bel(len(sites.rows) - 1, 3) == f"X9/Y{sites.rows[-1]}/MULT18_5"


@pytest.mark.parametrize(("device", "shape"), [
    ("85F", load_config("base")), ("85F", load_config("small")), ("85F", load_config("wide")),
    ("85F", config(6, 10)), ("85F", config(6, 50)), ("85F", config(4, 4, fip=False)),
    ("45F", config(14, 8)), ("25F", config(4, 12)), ("25F", config(8, 6)),
])
def test_pes_get_blocks_of_their_own_and_neighbours_lie_near(device, shape):
    sites = ECP5_SITES[device]
    number = {sites.bel(row, column): (row, column)
              for row, column in itertools.product(range(len(sites.rows)), range(sites.columns))}
    plan = Floorplan(shape, sites)
    place = {pe: number[plan.bel(pe)] for pe in itertools.product(
        range(shape.pe_rows), range(shape.array_columns))}

    assert len(set(place.values())) == shape.multipliers
    for (row, column), (y, x) in place.items():
        if column:
            left_y, left_x = place[row, column - 1]
            assert y == left_y and 0 < x - left_x <= sites.columns // shape.array_columns
        if row:
            above_y, above_x = place[row - 1, column]
            assert (y, x) == (above_y, above_x + 1) or (
                y == above_y + 1 and abs(x - above_x) <= sites.columns // 4)
    for y in {y for y, _x in place.values()}:
        taken = sorted(x for its_y, x in place.values() if its_y == y)
        assert taken == list(range(taken[0], taken[-1] + 1))
        assert abs(taken[0] - (sites.columns - 1 - taken[-1])) <= 1


@pytest.mark.parametrize(("device", "shape", "message"), [
    ("25F", config(16, 16), "Array must fit into 1 x 28 multipliers with no row of PEs in two rows "
                            "of them, not be 8 x 17 PEs"),
    ("85F", config(2, 64), "Array must fit into 3 x 52 multipliers with no row of PEs in two rows "
                           "of them, not be 1 x 65 PEs"),
])
def test_an_array_that_does_not_fit_is_refused(device, shape, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Floorplan(shape, ECP5_SITES[device])


@pytest.mark.parametrize(("device", "shape", "count", "runs"), [
    ("85F", config(16, 16), 4, 4), ("25F", config(8, 4), 4, 2), ("25F", config(8, 4), 5, 0),
])
def test_blocks_that_are_left_are_given_away_side_by_side(device, shape, count, runs):
    sites = ECP5_SITES[device]
    row_of = {sites.bel(row, column): [sites.bel(row, other) for other in range(sites.columns)]
              for row, column in itertools.product(range(len(sites.rows)), range(sites.columns))}
    plan = Floorplan(shape, sites)
    taken = {plan.bel(pe) for pe in itertools.product(
        range(shape.pe_rows), range(shape.array_columns))}

    given = list(iter(lambda: plan.neighbours(count), None))

    assert len(given) == runs
    for bels in given:
        row = row_of[bels[0]]
        start = row.index(bels[0])
        assert list(bels) == row[start:start + count]
        assert taken.isdisjoint(bels)
        taken.update(bels)
