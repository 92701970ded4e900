import re

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from weft.hw.isa.array import ArrayShape
from weft.hw.isa.config import AcceleratorConfig, ConfigError
from weft.hw.isa.element import ElementType, signed_width
from weft.hw.isa.presets import PRESETS


@pytest.mark.parametrize(("width", "signed", "dtype", "low", "high"), [
    (8, True, "int8", -128, 127), (8, False, "uint8", 0, 255), (4, True, "int8", -8, 7),
    (10, True, "int16", -512, 511), (16, True, "int16", -32768, 32767),
    (9, False, "uint16", 0, 511), (17, True, "int32", -65536, 65535),
    (32, False, "uint32", 0, 2**32 - 1),
])
def test_an_element_lies_in_the_least_integer_of_numpy(width, signed, dtype, low, high):
    element = ElementType(width, signed)
    assert element.dtype == np.dtype(dtype)
    assert element.bytes == element.dtype.itemsize
    assert (element.low, element.high) == (low, high)
    assert (element.shape.width, element.shape.signed) == (width, signed)


@pytest.mark.parametrize("element", [
    ElementType(8), ElementType(4), ElementType(12), ElementType(10, signed=False),
    ElementType(20)], ids=str)
def test_unpacked_are_the_elements_that_numpy_wrote(element):
    rng = np.random.default_rng(element.width)
    values = rng.integers(element.low, element.high, 5, endpoint=True).astype(element.dtype)
    values[:2] = element.low, element.high
    raw = Signal(8 * values.nbytes)

    async def testbench(ctx):
        ctx.set(raw, int.from_bytes(values.tobytes(), "little"))
        assert [ctx.get(lane) for lane in element.unpack(raw)] == values.tolist()

    sim = Simulator(Module())
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("width", [1, 33, "8", 8.0])
def test_width_of_an_element_wrong(width):
    message = f"Element width must be an integer between 2 and 32, not {width!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ElementType(width)


@pytest.mark.parametrize("activation", [2, 3, 5])
@pytest.mark.parametrize("weight", [2, 3, 5])
@pytest.mark.parametrize(("a_signed", "w_signed"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("fip", [False, True])
def test_widths_of_an_array_are_the_narrowest_that_hold_all(activation, weight, a_signed, w_signed,
                                                            fip):
    a, w = ElementType(activation, a_signed), ElementType(weight, w_signed)
    shape = ArrayShape(rows=2, cols=1, fip=fip, activation=a, weight=w)
    pixels, weights = (np.arange(each.low, each.high + 1) for each in (a, w))
    if fip:
        first = second = np.add.outer(pixels, weights).reshape(-1)
    else:
        first, second = pixels, weights
    products = np.multiply.outer(first, second)
    for width, values in zip((*shape.factor_widths, shape.product_width),
                             (first, second, products), strict=True):
        limit = 1 << width - 1
        assert -limit <= values.min() and values.max() < limit
        assert values.min() < -limit // 2 or values.max() >= limit // 2
        assert width == signed_width(int(values.min()), int(values.max()))
    sums = shape.pe_rows * products
    assert -1 << shape.psum_width - 1 <= sums.min() and sums.max() < 1 << shape.psum_width - 1


def test_formula_of_the_widths_of_signed_operands():
    for a in range(2, 20):
        for w in range(2, 20):
            plain, fip = (ArrayShape(rows=16, cols=1, fip=fip, activation=ElementType(a),
                                     weight=ElementType(w)) for fip in (False, True))
            most = max(a, w)
            assert (plain.factor_widths, plain.product_width) == ((a, w), a + w)
            assert fip.factor_widths == (most + 1, most + 1)
            assert fip.product_width == 2 * most + {0: 2, 1: 1}.get(abs(a - w), 0)
            assert plain.psum_width == plain.product_width + 4
            assert fip.psum_width == fip.product_width + 3


@pytest.mark.parametrize(("rows", "cols", "fip", "message"), [
    (3, 1, True, "Rows must be an even number of at least 2 when fip is on, not 3"),
    (0, 1, False, "Rows and cols must be at least 1, not 0 and 1"),
])
def test_shape_of_an_array_wrong(rows, cols, fip, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ArrayShape(rows=rows, cols=cols, fip=fip, activation=ElementType(8), weight=ElementType(8))


@pytest.mark.parametrize(("field", "value", "message"), [
    ("activation_width", 10,
     "Activation width must be 8, not 10: another would need zero points and bounds of that width "
     "in the commands, lanes of it in the pixel streamer, the requantizer, the vector engine and "
     "the sequential core, and tensors of it in the compiler"),
    ("weight_width", 4,
     "Weight width must be 8, not 4: another would need lanes of that width in the vector engine "
     "and the sequential core, and weights of it in the compiler"),
    ("rows", 3, "Rows must be an even number of at least 2 when fip is on, not 3"),
])
def test_operands_of_an_accelerator_wrong(field, value, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        PRESETS["tiny"].replace(**{field: value})


class AnyOperands(AcceleratorConfig):
    """Without the check that there is all that an operand needs."""

    def _check_operands(self):
        pass


def test_lanes_are_not_bytes():
    config = AnyOperands(rows=6, cols=10, requant_lanes=2, activation_bytes=1 << 16,
                         weight_bytes=1 << 16, activation_width=10, weight_width=17,
                         accumulator_width=32, fip=False)
    assert (config.word_lanes, config.word_data_bytes, config.word_bytes) == (6, 12, 16)
    assert (config.weight_row_lanes, config.weight_row_data_bytes, config.weight_row_bytes) == \
        (10, 40, 64)
    assert (config.vector_entry_lanes, config.vector_entry_data_bytes) == (18, 72)
    assert config.activation_depth == (1 << 16) // 12 // 4 * 4
    assert config.weight_depth == (1 << 16) // 40
