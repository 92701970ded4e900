"""The slice and the arbiter of the memory port."""

from itertools import combinations, permutations
from types import SimpleNamespace

import pytest
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal
from formal import free, in_order, keeps, spoil

from weft.hw.bus.axi_slice import AxiSlice
from weft.hw.bus.read_arbiter import ReadArbiter

READ_ADDRESS = ("arid", "araddr", "arlen", "arsize", "arburst")
READ_DATA    = ("rid", "rdata", "rresp", "rlast")
CHANNELS = {
    "ar": READ_ADDRESS,
    "aw": ("awid", "awaddr", "awlen", "awsize", "awburst"),
    "w":  ("wdata", "wstrb", "wlast"),
    "r":  READ_DATA,
    "b":  ("bid", "bresp"),
}


def channel(port, name):
    """A channel of a memory port as a stream."""
    return SimpleNamespace(valid=getattr(port, f"{name}valid"), ready=getattr(port, f"{name}ready"),
                           payload=Cat(getattr(port, field) for field in CHANNELS[name]))


def slice_spec(dut, name):
    m = Module()
    m.submodules.dut = dut
    free(m, dut)
    source, target = channel(dut.i, name), channel(dut.o, name)
    if name in ("r", "b"):
        source, target = target, source
    full  = name in ("w", "r")  # a beat in every cycle
    level = in_order(m, source, target, 2 if full else 1)
    m.d.comb += [
        Assert(keeps(m, target.valid, target.ready, target.payload)),
        Assert(source.ready == (level != 2 if full else level == 0)),
        Assert(target.valid == (level != 0)),
    ]
    return m


@pytest.mark.parametrize("name", CHANNELS)
def test_axi_slice(prove, name):
    prove(slice_spec(AxiSlice(data_width=32, addr_width=12), name))


@pytest.mark.parametrize("name", CHANNELS)
def test_broken_axi_slice_is_found(refute, name):
    dut = AxiSlice(data_width=32, addr_width=12)
    port, other = (dut.i, dut.o) if name in ("r", "b") else (dut.o, dut.i)
    field = CHANNELS[name][-1]
    refute(slice_spec(spoil(dut, lambda m: m.d.comb.__iadd__(
        getattr(port, field).eq(getattr(other, field)))), name))


def arbiter_spec(dut, *, pauses=False):
    """All readers hold their addresses as AXI demands. With ``pauses`` the first one does not ask
    in the cycle after its address was taken, as a read engine does not."""
    m = Module()
    m.submodules.dut = dut
    free(m, dut)

    bus   = channel(dut.axi, "ar")
    asks  = [channel(reader, "ar") for reader in dut.readers]
    takes = [ask.valid & ask.ready for ask in asks]
    m.d.comb += [
        *(Assume(keeps(m, ask.valid, ask.ready, ask.payload)) for ask in asks),
        Assert(keeps(m, bus.valid, bus.ready, bus.payload)),
        # Each address on the bus is one reader's.
        *(Assert(~(one & other)) for one, other in combinations(takes, 2)),
        Assert((bus.valid & bus.ready) == Cat(takes).any()),
        Assert(bus.valid == Cat(ask.valid for ask in asks).any()),
        *(Assert(~take | (bus.payload == ask.payload)) for take, ask in zip(takes, asks)),
        # Data goes to all.
        Assert(dut.axi.rready),
    ]
    for reader in dut.readers:
        m.d.comb += Assert(channel(reader, "r").payload == channel(dut.axi, "r").payload)
        m.d.comb += Assert(reader.rvalid == dut.axi.rvalid)

    def others_go_at_most(once, waits, others):
        """While a reader waits, no more than so many of the others' addresses are taken."""
        passed = Signal(range(once + 2))
        with m.If(takes[waits] | ~asks[waits].valid):
            m.d.sync += passed.eq(0)
        with m.Elif(Cat(takes[other] for other in others).any()):
            m.d.sync += passed.eq(passed + 1)
        m.d.comb += Assert(passed <= once)

    # The first reader goes first, once what is on the bus has been taken. The others take turns.
    rest = range(1, len(asks))
    others_go_at_most(1, 0, rest)
    for waits, other in permutations(rest, 2):
        others_go_at_most(1, waits, [other])
    if pauses:  # so that the turn of the others comes as soon
        taken = Signal()
        m.d.sync += taken.eq(takes[0])
        m.d.comb += Assume(~(taken & asks[0].valid))
        for waits in rest:
            others_go_at_most(len(rest), waits, [0])
    return m


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize("readers", [1, 2, 3])
def test_read_arbiter(prove, readers, pauses):
    prove(arbiter_spec(ReadArbiter(data_width=32, addr_width=12, readers=readers), pauses=pauses))


@pytest.mark.parametrize("wrong", ["no turns", "last changes"])
def test_broken_turns_of_a_read_arbiter_are_found(refute, monkeypatch, wrong):
    dut  = ReadArbiter(data_width=32, addr_width=12, readers=3)
    turn = dut._turn

    def broken(m, kept, others):
        if wrong == "no turns":
            return Mux(dut.readers[1].arvalid, 1, 2)
        value = turn(m, kept, others)
        return Mux(dut.readers[1].arvalid & dut.axi.arready, 1, value)

    monkeypatch.setattr(dut, "_turn", broken)
    refute(arbiter_spec(dut))


@pytest.mark.parametrize("wrong", ["both", "changes", "mixed"])
def test_broken_read_arbiter_is_found(refute, wrong):
    dut = ReadArbiter(data_width=32, addr_width=12)
    refute(arbiter_spec(spoil(dut, lambda m: m.d.comb.__iadd__({
        "both":    dut.readers[1].arready.eq(dut.axi.arready),
        "changes": dut.axi.arvalid.eq(dut.readers[0].arvalid),
        "mixed":   dut.axi.arlen.eq(dut.readers[0].arlen),
    }[wrong]))))
