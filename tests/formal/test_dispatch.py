"""Semaphores, and a dispatcher with two engines: a command starts with all its tokens, and with
nothing less; tokens come of what is done, and of nothing else."""

from types import SimpleNamespace

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from formal import checked, follow, free, in_order, inside, keeps, spoil

from weft.hw.control import dispatch
from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import Engine, Header
from weft.hw.isa.presets import PRESETS
from weft.hw.lib.queue import Queue

PAIR = (Engine.LOAD, Engine.STORE)


def semaphore_spec(dut):
    """Tokens are taken only where some were seen in a cycle before."""
    m = Module()
    inner = inside(m, dut)
    free(m, dut)
    most   = Dispatcher.SEMAPHORE_MAX
    tokens = Signal(range(most + 1))
    seen   = Signal()
    m.d.comb += Assume(~dut.take | seen)
    # A token that was seen stays until it is taken.
    m.d.sync += seen.eq((dut.some & ~dut.take) | (seen & ~dut.take))
    with m.If(dut.clear):
        m.d.sync += [tokens.eq(0), seen.eq(0)]
    with m.Elif(dut.give & ~dut.take & (tokens != most)):
        m.d.sync += tokens.eq(tokens + 1)
    with m.Elif(dut.take & ~dut.give):
        m.d.sync += tokens.eq(tokens - 1)
    m.d.comb += [
        Assert(~(dut.take & (tokens == 0))),
        Assert(dut.some == ((tokens != 0) | dut.give)),
        Assert(dut.overflow == (dut.give & ~dut.take & (tokens == most))),
        Assert(inner.tokens == tokens),
    ]
    return m


def test_semaphore(prove):
    prove(semaphore_spec(dispatch._Semaphore(Dispatcher.SEMAPHORE_MAX)))


def test_broken_semaphore_is_found(refute):
    dut = dispatch._Semaphore(Dispatcher.SEMAPHORE_MAX)
    refute(semaphore_spec(spoil(dut, lambda m: m.d.comb.__iadd__(dut.some.eq(1)))), depth=10)


def dispatcher_spec(dut, monkeypatch, *, capacity, in_flight):
    """Engines report nothing done that they have not taken, and no semaphore overflows, which is a
    fault of the program."""
    def queue(*, shape, depth):
        # That of the commands in an engine is only looked at before.
        return (checked(Queue) if shape is dispatch._InFlight else Queue)(shape=shape, depth=depth)

    monkeypatch.setattr(dispatch, "Queue", queue)
    m = Module()
    inner = inside(m, dut)
    free(m, dut)
    m.d.comb += Assume(~dut.clear)

    tokens = {(giver, taker): Signal(range(Dispatcher.SEMAPHORE_MAX + 2),
                                     name=f"tokens_{giver.value}_{taker.value}")
              for giver in PAIR for taker in PAIR}
    changes = {pair: Const(0) for pair in tokens}
    for engine in PAIR:
        e, name = engine.value, engine.name.lower()
        port    = dut.engines[e]
        header  = Header(port.p.command[:Header.as_shape().size])
        offered = Signal(name=f"offered_{name}")
        m.d.sync += offered.eq(port.valid)
        begins  = port.valid & ~offered
        ours = SimpleNamespace(
            valid=dut.commands.valid & (dut.commands.p.engine == engine),
            ready=dut.commands.ready,
            payload=Cat(dut.commands.p.index[0], dut.commands.p.raw[:16]))
        in_order(m, ours, SimpleNamespace(
            valid=port.valid, ready=port.ready,
            payload=Cat(port.p.index[0], port.p.command[:16])), capacity)
        posts, held = follow(m, port.valid & port.ready, header.post, dut.done[e], in_flight)
        head   = Header(getattr(inner, f"head_{name}").held[16:][:Header.as_shape().size])
        lacks  = Cat(head.wait[giver.value] & (tokens[giver, engine] == 0) for giver in PAIR).any()
        idles  = Signal(3, name=f"idles_{name}")  # cycles without a reason
        m.d.sync += idles.eq(Mux(dut.pending[e] & ~port.valid & ~dut.waiting[e] & ~dut.halt
                                 & (held != in_flight), idles + 1, 0))
        m.d.comb += [
            Assume(~dut.done[e] | (held != 0)),
            Assert(keeps(m, port.valid, port.ready, port.p.index[0], port.p.command[:16])),
            Assert(~dut.waiting[e] | lacks),
            Assert(idles <= 3),
        ]
        for other in PAIR:
            # It has each token that it begins with.
            m.d.comb += Assert(~(begins & header.wait[other.value]) | (tokens[other, engine] != 0))
            changes[engine, other] += dut.done[e] & posts[0][other.value]
            changes[other, engine] -= begins & header.wait[other.value]
    for (giver, taker), count in tokens.items():
        m.d.sync += count.eq(count + changes[giver, taker])
        semaphore = getattr(inner, f"{giver.name.lower()}_to_{taker.name.lower()}")
        given     = getattr(inner, f"give_{giver.name.lower()}")[taker.value]
        m.d.comb += [
            Assume(count <= Dispatcher.SEMAPHORE_MAX),
            Assert(count == semaphore.tokens + given),
        ]
    return m


def pair_of_engines(monkeypatch, queue_depth):
    monkeypatch.setattr(Dispatcher, "SEMAPHORE_MAX", 3)
    monkeypatch.setattr(Dispatcher, "IN_FLIGHT", 2)
    return Dispatcher(PRESETS["tiny"].replace(queue_depth=queue_depth), present=PAIR)


@pytest.mark.parametrize("queue_depth", [1, 2])
def test_dispatcher(prove, monkeypatch, queue_depth):
    dut = pair_of_engines(monkeypatch, queue_depth)
    prove(dispatcher_spec(dut, monkeypatch, capacity=queue_depth, in_flight=2))


@pytest.mark.parametrize("some", [0, 1])
def test_broken_dispatcher_is_found(refute, monkeypatch, some):
    """Semaphores that never have a token hold up a command that has all it needs; those that
    always have one let it begin too early."""
    make = dispatch._Semaphore

    def broken(most):
        semaphore = make(most)
        return spoil(semaphore, lambda m: m.d.comb.__iadd__(semaphore.some.eq(some)))

    monkeypatch.setattr(dispatch, "_Semaphore", broken)
    dut = pair_of_engines(monkeypatch, 1)
    refute(dispatcher_spec(dut, monkeypatch, capacity=1, in_flight=2), depth=20)
