"""The turn engine alone, against a plain model."""

import random

import numpy as np
import pytest
from stream_bench import make_simulator, stream_source, stream_watch
from turn_model import product_biases, turned_weights

from weft.hw.isa.commands import Opcode, TurnCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import load_config
from weft.hw.isa.registers import Error
from weft.hw.memory.activation import ActivationMemory
from weft.hw.transfer.turn import TurnEngine

TINY = load_config("tiny,products=true")
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=6, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=20480,
    accumulator_pixels=16, parameter_channels=64, products=True)
CONFIGS = [TINY, TINY.replace(fip=False), ODD, ODD.replace(fip=False),
           TINY.replace(rows=2, cols=2, requant_lanes=1),
           load_config("base,products=true").replace(parameter_channels=256)]


def named(config):
    return f"{config.rows}-{config.fip}"


class TurnBench:
    """A turn engine between a memory that may refuse a word and models of those that it fills."""

    def __init__(self, config, *, seed=0, stall=0.0):
        self.config, self.seed, self.stall = config, seed, stall
        self.rng = np.random.default_rng(seed)
        self.words = self.rng.integers(-128, 128, (config.activation_depth, config.rows))
        self.weights = np.zeros((config.weight_depth, config.weight_row_lanes), np.int8)
        self.written = np.zeros(config.weight_depth, int)
        self.entries = {}
        self.commands = []
        self.taken, self.done = [], []      # cycles
        self.steps = self.refused = 0

    def tensor(self, fields):
        """``B[k, n]`` of a command, where it lies in the memory."""
        places = (fields["in_base"] + np.arange(fields["pixels"])
                  + fields["in_plane"] * np.arange(fields["blocks"])[:, None])
        lanes = self.words[places].transpose(1, 0, 2).reshape(fields["pixels"], -1)
        used = (fields["blocks"] - 1) * self.config.rows + fields["lanes"]
        return lanes[:, :used].T if fields["turned"] else lanes[:, :used]

    def run(self):
        dut = TurnEngine(self.config)
        self.faults = []
        cycle = 0

        async def memory(ctx):
            rng = random.Random(self.seed)
            pipe = [None] * ActivationMemory.LATENCY
            ctx.set(dut.request.ready, 1)
            async for _clk, _rst, valid, ready, address in ctx.tick().sample(
                    dut.request.valid, dut.request.ready, dut.request.payload):
                pipe = [address if valid and ready else None, *pipe[:-1]]
                word = [0] * self.config.rows if pipe[-1] is None else self.words[pipe[-1]]
                ctx.set(dut.word, [int(value) & 0xff for value in word])
                ctx.set(dut.request.ready, rng.random() >= self.stall)

        async def watch(ctx):
            nonlocal cycle
            lanes = self.config.weight_row_lanes
            while len(self.done) < len(self.commands) and not self.faults:
                sample = await ctx.tick().sample(
                    dut.commands.valid & dut.commands.ready, dut.done, dut.fault, dut.moves,
                    dut.refused, dut.weight.valid, dut.weight.p.address,
                    dut.weight.p.data.as_value(), dut.parameter.valid, dut.parameter.p.address,
                    dut.parameter.p.data.as_value())
                taken, done, fault, moves, refused, weight, row, data, parameter, entry, values = \
                    sample[2:]
                self.taken += [cycle] * taken
                self.done += [cycle] * done
                self.steps += moves
                self.refused += refused
                if weight:
                    raw = np.frombuffer(data.to_bytes(lanes, "little"), np.int8)
                    self.weights[row] = raw
                    self.written[row] += 1
                if parameter:
                    assert entry not in self.entries
                    self.entries[entry] = np.frombuffer(
                        values.to_bytes(8 * self.config.requant_lanes, "little"), "<i4")
                if fault.code:
                    self.faults.append((Error(fault.code), fault.index))
                cycle += 1
                assert cycle < 20000, "the engine hangs"
            await ctx.tick().repeat(20)

        sim = make_simulator(dut)
        sim.add_testbench(memory, background=True)
        sim.add_testbench(stream_watch(dut.request), background=True)
        sim.add_testbench(stream_source(dut.commands, [
            {"index": 100 + index, "command": TurnCommand.from_bits(
                int.from_bytes(encode(Opcode.TURN, **fields), "little"))}
            for index, fields in enumerate(self.commands)]), background=True)
        sim.add_testbench(watch)
        sim.run()
        return self.faults

    def check(self):
        """That all is written that the commands ask for, and nothing else."""
        config = self.config
        rows = entries = 0
        for fields in self.commands:
            b = self.tensor(fields)
            expected = turned_weights(config, b, fields["zero"])
            first = fields["weight_base"]
            np.testing.assert_array_equal(self.weights[first:first + len(expected)], expected)
            assert (self.written[first:first + len(expected)] == 1).all()
            rows += len(expected)
            bias = product_biases(config, b, fields["zero"], fields["input_zero"], fields["bias"])
            groups = len(bias) // config.requant_lanes
            found = np.array([self.entries[fields["parameter_base"] + group]
                              for group in range(groups)]).reshape(-1, 2)
            np.testing.assert_array_equal(found[:, 0], bias)
            assert (found[:, 1].view(np.uint32) == fields["scale"]).all()
            entries += groups
        assert self.written.sum() == rows
        assert len(self.entries) == entries


