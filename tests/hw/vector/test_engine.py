"""The vector engine against the numpy reference: every operation, random shapes and stalls."""


import numpy as np
import pytest
from amaranth.lib import data
from amaranth.utils import ceil_log2
from sweeps import sweep
from vector_bench import (
    Bench,
    add_conv,
    random_clamp,
    random_parameters,
    random_tensor,
    random_window,
    shared_bench,
)

from weft.hw.isa.commands import Engine, Rounding, VectorCommand, VectorOp
from weft.hw.isa.config import AcceleratorConfig, ConfigError
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.hw.isa.subset import roundings
from weft.hw.memory.activation import ActivationMemory
from weft.reference import vector as vector_model

TINY = PRESETS["tiny"].replace(
    activation_bytes=4 * 2048, weight_bytes=4096, vector_entries=128, vector_tables=2,
    parameter_channels=64)
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=10, requant_lanes=2, activation_bytes=6 * 2048, weight_bytes=20480,
    accumulator_pixels=16, parameter_channels=64, vector_entries=128, vector_tables=2)
OP_BIT = data.Layout.cast(VectorCommand)["op"].offset
CONFIGS = {
    "tiny": TINY,
    "odd-2": ODD.replace(vector_taps=2),
    "tiny-4": TINY.replace(vector_taps=4),
    "tiny-1": TINY.replace(vector_taps=1, requant_lanes=4),
    # Both operands are read at a time.
    "pairs-6": TINY.replace(vector_taps=6, vector_lines=16, requant_lanes=4),
    "pairs-8": ODD.replace(vector_taps=8, vector_lines=16, activation_bytes=6 * 4096),
}
STALLED = sweep(CONFIGS, (0, 0.4), fast=lambda name, stall: bool(stall) == (
    name in ("tiny", "tiny-1", "pairs-8")) or name == "tiny")
"""Each configuration with or without stalls; with and without them in the long sweep."""
FEW = sweep(CONFIGS, (0, 0.4), fast=lambda name, stall: (name, stall) in (
    ("tiny", 0.4), ("odd-2", 0), ("pairs-6", 0.4)))
"""For longer tests."""


@pytest.mark.parametrize("name, stall", STALLED)
def test_depthwise_convolutions_equal_the_reference(name, stall):
    bench = shared_bench(CONFIGS[name], seed=3, stall=stall)
    rng = bench.rng
    for number in range(4):
        x = random_tensor(rng, int(rng.integers(1, 10)))
        kernel, geometry = random_window(rng, x, 5 if number else 3)
        weights = rng.integers(-128, 128, (x.shape[0], *kernel), dtype=np.int8)
        add_conv(bench, x, weights, geometry=geometry, in_zero=int(rng.integers(-128, 128)),
                 swap=bool(number % 2))
    bench.check()


@pytest.mark.parametrize("name", sweep(CONFIGS, fast=("tiny", "odd-2", "pairs-6").__contains__))
def test_large_kernels_and_whole_planes_equal_the_reference(name):
    bench = shared_bench(CONFIGS[name], seed=4, stall=0.1)
    rng = bench.rng
    for kernel, shape, keep in (((7, 7), (3, 8, 9), True), ((5, 6), (5, 5, 6), True),
                                ((3, 3), (4, 4, 6), False)):
        x = rng.integers(-128, 128, shape, dtype=np.int8)
        pads = (2, 3, 1, 2) if kernel == (7, 7) else (0, 0, 0, 0)
        weights = rng.integers(-128, 128, (shape[0], *kernel), dtype=np.int8)
        add_conv(bench, x, weights, in_zero=-7, keep=keep,
                 geometry={"strides": (1, 1), "pads": pads, "dilations": (1, 1)})
    bench.check()


@pytest.mark.parametrize("name, stall", STALLED)
def test_maxima_equal_the_reference(name, stall):
    bench = shared_bench(CONFIGS[name], seed=5, stall=stall)
    rng = bench.rng
    for number in range(4):
        x = random_tensor(rng, int(rng.integers(1, 10)))
        kernel, geometry = random_window(rng, x, 4)
        clamp = random_clamp(rng)
        expected = vector_model.max_pool(x, kernel, clamp=clamp, **geometry)
        base = bench.window(
            VectorOp.MAX, x, kernel, expected.shape, swap=bool(number % 2), clamp_min=clamp[0],
            clamp_max=clamp[1], **geometry)
        bench.expected.append((base, expected))
    bench.check()


