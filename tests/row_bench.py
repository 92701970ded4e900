"""An engine of commands on rows, between memories that may refuse a word."""

import random
from collections.abc import Callable

import numpy as np
from stream_bench import make_simulator, stream_source

from weft.hw.isa.encoding import encode
from weft.hw.isa.registers import Error
from weft.hw.memory.activation import ActivationMemory


class RowBench:
    """A test bench.

    Parameters
    ----------
    engine : class
        Of a :class:`weft.hw.rows.engine.RowEngine`.
    opcode : Opcode
    config : AcceleratorConfig
    table : int8 [entries, 4]
        What the memory ROW_CONSTANT holds.
    compute : function
        From fields and int8 [pixels, length], the values of the rows, to their results, alike.
    """

    def __init__(self, engine, opcode, config, table, compute: Callable, *, seed=0, stall=0.0):
        self.engine, self.opcode, self.config = engine, opcode, config
        self.table, self.compute = table, compute
        self.seed, self.stall = seed, stall
        self._simulator = None
        self.begin()

    def begin(self):
        """Forgets all commands and what they did; the next run begins after a reset."""
        config = self.config
        self.rng = np.random.default_rng(self.seed)
        self.words = self.rng.integers(-128, 128, (config.activation_depth, config.rows))
        self.expected = self.words.copy()
        self.commands = []

    def add(self, fields):
        """A legal command, and what it is to do."""
        config = self.config
        self.commands.append(fields)
        pixels, blocks = fields["pixels"], fields["blocks"]
        length = (blocks - 1) * config.rows + fields["lanes"]
        source, target = (fields[f"{side}_base"] + np.arange(pixels)[:, None]
                          + fields[f"{side}_plane"] * np.arange(blocks) for side in ("in", "out"))
        rows = self.expected[source].reshape(pixels, -1)
        found = np.full(rows.shape, fields["out_zero"])
        found[:, :length] = self.compute(fields, rows[:, :length])
        self.expected[target] = found.reshape(pixels, blocks, -1)

    def run(self):
        """Executes the commands; the faults. Further runs begin after a reset."""
        self.faults = []
        self.taken, self.done = [], []      # cycles
        self.written = 0
        if self._simulator is None:
            self._simulator = self._elaborate()
        else:
            self._simulator.reset()
        self._simulator.run()
        return self.faults

    def _elaborate(self):
        dut = self.engine(self.config)

        async def memory(ctx):
            rng = random.Random(self.seed)
            await stream_source(dut.row_constant, [
                {"address": address, "data": [int(value) & 0xff for value in entry], "mask": 0xf}
                for address, entry in enumerate(self.table)])(ctx)
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
                if self.stall:
                    ctx.set(dut.request.ready, rng.random() >= self.stall)
                    ctx.set(dut.write.ready, rng.random() >= self.stall)

        async def watch(ctx):
            cycle = 0
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
            await ctx.tick().repeat(len(self.table) + 4)
            await stream_source(dut.commands, [
                {"index": 100 + index, "command": self.engine.COMMAND.from_bits(
                    int.from_bytes(encode(self.opcode, **fields), "little"))}
                for index, fields in enumerate(self.commands)])(ctx)

        sim = make_simulator(dut)
        sim.add_testbench(memory, background=True)
        sim.add_testbench(commands, background=True)
        sim.add_testbench(watch)
        return sim

    def check(self):
        """That all is written that the commands ask for, and nothing else."""
        np.testing.assert_array_equal(self.words, self.expected)
        assert self.written == sum(fields["pixels"] * fields["blocks"] for fields in self.commands)

    def cycles(self):
        """Of each command, from when it is accepted until it is done."""
        return [done - taken for taken, done in zip(self.taken, self.done, strict=True)]

    def places(self, *, target, largest=3):
        """Fields of a row command that writes from ``target`` on."""
        rng, config = self.rng, self.config
        pixels = int(rng.integers(1, 11 * config.row_units))
        blocks = int(rng.integers(1, largest + 1))
        plane = pixels + int(rng.integers(0, 3))
        return {"in_base": int(rng.choice([0, rng.integers(0, 100)])), "in_plane": plane,
                "out_base": target, "out_plane": plane + int(rng.integers(0, 3)),
                "out_zero": int(rng.choice([-128, 127, 0, rng.integers(-128, 128)])),
                "pixels": pixels, "blocks": blocks,
                "lanes": int(rng.integers(1, config.rows + 1))}
