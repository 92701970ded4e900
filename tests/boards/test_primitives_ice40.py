from primitives import simulate

from weft.boards.primitives.ice40 import ICE40Multipliers
from weft.hw.multiplier import Multiplier


class Platform(ICE40Multipliers):
    def __init__(self, blocks, array=0):
        self.multiplier_blocks = blocks
        self.array_halves = array


def test_blocks_multiply_as_the_portable_multiplier_does(tmp_path):
    platform = Platform(blocks=8)
    shapes = [(8, 8, 2), (8, 8, 3), (9, 9, 2), (7, 3, 2), (16, 16, 4), (9, 9, 3), (2, 12, 3)]
    pairs = [[Multiplier(a_width=a, b_width=b, latency=latency) for _ in range(2)]
             for a, b, latency in shapes]

    simulate(pairs, platform, tmp_path, "+ice40/cells_sim.v")

    assert platform.multiplier_report["other"] == {"halves": 3 + 2 * 4, "in blocks": len(shapes)}


def test_small_multipliers_share_blocks_and_the_array_comes_first():
    platform = Platform(blocks=3, array=3)
    for _ in range(4):
        platform.get_multiplier(Multiplier(a_width=8, b_width=8, role="vector"))
    platform.get_multiplier(Multiplier(a_width=17, b_width=8, role="requantize"))
    for column in range(3):
        platform.get_multiplier(Multiplier(a_width=8, b_width=8, role="array",
                                           position=(0, column)))

    assert platform.multiplier_report == {
        "vector": {"halves": 2, "in blocks": 2, "in LUTs": 2},
        "requantize": {"in LUTs": 1},
        "array": {"halves": 3, "in blocks": 3},
    }
