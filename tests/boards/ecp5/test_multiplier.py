import itertools

import pytest
from amaranth.hdl import Fragment
from primitives import simulate

from weft.boards.ecp5.floorplan import ECP5_SITES
from weft.boards.ecp5.multiplier import ECP5Multipliers
from weft.errors import ToolError
from weft.hw.isa.array import ArrayShape
from weft.hw.isa.element import ElementType
from weft.hw.isa.presets import load_config
from weft.hw.lib.multiplier import Multiplier
from weft.hw.matrix.systolic_array import SystolicArray


class Platform(ECP5Multipliers):
    def __init__(self, blocks, **reserved):
        self.multiplier_blocks = blocks
        self.reserved_blocks = reserved


SHAPES = [
    {"a_width": 9, "b_width": 9},
    {"a_width": 9, "b_width": 9, "latency": 3},
    {"a_width": 9, "b_width": 9, "latency": 5},
    {"a_width": 2, "b_width": 18},
    {"a_width": 18, "b_width": 18, "latency": 4},
    {"a_width": 26, "b_width": 25, "latency": 4},
    {"a_width": 26, "b_width": 25, "latency": 5},
    {"a_width": 33, "b_width": 33, "latency": 6},
    {"a_width": 12, "b_width": 30, "latency": 5},
]


def test_blocks_multiply_as_the_portable_multiplier_does(tmp_path):
    platform = Platform(blocks=100)
    pairs = [(Multiplier(**shape), Multiplier(**shape)) for shape in SHAPES]

    simulate(pairs, platform, tmp_path, "ecp5.v")

    counts = platform.multiplier_report["other"]
    assert counts == {"blocks": 5 + 4 * 4, "in blocks": len(SHAPES)}


def test_lut_multipliers_multiply_as_the_portable_multiplier_does(tmp_path):
    platform = Platform(blocks=0)
    shapes = [*SHAPES, {"a_width": 2, "b_width": 2}, {"a_width": 3, "b_width": 7, "latency": 9}]
    pairs = [(Multiplier(**shape), Multiplier(**shape)) for shape in shapes]

    simulate(pairs, platform, tmp_path)

    assert platform.multiplier_report["other"] == {"in LUTs": len(shapes)}


def test_a_multiplier_of_another_latency_is_noticed(tmp_path):
    pair = Multiplier(a_width=9, b_width=9), Multiplier(a_width=9, b_width=9, latency=3)

    with pytest.raises(ToolError, match="outputs differ, or a cell is misused"):
        simulate([pair], Platform(blocks=1), tmp_path, "ecp5.v", cycles=40)


def test_blocks_go_to_the_array_first_then_to_others_until_none_are_left():
    platform = Platform(blocks=8, array=3)
    for _ in range(3):
        platform.get_multiplier(Multiplier(a_width=26, b_width=25, latency=5, role="requantize"))
    for _ in range(2):
        platform.get_multiplier(Multiplier(a_width=9, b_width=9, role="vector"))
    for column in range(3):
        platform.get_multiplier(Multiplier(a_width=9, b_width=9, role="array",
                                           position=(0, column)))

    assert platform.multiplier_report == {
        "requantize": {"blocks": 4, "in blocks": 1, "in LUTs": 2},
        "vector": {"blocks": 1, "in blocks": 1, "in LUTs": 1},
        "array": {"blocks": 3, "in blocks": 3},
    }


def test_blocks_that_are_set_aside_wait_for_their_role_and_it_may_take_more():
    platform = Platform(blocks=14, array=1, requantize=8)
    for _ in range(6):
        platform.get_multiplier(Multiplier(a_width=9, b_width=9, role="vector"))
    for _ in range(3):
        platform.get_multiplier(Multiplier(a_width=26, b_width=25, latency=5, role="requantize"))

    assert platform.multiplier_report == {
        "vector": {"blocks": 5, "in blocks": 5, "in LUTs": 1},
        "requantize": {"blocks": 8, "in blocks": 2, "in LUTs": 1},
    }

    platform = Platform(blocks=14, array=1, requantize=4)
    for _ in range(4):
        platform.get_multiplier(Multiplier(a_width=26, b_width=25, latency=5, role="requantize"))
    assert platform.multiplier_report["requantize"] == \
        {"blocks": 12, "in blocks": 3, "in LUTs": 1}


def test_a_product_of_several_blocks_needs_the_latency_for_its_sums():
    platform = Platform(blocks=8)

    platform.get_multiplier(Multiplier(a_width=26, b_width=25, latency=3))
    platform.get_multiplier(Multiplier(a_width=36, b_width=25, latency=9))

    assert platform.multiplier_report["other"] == {"in LUTs": 2}


def test_arrays_of_any_operands_multiply_as_portable_ones_do(tmp_path):
    operands = [(8, 8, True), (10, 12, True), (16, 8, True), (17, 17, True), (18, 4, False),
                (18, 8, True), (20, 8, False)]  # the last two have factors too wide for a block
    shapes = [ArrayShape(rows=2, cols=1, fip=fip, activation=ElementType(activation),
                         weight=ElementType(weight)) for activation, weight, fip in operands]
    platform = Platform(blocks=20, array=20)

    simulate([[SystolicArray(shape) for _ in range(2)] for shape in shapes], platform, tmp_path,
             "ecp5.v", settle=40, cycles=2000)

    assert platform.multiplier_report["array"] == {
        "blocks": 4 * 2 + 2, "in blocks": 4 * 2 + 2, "in LUTs": 2 + 2}


def instances(fragment):
    """All instances in ``fragment``."""
    if isinstance(fragment, Fragment) and hasattr(fragment, "type"):
        yield fragment
    for subfragment, *_ in fragment.subfragments:
        yield from instances(subfragment)


@pytest.mark.parametrize(("preset", "device"), [("base", "85F"), ("tiny", "25F")])
def test_each_block_of_the_array_is_placed_at_a_site_of_its_own(preset, device):
    config = load_config(preset)
    sites = ECP5_SITES[device]
    platform = ECP5Multipliers()
    platform.assign_multipliers(config, sites)

    design = Fragment.get(SystolicArray(config.array), platform)

    bels = [instance.attrs["BEL"] for instance in instances(design)]
    assert len(bels) == len(set(bels)) == config.multipliers
    assert set(bels) <= {sites.bel(row, column) for row, column in itertools.product(
        range(len(sites.rows)), range(sites.columns))}
