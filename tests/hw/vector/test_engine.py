"""The vector engine against the numpy reference: every operation, random shapes and stalls."""

import random

import numpy as np
import pytest
from amaranth.lib import data
from amaranth.utils import ceil_log2
from stream_bench import make_simulator, stream_put, stream_source, stream_watch

from weft.errors import InputError
from weft.hw.isa.commands import (
    Engine,
    Opcode,
    Rounding,
    VectorCommand,
    VectorOp,
    decode,
    encode,
    roundings,
)
from weft.hw.isa.config import PRESETS, AcceleratorConfig, ConfigError
from weft.hw.isa.registers import Error
from weft.hw.memory.activation import ActivationMemory
from weft.hw.vector.engine import VectorEngine
from weft.ir import layout
from weft.reference import quantized_multiplier
from weft.reference import vector as vector_model

TINY = PRESETS["tiny"].replace(
    activation_bytes=4 * 2048, weight_bytes=4096, vector_entries=128, vector_tables=2,
    parameter_channels=64)
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=10, requant_lanes=2, activation_bytes=6 * 2048, weight_bytes=20480,
    accumulator_pixels=16, parameter_channels=64, vector_entries=128, vector_tables=2)
OP_BIT = data.Layout.cast(VectorCommand)["op"].offset
TABLE_BIT = data.Layout.cast(VectorCommand)["table"].offset
CONFIGS = {
    "tiny": TINY,
    "odd-2": ODD.replace(vector_taps=2),
    "tiny-4": TINY.replace(vector_taps=4),
    "tiny-1": TINY.replace(vector_taps=1, requant_lanes=4),
}


