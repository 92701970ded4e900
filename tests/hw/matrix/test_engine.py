"""The matrix engine alone against the numpy reference: convolutions of random shapes."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.lib import data
from graph_builder import GraphBuilder
from stream_bench import make_simulator, stream_source

from weft import reference
from weft.compiler.lowering.channel_parameters import requantization
from weft.compiler.lowering.vector_constants import pack_lane_tables, pack_table
from weft.frontend.fixed_point import with_fixed_point
from weft.hw.isa.commands import MatrixCommand, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.hw.matrix.engine import MatrixEngine
from weft.hw.memory.activation import ActivationMemory
from weft.ir import Function, layout

TINY = PRESETS["tiny"].replace(accumulator_pixels=16, weight_bytes=4096)
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=10, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=20480,
    accumulator_pixels=16, parameter_channels=64)
CONFIGS = [TINY, TINY.replace(fip=False), ODD, ODD.replace(fip=False),
           TINY.replace(rows=2, cols=3, requant_lanes=1),
          TINY.replace(rows=6, cols=6, requant_lanes=3)]  # parts of a word of more than two lanes


class MatrixBench:
    """A matrix engine with ideal activation memory, weights and parameters already loaded."""

    def __init__(self, config):
        self.config = config
        self.words = np.zeros((config.activation_depth, config.rows), np.int8)
        self.weights = []
        self.parameters = []
        self.tables = []
        self.commands = []
        self.first = 0  # index of the first command

    def add(self, graph, in_base, out_base, tile_pixels):
        """Append the command of the graph's only layer; its input lies at ``in_base``."""
        config = self.config
        layer, = graph.layers
        source, target = graph.tensors[layer.input], graph.tensors[layer.output]
        _, in_h, in_w = source.shape
        channels, out_h, out_w = target.shape
        tiles = -(-channels // config.cols)
        last = channels - (tiles - 1) * config.cols
        stride_h, stride_w = layer.strides
        dilation_h, dilation_w = layer.dilations
        pad_top, pad_left = layer.pads[:2]
        raw = encode(
            Opcode.MATRIX,
            in_base=(in_base - pad_top * in_w - pad_left) % (1 << 24), in_zero=source.zero_point,
            in_plane=in_h * in_w, pad_top=pad_top, pad_left=pad_left, in_h=in_h, in_w=in_w,
            channel_blocks=-(-source.shape[0] // config.rows), kernel_h=layer.weights.shape[2],
            kernel_w=layer.weights.shape[3], stride_h=stride_h, stride_w=stride_w,
            dilation_h=dilation_h, dilation_w=dilation_w, pixel_row_step=stride_h * in_w,
            kernel_row_step=dilation_h * in_w, out_w=out_w, tile_pixels=tile_pixels,
            out_pixels=out_h * out_w, out_zero=layer.result(target).zero_point, out_base=out_base,
            out_plane=out_h * out_w, clamp_min=layer.clamp[0], clamp_max=layer.clamp[1],
            col_tiles=tiles, last_groups=-(-last // config.requant_lanes),
            rule=layer.rounding, accumulate=0, keep=0, out_slot=0, weight_zero=0,
            weight_base=len(self.weights),
            parameter_base=len(self.parameters),
            table=len(self.tables) // 256 + 1 if layer.function else 0)
        if layer.function:
            values = layer.function.table
            self.tables += list(pack_table(values) if values.ndim == 1 else
                                pack_lane_tables(config, values)[0])
        rows = layout.pack_weights(config, layer.weights)
        entries = requantization(
            config, layer, layout.fold_bias(config, layer.weights, layer.bias, source.zero_point),
            layout.ChannelMap((channels,)))
        self.weights += list(rows.reshape(-1, rows.shape[-1])[:, :config.weight_row_lanes])
        self.parameters += list(
            entries.reshape(-1, entries.shape[-1])[:, :config.parameter_entry_data_bytes])
        self.commands.append(int.from_bytes(raw, "little"))

    def place(self, base, tensor):
        words = layout.bytes_to_units(layout.pack_tensor(self.config, tensor),
                                      self.config.word_bytes, self.config.word_lanes)
        self.words[base:base + len(words)] = words.view(np.int8)

    def tensor(self, base, shape):
        words = self.words[base:base + layout.tensor_words(self.config, shape)]
        return layout.unpack_tensor(
            self.config, layout.units_to_bytes(words.view(np.uint8), self.config.word_bytes), shape)

    def run(self, *, stall=0.0):
        dut = MatrixEngine(self.config)
        faults = []
        self.cycles = self.accepted = self.drained = 0

        async def memory(ctx):
            pipe = [0] * (ActivationMemory.LATENCY + 1)
            async for _clk, _rst, valid, address, writes, write in ctx.tick().sample(
                    dut.request.valid, dut.request.payload, dut.write.valid, dut.write.payload):
                pipe = [address if valid else 0, *pipe[:-1]]
                ctx.set(dut.word, [int(v) & 0xff for v in
                                   self.words[pipe[ActivationMemory.LATENCY - 1]]])
                if writes:
                    for lane in range(self.config.rows):
                        if write.mask >> lane & 1:
                            value = write.data[lane]
                            self.words[write.address, lane] = value - 256 * (value > 127)

        async def load(ctx):
            tables = []
            for number in range(0, len(self.tables), 256):
                rows = [[]] * number + self.tables[number:number + 256]
                tables.append((dut.table_write if len(rows[-1]) == 1 else dut.lane_table_write,
                               rows))
            for port, rows in ((dut.weight_write, self.weights),
                               (dut.parameter_write, self.parameters), *tables):
                for address, row in enumerate(rows):
                    if not len(row):
                        continue
                    ctx.set(port.payload, {"address": address, "mask": (1 << len(row)) - 1,
                                           "data": [int(v) & 0xff for v in row]})
                    ctx.set(port.valid, 1)
                    await ctx.tick()
                ctx.set(port.valid, 0)
            await stream_source(dut.commands, [
                {"index": self.first + index, "command": MatrixCommand.from_bits(command)}
                for index, command in enumerate(self.commands)], stall=stall)(ctx)

        async def finish(ctx):
            done = 0
            async for _clk, _rst, pulse, fault, accepting, draining in ctx.tick().sample(
                    dut.done, dut.fault, dut.activity.busy, dut.draining):
                self.cycles += 1
                self.accepted += accepting
                self.drained += draining
                done += pulse
                if fault.code:
                    faults.append((Error(fault.code), fault.index))
                    return
                if done == len(self.commands):
                    break
            await ctx.tick().repeat(3)

        sim = make_simulator(dut)
        sim.add_testbench(load, background=True)
        sim.add_testbench(memory, background=True)
        sim.add_testbench(finish)
        sim.run()
        return faults


def random_layer(rng, *, in_channels, max_size=6):
    builder = GraphBuilder(rng, (in_channels, int(rng.integers(1, max_size + 1)),
                                 int(rng.integers(1, max_size + 1))))
    output = builder.random_conv(builder.input, channels=int(rng.integers(1, 14)), max_kernel=3)
    return builder.graph(output)


@pytest.mark.parametrize("config", [*CONFIGS, TINY.replace(fixed_point=True)],
                         ids=lambda c: f"{c.rows}x{c.cols}-{c.fip}-{c.fixed_point}")
def test_overlapping_commands_equal_the_reference(config):
    rng = np.random.default_rng(config.rows)
    bench = MatrixBench(config)
    expected = []
    base = 0
    for number in range(3):
        graph = random_layer(rng, in_channels=int(rng.integers(1, 14)))
        if config.fixed_point and number % 2 == 0:
            graph = with_fixed_point(graph)
        layer, = graph.layers
        source = graph.tensors[layer.input]
        x = rng.integers(-128, 128, source.shape, dtype=np.int8)
        in_base, out_base = base, base + 200
        base += 400
        bench.place(in_base, x)
        bench.add(graph, in_base, out_base, int(rng.integers(3, 17)))
        expected.append((out_base, reference.run(graph, {layer.input: x})[layer.output]))
    assert bench.run() == []
    for out_base, values in expected:
        np.testing.assert_array_equal(bench.tensor(out_base, values.shape), values)


@pytest.mark.parametrize("pixels", [1, 2, 4, 5, 6, 15, 16])
def test_jobs_of_one_pixel_right_behind_others_are_not_lost(pixels):
    # With one step each, the pixel's job comes in the cycle after that of the tile before it.
    rng = np.random.default_rng(pixels)
    bench = MatrixBench(TINY)
    expected = []
    for number, width in enumerate([pixels, 1, 1, pixels, 1]):
        builder = GraphBuilder(rng, (4, 1, width))
        graph = builder.graph(builder.conv(builder.input, 4))
        x = rng.integers(-128, 128, (4, 1, width), dtype=np.int8)
        bench.place(number * 64, x)
        bench.add(graph, number * 64, 1000 + 64 * number, 16)
        expected.append(reference.run(graph, {"x": x})[graph.layers[0].output])
    assert bench.run() == []
    # A cycle for each group of channels of each pixel.
    assert bench.drained == (2 * pixels + 3) * (4 // TINY.requant_lanes)
    for number, values in enumerate(expected):
        np.testing.assert_array_equal(bench.tensor(1000 + 64 * number, values.shape), values)


def with_function(rng, graph, *, lanes=0):
    """The graph, whose layer's results go through a table; or through one for each of ``lanes``
    channels."""
    layer, = graph.layers
    size = (lanes, 256) if lanes else 256
    before = replace(graph.tensors[layer.output], zero_point=int(rng.integers(-128, 128)))
    function = Function(before=before, table=rng.integers(-128, 128, size, dtype=np.int8))
    return replace(graph, layers=(replace(layer, function=function),))


@pytest.mark.parametrize("config", [
    TINY, TINY.replace(vector_tables=1), ODD.replace(vector_tables=3, parameter_channels=256)],
    ids=lambda c: f"{c.rows}x{c.cols}-{c.vector_tables}")
def test_results_with_and_without_a_table(config):
    # Of one step each, so that the drain has no rest between tiles of either kind.
    rng = np.random.default_rng(config.rows)
    bench = MatrixBench(config)
    expected = []
    for number, width in enumerate([16, 1, 1, 3, 1, 2, 1, 1, 1, 5]):
        builder = GraphBuilder(rng, (config.rows, 1, width))
        graph = builder.graph(builder.conv(builder.input, int(rng.integers(1, config.cols + 1))))
        if len(bench.tables) < 256 * config.vector_tables and number % 3 != 1:
            graph = with_function(rng, graph)
        x = rng.integers(-128, 128, (config.rows, 1, width), dtype=np.int8)
        bench.place(number * 64, x)
        bench.add(graph, number * 64, 1000 + 64 * number, int(rng.integers(1, 17)))
        expected.append(reference.run(graph, {"x": x})[graph.layers[0].output])
    assert len(bench.tables) == 256 * config.vector_tables
    assert bench.run() == []
    for number, values in enumerate(expected):
        np.testing.assert_array_equal(bench.tensor(1000 + 64 * number, values.shape), values)


def test_tables_of_each_lane_between_those_of_all():
    config = TINY.replace(requant_lanes=4)
    assert config.drain_lane_tables and not TINY.drain_lane_tables
    rng = np.random.default_rng(2)
    bench = MatrixBench(config)
    expected = []
    for number, lanes in enumerate([4, 0, 0, 4]):
        builder = GraphBuilder(rng, (5, 3, 4))
        graph = with_function(rng, builder.graph(builder.conv(builder.input, 4)), lanes=lanes)
        x = rng.integers(-128, 128, (5, 3, 4), dtype=np.int8)
        bench.place(number * 64, x)
        bench.add(graph, number * 64, 1000 + 64 * number, 12)
        expected.append(reference.run(graph, {"x": x})[graph.layers[0].output])
    assert bench.run() == []
    for number, values in enumerate(expected):
        np.testing.assert_array_equal(bench.tensor(1000 + 64 * number, values.shape), values)


def test_results_cannot_go_through_a_table_that_there_is_not():
    rng = np.random.default_rng(1)
    for config in (TINY, TINY.replace(drain_lookup=False)):
        bench = MatrixBench(config)
        bench.add(random_layer(rng, in_channels=5), 0, 1000, 16)
        field = data.Layout.cast(MatrixCommand)["table"]
        bench.commands[0] |= (config.drain_tables + 1) << field.offset
        assert bench.run() == [(Error.ARGUMENT, 0)]


def test_weight_switches_cost_no_cycle():
    config = TINY
    rng = np.random.default_rng(1)
    builder = GraphBuilder(rng, (8, 4, 4))
    graph = builder.graph(builder.conv(builder.input, 8, kernel=(3, 3), pads=(1, 1, 1, 1)))
    bench = MatrixBench(config)
    bench.place(0, rng.integers(-128, 128, (8, 4, 4), dtype=np.int8))
    bench.add(graph, 0, 1000, 16)
    assert bench.run() == []
    # 2 column tiles x 18 steps x 16 pixels, and nothing in between.
    assert bench.accepted == 2 * 18 * 16
    loading = len(bench.weights) + len(bench.parameters)
    assert bench.cycles - loading - bench.accepted < 120


@pytest.mark.parametrize("groups", [1, 2])
def test_a_bank_is_written_again_right_after_its_last_sum_is_drained(groups):
    # One step for each tile, so that it is the drain that takes longest.
    rng = np.random.default_rng(2)
    bench = MatrixBench(TINY)
    expected = []
    for number in range(3):
        builder = GraphBuilder(rng, (4, 8, 8))
        graph = builder.graph(builder.conv(builder.input, groups * TINY.requant_lanes))
        x = rng.integers(-128, 128, (4, 8, 8), dtype=np.int8)
        bench.place(number * 64, x)
        bench.add(graph, number * 64, 1000 + 64 * number, 16)
        layer, = graph.layers
        expected.append(reference.run(graph, {layer.input: x})[layer.output])
    assert bench.run() == []
    for number, values in enumerate(expected):
        np.testing.assert_array_equal(bench.tensor(1000 + 64 * number, values.shape), values)
    tiles = 3 * 4
    assert bench.accepted == tiles * 16
    loading = len(bench.weights) + len(bench.parameters)
    # With one group the pipeline between array and drain is what a bank waits for.
    assert bench.cycles - loading < tiles * (24 if groups == 1 else 33) + 80


@pytest.mark.parametrize("field, value, index", [
    ("in_base", 16384 * 2, 0), ("out_base", 1 << 20, 0), ("weight_base", 1023, 0),
    ("parameter_base", 1 << 16, 0), *((field, 1 << 23, 0x8001) for field in (
        "in_base", "out_base", "weight_base", "parameter_base")),
])
def test_an_address_outside_a_memory_is_a_fault(field, value, index):
    rng = np.random.default_rng(1)
    bench = MatrixBench(TINY)
    bench.first = index
    bench.add(random_layer(rng, in_channels=5), 0, 1000, 16)
    field = data.Layout.cast(MatrixCommand)[field]
    mask = (1 << field.width) - 1
    bench.commands[0] = bench.commands[0] & ~(mask << field.offset) | value << field.offset
    assert bench.run() == [(Error.ADDRESS, index)]
