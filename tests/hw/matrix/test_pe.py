# amaranth: UnusedElaboratable=no
import itertools
import random

import pytest
from stream_bench import make_simulator

from weft.hw.isa.array import ArrayShape
from weft.hw.isa.element import ElementType
from weft.hw.matrix.pe import ProcessingElement


def run(dut, cycles):
    """Drives ``{port: value}`` of each cycle; returns ``o_psum``, ``o_pixel`` and ``o_weights``
    (if any) of each."""
    outputs = []

    async def testbench(ctx):
        for values in cycles:
            for path, value in values.items():
                port = dut
                for name in path.split("."):
                    port = getattr(port, name)
                ctx.set(port, value)
            weights = ctx.get(dut.o_weights) if hasattr(dut, "o_weights") else None
            outputs.append((ctx.get(dut.o_psum), ctx.get(dut.o_pixel), weights))
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
    return outputs


def product(pixel, weights):
    if len(pixel) == 1:
        return pixel[0] * weights[0]
    return (pixel[0] + weights[1]) * (pixel[1] + weights[0])


def shape_of(fip, activation_width, weight_width, *, rows=8):
    return ArrayShape(rows=rows, cols=1, fip=fip, activation=ElementType(activation_width),
                      weight=ElementType(weight_width))


def between(rng, low, high):
    return rng.choice([low, high, rng.randint(low, high)])


def operand(rng, element):
    return between(rng, element.low, element.high)


# Bits of activations and of weights.
WIDTHS = [(8, 8), (9, 9), (10, 12), (16, 8), (4, 8), (8, 9), (9, 4), (2, 2)]


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("activation_width", "weight_width"), WIDTHS)
def test_products_of_the_active_weights_are_added(fip, activation_width, weight_width):
    rng = random.Random(activation_width * weight_width)
    lanes = 2 if fip else 1
    shape = shape_of(fip, activation_width, weight_width)
    dut = ProcessingElement(shape)
    limit = 1 << shape.psum_width - 2  # a product more fits, too
    cycles = []
    for _ in range(400):
        cycles.append({
            "i_pixel": [operand(rng, shape.activation) for _ in range(lanes)],
            "i_switch": rng.random() < 0.3,
            "i_weights": [operand(rng, shape.weight) for _ in range(lanes)],
            "i_load": rng.random() < 0.3,
            "i_psum": between(rng, -limit, limit - 1),
        })
    cycles[0] |= {"i_switch": False, "i_load": True}
    cycles[1] |= {"i_switch": True}
    outputs = run(dut, cycles)

    shadow = active = [0] * lanes
    products, before = [], []
    for values in cycles:
        if values["i_switch"]:
            active = shadow
        before.append(shadow)
        if values["i_load"]:
            shadow = values["i_weights"]
        products.append(product(values["i_pixel"], active))
    for t in range(2, len(cycles) - dut.psum_delay - 1):
        psum, _, _ = outputs[t + dut.psum_delay + 1]
        assert psum == products[t] + cycles[t + dut.psum_delay]["i_psum"]
        _, pixel, weights = outputs[t + 1]
        assert list(pixel) == cycles[t]["i_pixel"]
        assert list(weights) == before[t]


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("activation_width", "weight_width"), WIDTHS)
def test_products_of_extremes_do_not_wrap(fip, activation_width, weight_width):
    """All extremes meet, and the column above holds as much as ever it can."""
    lanes = 2 if fip else 1
    shape = shape_of(fip, activation_width, weight_width)
    ends = [(element.low, element.high) for element in (shape.activation, shape.weight)]
    cases = list(itertools.product(*(itertools.product(end, repeat=lanes) for end in ends)))
    products = [product(pixel, weights) for pixel, weights in cases]
    most, least = (shape.pe_rows - 1) * max(products), (shape.pe_rows - 1) * min(products)

    dut = ProcessingElement(shape)
    # Weights that are loaded become active with the next pixel, which is theirs.
    cycles = []
    for (pixel, weights), value in zip(cases, products, strict=True):
        above = most if value > 0 else least
        cycles += [{"i_switch": False, "i_load": True, "i_weights": weights, "i_psum": above}] + \
                  [{"i_switch": True, "i_load": False, "i_pixel": pixel}] * 8
    outputs = run(dut, cycles)
    for k, value in enumerate(products):
        above = most if value > 0 else least
        # The last of nine cycles: what is in it was put there in the first.
        assert outputs[9 * k + 8][0] == above + value


def test_unsigned_activations_meet_signed_weights():
    rng = random.Random(5)
    for fip in (False, True):
        shape = ArrayShape(rows=2, cols=1, fip=fip, activation=ElementType(8, signed=False),
                           weight=ElementType(8))
        cycles = [{"i_pixel": [operand(rng, shape.activation) for _ in range(shape.pe_weights)],
                   "i_weights": [operand(rng, shape.weight)] * shape.pe_weights,
                   "i_load": 1, "i_switch": 1} for _ in range(200)]
        dut = ProcessingElement(shape)
        outputs = run(dut, cycles)
        for t in range(2, len(cycles) - dut.psum_delay - 1):
            assert outputs[t + dut.psum_delay + 1][0] == \
                product(cycles[t]["i_pixel"], cycles[t - 1]["i_weights"])


@pytest.mark.parametrize(("activation_width", "weight_width"), WIDTHS)
def test_without_weights_a_pair_is_multiplied(activation_width, weight_width):
    rng = random.Random(activation_width)
    shape = shape_of(True, activation_width, weight_width, rows=2)
    dut = ProcessingElement(shape, weighted=False)
    assert not hasattr(dut, "i_weights")
    above = ElementType(shape.weight.width)  # no more is left of a narrow sum
    cycles = [{"i_pixel": [operand(rng, shape.activation), operand(rng, shape.activation)],
               "i_psum": operand(rng, above)} for _ in range(100)]
    outputs = run(dut, cycles)
    for t in range(len(cycles) - dut.psum_delay - 1):
        a, b = cycles[t]["i_pixel"]
        assert outputs[t + dut.psum_delay + 1][0] == a * b + cycles[t + dut.psum_delay]["i_psum"]
        assert list(outputs[t + 1][1]) == [a, b]
