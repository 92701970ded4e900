"""The first stages of requantization: an accumulator becomes a float32."""

from amaranth.hdl import Assert, Module, Mux, Signal, signed
from formal import free, spoil

from weft.hw.lib.delay import delay
from weft.hw.requantize.float32 import FloatScale


def magnitude_of(integer):
    return Mux(integer < 0, -integer, integer)[:32]


def normalized(m, magnitude):
    """``magnitude`` with its leading one at the top, by trying all places."""
    shifted = Signal(32)
    for place in range(32):  # the last one counts
        with m.If(magnitude[place]):
            m.d.comb += shifted.eq(magnitude << (31 - place))
    return shifted


def mantissa_spec(change=None):
    """float32's nearest to an integer: none is nearer, and of two the even one."""
    m = Module()
    dut = FloatScale()
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    m.submodules.dut = dut
    free(m, dut)
    shifted = normalized(m, magnitude_of(delay(m, dut.i, 3, name="i")))
    error = Signal(signed(34))
    m.d.comb += [
        error.eq((dut.a << 8) - shifted),
        Assert((error > -128) | ((error == -128) & ~dut.a[0])),
        Assert((error < 128) | ((error == 128) & ~dut.a[0])),
    ]
    return m


def test_integer_becomes_the_nearest_float(prove):
    # What comes out depends on the last three cycles alone.
    prove(mantissa_spec(), depth=5)


def test_float_that_is_always_odd_is_found(refute):
    refute(mantissa_spec(lambda m, dut: m.d.comb.__iadd__(dut.a[0].eq(1))), depth=5)
