"""What leaves the corner turn are the lanes of the block before, each of them of all its words."""

from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from formal import free

from weft.hw.transfer.corner_turn import CornerTurn

SIZE = 3


def corner_spec(*, late=0):
    """A lane of a word picked at will is followed; ``late`` words behind its place."""
    m = Module()
    m.submodules.dut = dut = CornerTurn(SIZE)
    free(m, dut)
    word, lane = AnyConst(range(SIZE)), AnyConst(range(SIZE))
    m.d.comb += [Assume(word < SIZE), Assume(lane < SIZE)]
    place  = Signal(range(SIZE), init=SIZE - 1)     # of the word that enters
    coming = Signal(8)
    held   = Signal(8)      # that of the block before
    full   = Signal()
    m.d.comb += Assume(dut.last == (place == 0))
    chosen = Mux(place == word, dut.i[lane], coming)
    with m.If(dut.step):
        m.d.sync += [place.eq(Mux(place == 0, SIZE - 1, place - 1)), coming.eq(chosen)]
        with m.If(place == 0):
            m.d.sync += [held.eq(chosen), full.eq(1)]
    m.d.comb += Assert(~(full & dut.step & (place + late == lane)) | (dut.o[word] == held))
    return m


def test_every_byte_leaves_in_its_place(prove):
    prove(corner_spec(), depth=3 * SIZE + 1)


def test_a_byte_in_the_place_of_its_neighbour_is_found(refute):
    refute(corner_spec(late=1), depth=3 * SIZE)