class Bench:
    """A vector engine, its activation memory, and what is loaded into its other memories."""

    def __init__(self, config, *, seed=0, stall=0.0, write_stall=None):
        self.config = config
        self.stall = stall
        self.write_stall = stall if write_stall is None else write_stall
        self.late_tables = np.zeros(0, np.int8)  # loaded while the commands run
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.words = self.rng.integers(
            -128, 128, (config.activation_depth, config.rows), dtype=np.int8)
        self.weights = np.zeros((config.vector_entries, config.vector_entry_lanes), np.int8)
        self.parameters = np.zeros(
            (config.vector_parameter_depth, config.parameter_entry_data_bytes), np.int8)
        self.tables = self.rng.integers(
            -128, 128, (config.vector_table_bytes, config.rows), dtype=np.int8)
        self.used_weights = self.used_parameters = 0
        self.free = 0         # words of the activation memory
        self.commands = []
        self.first = 100      # index of the first command
        self.expected = []    # (base, int8 [C, H, W])

    # Commands ---------------------------------------------------------------------------------

    def place(self, tensor):
        """Address of a tensor, put into the next free words."""
        base = self.reserve(tensor.shape)
        words = layout.bytes_to_units(layout.pack_tensor(self.config, tensor),
                                      self.config.word_bytes, self.config.word_lanes)
        self.words[base:base + len(words)] = words
        return base

    def reserve(self, shape):
        base = self.free
        self.free += layout.tensor_words(self.config, shape) + 3
        assert self.free <= self.config.activation_depth
        return base

    def tensor(self, base, shape):
        words = self.words[base:base + layout.tensor_words(self.config, shape)]
        return layout.unpack_tensor(
            self.config, layout.units_to_bytes(words, self.config.word_bytes), shape)

    def load_weights(self, entries):
        base = self.used_weights
        self.used_weights += len(entries)
        self.weights[base:self.used_weights] = entries
        return base

    def load_parameters(self, bias, scale, rule=Rounding.FLOAT32):
        base = self.used_parameters
        channels = np.zeros((-(-len(bias) // self.config.rows) * self.config.rows, 2), np.int32)
        channels[:len(bias), 0] = bias
        channels[:len(bias), 1] = scale.view(np.int32)
        if rule is not Rounding.FLOAT32:
            limit = 1 << layout.FIXED_POINT_BIAS_BITS - 1
            bias = np.clip(bias, -limit, limit - 1)
            channels[:len(bias)] = layout.fixed_point_words(bias, *quantized_multiplier(scale))
        entries = channels.view(np.int8).reshape(-1, self.config.parameter_entry_data_bytes)
        self.used_parameters += len(entries)
        self.parameters[base:self.used_parameters] = entries
        return base

    def command(self, op, **fields):
        defaults = {name: 0 for name, _ in data.Layout.cast(VectorCommand)
                    if not name.startswith("_") and name != "header"}
        defaults |= {"clamp_min": -128, "clamp_max": 127, "kernel_outer": 1, "kernel_inner": 1,
                     "stride_outer": 1, "stride_inner": 1, "dilation_inner": 1}
        raw = encode(Opcode.VECTOR, **(defaults | fields | {"op": op}))
        self.commands.append(int.from_bytes(raw, "little"))

    def window(self, op, x, kernel, out_shape, *, strides, pads, dilations, out_base=None,
               swap=False, keep=True, **fields):
        """A CONV or MAX over a tensor; ``swap`` slides along columns."""
        _, in_h, in_w = x.shape
        channels, out_h, out_w = out_shape
        out_base = self.reserve(out_shape) if out_base is None else out_base
        top, left = pads[:2]
        outer = {"in": in_h, "pitch": in_w, "out": out_h, "out_pitch": out_w, "pad": top,
                 "stride": strides[0], "dilation": dilations[0], "kernel": kernel[0]}
        inner = {"in": in_w, "pitch": 1, "out": out_w, "out_pitch": 1, "pad": left,
                 "stride": strides[1], "dilation": dilations[1], "kernel": kernel[1]}
        if swap:
            outer, inner = inner, outer
        groups = -(-inner["kernel"] // self.config.vector_taps)
        self.command(
            op, in_base=(self.place(x) - top * in_w - left) % (1 << 24),
            in_block_step=in_h * in_w, in_outer_step=outer["stride"] * outer["pitch"],
            in_inner_step=inner["stride"] * inner["pitch"],
            kernel_outer_step=outer["dilation"] * outer["pitch"],
            kernel_inner_step=inner["dilation"] * inner["pitch"],
            pad_outer=outer["pad"], pad_inner=inner["pad"], in_outer=outer["in"],
            in_inner=inner["in"], kernel_outer=outer["kernel"], kernel_inner=inner["kernel"],
            stride_outer=outer["stride"], stride_inner=inner["stride"],
            dilation_outer=outer["dilation"], dilation_inner=inner["dilation"],
            slide=keep and inner["dilation"] == 1 and outer["kernel"] * groups <= 32,
            blocks=layout.channel_blocks(self.config, channels), out_outer=outer["out"],
            out_inner=inner["out"], out_base=out_base, out_block_step=out_h * out_w,
            out_outer_step=outer["out_pitch"], out_inner_step=inner["out_pitch"], **fields)
        return out_base

    def element_wise(self, op, shape, *, bases, broadcast=False, **fields):
        """An operation over whole planes, written as one long row per block."""
        channels, height, width = shape
        size = height * width
        out_base = self.reserve(shape)
        step = {"kernel_outer_step": (bases[1] - bases[0]) % (1 << 24)} if len(bases) > 1 else {}
        self.command(
            op, in_base=bases[0], in_block_step=size, in_inner_step=1, in_outer=1, in_inner=size,
            blocks=layout.channel_blocks(self.config, channels), out_outer=1, out_inner=size,
            out_base=out_base, out_block_step=size, out_inner_step=1, broadcast=broadcast,
            kernel_inner_step=int(broadcast), kernel_outer=len(bases), **step, **fields)
        return out_base

    def looked_up(self, values, table=0, table_step=0):
        """What becomes of results, int8 [C, H, W], that go through tables."""
        lanes = np.arange(len(values)) % self.config.rows
        number = table - 1 + table_step * (np.arange(len(values)) // self.config.rows)
        at = 256 * number[:, None, None] + values.view(np.uint8)
        return self.tables[at, lanes[:, None, None]] if table else values

    # Simulation -------------------------------------------------------------------------------

    def model(self):
        """What the activation memory holds after all commands, by the command-level reference."""
        words = self.words.copy()
        for command in self.commands:
            _, fields = decode(command.to_bytes(64, "little"))
            vector_model.execute(
                self.config, fields, words, weights=self.weights, parameters=self.parameters,
                tables=self.tables)
        return words

    def run(self):
        """Runs all commands; returns the faults. ``cycles`` counts those of the engine at work."""
        dut = VectorEngine(self.config)
        faults = []
        loaded = []
        self.cycles = self.done = 0

        async def read(ctx):
            rng = random.Random(self.seed + 1)
            pipe = [None] * ActivationMemory.LATENCY
            ctx.set(dut.request.ready, 1)
            async for _clk, _rst, valid, ready, address in ctx.tick().sample(
                    dut.request.valid, dut.request.ready, dut.request.payload):
                pipe = [address if valid and ready else None, *pipe[:-1]]
                # Where nothing was asked for there is rubbish.
                word = self.rng.integers(0, 256, self.config.rows) if pipe[-1] is None \
                    else self.words[pipe[-1]].view(np.uint8)
                ctx.set(dut.word, [int(v) for v in word])
                ctx.set(dut.request.ready, rng.random() >= self.stall)

        async def write(ctx):
            rng = random.Random(self.seed + 2)
            ctx.set(dut.write.ready, 1)
            async for _clk, _rst, valid, ready, payload in ctx.tick().sample(
                    dut.write.valid, dut.write.ready, dut.write.payload):
                if valid and ready:
                    assert payload.mask == (1 << self.config.rows) - 1
                    self.words[payload.address] = np.array(
                        list(payload.data), np.uint8).view(np.int8)
                ctx.set(dut.write.ready, rng.random() >= self.write_stall)

        async def load_late(ctx):
            await ctx.tick().until(dut.busy)
            for address, value in enumerate(self.late_tables):
                await stream_put(ctx, dut.table_write, {
                    "address": 256 + address, "mask": 1, "data": [int(value) & 0xff]})

        async def load(ctx):
            for port, rows in ((dut.weight_write, self.weights[:self.used_weights]),
                               (dut.parameter_write, self.parameters[:self.used_parameters]),
                               (dut.lane_table_write, self.tables)):
                if port is dut.lane_table_write and not any(
                        command >> TABLE_BIT & 0x1ff for command in self.commands):
                    continue
                for address, row in enumerate(rows):
                    await stream_put(ctx, port, {
                        "address": address, "mask": (1 << len(row)) - 1,
                        "data": [int(v) & 0xff for v in row]})
            loaded.append(True)
            await stream_source(dut.commands, [
                {"index": self.first + index, "command": VectorCommand.from_bits(command)}
                for index, command in enumerate(self.commands)],
                stall=self.stall, seed=self.seed)(ctx)

        async def finish(ctx):
            waited = 0
            async for _clk, _rst, pulse, busy, code, index in ctx.tick().sample(
                    dut.done, dut.busy, dut.fault.code, dut.fault.index):
                self.cycles += busy
                self.done += pulse
                waited += bool(loaded)
                assert waited < 20000, "the engine hangs"
                if code:
                    faults.append((Error(code), index))
                    return
                if self.done == len(self.commands):
                    break
            # Nothing may come after the last `done`.
            before = self.words.copy()
            await ctx.tick().repeat(8)
            np.testing.assert_array_equal(self.words, before)

        sim = make_simulator(dut)
        if len(self.late_tables):
            sim.add_testbench(load_late)
        for process in (read, write, load, stream_watch(dut.request), stream_watch(dut.write)):
            sim.add_testbench(process, background=True)
        sim.add_testbench(finish)
        sim.run()
        return faults

    def check(self):
        """All commands, against both references."""
        model = self.model()
        assert self.run() == []
        np.testing.assert_array_equal(self.words, model)
        for base, values in self.expected:
            np.testing.assert_array_equal(self.tensor(base, values.shape), values)


def random_tensor(rng, channels, max_size=7):
    shape = (channels, int(rng.integers(1, max_size + 1)), int(rng.integers(1, max_size + 1)))
    return rng.integers(-128, 128, shape, dtype=np.int8)


def random_parameters(rng, channels, spread):
    """Bias and scale that put sums of the given spread all over int8."""
    bias = rng.integers(-spread, spread, channels).astype(np.int32)
    scale = (rng.uniform(0.3, 1.5, channels) * 100 / spread).astype(np.float32)
    return bias, scale


def random_clamp(rng):
    return (-128, 127) if rng.random() < 0.5 else (int(rng.integers(-128, 0)),
                                                   int(rng.integers(0, 128)))


def random_window(rng, x, max_kernel):
    """Kernel and geometry that fit an input."""
    while True:
        kernel = tuple(int(v) for v in rng.integers(1, max_kernel + 1, 2))
        geometry = {
            "strides": tuple(int(v) for v in rng.integers(1, 4, 2)),
            "pads": tuple(int(v) for v in rng.integers(0, 3, 4)),
            "dilations": tuple(int(v) for v in rng.choice([1, 1, 1, 2], 2)),
        }
        try:
            vector_model.windows(x, kernel, **geometry)
        except InputError:
            continue
        return kernel, geometry


def add_conv(bench, x, weights, *, geometry, in_zero, rule=Rounding.FLOAT32, **options):
    rng, channels = bench.rng, x.shape[0]
    bias, scale = random_parameters(rng, channels, 4000 * weights[0].size ** 0.5)
    out_zero = int(rng.integers(-128, 128))
    clamp = random_clamp(rng)
    expected = vector_model.depthwise(
        x, weights, bias, scale, in_zero=in_zero, out_zero=out_zero, clamp=clamp, **geometry)
    folded = bias - in_zero * weights.sum(axis=(1, 2), dtype=np.int32)
    ordered = weights.transpose(0, 2, 1) if options.get("swap") else weights
    base = bench.window(
        VectorOp.CONV, x, weights.shape[1:], expected.shape, in_zero=in_zero, out_zero=out_zero,
        clamp_min=clamp[0], clamp_max=clamp[1],
        weight_base=bench.load_weights(vector_model.pack_kernel(bench.config, ordered)),
        parameter_base=bench.load_parameters(folded, scale, rule), rule=rule, **geometry,
        **options)
    if rule is Rounding.FLOAT32:
        tables = {name: options.get(name, 0) for name in ("table", "table_step")}
        bench.expected.append((base, bench.looked_up(expected, **tables)))


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_depthwise_convolutions_equal_the_reference(name, stall):
    bench = Bench(CONFIGS[name], seed=3, stall=stall)
    rng = bench.rng
    for number in range(4):
        x = random_tensor(rng, int(rng.integers(1, 10)))
        kernel, geometry = random_window(rng, x, 5 if number else 3)
        weights = rng.integers(-128, 128, (x.shape[0], *kernel), dtype=np.int8)
        add_conv(bench, x, weights, geometry=geometry, in_zero=int(rng.integers(-128, 128)),
                 swap=bool(number % 2))
    bench.check()


@pytest.mark.parametrize("name", CONFIGS)
def test_large_kernels_and_whole_planes_equal_the_reference(name):
    bench = Bench(CONFIGS[name], seed=4, stall=0.1)
    rng = bench.rng
    for kernel, shape, keep in (((7, 7), (3, 8, 9), True), ((5, 6), (5, 5, 6), True),
                                ((3, 3), (4, 4, 6), False)):
        x = rng.integers(-128, 128, shape, dtype=np.int8)
        pads = (2, 3, 1, 2) if kernel == (7, 7) else (0, 0, 0, 0)
        weights = rng.integers(-128, 128, (shape[0], *kernel), dtype=np.int8)
        add_conv(bench, x, weights, in_zero=-7, keep=keep,
                 geometry={"strides": (1, 1), "pads": pads, "dilations": (1, 1)})
    bench.check()


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_maxima_equal_the_reference(name, stall):
    bench = Bench(CONFIGS[name], seed=5, stall=stall)
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


@pytest.mark.parametrize("name", CONFIGS)
def test_maxima_of_long_rows_equal_the_reference(name):
    bench = Bench(CONFIGS[name], seed=15, stall=0.1)
    x = bench.rng.integers(-128, 128, (2, 1, 257), dtype=np.int8)
    geometry = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    expected = vector_model.max_pool(x, (1, 255), **geometry)
    bench.expected.append((
        bench.window(VectorOp.MAX, x, (1, 255), expected.shape, **geometry), expected))
    bench.check()


def test_averages_share_one_set_of_weights():
    bench = Bench(TINY, seed=6, stall=0.2)
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


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_sums_of_two_tensors_equal_the_reference(name, stall):
    config = CONFIGS[name]
    bench = Bench(config, seed=7, stall=stall)
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


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_products_of_two_tensors_equal_the_reference(name, stall):
    bench = Bench(CONFIGS[name], seed=8, stall=stall)
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
    bench = Bench(CONFIGS[name], seed=9, stall=stall)
    for tables in ({"table": 2}, {"table": 1}, {"table": 1, "table_step": 1}):
        x = random_tensor(bench.rng, int(bench.rng.integers(bench.config.rows + 1,
                                                            2 * bench.config.rows + 1)))
        base = bench.element_wise(VectorOp.LOOKUP, x.shape, bases=(bench.place(x),), **tables)
        bench.expected.append((base, bench.looked_up(x, **tables)))
    bench.check()


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_results_go_through_tables(name, stall):
    """Of all operations, in turns with results that do not."""
    config = CONFIGS[name].replace(vector_entries=1024, parameter_channels=1024)
    bench = Bench(config, seed=19, stall=stall)
    for op in all_pairs(list(VectorOp)):
        step = int(bench.rng.integers(2))
        add_any(bench, op, table=int(bench.rng.integers(op is VectorOp.LOOKUP, 3 - step)),
                table_step=step)
    bench.check()


@pytest.mark.parametrize("op", [VectorOp.LOOKUP, VectorOp.ADD])
def test_results_wait_for_a_busy_memory(op):
    bench = Bench(TINY, seed=11, write_stall=0.9)
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
    bench = Bench(TINY, seed=10, stall=0.2)
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


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_leaks_from_a_command_into_the_next(name, stall):
    bench = Bench(CONFIGS[name].replace(vector_entries=1024, parameter_channels=1024), seed=13,
                  stall=stall)
    for op in all_pairs(list(VectorOp)):
        add_any(bench, op)
    bench.check()


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("name", ["tiny", "odd-2"])
def test_rule_may_change_with_every_command(name, stall):
    config = CONFIGS[name].replace(fixed_point=True, parameter_channels=512)
    bench = Bench(config, seed=17, stall=stall)
    before = bench.words.copy()
    for number, rule in enumerate(all_pairs(list(roundings(config, Engine.VECTOR)))):
        add_any(bench, (VectorOp.CONV, VectorOp.ADD, VectorOp.MULTIPLY)[number % 3], rule)
    bench.check()
    changed = bench.words[bench.words != before]
    assert len(np.unique(changed)) > 50


# Throughput -----------------------------------------------------------------------------------

def cycles_of(op, count, *, config=TINY, width=9):
    """Cycles of a bench with ``count`` equal commands of two channel blocks."""
    bench = Bench(config)
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
    bench = Bench(TINY)
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
    bench = Bench(TINY)
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
    bench = Bench(TINY)
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
@pytest.mark.parametrize("stall", [0, 0.5])
def test_commands_before_a_fault_are_done_and_none_after_it_is(changes, code, stall):
    bench = Bench(TINY, seed=14, stall=stall)
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
    bench = Bench(TINY)
    bench.command(op, **({
        "in_base": 0, "in_inner_step": 1, "in_outer": 1, "in_inner": 9, "blocks": 1,
        "out_outer": 1, "out_inner": 9, "out_base": 100, "out_inner_step": 1} | changes))
    assert bench.run() == [(code, 100)]
    assert bench.done == 0


def test_an_unknown_operation_is_a_fault():
    bench = Bench(TINY)
    lookup_command(bench)
    bench.commands[0] |= 0xf << OP_BIT
    assert bench.run() == [(Error.ARGUMENT, 100)]


@pytest.mark.parametrize("field, value, message", [
    ("vector_taps", 9, "Vector taps must be between 0 and 8, not 9"),
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
