"""Second operands: each tap finds the word that was asked for, in order, when the memory refuses
any of them."""

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Module, Signal
from formal import free, inside, spoil

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import checking
from weft.hw.lib.delay import delay
from weft.hw.memory.activation import ActivationMemory
from weft.hw.vector.seconds import VectorSeconds

CONFIG = AcceleratorConfig(
    rows=2, cols=2, fip=False, requant_lanes=2, activation_bytes=1024, activation_banks=1,
    weight_bytes=4096, accumulator_pixels=16, parameter_channels=4, axi_data_width=32,
    vector_taps=6, vector_lines=16)

QUEUE = 2


def seconds_spec(*, late=0, queue=QUEUE, change=None):
    """An address comes with a tap, of which a queue holds a few; a tap goes at any time once its
    word was asked for, and reaches the window ``late`` cycles after its first operand could."""
    m = Module()
    dut = VectorSeconds(CONFIG, queue_depth=queue)
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    with checking():
        inner = inside(m, dut)
    free(m, dut, but=[dut.taken, dut.pops, dut.word])
    asked = dut.request.valid & dut.request.ready
    goes = AnySeq(1)
    m.d.comb += [
        dut.taken.eq(dut.ready & goes),
        dut.pops.eq(delay(m, dut.taken, ActivationMemory.LATENCY + late, name="pops")),
    ]
    waiting = Signal(range(queue + 1))
    m.d.sync += waiting.eq(waiting + dut.address.valid - dut.taken)
    m.d.comb += Assume(~dut.address.valid | (waiting != queue))

    # The word of a request picked at will, how many taps are ahead of it, and whether it came.
    value = AnySeq(8)
    picked, mine = Signal(), Signal()
    ahead = Signal(range(2 * VectorSeconds.DEPTH))
    held = Signal.like(ahead)      # requests whose taps have not reached the window
    wanted = Signal(8)
    m.d.sync += held.eq(held + asked - dut.pops)
    with m.If(picked & dut.pops):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += picked.eq(0)
    with m.If(~picked & asked & AnySeq(1)):
        m.d.sync += [picked.eq(1), ahead.eq(held - dut.pops)]
        m.d.comb += mine.eq(1)
    comes = delay(m, mine, ActivationMemory.LATENCY, name="comes")
    m.d.comb += dut.word[0].eq(value)
    m.d.comb += dut.word[1].eq(0)
    with m.If(comes):
        m.d.sync += wanted.eq(value)
    m.d.comb += [
        Assert(~(picked & dut.pops & (ahead == 0)) | (dut.o[0].as_unsigned() == wanted)),
        Assert(~dut.pops | (held != 0)),
        Assert(inner.lead <= VectorSeconds.DEPTH),
    ]
    return m


def test_each_tap_finds_its_word(prove):
    prove(seconds_spec(), depth=18)


def test_tap_that_goes_before_its_word_was_asked_for_is_found(refute):
    refute(seconds_spec(change=lambda m, dut: m.d.comb.__iadd__(dut.ready.eq(1))), depth=12)


def test_word_that_takes_the_place_of_another_is_found(refute):
    """Where it is asked for however many are held."""
    refute(seconds_spec(late=4, queue=VectorSeconds.DEPTH), depth=24)
