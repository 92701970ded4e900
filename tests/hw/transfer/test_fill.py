"""LOAD, TURN and SOFTMAX in one engine: in order, and each of the latter alone."""

import numpy as np
import pytest
from stream_bench import make_simulator, stream_source

from weft.hw.isa.commands import LoadCommand, Memory, Opcode
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import load_config
from weft.hw.isa.registers import Error
from weft.hw.memory.activation import ActivationMemory
from weft.hw.transfer.fill import FillEngine

CONFIG = load_config("tiny,products=true,softmax=true")


def load(row, units):
    return encode(Opcode.LOAD, memory=Memory.WEIGHT, lines=1, address=0x100, stride=0, units=units,
                  local_address=row, local_stride=0)


def turn(row, **fields):
    return encode(Opcode.TURN, **{
        "in_base": 16, "zero": 0, "in_plane": 4, "input_zero": 0, "pixels": 4, "blocks": 1,
        "lanes": 4, "turned": 1, "weight_base": row, "parameter_base": 0, "bias": 0,
        "scale": 0} | fields)


def softmax(word, **fields):
    return encode(Opcode.SOFTMAX, **{
        "in_base": 16, "in_plane": 4, "out_base": word, "out_plane": 4, "out_zero": 0, "pixels": 4,
        "blocks": 1, "lanes": 4, "factor": 1 << 15, "exponent": 8} | fields)


def run(commands, dones):
    """When each weight row was written, by row, and each word, by 1000 and its address; and what
    happened, in order."""
    dut = FillEngine(CONFIG)
    writes, events, pipe = {}, [], [0] * ActivationMemory.LATENCY
    asked = []

    async def memory(ctx):
        ctx.set(dut.request.ready, 1)
        ctx.set(dut.activation.ready, 1)
        async for _clk, _rst, valid, address in ctx.tick().sample(
                dut.request.valid, dut.request.payload):
            pipe.insert(0, address if valid else 0)
            pipe.pop()
            ctx.set(dut.word, [pipe[-1] & 0x7f] * CONFIG.rows)

    async def requests(ctx):
        ctx.set(dut.requests.ready, 1)
        async for _clk, _rst, valid, beats in ctx.tick().sample(
                dut.requests.valid, dut.requests.p.beats):
            asked.extend([1] * (valid * beats))

    async def beats(ctx):
        for number in range(10000):
            while not asked:
                await ctx.tick()
            for _ in range(7):
                await ctx.tick()
            asked.pop()
            ctx.set(dut.beats.payload, number)
            ctx.set(dut.beats.valid, 1)
            ready = 0
            while not ready:
                _clk, _rst, ready = await ctx.tick().sample(dut.beats.ready)
            ctx.set(dut.beats.valid, 0)

    async def watch(ctx):
        for cycle in range(4000):
            _clk, _rst, done, fault, weight, row, word, address = await ctx.tick().sample(
                dut.done, dut.fault, dut.weight.valid, dut.weight.p.address, dut.activation.valid,
                dut.activation.p.address)
            if weight:
                writes.setdefault(row, cycle)
            if word:
                writes.setdefault(1000 + address, cycle)
            if done:
                events.append(("done", cycle))
            if fault.code:
                events.append((Error(fault.code), fault.index))
                return
            if len(events) == dones:
                break
        await ctx.tick().repeat(4)
        assert not ctx.get(dut.busy)

    sim = make_simulator(dut)
    for bench in (memory, requests, beats):
        sim.add_testbench(bench, background=True)
    sim.add_testbench(stream_source(dut.commands, [
        {"index": index, "command": LoadCommand.from_bits(int.from_bytes(command, "little"))}
        for index, command in enumerate(commands)]), background=True)
    sim.add_testbench(watch)
    sim.run()
    return writes, events


def test_commands_are_done_in_order_and_turns_alone():
    writes, events = run([load(0, 4), load(4, 2), turn(8), turn(10), load(12, 4), turn(16),
                          load(18, 1)], 7)
    assert [name for name, _ in events] == ["done"] * 7
    order = sorted(writes, key=lambda row: writes[row])
    assert order == [*range(6), *range(8, 16), 16, 17, 18]
    dones = [cycle for _, cycle in events]
    assert dones == sorted(dones)
    for rows, done in zip(np.split(np.array(order), [4, 6, 8, 10, 14, 16]), dones, strict=True):
        assert max(writes[row] for row in rows) <= done


def test_a_softmax_is_done_alone():
    writes, events = run([load(0, 4), softmax(20), turn(8), softmax(30), softmax(40), load(12, 4)],
                         6)
    assert [name for name, _ in events] == ["done"] * 6
    order = sorted(writes, key=lambda place: writes[place])
    assert order == [*range(4), *range(1020, 1024), 8, 9, *range(1030, 1034), *range(1040, 1044),
                     *range(12, 16)]
    for rows, (_, done) in zip(np.split(np.array(order), [4, 8, 10, 14, 18]), events, strict=True):
        assert max(writes[row] for row in rows) <= done


@pytest.mark.parametrize("commands, event", [
    ([load(0, 4), softmax(8, factor=1), load(12, 4)], (Error.ARGUMENT, 1)),
    ([softmax(1 << 20), load(12, 4)], (Error.ADDRESS, 0)),
    ([load(0, 4), turn(8, pixels=0), load(12, 4)], (Error.ARGUMENT, 1)),
    ([turn(8, in_base=1 << 20), load(12, 4)], (Error.ADDRESS, 0)),
    ([turn(8), load(0, 0)], (Error.ARGUMENT, 1))])
def test_a_fault_is_that_of_the_command(commands, event):
    writes, events = run(commands, 9)
    assert events[-1] == event
    assert 12 not in writes
