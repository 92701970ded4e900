"""Producers that cannot wait are never refused: no check of the hardware fails, for any traffic."""

import pytest
from amaranth.hdl import Assert, Assume, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from formal import free, inside

from weft.config import AcceleratorConfig
from weft.hw import job_queue, store, vector_output
from weft.hw.burst import request_layout
from weft.hw.checks import checking
from weft.hw.half_slice import HalfSlice
from weft.hw.job_queue import JobQueue
from weft.hw.store import StoreEngine
from weft.hw.transfer import indexed_layout, transfer_layout
from weft.hw.vector_output import VectorOutput


def config(**changes):
    return AcceleratorConfig(**({
        "rows": 2, "cols": 2, "fip": False, "requant_lanes": 2, "activation_bytes": 1024,
        "activation_banks": 1, "weight_bytes": 4096, "accumulator_pixels": 16,
        "parameter_channels": 4, "axi_data_width": 32, "vector_taps": 2} | changes))


def counter(m, most, up, down, name):
    """How many there are of what comes and goes."""
    count = Signal(range(most + 1), name=name)
    m.d.sync += count.eq(count + up - down)
    return count


def sound(m, queue, depth):
    """Asserts what the registers of a queue have to do with each other: the proofs need it."""
    m.d.comb += [
        Assert(queue.level <= depth),
        Assert(queue.ready == (queue.level != depth)),
        Assert(queue.o__valid == (queue.level != 0)),
    ]


class AnyTransfers(wiring.Component):
    """In the place of the front of a load or store engine: any transfers, even illegal ones."""

    def __init__(self, *, config, command):
        super().__init__({
            "commands":  In(stream.Signature(indexed_layout(command))),
            "transfers": Out(stream.Signature(transfer_layout(config))),
            "requests":  Out(stream.Signature(request_layout(config.axi_addr_width))),
            "busy":      Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        free(m, wiring.flipped(self))
        return m


def store_spec(monkeypatch, config):
    """A word comes for each address, at any time after it; beats are acknowledged at any time."""
    monkeypatch.setattr(store, "TransferFront", AnyTransfers)
    m = Module()
    dut = StoreEngine(config)
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    coming = counter(m, 31, dut.read_request.valid & dut.read_request.ready, dut.read_valid,
                     "coming")
    m.d.comb += [
        Assume(~dut.read_valid | (coming != 0)),
        # What room depends on: each word that is asked for has its entry in `lasts`.
        Assert(inner.lasts.level == inner.addresses.level + coming + inner.words.level),
        Assert(~inner.words.o__valid | inner.lasts.o__valid),
        Assert(inner.room_0 == inner.room_1),
        Assert(~inner.room_0 | (inner.lasts.level < store._WORDS)),
    ]
    for queue in (inner.lasts, inner.addresses, inner.words):
        sound(m, queue, store._WORDS)
    return m


@pytest.mark.parametrize("rows", [2, 8])
def test_store_engine_has_room_for_each_word(prove, monkeypatch, rows):
    """Words of less than a beat, and of more."""
    prove(store_spec(monkeypatch, config(rows=rows)))


def test_store_engine_that_asks_too_long_is_found(refute, monkeypatch):
    monkeypatch.setattr(store, "_MARGIN", 1)
    refute(store_spec(monkeypatch, config()), depth=30)


def jobs_spec(latency):
    """A job comes while fewer than two wait: those hold both halves of the accumulators."""
    m = Module()
    dut = JobQueue(latency=latency)
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    waiting = counter(m, 3, dut.i.valid, dut.o.valid & dut.o.ready, "waiting")
    sums = [signal for name, signal in vars(inner).items() if name.startswith("complete_")]
    assert len(sums) == latency - 1
    m.d.comb += [
        Assume(~dut.i.valid | (waiting < 2)),
        Assert(waiting == inner.ready + sum(sums)),
    ]
    return m


@pytest.mark.parametrize("latency", [2, 5, 9])
def test_job_queue_takes_each_job(prove, latency):
    prove(jobs_spec(latency))


def test_job_queue_of_a_single_place_is_found(refute, monkeypatch):
    monkeypatch.setattr(job_queue, "RegisterSlice", HalfSlice)
    refute(jobs_spec(3), depth=10)


CREDITS = 4


def output_spec(config):
    """Each word has a credit, of which there are as many as words that can wait."""
    m = Module()
    dut = VectorOutput(config, depth=CREDITS)
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    credits = Signal(range(CREDITS + 1), init=CREDITS)
    m.d.sync += credits.eq(credits + dut.credit - dut.i.valid)
    m.d.comb += [
        Assume(~dut.i.valid | (credits != 0)),
        Assert(credits + inner.write__en + inner.level + dut.credit == CREDITS),
        Assert(inner.some == (inner.level != 0)),
    ]
    sound(m, inner.addresses, vector_output._ADDRESSES)
    return m


def test_vector_output_has_room_for_each_word(prove):
    prove(output_spec(config()))


def test_vector_output_that_works_out_too_many_addresses_is_found(refute, monkeypatch):
    monkeypatch.setattr(vector_output, "_MARGIN", 2)
    refute(output_spec(config()), depth=30)