@pytest.mark.parametrize("name", sweep(CONFIGS, fast=("tiny-1", "pairs-8").__contains__))
def test_maxima_of_long_rows_equal_the_reference(name):
    bench = shared_bench(CONFIGS[name], seed=15, stall=0.1)
    x = bench.rng.integers(-128, 128, (2, 1, 257), dtype=np.int8)
    geometry = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    expected = vector_model.max_pool(x, (1, 255), **geometry)
    bench.expected.append((
        bench.window(VectorOp.MAX, x, (1, 255), expected.shape, **geometry), expected))
    bench.check()


def test_averages_share_one_set_of_weights():
    bench = shared_bench(TINY, seed=6, stall=0.2)
    rng = bench.rng
    x = rng.integers(-128, 128, (11, 5, 4), dtype=np.int8)
    for kernel, geometry in (((5, 4), {"strides": (1, 1), "pads": (0, 0, 0, 0)}),
                             ((2, 2), {"strides": (2, 2), "pads": (1, 0, 0, 0)})):
        ones = np.ones((11, *kernel), np.int8)
        scale = np.full(11, 1.3 / ones[0].size, np.float32)
        bias = np.zeros(11, np.int32)
        expected = vector_model.depthwise(
            x, ones, bias, scale, in_zero=5, out_zero=-3, dilations=(1, 1), **geometry)
        base = bench.window(
            VectorOp.CONV, x, kernel, expected.shape, in_zero=5, out_zero=-3, shared=1,
            weight_base=bench.load_weights(vector_model.pack_kernel(TINY, ones[:4])),
            parameter_base=bench.load_parameters(bias[:4] - 5 * ones[0].size, scale[:4]),
            dilations=(1, 1), **geometry)
        bench.expected.append((base, expected))
    bench.check()


