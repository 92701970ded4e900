# amaranth: UnusedElaboratable=no
import random
import re

import pytest
from stream_bench import make_simulator

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


def operand(rng, width):
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    return rng.choice([low, high, rng.randint(low, high)])


@pytest.mark.parametrize(("fip", "activation_width", "weight_width"), [
    (False, 8, 8), (False, 4, 9), (False, 9, 4), (False, 2, 2),
    (True, 8, 8), (True, 4, 4), (True, 9, 9),
])
def test_products_of_the_active_weights_are_added(fip, activation_width, weight_width):
    rng = random.Random(activation_width * weight_width)
    lanes = 2 if fip else 1
    psum_width = activation_width + weight_width + 2 * fip + 3
    dut = ProcessingElement(fip=fip, activation_width=activation_width, weight_width=weight_width,
                            psum_width=psum_width)
    cycles = []
    for _ in range(400):
        cycles.append({
            "i_pixel": [operand(rng, activation_width) for _ in range(lanes)],
            "i_switch": rng.random() < 0.3,
            "i_weights": [operand(rng, weight_width) for _ in range(lanes)],
            "i_load": rng.random() < 0.3,
            "i_psum": operand(rng, psum_width - 1),
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


@pytest.mark.parametrize("width", [4, 8, 9])
def test_without_weights_a_pair_is_multiplied(width):
    rng = random.Random(width)
    dut = ProcessingElement(fip=True, activation_width=width, weight_width=width,
                            psum_width=2 * width + 2, weighted=False)
    assert not hasattr(dut, "i_weights")
    cycles = [{"i_pixel": [operand(rng, width), operand(rng, width)], "i_psum": t}
              for t in range(100)]
    outputs = run(dut, cycles)
    for t in range(len(cycles) - dut.psum_delay - 1):
        a, b = cycles[t]["i_pixel"]
        assert outputs[t + dut.psum_delay + 1][0] == a * b + t + dut.psum_delay
        assert list(outputs[t + 1][1]) == [a, b]


@pytest.mark.parametrize(("changes", "message"), [
    ({"activation_width": 1}, "Activation width must be an integer of at least 2, not 1"),
    ({"weight_width": "8"}, "Weight width must be an integer of at least 2, not '8'"),
    ({"weight_width": 4}, "Weight width must be 8 (the activation width) with fip, not 4"),
    ({"psum_width": 17}, "Psum width must be an integer of at least 18 (a product), not 17"),
])
def test_widths_wrong(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ProcessingElement(**({"fip": True, "psum_width": 18} | changes))
