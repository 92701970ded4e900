"""Operations whose two operands are read at a time: wherever they lie, beside any neighbour."""

import random

import numpy as np
import pytest
from sweeps import sweep
from vector_bench import random_parameters, shared_bench

from weft.compiler.timing.banks import Stream, pair_cycles, stall_rate
from weft.compiler.timing.vector import vector_overhead
from weft.hw.isa.commands import VectorOp
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.reference import vector as vector_model

SIX = PRESETS["tiny"].replace(
    activation_bytes=4 * 2048, weight_bytes=4096, vector_entries=16, vector_taps=6,
    vector_lines=16, requant_lanes=4, parameter_channels=64)
BANKS = SIX.activation_banks
SHAPE = 8, 5, 12
WORDS = 2 * 60
NEIGHBOURS = {
    "none": lambda cycle: None,
    "in step": lambda cycle: cycle % BANKS,
    "backwards": lambda cycle: -cycle % BANKS,
    "every other cycle": lambda cycle: cycle // 2 % BANKS if cycle % 2 else None,
    "random": lambda cycle: random.Random(cycle).choice((None, *range(BANKS))),
}


def add_sum(bench, *, distance=None, subtract=0):
    """A sum of two tensors, ``distance`` words apart modulo the banks; or of one with itself."""
    rng = bench.rng
    first, second = rng.integers(-128, 128, (2, *SHAPE), dtype=np.int8)
    bases = [bench.place(first)]
    if distance is None:
        second = first
        bases *= 2
    else:
        bench.free += (bases[0] + distance - bench.free) % BANKS
        bases.append(bench.place(second))
    factors = rng.integers(0, 1 << 22, (2, len(first)))
    factors[:, 0] = (1 << 24) - 1, 0
    bias, scale = random_parameters(rng, len(first), 1 << 29)
    base = bench.element_wise(
        VectorOp.ADD, SHAPE, bases=bases, subtract=subtract,
        weight_base=bench.load_weights(vector_model.pack_multipliers(bench.config, *factors)),
        parameter_base=bench.load_parameters(bias, scale))
    wide = [values.astype(np.int64) * factor[:, None, None]
            for values, factor in zip((first, second), factors, strict=True)]
    total = wide[0] + (-wide[1] if subtract else wide[1]) + bias[:, None, None]
    assert np.abs(total).max() < 1 << 33
    bench.expected.append((base, vector_model.reference.requantize(
        total.astype(np.int32), scale, 0, (-128, 127))))


def add_product(bench, *, broadcast):
    rng = bench.rng
    first = rng.integers(-128, 128, SHAPE, dtype=np.int8)
    second = rng.integers(-128, 128, (len(first), 1, 1) if broadcast else SHAPE, dtype=np.int8)
    bias, scale = random_parameters(rng, len(first), 1 << 14)
    bases = bench.place(first), bench.place(second)
    base = bench.element_wise(
        VectorOp.MULTIPLY, SHAPE, bases=bases, broadcast=broadcast, in_zero=-128, second_zero=127,
        parameter_base=bench.load_parameters(bias, scale))
    bench.expected.append((base, vector_model.multiply(
        first, second, bias, scale, a_zero=-128, b_zero=127)))


@pytest.mark.parametrize("name, distance", sweep(
    NEIGHBOURS, (None, 0, 1, 2, 3), fast=lambda name, distance: distance is None
    or (list(NEIGHBOURS).index(name) + distance) % 2))
def test_sums_equal_the_reference_wherever_the_operands_lie(name, distance):
    bench = shared_bench(SIX, seed=21, neighbour=NEIGHBOURS[name])
    for subtract in (0, 1):
        add_sum(bench, distance=distance, subtract=subtract)
    bench.check()
    assert bench.reads >= 4 * WORDS


def test_a_difference_is_exact():
    """To the last bit of the sum: the scale is 1."""
    bench = shared_bench(SIX, seed=25, neighbour=NEIGHBOURS["none"])
    a, b = bench.rng.integers(-60, 60, (2, *SHAPE), dtype=np.int8)
    ones = np.ones(len(a), np.int64)
    base = bench.element_wise(
        VectorOp.ADD, SHAPE, bases=(bench.place(a), bench.place(b)), subtract=1,
        weight_base=bench.load_weights(vector_model.pack_multipliers(SIX, ones, ones)),
        parameter_base=bench.load_parameters(np.zeros(len(a), np.int32),
                                             np.ones(len(a), np.float32)))
    bench.expected.append((base, a - b))
    bench.check()


@pytest.mark.parametrize("distance", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("name", ["none", "in step"])
def test_a_sum_takes_a_cycle_for_each_word(name, distance):
    bench = shared_bench(SIX, seed=22, neighbour=NEIGHBOURS[name])
    add_sum(bench, distance=distance)
    bench.check()
    alone = vector_overhead(SIX, scaled=True) + pair_cycles(BANKS, distance or 0, 1, WORDS)
    if name == "none":
        assert bench.cycles == alone
    else:
        most = 1 + max(stall_rate(BANKS, (0,), 1, Stream(1, 1), number) for number in range(BANKS))
        assert alone <= bench.cycles <= alone + most * 10


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_factor_for_each_channel_is_read_once(name):
    bench = shared_bench(SIX, seed=23, neighbour=NEIGHBOURS[name])
    add_product(bench, broadcast=True)
    add_product(bench, broadcast=False)
    add_product(bench, broadcast=True)
    bench.check()
    if name == "none":
        # The word of an operand may be asked for, and again if the other one was not granted.
        assert bench.reads >= 4 * WORDS + 2 * 2


def test_operations_of_one_and_two_operands_take_turns():
    bench = shared_bench(SIX.replace(activation_bytes=4 * 4096), seed=24,
                         neighbour=NEIGHBOURS["random"])
    for number in range(3):
        add_product(bench, broadcast=bool(number % 2))
        x = bench.rng.integers(-128, 128, (4, 3, 3), dtype=np.int8)
        base = bench.element_wise(VectorOp.LOOKUP, x.shape, bases=(bench.place(x),), table=1)
        bench.expected.append((base, bench.looked_up(x, 1)))
        add_sum(bench, distance=number)
    bench.check()


def test_multipliers_of_both_operands_take_an_entry():
    factors = np.array([[0x030201, 0xffffff, 0, 1], [0x060504, 0, 0xffffff, 2]])
    entry, = vector_model.pack_multipliers(SIX, *factors)
    assert entry.view(np.uint8).reshape(6, 4)[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert len(vector_model.pack_multipliers(SIX.replace(vector_lines=0), *factors)) == 2


@pytest.mark.parametrize("broadcast", [0, 1])
def test_a_second_operand_outside_of_the_memory_is_a_fault(broadcast):
    bench = shared_bench(SIX, neighbour=NEIGHBOURS["none"])
    bench.command(VectorOp.MULTIPLY, in_inner_step=1, in_outer=1, in_inner=8, blocks=1, out_outer=1,
                  out_inner=8, kernel_outer=2, broadcast=broadcast,
                  kernel_outer_step=SIX.activation_depth - (0 if broadcast else 7))
    assert bench.run() == [(Error.ADDRESS, bench.first)]
