import random
from collections import deque

import numpy as np
import pytest
from stream_bench import make_simulator, random_stall, stream_get, stream_watch

from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.hw.transfer.store import StoreEngine

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "tiny64": PRESETS["tiny"].replace(axi_data_width=64),
    "base": PRESETS["base"],
    "wide": PRESETS["wide"],
    "odd128": AcceleratorConfig(rows=6, cols=10, requant_lanes=2, activation_bytes=4096,
                                weight_bytes=4096, axi_data_width=128),
    "odd32": AcceleratorConfig(rows=6, cols=10, requant_lanes=2, activation_bytes=4096,
                               weight_bytes=4096, axi_data_width=32),
}


def store(**changes):
    """Fields of a small correct command, with changes."""
    return {"lines": 2, "address": 0x1000, "stride": 0x200, "units": 3, "local_address": 4,
                "local_stride": 8} | changes


class Bench:
    """A store engine between an activation memory and a write engine, both models."""

    def __init__(self, config, *, seed=0, stall=0.0, latency=2, ack=6, bad_line=None):
        self.config = config
        self.dut = StoreEngine(config)
        self.seed, self.stall, self.latency, self.ack = seed, stall, latency, ack
        self.bad_line = bad_line
        rng = np.random.default_rng(seed)
        self.words = rng.integers(0, 256, (config.activation_depth, config.word_data_bytes),
                                  dtype=np.uint8)
        self.external = np.full(1 << 16, -1)
        self.cycle = 0
        self.events = []
        self.acknowledged = 0
        self.acknowledged_at_done = []
        self.first_beat = self.last_beat = None

    def run(self, commands, *, outcome):
        """Executes ``commands`` and waits for ``outcome`` dones or a fault."""
        dut, config = self.dut, self.config
        lines = deque()    # (address, beats) asked for and not yet written
        answers = deque()  # (cycle, error) of lines that are written

        async def feed(ctx):
            rng = random.Random(self.seed)
            for index, fields in enumerate(commands):
                await random_stall(ctx, rng, self.stall)
                ctx.set(dut.commands.p.index, 100 + index)
                ctx.set(dut.commands.p.command.as_value(),
                        int.from_bytes(encode(Opcode.STORE, **fields), "little"))
                ctx.set(dut.commands.valid, 1)
                ready = 0
                while not ready:
                    _clk, _rst, ready = await ctx.tick().sample(dut.commands.ready)
                ctx.set(dut.commands.valid, 0)

        async def memory(ctx):
            """Answers after exactly ``latency`` cycles, whatever the engine does meanwhile."""
            rng = random.Random(self.seed + 1)
            pipe = deque([None] * (self.latency - 1))
            read = dut.read_request
            data = dut.read_data.as_value()
            while True:
                ctx.set(read.ready, rng.random() >= self.stall)
                _clk, _rst, valid, ready, address = await ctx.tick().sample(
                    read.valid, read.ready, read.payload)
                pipe.append(address if valid and ready else None)
                address = pipe.popleft()
                ctx.set(dut.read_valid, address is not None)
                if address is not None:
                    ctx.set(data, int.from_bytes(self.words[address].tobytes(), "little"))

        async def requests(ctx):
            rng = random.Random(self.seed + 2)
            while True:
                await random_stall(ctx, rng, self.stall)
                request = await stream_get(ctx, dut.requests)
                lines.append((request.address, request.beats))

        async def beats(ctx):
            rng = random.Random(self.seed + 3)
            payload = dut.beats.p.data, dut.beats.p.strb
            done = line = 0
            while True:
                await random_stall(ctx, rng, self.stall)
                while not lines:
                    await ctx.tick()
                ctx.set(dut.beats.ready, 1)
                valid = 0
                while not valid:
                    _clk, _rst, valid, word, strobes = await ctx.tick().sample(
                        dut.beats.valid, *payload)
                ctx.set(dut.beats.ready, 0)
                if self.first_beat is None:
                    self.first_beat = self.cycle
                self.last_beat = self.cycle
                start = lines[0][0] + done * config.axi_bytes
                for byte in range(config.axi_bytes):
                    if strobes >> byte & 1:
                        assert self.external[start + byte] == -1, "written twice"
                        self.external[start + byte] = word >> 8 * byte & 0xff
                done += 1
                if done == lines[0][1]:
                    lines.popleft()
                    answers.append((self.cycle + self.ack, line == self.bad_line))
                    done, line = 0, line + 1

        async def clock(ctx):
            while True:
                answer = bool(answers) and answers[0][0] <= self.cycle
                ctx.set(dut.write_done, answer)
                ctx.set(dut.write_error, answer and answers[0][1])
                if answer:
                    answers.popleft()
                    self.acknowledged += 1
                await ctx.tick()
                self.cycle += 1

        async def finish(ctx):
            finished, code = 0, 0
            while not code and finished < outcome:
                _clk, _rst, done, code, index = await ctx.tick().sample(
                    dut.done, dut.fault.code, dut.fault.index)
                if done:
                    self.events.append("done")
                    self.acknowledged_at_done.append(self.acknowledged)
                    finished += 1
                if code:
                    self.events.append((Error(code), index))
                assert self.cycle < 20000, "the engine hangs"
            await ctx.tick().repeat(20)
            assert ctx.get(dut.fault.code) == code
            if not code:
                assert not ctx.get(dut.busy) and not ctx.get(dut.done)

        sim = make_simulator(dut)
        for testbench in (feed, memory, requests, beats, clock, stream_watch(dut.requests),
                          stream_watch(dut.read_request), stream_watch(dut.beats)):
            sim.add_testbench(testbench, background=True)
        sim.add_testbench(finish)
        sim.run()

    def expected(self, commands):
        """External memory after ``commands``; -1 where nothing was written."""
        external = np.full_like(self.external, -1)
        data_bytes, word_bytes = self.config.word_data_bytes, self.config.word_bytes
        for fields in commands:
            for line in range(fields["lines"]):
                local = fields["local_address"] + line * fields["local_stride"]
                start = fields["address"] + line * fields["stride"]
                padded = np.zeros((fields["units"], word_bytes), dtype=np.uint8)
                padded[:, :data_bytes] = self.words[local:local + fields["units"]]
                external[start:start + padded.size] = padded.reshape(-1)
        return external

    def check(self, commands):
        self.run(commands, outcome=len(commands))
        assert self.events == ["done"] * len(commands)
        np.testing.assert_array_equal(self.external, self.expected(commands))
        # All lines of a command, and of those before, are acknowledged when it is done.
        for seen, wanted in zip(self.acknowledged_at_done,
                                np.cumsum([fields["lines"] for fields in commands]), strict=True):
            assert seen >= wanted