def shape_of(config, fields):
    """Column tiles, and blocks of the depth."""
    pixels = -(-fields["pixels"] // config.rows)
    return (pixels, fields["blocks"]) if fields["turned"] else (fields["blocks"], pixels)


def draw(config, rng, *, row, entry, largest=3):
    """Fields of a legal command that writes from ``row`` and ``entry`` on."""
    pixels, blocks = (int(size) for size in (rng.integers(1, largest * config.rows + 1),
                                             rng.integers(1, largest + 1)))
    plane = pixels + int(rng.integers(0, 3))
    return {"in_base": int(rng.choice([0, rng.integers(0, 500)])), "zero": int(rng.choice(
                [-128, 127, 0, rng.integers(-128, 128)])),
            "in_plane": plane, "input_zero": int(rng.choice([-128, 127, rng.integers(-128, 128)])),
            "pixels": pixels, "blocks": blocks, "lanes": int(rng.integers(1, config.rows + 1)),
            "turned": int(rng.integers(0, 2)), "weight_base": row, "parameter_base": entry,
            "bias": int(rng.integers(-(1 << 31), 1 << 31)),
            "scale": int(rng.integers(0, 1 << 32))}


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_weights_and_parameters_are_those_of_the_model(config, stall):
    bench = TurnBench(config, seed=config.rows, stall=stall)
    row = entry = 0
    for _ in range(3 if config.rows > 6 else 8):
        fields = draw(config, bench.rng, row=row, entry=entry)
        columns, depth = shape_of(config, fields)
        row += columns * depth * config.pe_rows
        entry += columns * config.requant_groups
        if row > config.weight_depth or entry > config.parameter_depth:
            break
        bench.commands.append(fields)
    assert bench.run() == []
    bench.check()


@pytest.mark.parametrize("config", CONFIGS, ids=named)
@pytest.mark.parametrize("turned", [0, 1])
def test_a_step_for_each_word_and_no_more(config, turned):
    bench = TurnBench(config)
    fields = draw(config, bench.rng, row=3, entry=1) | {
        "turned": turned, "pixels": config.rows + 1, "blocks": 3}
    bench.commands = [fields]
    assert bench.run() == []
    bench.check()
    assert bench.steps == (6 + turned) * config.rows
    taken, done = bench.taken[0], bench.done[0]
    assert done - taken == bench.steps + TurnEngine.latency(config)


@pytest.mark.parametrize("field, value, error", [
    ("pixels", 0, Error.ARGUMENT), ("blocks", 0, Error.ARGUMENT), ("lanes", 0, Error.ARGUMENT),
    ("lanes", 5, Error.ARGUMENT), ("lanes", 255, Error.ARGUMENT),
    ("in_base", 16384 - 8, Error.ADDRESS), ("in_base", (1 << 24) - 1, Error.ADDRESS),
    ("in_plane", 1 << 20, Error.ADDRESS), ("weight_base", 2048 - 11, Error.ADDRESS),
    ("weight_base", (1 << 24) - 1, Error.ADDRESS), ("parameter_base", 127, Error.ADDRESS),
    ("parameter_base", (1 << 24) - 1, Error.ADDRESS)])
def test_what_cannot_be_is_a_fault(field, value, error):
    bench = TurnBench(TINY)
    good = draw(TINY, bench.rng, row=0, entry=0) | {
        "in_base": 9, "pixels": 9, "blocks": 2, "in_plane": 9, "lanes": 3, "turned": 0}
    bench.commands = [good, good | {"weight_base": 64, "parameter_base": 64} | {field: value}]
    assert bench.run() == [(error, 101)]
    assert len(bench.done) == 1


def test_the_last_units_of_the_memories_may_be_used():
    bench = TurnBench(TINY)
    bench.commands = [draw(TINY, bench.rng, row=2048 - 12, entry=124) | {
        "in_base": 16384 - 18, "pixels": 9, "blocks": 2, "in_plane": 9, "lanes": 3, "turned": 0}]
    assert TINY.activation_depth == 16384 and TINY.weight_depth == 2048
    assert bench.run() == []
    bench.check()
