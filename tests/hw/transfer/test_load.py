import random

import numpy as np
import pytest
from stream_bench import (
    make_simulator,
    random_stall,
    stream_get,
    stream_put,
    stream_watch,
)
from sweeps import sweep

from weft.hw.isa.commands import Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.memories import memories
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.hw.transfer.load import LoadEngine

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "tiny64": PRESETS["tiny"].replace(axi_data_width=64),
    "tiny_matrix_only": PRESETS["tiny"].replace(vector_taps=0),
    "softmax": PRESETS["tiny"].replace(products=True, softmax=True),
    "base": PRESETS["base"],
    "wide": PRESETS["wide"],
    "odd128": AcceleratorConfig(rows=6, cols=10, requant_lanes=2, activation_bytes=4096,
                                weight_bytes=4096, axi_data_width=128, parameter_channels=64),
    "odd32": AcceleratorConfig(rows=6, cols=10, requant_lanes=2, activation_bytes=4096,
                               weight_bytes=4096, axi_data_width=32, parameter_channels=64),
}


def geometry(config, memory):
    """Bytes of a unit on chip and outside, and depth, of a memory."""
    return {
        Memory.ACTIVATION: (config.word_data_bytes, config.word_bytes, config.activation_depth),
        Memory.WEIGHT: (config.weight_row_data_bytes, config.weight_row_bytes, config.weight_depth),
        Memory.PARAMETER: (config.parameter_entry_data_bytes, config.parameter_entry_bytes,
                           config.parameter_depth),
        Memory.VECTOR_WEIGHT: (config.vector_entry_data_bytes, config.vector_entry_bytes,
                               config.vector_entries),
        Memory.VECTOR_PARAMETER: (config.parameter_entry_data_bytes, config.parameter_entry_bytes,
                                  config.vector_parameter_depth),
        Memory.TABLE: (1, 1, config.vector_table_bytes),
        Memory.LANE_TABLE: (config.word_data_bytes, config.word_bytes, config.vector_table_bytes),
        Memory.ROW_CONSTANT: (4, 4, 256),
    }[memory]


def load(memory=Memory.ACTIVATION, **changes):
    """Fields of a small correct command, with changes."""
    return {"memory": memory, "lines": 2, "address": 0x1000, "stride": 0x200, "units": 3,
            "local_address": 4, "local_stride": 8} | changes


def command_bits(fields):
    """The command as a number; ``memory`` may be a number that is no memory."""
    memory = getattr(fields["memory"], "value", fields["memory"])
    raw = encode(Opcode.LOAD, **(fields | {"memory": Memory.ACTIVATION}))
    return int.from_bytes(raw, "little") | memory << 32


