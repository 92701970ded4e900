"""Stream helpers for test benches: one transfer, random stalls, and a check of the stream rules."""

import random
from typing import Any

from amaranth.hdl import Elaboratable, ResetInserter, Signal, Value
from amaranth.lib import stream
from amaranth.sim import Simulator

from weft.hw.lib.checks import checking, watched

__all__ = ["make_simulator", "random_stall", "stream_get", "stream_put", "stream_source",
           "stream_sink", "stream_watch"]


def make_simulator(dut: Elaboratable, *, reset: Signal | None = None) -> Simulator:
    """A simulator of ``dut``, with its checks and a clock on the ``sync`` domain; ``reset`` resets
    both."""
    with checking():
        sim = Simulator(watched(dut) if reset is None else ResetInserter(reset)(watched(dut)))
    sim.add_clock(1e-6)
    return sim


async def random_stall(ctx: Any, rng: random.Random, probability: float) -> None:
    """Waits a random number of cycles; each further cycle comes with ``probability``."""
    while rng.random() < probability:
        await ctx.tick()


async def stream_put(ctx: Any, port: stream.Interface, payload: Any) -> None:
    """Transfers one payload into ``port``."""
    ctx.set(port.payload, payload)
    ctx.set(port.valid, 1)
    await _transfer(ctx, port)
    ctx.set(port.valid, 0)


async def stream_get(ctx: Any, port: stream.Interface) -> Any:
    """Takes one payload from ``port``."""
    refuses = not port.signature.always_ready
    if refuses:
        ctx.set(port.ready, 1)
    valid, payload = 0, None
    while not valid:
        _clk, _rst, valid, payload = await ctx.tick().sample(port.valid, port.payload)
    if refuses:
        ctx.set(port.ready, 0)
    return payload


def stream_source(port: stream.Interface, payloads: Any, *, stall: float = 0.0,
                  seed: int = 0) -> Any:
    """A test bench that puts all ``payloads`` into ``port``, with random stalls."""
    async def testbench(ctx: Any) -> None:
        rng = random.Random(seed)
        for payload in payloads:
            if rng.random() < stall:
                ctx.set(port.valid, 0)
                await ctx.tick()
                await random_stall(ctx, rng, stall)
            ctx.set(port.payload, payload)
            ctx.set(port.valid, 1)  # changes nothing after a transfer in the cycle before
            await _transfer(ctx, port)
        ctx.set(port.valid, 0)
    return testbench


async def _transfer(ctx: Any, port: stream.Interface) -> None:
    # Not `until`, which complains when a background bench is dropped in the middle of it.
    ready = 0
    while not ready:
        _clk, _rst, ready = await ctx.tick().sample(port.ready)


def stream_sink(port: stream.Interface, payloads: list[Any], count: int | None = None, *,
                stall: float = 0.0, seed: int = 0) -> Any:
    """A test bench that appends ``count`` payloads of ``port`` to ``payloads``.

    Without ``count`` it goes on forever: add it with ``background=True`` then.
    """
    async def testbench(ctx: Any) -> None:
        rng = random.Random(seed)
        taken = 0
        while count is None or taken < count:
            await random_stall(ctx, rng, stall)
            payloads.append(await stream_get(ctx, port))
            taken += 1
    return testbench


def stream_watch(port: stream.Interface) -> Any:
    """A background test bench: ``port`` keeps ``valid`` and ``payload`` until the transfer."""
    bits = Value.cast(port.payload)  # comparing structures takes far longer

    async def testbench(ctx: Any) -> None:
        waiting, held = 0, None
        while True:
            _clk, _rst, valid, ready, payload = await ctx.tick().sample(
                port.valid, port.ready, bits)
            if waiting:
                assert valid, "valid was dropped before the transfer"
                assert payload == held, \
                    f"payload changed before the transfer: {held:#x} to {payload:#x}"
            waiting, held = valid and not ready, payload
    return testbench
