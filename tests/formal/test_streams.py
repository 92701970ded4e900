"""Slices and queues: nothing is lost, doubled or reordered."""

from typing import Any

import pytest
from amaranth.hdl import Assert, Module, Signal
from formal import free, in_order, keeps, spoil

from weft.hw.lib import queue
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice


def stream_spec(dut: Any, capacity: int) -> tuple[Module, Signal]:
    """What is offered stays, and all of it comes in order. Also returns how many are held."""
    m = Module()
    m.submodules.dut = dut
    free(m, dut)
    m.d.comb += Assert(keeps(m, dut.o.valid, dut.o.ready, dut.o.payload))
    return m, in_order(m, dut.i, dut.o, capacity)


def half(dut: HalfSlice) -> Module:
    m, level = stream_spec(dut, 1)
    m.d.comb += [Assert(dut.i.ready == (level == 0)), Assert(dut.o.valid == (level == 1))]
    return m


def full(dut: Any) -> Module:
    """Whoever takes one in every cycle never stops the other side."""
    m, level = stream_spec(dut, 2)
    m.d.comb += [Assert(dut.i.ready == (level != 2)), Assert(dut.o.valid == (level != 0))]
    return m


def with_level(dut: Queue) -> Module:
    m, level = stream_spec(dut, dut.depth)
    m.d.comb += [Assert(dut.level == level), Assert(dut.i.ready == (level != dut.depth))]
    return m


@pytest.mark.parametrize("width", [1, 65])
def test_half_slice(prove, width):
    prove(half(HalfSlice(shape=width)))


@pytest.mark.parametrize("width", [1, 33])
def test_register_slice(prove, width):
    prove(full(RegisterSlice(shape=width)))


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 8])
def test_queue(prove, depth):
    prove(with_level(Queue(shape=1, depth=depth)))


@pytest.mark.parametrize("depth", [3, 4])
def test_queue_in_block_memory(prove, monkeypatch, depth):
    monkeypatch.setattr(Queue, "DISTRIBUTED_DEPTH", 1)
    prove(with_level(Queue(shape=1, depth=depth)))


def test_queue_of_several_memories(prove, monkeypatch):
    monkeypatch.setattr(queue, "_COLUMNS", 1)
    prove(with_level(Queue(shape=2, depth=3)))


@pytest.mark.parametrize("wrong", ["payload", "ready", "valid"])
@pytest.mark.parametrize("slice_type, spec", [(HalfSlice, half), (RegisterSlice, full)])
def test_broken_slice_is_found(refute, slice_type, spec, wrong):
    def change(m):
        if wrong == "payload":  # it is not held
            m.d.comb += dut.o.payload.eq(dut.i.payload)
        elif wrong == "ready":  # it takes what it has no place for
            m.d.comb += dut.i.ready.eq(1)
        else:  # dropped before it is taken
            m.d.sync += dut.o.valid.eq(dut.i.valid)

    dut = slice_type(shape=1)
    refute(spec(spoil(dut, change)))


def test_half_slice_is_no_register_slice(refute):
    refute(full(HalfSlice(shape=1)))


def test_broken_pointer_is_found(refute, monkeypatch):
    monkeypatch.setattr(queue, "_following", lambda pointer, depth: pointer + 1)
    refute(with_level(Queue(shape=1, depth=3)))
