"""The softmax engine alone, against a plain model."""

import random

import numpy as np
import pytest
from stream_bench import make_simulator, stream_source, stream_watch

from weft import reference
from weft.hw.isa.commands import Opcode, SoftmaxCommand, encode
from weft.hw.isa.config import AcceleratorConfig, load_config
from weft.hw.isa.registers import Error
from weft.hw.memory.activation import ActivationMemory
from weft.hw.softmax.engine import SoftmaxEngine
from weft.ir import layout

TINY = load_config("tiny,products=true,softmax=true")
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=6, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=20480,
    accumulator_pixels=16, parameter_channels=64, products=True, softmax=True)
CONFIGS = [TINY, ODD, TINY.replace(rows=2, cols=2, requant_lanes=1),
           load_config("base,products=true,softmax=true")]


def named(config):
    return str(config.rows)


class SoftmaxBench:
    """A softmax engine between memories that may refuse a word."""

    def __init__(self, config, *, seed=0, stall=0.0, table=None):
        self.config, self.seed, self.stall = config, seed, stall
        self.rng = np.random.default_rng(seed)
        self.words = self.rng.integers(-128, 128, (config.activation_depth, config.rows))
        self.expected = self.words.copy()
        self.table = layout.pack_exponentials(reference.exponentials(0.03, 20)) \
            if table is None else table
        self.commands = []
        self.taken, self.done = [], []      # cycles
        self.written = 0

    def add(self, fields):
        """A legal command, and what it is to do."""
        config = self.config
        self.commands.append(fields)
        pixels, blocks = fields["pixels"], fields["blocks"]
        length = (blocks - 1) * config.rows + fields["lanes"]
        source, target = (fields[f"{side}_base"] + np.arange(pixels)[:, None]
                          + fields[f"{side}_plane"] * np.arange(blocks) for side in ("in", "out"))
        rows = self.expected[source].reshape(pixels, -1)
        found = np.zeros(rows.shape, int)
        found[:, :length] = reference.shares(
            rows[:, :length], layout.unpack_exponentials(self.table), fields["factor"],
            fields["exponent"] - 15)
        found = np.minimum(found + fields["out_zero"], 127)
        self.expected[target] = found.reshape(pixels, blocks, -1)

    def run(self):
        dut = SoftmaxEngine(self.config)
        self.faults = []
        cycle = 0

        async def memory(ctx):
            rng = random.Random(self.seed)
            for address, entry in enumerate(self.table):
                ctx.set(dut.exponential.p.address, address)
                ctx.set(dut.exponential.p.data, [int(value) & 0xff for value in entry])
                ctx.set(dut.exponential.p.mask, 0xf)
                ctx.set(dut.exponential.valid, 1)
                await ctx.tick()
            ctx.set(dut.exponential.valid, 0)
            pipe = [None] * ActivationMemory.LATENCY
            ctx.set(dut.request.ready, 1)
            ctx.set(dut.write.ready, 1)
            async for _clk, _rst, valid, ready, address, writes, takes, place, values in \
                    ctx.tick().sample(
                        dut.request.valid, dut.request.ready, dut.request.payload, dut.write.valid,
                        dut.write.ready, dut.write.p.address, dut.write.p.data.as_value()):
                pipe = [address if valid and ready else None, *pipe[:-1]]
                word = [0] * self.config.rows if pipe[-1] is None else self.words[pipe[-1]]
                ctx.set(dut.word, [int(value) & 0xff for value in word])
                if writes and takes:
                    self.written += 1
                    self.words[place] = np.frombuffer(
                        values.to_bytes(self.config.rows, "little"), np.int8)
                ctx.set(dut.request.ready, rng.random() >= self.stall)
                ctx.set(dut.write.ready, rng.random() >= self.stall)

        async def watch(ctx):
            nonlocal cycle
            while len(self.done) < len(self.commands) and not self.faults:
                taken, done, fault = (await ctx.tick().sample(
                    dut.commands.valid & dut.commands.ready, dut.done, dut.fault))[2:]
                self.taken += [cycle] * taken
                self.done += [cycle] * done
                if fault.code:
                    self.faults.append((Error(fault.code), fault.index))
                cycle += 1
                assert cycle < 60000, "the engine hangs"
            await ctx.tick().repeat(20)

        async def commands(ctx):
            await ctx.tick().repeat(260)
            await stream_source(dut.commands, [
                {"index": 100 + index, "command": SoftmaxCommand.from_bits(
                    int.from_bytes(encode(Opcode.SOFTMAX, **fields), "little"))}
                for index, fields in enumerate(self.commands)])(ctx)

        sim = make_simulator(dut)
        sim.add_testbench(memory, background=True)
        sim.add_testbench(stream_watch(dut.request), background=True)
        sim.add_testbench(stream_watch(dut.write), background=True)
        sim.add_testbench(commands, background=True)
        sim.add_testbench(watch)
        sim.run()
        return self.faults

    def check(self):
        """That all is written that the commands ask for, and nothing else."""
        np.testing.assert_array_equal(self.words, self.expected)
        assert self.written == sum(fields["pixels"] * fields["blocks"] for fields in self.commands)


