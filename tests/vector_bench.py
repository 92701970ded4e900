"""A vector engine with its memories, and random commands for it."""

import random
from functools import cache

import numpy as np
from amaranth.hdl import Signal
from amaranth.lib import data
from stream_bench import make_simulator, stream_put, stream_source

from weft.errors import InputError
from weft.hw.isa.commands import Opcode, Rounding, VectorCommand, VectorOp
from weft.hw.isa.encoding import decode, encode
from weft.hw.isa.registers import Error
from weft.hw.memory.activation import ActivationMemory
from weft.hw.vector.engine import VectorEngine
from weft.ir import layout
from weft.reference import quantized_multiplier
from weft.reference import vector as vector_model

__all__ = ["Bench", "add_conv", "random_clamp", "random_parameters", "random_tensor",
           "random_window", "shared_bench"]


TABLE_BIT = data.Layout.cast(VectorCommand)["table"].offset


class Bench:
    """A vector engine, its activation memory, and what is loaded into its other memories."""

    def __init__(self, config, **options):
        self.config = config
        self.late_tables = np.zeros(0, np.int8)  # loaded while the commands run
        self._simulator = None
        self.begin(**options)

    def begin(self, *, seed=0, stall=0.0, write_stall=None, neighbour=None):
        """Forgets all commands and what they need; the next run begins after a reset."""
        config = self.config
        # Of an engine that reads both operands: what goes first at the banks of the memory, as a
        # function of the cycle that gives a bank or none. Without it, readers are refused at
        # random.
        self.neighbour = neighbour
        self.stall = stall
        self.write_stall = stall if write_stall is None else write_stall
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
               swap=False, keep=True, lines=False, **fields):
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
            slide=keep and inner["dilation"] == 1 and outer["kernel"] * groups <= 32, lines=lines,
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
        words, lines = self.words.copy(), vector_model.no_lines(self.config)
        for command in self.commands:
            _, fields = decode(command.to_bytes(64, "little"))
            vector_model.execute(
                self.config, fields, words, weights=self.weights, parameters=self.parameters,
                tables=self.tables, lines=lines)
        return words

    def run(self):
        """Runs all commands; returns the faults. ``cycles`` counts those of the engine at work,
        ``reads`` the words that it reads. Further runs begin after a reset."""
        self.faults = []
        self.loaded = False
        self.cycles = self.done = self.reads = 0
        if self._simulator is None:
            self._simulator = self._elaborate()
        else:
            self._simulator.reset()
        self._simulator.run()
        return self.faults

    def _elaborate(self):
        dut = VectorEngine(self.config)

        def reader(request, port, seed):
            async def read(ctx):
                rng = random.Random(seed)
                pipe = [None] * ActivationMemory.LATENCY
                ctx.set(request.ready, self.neighbour is None)
                async for _clk, _rst, valid, ready, address in ctx.tick().sample(
                        request.valid, request.ready, request.payload):
                    pipe = [address if valid and ready else None, *pipe[:-1]]
                    self.reads += valid and ready
                    # Where nothing was asked for there is rubbish.
                    word = self.rng.integers(0, 256, self.config.rows) if pipe[-1] is None \
                        else self.words[pipe[-1]].view(np.uint8)
                    ctx.set(port, [int(v) for v in word])
                    if self.neighbour is None and self.stall:
                        ctx.set(request.ready, rng.random() >= self.stall)
            return read

        taken = Signal(range(self.config.activation_banks + 1))  # by the neighbour, plus 1

        async def go_first(ctx):
            cycle = 0
            while True:
                bank = self.neighbour(cycle)
                ctx.set(taken, 0 if bank is None else bank + 1)
                await ctx.tick()
                cycle += 1

        async def arbitrate(ctx):
            requests = dut.second_request, dut.request
            async for bank, *values in ctx.changed(
                    taken, *(value for request in requests
                             for value in (request.valid, request.payload))):
                busy = {bank - 1}
                for request, valid, address in zip(requests, values[::2], values[1::2],
                                                   strict=True):
                    wanted = address % self.config.activation_banks
                    ctx.set(request.ready, wanted not in busy)
                    busy |= {wanted} if valid else set()

        async def write(ctx):
            rng = random.Random(self.seed + 2)
            ctx.set(dut.write.ready, 1)
            async for _clk, _rst, valid, ready, payload in ctx.tick().sample(
                    dut.write.valid, dut.write.ready, dut.write.payload):
                if valid and ready:
                    assert payload.mask == (1 << self.config.rows) - 1
                    self.words[payload.address] = np.array(
                        list(payload.data), np.uint8).view(np.int8)
                if self.write_stall:
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
                await stream_source(port, [
                    {"address": address, "mask": (1 << len(row)) - 1,
                     "data": [int(v) & 0xff for v in row]}
                    for address, row in enumerate(rows)])(ctx)
            self.loaded = True
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
                waited += self.loaded
                assert waited < 20000, "the engine hangs"
                if code:
                    self.faults.append((Error(code), index))
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
        if self.neighbour is not None:
            sim.add_testbench(go_first, background=True)
            sim.add_process(arbitrate)
        readers = [(dut.request, dut.word)]
        if self.config.vector_pairs:
            readers.append((dut.second_request, dut.second_word))
        for number, (request, port) in enumerate(readers):
            sim.add_testbench(reader(request, port, self.seed + 1 + 2 * number), background=True)
        for process in (write, load):
            sim.add_testbench(process, background=True)
        sim.add_testbench(finish)
        return sim

    def check(self):
        """All commands, against both references."""
        model = self.model()
        assert self.run() == []
        np.testing.assert_array_equal(self.words, model)
        for base, values in self.expected:
            np.testing.assert_array_equal(self.tensor(base, values.shape), values)


@cache
def _elaborated(config, has_neighbour):
    return Bench(config)


def shared_bench(config, **options):
    """A :class:`Bench`, elaborated once for all tests of its configuration: that takes longer than
    most simulations do."""
    bench = _elaborated(config, "neighbour" in options)
    bench.begin(**options)
    return bench


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
        weight_base=bench.load_weights(vector_model.pack_kernel(
            bench.config, ordered, lines=options.get("lines", False))),
        parameter_base=bench.load_parameters(folded, scale, rule), rule=rule, **geometry,
        **options)
    if rule is Rounding.FLOAT32:
        tables = {name: options.get(name, 0) for name in ("table", "table_step")}
        bench.expected.append((base, bench.looked_up(expected, **tables)))
