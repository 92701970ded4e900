import pytest
from amaranth import *
from amaranth.lib import wiring
from primitives import simulate

from weft.boards.ice40.primitives import ICE40Primitives, array_halves
from weft.hw.isa.array import ArrayShape
from weft.hw.isa.element import ElementType
from weft.hw.lib.multiplier import Multiplier
from weft.hw.lib.multiply_accumulate import MultiplyAccumulate
from weft.hw.memory.single_port import SinglePortMemory


class Platform(ICE40Primitives):
    def __init__(self, blocks=0, array=0, memories=0):
        self.multiplier_blocks = blocks
        self.array_halves = array
        self.large_memories = memories


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


@pytest.mark.parametrize(("activation", "weight", "fip", "halves"), [
    (8, 8, False, 1), (8, 8, True, 2), (4, 8, False, 1), (10, 12, False, 2), (10, 12, True, 2),
    (16, 8, False, 2), (16, 8, True, 0), (17, 8, False, 0)])
def test_an_array_takes_halves_by_the_width_of_its_factors(activation, weight, fip, halves):
    shape = ArrayShape(rows=4, cols=3, fip=fip, activation=ElementType(activation),
                       weight=ElementType(weight))
    number = shape.pe_rows * shape.columns
    assert array_halves(shape) == number * halves
    platform = Platform(blocks=number, array=array_halves(shape))
    a_width, b_width = shape.factor_widths
    for _ in range(number):
        platform.get_multiplier(Multiplier(a_width=a_width, b_width=b_width, role="array"))
    assert platform.multiplier_report["array"] == (
        {"halves": number * halves, "in blocks": number} if halves else {"in LUTs": number})


def test_an_array_that_is_too_wide_for_the_device_ends_in_luts():
    platform = Platform(blocks=2, array=3)
    platform.get_multiplier(Multiplier(a_width=8, b_width=8, role="vector"))
    for _ in range(3):
        platform.get_multiplier(Multiplier(a_width=13, b_width=13, role="array"))
    # Half a block of the device is left, which is not enough.
    assert platform.multiplier_report == {
        "vector": {"in LUTs": 1}, "array": {"halves": 4, "in blocks": 2, "in LUTs": 1}}


def test_products_that_no_block_holds_are_multiplied_in_luts(tmp_path):
    platform = Platform(blocks=8)
    shapes = [(17, 17), (17, 8), (8, 18)]
    pairs = [[Multiplier(a_width=a, b_width=b, latency=3, role="array") for _ in range(2)]
             for a, b in shapes]

    simulate(pairs, platform, tmp_path)

    assert platform.multiplier_report["array"] == {"in LUTs": len(shapes)}


def test_accumulators_add_as_the_portable_ones_do(tmp_path):
    platform = Platform(blocks=8)
    widths = [(8, 8), (10, 12), (16, 8), (16, 16)]
    pairs = [[MultiplyAccumulate(a_width=a, b_width=b) for _ in range(2)] for a, b in widths]

    simulate(pairs, platform, tmp_path, "+ice40/cells_sim.v", cycles=5000)

    assert platform.multiplier_report["accumulate"] == {"halves": 8, "in blocks": 4}


def test_accumulators_beyond_the_last_block_are_built_of_luts():
    platform = Platform(blocks=2)
    taken = [platform.get_multiply_accumulate(MultiplyAccumulate()) for _ in range(3)]
    assert [module is None for module in taken] == [False, False, True]
    assert platform.multiplier_report["accumulate"] == {"halves": 4, "in blocks": 2, "in LUTs": 1}


def test_accumulators_of_wider_factors_than_a_block_has_are_portable():
    platform = Platform(blocks=2)
    assert platform.get_multiply_accumulate(MultiplyAccumulate(a_width=17, b_width=8)) is None
    assert platform.multiplier_report["accumulate"] == {"in LUTs": 1}


class SmallRange(wiring.Component):
    """A memory of which a few addresses in all its blocks are used, so that reads find what was
    written; what a memory gives that was not just read does not count."""

    def __init__(self, depth, word_bytes):
        self._memory = SinglePortMemory(depth=depth, word_bytes=word_bytes)
        super().__init__({
            "address":    wiring.In(4), "enable": wiring.In(1), "write": wiring.In(word_bytes),
            "writes":     wiring.In(1), "write_data": wiring.In(8 * word_bytes),
            "read_data":  wiring.Out(8 * word_bytes),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self._memory
        # First, everything is written.
        first, fill = Signal(range(17)), Signal()
        m.d.comb += fill.eq(first != 16)
        m.d.sync += first.eq(first + fill)
        address = Mux(fill, first[:4], self.address)
        writes = Mux(fill, -1, Mux(self.writes, self.write, 0))
        high = len(memory.address) - 2
        read = Signal()
        m.d.comb += [
            memory.address.eq(Cat(address[:2], C(0, high - 2), address[2:])),
            memory.enable.eq(fill | self.enable),
            memory.write.eq(writes),
            memory.write_data.eq(Mux(fill, 0, self.write_data)),
        ]
        with m.If(memory.enable):
            m.d.sync += read.eq(~memory.write.any())
        m.d.comb += self.read_data.eq(Mux(read, memory.read_data, 0))
        return m


@pytest.mark.parametrize("depth, word_bytes, blocks", [
    pytest.param(1 << 14, 4, 2, marks=pytest.mark.slow),
    pytest.param(1 << 15, 2, 2, marks=pytest.mark.slow), (13_000, 3, 2)])
def test_large_memories_do_as_the_portable_ones_do(depth, word_bytes, blocks, tmp_path):
    platform = Platform(memories=4)
    pairs = [[SmallRange(depth, word_bytes) for _ in range(2)]]

    simulate(pairs, platform, tmp_path, "ice40_spram.v", settle=40, cycles=3000)

    assert platform._taken == blocks


def test_memories_that_are_small_or_too_many_are_portable():
    platform = Platform(memories=3)
    sizes = [(1 << 10, 4), (1 << 14, 4), (1 << 14, 4), (1 << 14, 2)]
    taken = [platform.get_single_port_memory(SinglePortMemory(depth=depth, word_bytes=word_bytes))
             for depth, word_bytes in sizes]
    assert [module is None for module in taken] == [True, False, True, False]