class Bench:
    """A load engine between an external memory and numpy models of the on-chip memories."""

    def __init__(self, config, *, seed=0, stall=0.0, latency=5, bad_beat=None):
        self.config = config
        self.dut = LoadEngine(config)
        self.rng = np.random.default_rng(seed)
        self.external = self.rng.integers(0, 256, 1 << 16, dtype=np.uint8)
        # What is on chip: -1 where nothing was written.
        self.on_chip = {memory: np.full((depth, data_bytes), -1)
                        for memory in memories(config)
                        for data_bytes, _, depth in [geometry(config, memory)]}
        self.seed, self.stall, self.latency, self.bad_beat = seed, stall, latency, bad_beat
        self.beats = []      # (cycle from which it may be shown, address)
        self.cycle = 0
        self.beats_taken = 0
        self.events = []     # ("done", cycle) or ("fault", code, index)
        self.first_request = self.last_write = None

    def read(self, address, count):
        """Bytes of the external memory, which repeats every 64 KiB."""
        return self.external[(address + np.arange(count)) % len(self.external)]

    def run(self, commands, *, outcome):
        """Executes ``commands`` and waits for ``outcome`` dones or a fault."""
        dut = self.dut
        sim = make_simulator(dut)

        async def feed(ctx):
            rng = random.Random(self.seed)
            for index, fields in enumerate(commands):
                await random_stall(ctx, rng, self.stall)
                ctx.set(dut.commands.p.index, 100 + index)
                ctx.set(dut.commands.p.command.as_value(), command_bits(fields))
                ctx.set(dut.commands.valid, 1)
                ready = 0
                while not ready:
                    _clk, _rst, ready = await ctx.tick().sample(dut.commands.ready)
                ctx.set(dut.commands.valid, 0)

        async def requests(ctx):
            rng = random.Random(self.seed + 1)
            while True:
                await random_stall(ctx, rng, self.stall)
                request = await stream_get(ctx, dut.requests)
                if self.first_request is None:
                    self.first_request = self.cycle
                for beat in range(request.beats):
                    self.beats.append((self.cycle + self.latency,
                                       request.address + beat * self.config.axi_bytes))

        async def beats(ctx):
            rng = random.Random(self.seed + 2)
            while True:
                await random_stall(ctx, rng, self.stall)
                while not self.beats or self.beats[0][0] > self.cycle:
                    await ctx.tick()
                _, address = self.beats.pop(0)
                raw = self.read(address, self.config.axi_bytes).tobytes()
                ctx.set(dut.beats_error, self.beats_taken == self.bad_beat)
                await stream_put(ctx, dut.beats, int.from_bytes(raw, "little"))
                self.beats_taken += 1

        def writes(memory, port):
            async def testbench(ctx):
                rng = random.Random(self.seed + 3 + memory.value)
                model = self.on_chip[memory]
                fields = port.p.address, port.p.data.as_value(), port.p.mask
                refuses = not port.signature.always_ready
                stall = self.stall if refuses else 0
                if refuses:
                    ctx.set(port.ready, not stall)
                while True:
                    valid = 0
                    while stall and not valid:  # a memory may well wait for `valid`
                        _clk, _rst, valid = await ctx.tick().sample(port.valid)
                    await random_stall(ctx, rng, stall)
                    if refuses:
                        ctx.set(port.ready, 1)
                    valid = 0
                    while not valid:
                        _clk, _rst, valid, address, word, mask = await ctx.tick().sample(
                            port.valid, *fields)
                    if refuses:
                        ctx.set(port.ready, not stall)
                    assert mask, "a write of nothing"
                    for lane in range(model.shape[1]):
                        if mask >> lane & 1:
                            assert model[address, lane] == -1, "written twice"
                            model[address, lane] = word >> 8 * lane & 0xff
                    self.last_write = self.cycle
            return testbench

        async def clock(ctx):
            while True:
                await ctx.tick()
                self.cycle += 1

        async def finish(ctx):
            finished = 0
            async for _clk, _rst, done, code, index in ctx.tick().sample(
                    dut.done, dut.fault.code, dut.fault.index):
                if done:
                    self.events.append("done")
                    finished += 1
                if code:
                    self.events.append((Error(code), index))
                if code or finished == outcome:
                    break
                assert self.cycle < 20000, "the engine hangs"
            await ctx.tick().repeat(20)
            assert ctx.get(dut.fault.code) == code
            if not code:
                assert not ctx.get(dut.busy)

        sim.add_testbench(clock, background=True)
        sim.add_testbench(feed, background=True)
        sim.add_testbench(requests, background=True)
        sim.add_testbench(beats, background=True)
        for memory in memories(self.config):
            port = getattr(dut, memory.name.lower())
            sim.add_testbench(writes(memory, port), background=True)
            sim.add_testbench(stream_watch(port), background=True)
        sim.add_testbench(stream_watch(dut.requests), background=True)
        sim.add_testbench(finish)
        sim.run()

    def expected(self, commands):
        """The on-chip memories after ``commands``."""
        model = {memory: np.full_like(array, -1) for memory, array in self.on_chip.items()}
        for fields in commands:
            data_bytes, unit_bytes, _ = geometry(self.config, fields["memory"])
            for line in range(fields["lines"]):
                start = fields["address"] + line * fields["stride"]
                local = fields["local_address"] + line * fields["local_stride"]
                run = self.read(start, fields["units"] * unit_bytes)
                model[fields["memory"]][local:local + fields["units"]] = \
                    run.reshape(fields["units"], unit_bytes)[:, :data_bytes]
        return model

    def check(self, commands):
        self.run(commands, outcome=len(commands))
        assert self.events == ["done"] * len(commands)
        for memory, model in self.expected(commands).items():
            np.testing.assert_array_equal(self.on_chip[memory], model, err_msg=memory.name)