@pytest.mark.parametrize("name, stall", STALLED)
def test_sums_of_two_tensors_equal_the_reference(name, stall):
    config = CONFIGS[name]
    bench = shared_bench(config, seed=7, stall=stall)
    rng = bench.rng
    for subtract in (False, True):
        for broadcast in (False, True):
            a = random_tensor(rng, int(rng.integers(1, 10)), 4)
            shape = (a.shape[0], 1, 1) if broadcast else a.shape
            b = rng.integers(-128, 128, shape, dtype=np.int8)
            # Small factors show errors in the last place of a sum.
            spread = 200 if broadcast else 1 << 28
            factors = [rng.integers(0, 3 if broadcast else 1 << 22, len(a)) for _ in range(2)]
            factors[0][-1] = 2 if broadcast else (1 << 24) - 1
            bias, scale = random_parameters(rng, len(a), spread)
            expected = vector_model.add(a, b, factors, bias, scale, subtract=subtract,
                                            out_zero=9)
            base = bench.element_wise(
                VectorOp.ADD, a.shape, bases=(bench.place(a), bench.place(b)),
                kernel_inner=-(-3 // config.vector_taps), broadcast=broadcast, subtract=subtract,
                out_zero=9, weight_base=bench.load_weights(
                    vector_model.pack_multipliers(config, *factors)),
                parameter_base=bench.load_parameters(bias, scale))
            bench.expected.append((base, expected))
    bench.check()


@pytest.mark.parametrize("name, stall", STALLED)
def test_products_of_two_tensors_equal_the_reference(name, stall):
    bench = shared_bench(CONFIGS[name], seed=8, stall=stall)
    rng = bench.rng
    for broadcast in (False, True):
        a = random_tensor(rng, int(rng.integers(1, 14)), 5)
        shape = (a.shape[0], 1, 1) if broadcast else a.shape
        b = rng.integers(-128, 128, shape, dtype=np.int8)
        a[0, 0, 0], b[0, 0, 0] = -128, -128
        bias, scale = random_parameters(rng, len(a), 1 << 14)
        zeros = {"a_zero": 127, "b_zero": int(rng.integers(-128, 128))}
        clamp = random_clamp(rng)
        expected = vector_model.multiply(a, b, bias, scale, clamp=clamp, **zeros)
        base = bench.element_wise(
            VectorOp.MULTIPLY, a.shape, bases=(bench.place(a), bench.place(b)),
            broadcast=broadcast, in_zero=zeros["a_zero"], second_zero=zeros["b_zero"],
            clamp_min=clamp[0], clamp_max=clamp[1],
            parameter_base=bench.load_parameters(bias, scale))
        bench.expected.append((base, expected))
    bench.check()


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", ["tiny", "odd-2"])
def test_look_ups_equal_the_reference(name, stall):
    bench = shared_bench(CONFIGS[name], seed=9, stall=stall)
    for tables in ({"table": 2}, {"table": 1}, {"table": 1, "table_step": 1}):
        x = random_tensor(bench.rng, int(bench.rng.integers(bench.config.rows + 1,
                                                            2 * bench.config.rows + 1)))
        base = bench.element_wise(VectorOp.LOOKUP, x.shape, bases=(bench.place(x),), **tables)
        bench.expected.append((base, bench.looked_up(x, **tables)))
    bench.check()


@pytest.mark.parametrize("name, stall", FEW)
def test_results_go_through_tables(name, stall):
    """Of all operations, in turns with results that do not."""
    config = CONFIGS[name].replace(vector_entries=1024, parameter_channels=1024)
    bench = shared_bench(config, seed=19, stall=stall)
    for op in all_pairs(list(VectorOp)):
        step = int(bench.rng.integers(2))
        add_any(bench, op, table=int(bench.rng.integers(op is VectorOp.LOOKUP, 3 - step)),
                table_step=step)
    bench.check()


@pytest.mark.parametrize("op", [VectorOp.LOOKUP, VectorOp.ADD])
def test_results_wait_for_a_busy_memory(op):
    bench = shared_bench(TINY, seed=11, write_stall=0.9)
    shape = (4, 8, 8)
    tensors = [bench.rng.integers(-128, 128, shape, dtype=np.int8)
               for _ in range(1 if op is VectorOp.LOOKUP else 2)]
    bench.element_wise(op, shape, bases=[bench.place(tensor) for tensor in tensors],
                       table=int(op is VectorOp.LOOKUP),
                       weight_base=bench.load_weights(bench.rng.integers(
                           -128, 128, (2, TINY.vector_entry_lanes), dtype=np.int8)),
                       parameter_base=bench.load_parameters(
                           *random_parameters(bench.rng, 4, 1 << 30)))
    bench.check()


def test_a_table_is_loaded_while_another_is_in_use():
    bench = Bench(TINY, seed=12, stall=0.5)
    x = bench.rng.integers(-128, 128, (4, 12, 12), dtype=np.int8)
    bench.late_tables = bench.rng.integers(-128, 128, 100, dtype=np.int8)
    base = bench.place(x)
    for table in (1, 2):
        if table == 2:
            bench.tables = bench.tables.copy()
            bench.tables[256:356] = bench.late_tables[:, None]
        out_base = bench.element_wise(VectorOp.LOOKUP, x.shape, bases=(base,), table=table)
        bench.expected.append((out_base, bench.looked_up(x, table)))
    assert bench.run() == []
    for out_base, values in bench.expected:
        np.testing.assert_array_equal(bench.tensor(out_base, values.shape), values)


def test_a_command_works_on_part_of_a_larger_tensor():
    bench = shared_bench(TINY, seed=10, stall=0.2)
    x = bench.rng.integers(-128, 128, (8, 6, 7), dtype=np.int8)
    base = bench.place(x)
    target = bench.rng.integers(-128, 128, (12, 5, 5), dtype=np.int8)
    out_base = bench.place(target)
    # Rows 1..4 and every second column from 2, into channels 4..11, at (1, 2), transposed.
    expected = target.copy()
    part = x[:, 1:5, 2:7:2]
    expected[4:, 1:4, 1:5] = bench.looked_up(part, 1).transpose(0, 2, 1)
    bench.command(
        VectorOp.LOOKUP, table=1, in_base=base + 7 + 2, in_block_step=42, in_outer_step=7,
        in_inner_step=2, in_outer=4, in_inner=3, blocks=2, out_outer=4, out_inner=3,
        out_base=out_base + 25 + 5 + 1, out_block_step=25, out_outer_step=1, out_inner_step=5)
    bench.expected.append((out_base, expected))
    bench.check()


# Overlapping commands -------------------------------------------------------------------------

def add_any(bench, op, rule=Rounding.FLOAT32, **tables):
    """A small random command of the given operation, that works on data of its own."""
    rng, config = bench.rng, bench.config
    tables = tables or {"table": int(op is VectorOp.LOOKUP)}
    tables["table_step"] = int(bool(tables["table"] and tables.get("table_step")))
    if op in (VectorOp.CONV, VectorOp.MAX):
        x = random_tensor(rng, int(rng.integers(1, 6)), 4)
        kernel, geometry = random_window(rng, x, 3)
        if op is VectorOp.CONV:
            weights = rng.integers(-128, 128, (len(x), *kernel), dtype=np.int8)
            add_conv(bench, x, weights, geometry=geometry, in_zero=int(rng.integers(-128, 128)),
                     rule=rule, **tables)
        else:
            clamp = random_clamp(rng)
            expected = vector_model.max_pool(x, kernel, clamp=clamp, **geometry)
            bench.window(op, x, kernel, expected.shape, clamp_min=clamp[0], clamp_max=clamp[1],
                         in_zero=int(rng.integers(-128, 128)), **geometry, **tables)
        return
    pair = op is not VectorOp.LOOKUP
    tensors = [random_tensor(rng, int(rng.integers(1, 6)), 3)]
    if pair:
        tensors.append(rng.integers(-128, 128, tensors[0].shape, dtype=np.int8))
    fields = {name: int(rng.integers(-128, 128)) for name in ("in_zero", "second_zero",
                                                               "out_zero")}
    fields["clamp_min"], fields["clamp_max"] = random_clamp(rng)
    fields |= tables
    if pair:
        spread = 1 << (29 if op is VectorOp.ADD else 14)
        fields["rule"] = rule
        fields["parameter_base"] = bench.load_parameters(
            *random_parameters(rng, len(tensors[0]), spread), rule)
    if op is VectorOp.ADD:
        factors = [rng.integers(0, 1 << 22, len(tensors[0])) for _ in range(2)]
        fields["weight_base"] = bench.load_weights(
            vector_model.pack_multipliers(config, *factors))
        fields |= {"kernel_inner": -(-3 // config.vector_taps), "subtract": int(rng.integers(2))}
    bench.element_wise(op, tensors[0].shape, bases=[bench.place(x) for x in tensors], **fields)


def all_pairs(values):
    """A sequence in which each of the values comes right after each, itself included."""
    sequence, left = [values[0]], {(a, b) for a in values for b in values}
    while left:
        at = sequence[-1]
        following = next((b for b in reversed(values) if (at, b) in left), values[0])
        left.discard((at, following))
        sequence.append(following)
    return sequence


@pytest.mark.parametrize("name, stall", FEW)
def test_nothing_leaks_from_a_command_into_the_next(name, stall):
    config = CONFIGS[name].replace(vector_entries=1024, parameter_channels=1024)
    bench = shared_bench(config, seed=13, stall=stall)
    for op in all_pairs(list(VectorOp)):
        add_any(bench, op)
    bench.check()


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", ["tiny", "odd-2"])
def test_rule_may_change_with_every_command(name, stall):
    config = CONFIGS[name].replace(fixed_point=True, parameter_channels=512)
    bench = shared_bench(config, seed=17, stall=stall)
    before = bench.words.copy()
    for number, rule in enumerate(all_pairs(list(roundings(config, Engine.VECTOR)))):
        add_any(bench, (VectorOp.CONV, VectorOp.ADD, VectorOp.MULTIPLY)[number % 3], rule)
    bench.check()
    changed = bench.words[bench.words != before]
    assert len(np.unique(changed)) > 50


# Throughput -----------------------------------------------------------------------------------

def cycles_of(op, count, *, config=TINY, width=9):
    """Cycles of a bench with ``count`` equal commands of two channel blocks."""
    bench = shared_bench(config)
    shape = (2 * config.rows, 4, width)
    for _ in range(count):
        if op in (VectorOp.CONV, VectorOp.MAX):
            bench.window(op, bench.rng.integers(-128, 128, shape, dtype=np.int8), (3, 3), shape,
                         strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
        else:
            pair = op is not VectorOp.LOOKUP
            bench.element_wise(op, shape, bases=[
                bench.place(bench.rng.integers(-128, 128, shape, dtype=np.int8))
                for _ in range(1 + pair)], table=int(not pair))
    bench.check()
    return bench.cycles


@pytest.mark.parametrize("name, op, per_word, per_row", [
    ("tiny", VectorOp.CONV, 3, 3), ("tiny", VectorOp.MULTIPLY, 2, 0),
    ("tiny", VectorOp.LOOKUP, 1, 0), ("tiny-1", VectorOp.LOOKUP, 1, 0),
    ("odd-2", VectorOp.CONV, 6, 0),  # groups of 2 and 1; at the start of a row 3 are padding
])
def test_a_command_takes_its_words_and_the_next_one_follows_three_cycles_later(
        name, op, per_word, per_row):
    config = CONFIGS[name]
    words  = 2 * 4 * (9 * per_word + per_row)
    alone  = cycles_of(op, 1, config=config)
    levels = max(1, ceil_log2(config.vector_taps))
    assert alone - words == ActivationMemory.LATENCY + (
        18 + levels if op is VectorOp.LOOKUP else 38 + levels + config.vector_groups)
    assert cycles_of(op, 3, config=config) == alone + 2 * (words + 3)


@pytest.mark.parametrize("kernel, per_word", [(3, 3), (5, 10)])
def test_a_sliding_window_reads_one_word_per_group(kernel, per_word):
    bench = shared_bench(TINY)
    x = bench.rng.integers(-128, 128, (4, 6, 16), dtype=np.int8)
    weights = bench.rng.integers(-128, 128, (4, kernel, kernel), dtype=np.int8)
    add_conv(bench, x, weights, in_zero=1, geometry={
        "strides": (1, 1), "pads": (kernel // 2,) * 4, "dilations": (1, 1)})
    bench.check()
    # All taps are new at the start of a row, except padding in front of the first group.
    first_of_rows = 6 * (kernel ** 2 - kernel * (kernel // 2) - per_word)
    assert bench.cycles < per_word * 6 * 16 + first_of_rows + 48


@pytest.mark.parametrize("op, per_word", [
    (VectorOp.ADD, 2), (VectorOp.MULTIPLY, 2), (VectorOp.LOOKUP, 1)])
def test_element_wise_operations_take_a_cycle_per_operand(op, per_word):
    bench = shared_bench(TINY)
    shape = (8, 8, 16)
    tensors = [bench.rng.integers(-128, 128, shape, dtype=np.int8)
               for _ in range(1 if op is VectorOp.LOOKUP else 2)]
    bench.element_wise(op, shape, bases=[bench.place(tensor) for tensor in tensors],
                       table=int(op is VectorOp.LOOKUP))
    bench.check()
    assert bench.cycles < per_word * 2 * 8 * 16 + 48


# Faults ---------------------------------------------------------------------------------------

def lookup_command(bench, **changes):
    bench.command(VectorOp.LOOKUP, **({
        "in_base": 0, "in_inner_step": 1, "in_outer": 1, "in_inner": 9, "blocks": 1,
        "out_outer": 1, "out_inner": 9, "out_base": 100, "out_inner_step": 1,
        "table": 1} | changes))


@pytest.mark.parametrize("changes, code", [
    *(({name: 0}, Error.ARGUMENT) for name in (
        "blocks", "out_outer", "out_inner", "in_outer", "in_inner", "kernel_outer",
        "kernel_inner")),
    ({"kernel_inner": 2}, Error.ARGUMENT),
    ({"kernel_outer": 2}, Error.ARGUMENT),
    ({"slide": 1}, Error.ARGUMENT),
    ({"broadcast": 1}, Error.ARGUMENT),
    ({"subtract": 1}, Error.ARGUMENT),
    ({"rule": 1}, Error.ARGUMENT),
    ({"clamp_min": 1, "clamp_max": 0}, Error.ARGUMENT),
    ({"table": 0}, Error.ARGUMENT),
    ({"table": 3}, Error.ADDRESS),
    ({"table": 2, "table_step": 1, "blocks": 2}, Error.ADDRESS),
    ({"in_base": 2048 - 8}, Error.ADDRESS),
    ({"in_base": (1 << 24) - 1}, Error.ADDRESS),
    ({"out_base": 2048 - 8}, Error.ADDRESS),
    ({"in_base": 1 << 23}, Error.ADDRESS),
    ({"out_base": 1 << 23}, Error.ADDRESS),
    ({"table": 256}, Error.ADDRESS),
    ({"table_step": 1, "blocks": 65535}, Error.ADDRESS),
])
def test_an_impossible_look_up_is_a_fault(changes, code):
    bench = shared_bench(TINY)
    bench.first = 0x8000
    lookup_command(bench)
    lookup_command(bench, **changes)
    before = bench.words.copy()
    assert bench.run() == [(code, 0x8001)]
    assert bench.done == 1
    if code is Error.ARGUMENT:
        before[100:109] = bench.tables[before[:9].view(np.uint8), np.arange(TINY.rows)]
        np.testing.assert_array_equal(bench.words, before)


@pytest.mark.parametrize("changes, code", [
    ({"blocks": 0}, Error.ARGUMENT), ({"table": 3}, Error.ADDRESS),
    ({"in_base": 2048 - 8}, Error.ADDRESS), ({"out_base": 2048 - 8}, Error.ADDRESS),
])
@pytest.mark.parametrize("stall", [pytest.param(0, marks=pytest.mark.slow), 0.5])
def test_commands_before_a_fault_are_done_and_none_after_it_is(changes, code, stall):
    bench = shared_bench(TINY, seed=14, stall=stall)
    x = bench.rng.integers(-128, 128, (4, 4, 5), dtype=np.int8)
    weights = bench.rng.integers(-128, 128, (4, 3, 3), dtype=np.int8)
    geometry = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    for _ in range(2):
        add_conv(bench, x, weights, geometry=geometry, in_zero=1)
    lookup_command(bench, **{"out_base": 1000} | changes)
    lookup_command(bench, out_base=1100)
    before = bench.words.copy()
    assert bench.run() == [(code, 102)]
    assert bench.done == 2
    for base, values in bench.expected:
        np.testing.assert_array_equal(bench.tensor(base, values.shape), values)
    np.testing.assert_array_equal(bench.words[1100:1109], before[1100:1109])


@pytest.mark.parametrize("op, changes, code", [
    (VectorOp.ADD, {"kernel_outer": 2, "kernel_inner": 2}, Error.ARGUMENT),
    (VectorOp.ADD, {}, Error.ARGUMENT),
    (VectorOp.MULTIPLY, {"kernel_outer": 3}, Error.ARGUMENT),
    (VectorOp.MULTIPLY, {"kernel_outer": 2, "kernel_inner": 2}, Error.ARGUMENT),
    (VectorOp.MULTIPLY, {"kernel_outer": 2, "slide": 1}, Error.ARGUMENT),
    (VectorOp.MULTIPLY, {"kernel_outer": 2, "subtract": 1}, Error.ARGUMENT),
    *((op, {flag: 1}, Error.ARGUMENT) for op in (VectorOp.CONV, VectorOp.MAX)
      for flag in ("broadcast", "subtract", "rule")),
    (VectorOp.ADD, {"kernel_outer": 2, "kernel_inner": 1, "rule": 2}, Error.ARGUMENT),
    *((op, {"table_step": 1}, Error.ARGUMENT) for op in (VectorOp.CONV, VectorOp.MAX)),
    *((op, {"table": 3}, Error.ADDRESS) for op in (VectorOp.CONV, VectorOp.MAX)),
    (VectorOp.CONV, {"slide": 1, "stride_inner": 0}, Error.ARGUMENT),
    (VectorOp.CONV, {"slide": 1, "dilation_inner": 2}, Error.ARGUMENT),
    (VectorOp.CONV, {"slide": 1, "kernel_outer": 33}, Error.ARGUMENT),
    (VectorOp.CONV, {"weight_base": 127, "kernel_outer": 2}, Error.ADDRESS),
    (VectorOp.CONV, {"parameter_base": 31}, Error.ADDRESS),
    (VectorOp.CONV, {"weight_base": 1 << 15}, Error.ADDRESS),
    (VectorOp.CONV, {"parameter_base": 1 << 15}, Error.ADDRESS),
])
def test_an_impossible_window_is_a_fault(op, changes, code):
    bench = shared_bench(TINY)
    bench.command(op, **({
        "in_base": 0, "in_inner_step": 1, "in_outer": 1, "in_inner": 9, "blocks": 1,
        "out_outer": 1, "out_inner": 9, "out_base": 100, "out_inner_step": 1} | changes))
    assert bench.run() == [(code, 100)]
    assert bench.done == 0


def test_an_unknown_operation_is_a_fault():
    bench = shared_bench(TINY)
    lookup_command(bench)
    bench.commands[0] |= 0xf << OP_BIT
    assert bench.run() == [(Error.ARGUMENT, 100)]


@pytest.mark.parametrize("field, value, message", [
    ("vector_taps", 11, "Vector taps must be between 0 and 10, not 11"),
    ("vector_entries", 7, "Vector entries must be between 8 and 65536, not 7"),
    ("vector_tables", 0, "Vector tables must be between 1 and 256, not 0"),
])
def test_a_wrong_configuration_is_named(field, value, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        TINY.replace(**{field: value})


def test_multipliers_wider_than_24_bits_are_refused():
    with pytest.raises(ValueError, match=(
            r"^Multipliers must be between 0 and 16777215, not 3 to 16777216$")):
        vector_model.split_multiplier(TINY, np.array([3, 1 << 24]))