def draw(config, rng, *, target, largest=3):
    """Fields of a legal command that writes from ``target`` on."""
    pixels, blocks = (int(size) for size in (rng.integers(1, 11), rng.integers(1, largest + 1)))
    plane = pixels + int(rng.integers(0, 3))
    return {"in_base": int(rng.choice([0, rng.integers(0, 100)])), "in_plane": plane,
            "out_base": target, "out_plane": plane + int(rng.integers(0, 3)),
            "out_zero": int(rng.choice([-128, 127, 0, rng.integers(-128, 128)])),
            "pixels": pixels, "blocks": blocks, "lanes": int(rng.integers(1, config.rows + 1)),
            "factor": int(rng.choice([1 << 15, 65535, 65280, rng.integers(1 << 15, 1 << 16)])),
            "exponent": int(rng.choice([7, 8, rng.integers(0, 16)]))}


def table_of(kind, rng):
    """Entries that are exponentials, of few bits so that halves come up, or anything."""
    if kind == "exponentials":
        return layout.pack_exponentials(reference.exponentials(float(rng.uniform(0.001, 1)), 40))
    if kind == "few bits":
        terms = np.ldexp(rng.integers(0, 4, 256).astype(np.float32), rng.integers(0, 4, 256))
        return layout.pack_exponentials(np.maximum(terms.astype(np.float32), 1))
    return rng.integers(-128, 128, (256, 4)).astype(np.int8)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["exponentials", "few bits", "anything"])
@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_shares_are_those_of_the_model(config, kind, stall):
    seed = config.rows + len(kind)
    bench = SoftmaxBench(config, seed=seed, stall=stall,
                         table=table_of(kind, np.random.default_rng(seed)))
    for number in range(2 if config.rows > 6 else 5):
        bench.add(draw(config, bench.rng, target=200 + 100 * number))
    fields = draw(config, bench.rng, target=0)
    bench.add(fields | {"out_base": fields["in_base"], "out_plane": fields["in_plane"]})
    assert bench.run() == []
    bench.check()


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_a_command_takes_as_long_as_is_told(config):
    bench = SoftmaxBench(config)
    shapes = [(1, 1), (4, 2), (7, 3), (8, 1)]
    for pixels, blocks in shapes:
        bench.add(draw(config, bench.rng, target=300) | {
            "in_base": 0, "in_plane": pixels, "out_plane": pixels, "pixels": pixels,
            "blocks": blocks})
    assert bench.run() == []
    bench.check()
    assert [done - taken for taken, done in zip(bench.taken, bench.done, strict=True)] == \
        [SoftmaxEngine.cycles(config, *shape) for shape in shapes]


@pytest.mark.parametrize("field, value, error", [
    ("pixels", 0, Error.ARGUMENT), ("blocks", 0, Error.ARGUMENT), ("lanes", 0, Error.ARGUMENT),
    ("lanes", 5, Error.ARGUMENT), ("lanes", 255, Error.ARGUMENT), ("factor", 32767, Error.ARGUMENT),
    ("in_base", 16384 - 8, Error.ADDRESS), ("in_base", (1 << 24) - 1, Error.ADDRESS),
    ("in_plane", 1 << 20, Error.ADDRESS), ("out_base", 16384 - 17, Error.ADDRESS),
    ("out_plane", 1 << 20, Error.ADDRESS)])
def test_what_cannot_be_is_a_fault(field, value, error):
    bench = SoftmaxBench(TINY)
    good = draw(TINY, bench.rng, target=100) | {
        "in_base": 9, "pixels": 9, "blocks": 2, "in_plane": 9, "out_plane": 9, "lanes": 3}
    bench.commands = [good, good | {field: value}]
    assert bench.run() == [(error, 101)]
    assert len(bench.done) == 1


def test_the_last_words_of_the_memory_may_be_used():
    bench = SoftmaxBench(TINY)
    assert TINY.activation_depth == 16384
    bench.add(draw(TINY, bench.rng, target=16384 - 18) | {
        "in_base": 16384 - 18, "pixels": 9, "blocks": 2, "in_plane": 9, "out_plane": 9})
    assert bench.run() == []
    bench.check()