def random_commands(config, rng, count):
    """Commands whose on-chip ranges do not overlap."""
    commands, free = [], dict.fromkeys(memories(config), 0)
    for _ in range(count):
        memory = rng.choice([*memories(config)])
        _, unit_bytes, depth = geometry(config, memory)
        lines, units, gap = rng.randint(1, 4), rng.randint(1, 9), rng.randrange(3)
        needed = lines * (units + gap)
        if free[memory] + needed > depth:
            continue
        beats = -(-units * unit_bytes // config.axi_bytes)
        commands.append({
            "memory": memory, "lines": lines, "units": units, "local_address": free[memory],
            "local_stride": units + gap, "address": config.axi_bytes * rng.randrange(64),
            "stride": config.axi_bytes * rng.choice([0, 1, beats, beats + rng.randrange(9)])})
        free[memory] += needed
    return commands


@pytest.mark.parametrize("name, stall", sweep(
    CONFIGS, (0, 0.3), fast=lambda name, stall: stall or name == "tiny64"))
def test_places_units_of_all_memories(name, stall):
    config = CONFIGS[name]
    for seed in range(2):
        rng = random.Random(f"{name} {seed}")
        Bench(config, seed=seed, stall=stall).check(random_commands(config, rng, 8))


@pytest.mark.parametrize("name", ["tiny64", "softmax", "base", "odd128"])
def test_moves_one_unit_or_beat_per_cycle(name):
    config = CONFIGS[name]
    for memory in memories(config):
        _, unit_bytes, depth = geometry(config, memory)
        units = min(depth // 2, 16)
        fields = load(memory, lines=2, units=units, local_address=0, local_stride=units,
                      stride=max(units * unit_bytes, config.axi_bytes))
        bench = Bench(config, latency=1)
        bench.check([fields])
        steps = 2 * max(units, units * unit_bytes // config.axi_bytes)
        assert bench.last_write - bench.first_request <= steps + 6


def test_asks_for_the_next_command_while_data_of_this_one_streams():
    config = CONFIGS["base"]
    commands = [load(lines=1, units=8, local_address=16 * n) for n in range(10)]
    bench = Bench(config, latency=40)
    bench.check(commands)
    # 10 commands of 16 beats; one after the other they would take 10 * (40 + 16) cycles.
    assert bench.last_write - bench.first_request < 40 + 10 * 19


@pytest.mark.parametrize("changes, code", [
    ({"lines": 0}, Error.ARGUMENT),
    ({"units": 0}, Error.ARGUMENT),
    ({"memory": 7}, Error.ARGUMENT),
    ({"lines": 0, "address": 0x1001}, Error.ARGUMENT),
    ({"address": 0x1004}, Error.ADDRESS),
    ({"stride": 0x204}, Error.ADDRESS),
    ({"address": 1 << 32}, Error.ADDRESS),
    ({"address": (1 << 32) - 0x200}, Error.ADDRESS),
    ({"address": (1 << 64) - 8}, Error.ADDRESS),
    ({"local_address": 8192}, Error.ADDRESS),
    ({"local_address": 8192 - 10}, Error.ADDRESS),
    ({"local_stride": (1 << 24) - 1, "lines": 65535}, Error.ADDRESS),
    ({"lines": 65535, "local_stride": 1}, Error.ADDRESS),
    ({"lines": 65535, "local_stride": 0, "stride": 0xfffffff8}, Error.ADDRESS),
    ({"memory": Memory.WEIGHT, "local_address": 4096 - 10}, Error.ADDRESS),
    ({"memory": Memory.PARAMETER, "local_address": 128 - 10}, Error.ADDRESS),
])
def test_refuses_a_wrong_command_before_anything_is_written(changes, code):
    config = CONFIGS["base"]
    good = load(local_address=100)
    bench = Bench(config)
    bench.run([good, load() | changes, good], outcome=3)
    assert bench.events == ["done", (code, 101)]
    np.testing.assert_array_equal(bench.on_chip[Memory.ACTIVATION],
                                  bench.expected([good])[Memory.ACTIVATION])
    assert (bench.on_chip[Memory.WEIGHT] == -1).all()
    assert (bench.on_chip[Memory.PARAMETER] == -1).all()


@pytest.mark.parametrize("memory", [Memory.VECTOR_WEIGHT, Memory.VECTOR_PARAMETER, Memory.TABLE,
                                    Memory.LANE_TABLE])
def test_refuses_memories_of_a_vector_engine_that_is_not_there(memory):
    bench = Bench(CONFIGS["tiny_matrix_only"].replace(drain_lookup=False))
    bench.run([load(), load(memory)], outcome=2)
    assert bench.events == ["done", (Error.ARGUMENT, 101)]


@pytest.mark.parametrize("changes", [
    {"local_address": 8192 - 11},
    {"address": (1 << 32) - 0x200 - 48},
    {"memory": Memory.WEIGHT, "local_address": 4096 - 11},
    {"memory": Memory.PARAMETER, "local_address": PRESETS["base"].parameter_depth - 11},
])
def test_accepts_ranges_that_end_with_the_memory(changes):
    Bench(CONFIGS["base"]).check([load() | changes])


@pytest.mark.parametrize("bad_beat, index, dones", [(0, 100, 0), (11, 100, 0), (12, 101, 1)])
def test_names_the_command_whose_beat_failed(bad_beat, index, dones):
    config = CONFIGS["base"]  # 12 beats for each command
    commands = [load(local_address=100 * n) for n in range(3)]
    bench = Bench(config, bad_beat=bad_beat)
    bench.run(commands, outcome=3)
    assert bench.events == ["done"] * dones + [(Error.READ, index)]
    # All before the bad beat is written, nothing of it or after it.
    assert (bench.on_chip[Memory.ACTIVATION] != -1).sum() == bad_beat * config.axi_bytes