def random_commands(config, rng, count):
    """Commands whose ranges in external memory do not overlap."""
    commands, address = [], 0
    for _ in range(count):
        lines, units = rng.randint(1, 4), rng.randint(1, 9)
        beats = -(-units * config.word_bytes // config.axi_bytes)
        stride = config.axi_bytes * (beats + rng.randrange(4))
        span = rng.randrange(20)
        commands.append(store(
            lines=lines, units=units, address=address, stride=stride, local_stride=span,
            local_address=rng.randrange(config.activation_depth - lines * span - units)))
        address += lines * stride
    return commands


@pytest.mark.parametrize("stall", [0, 0.3])
@pytest.mark.parametrize("name", CONFIGS)
def test_packs_words_into_lines(name, stall):
    config = CONFIGS[name]
    rng = random.Random(name)
    Bench(config, seed=1, stall=stall).check(random_commands(config, rng, 8))


@pytest.mark.parametrize("latency", [1, 2, 7])
def test_any_latency_of_the_memory_is_right(latency):
    config = CONFIGS["tiny64"]
    for stall in (0, 0.5):
        Bench(config, seed=2, stall=stall, latency=latency).check(
            random_commands(config, random.Random(latency), 5))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("latency", [2, 12])
def test_moves_one_word_or_beat_per_cycle(name, latency):
    config = CONFIGS[name]
    bench = Bench(config, latency=latency)
    bench.check([store(lines=2, units=48, local_stride=48, stride=48 * config.word_bytes)])
    steps = 2 * max(48, 48 * config.word_bytes // config.axi_bytes)
    assert bench.last_beat - bench.first_beat < steps


def test_begins_the_next_command_while_this_one_waits_for_its_acknowledgement():
    config = CONFIGS["base"]
    commands = [store(lines=1, units=8, address=256 * n) for n in range(8)]
    bench = Bench(config, ack=40)
    bench.check(commands)
    # 16 beats each; one after the other they would take 8 * (40 + 16) cycles.
    assert bench.last_beat - bench.first_beat < 8 * 24


@pytest.mark.parametrize("changes, code", [
    ({"lines": 0}, Error.ARGUMENT),
    ({"units": 0}, Error.ARGUMENT),
    ({"units": 0, "stride": 0x201}, Error.ARGUMENT),
    ({"address": 0x1004}, Error.ADDRESS),
    ({"stride": 0x204}, Error.ADDRESS),
    ({"address": 1 << 32}, Error.ADDRESS),
    ({"address": (1 << 32) - 0x200}, Error.ADDRESS),
    ({"local_address": 8192 - 10}, Error.ADDRESS),
    ({"lines": 65535, "local_stride": 1}, Error.ADDRESS),
    ({"lines": 65535, "local_stride": 0, "stride": 0xfffffff8}, Error.ADDRESS),
])
def test_refuses_a_wrong_command_before_anything_is_written(changes, code):
    bench = Bench(CONFIGS["base"])
    bench.run([store(), store(**changes), store()], outcome=3)
    assert bench.events == ["done", (code, 101)]
    np.testing.assert_array_equal(bench.external, bench.expected([store()]))


def test_accepts_a_range_that_ends_with_the_memory():
    Bench(CONFIGS["base"]).check([store(local_address=8192 - 11)])


@pytest.mark.parametrize("bad_line, index, dones", [(0, 100, 0), (1, 100, 0), (2, 101, 1)])
def test_names_the_command_whose_write_failed(bad_line, index, dones):
    bench = Bench(CONFIGS["base"], bad_line=bad_line)  # 2 lines for each command
    bench.run([store(address=0x1000 * n) for n in range(1, 4)], outcome=3)
    assert bench.events == ["done"] * dones + [(Error.WRITE, index)]
