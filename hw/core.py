"""Everything behind the control port: command fetch, dispatch, engines and their memories."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect

from weft.hw.bus.axi import MemorySignature
from weft.hw.bus.dma_read import ReadEngine
from weft.hw.bus.dma_write import WriteEngine
from weft.hw.bus.read_arbiter import ReadArbiter
from weft.hw.control.dispatch import Dispatcher
from weft.hw.control.fetch import CommandFetch
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.lib.checks import watched
from weft.hw.lib.cycle_accounting import COUNTED, CycleAccounting
from weft.hw.lib.delay import register
from weft.hw.matrix.engine import MatrixEngine
from weft.hw.memory.activation import ActivationMemory
from weft.hw.transfer.load import LoadEngine
from weft.hw.transfer.store import StoreEngine
from weft.hw.vector.engine import VectorEngine

__all__ = ["Core", "core_members"]


def core_members(config: AcceleratorConfig, *, faults: int) -> dict[str, Any]:
    """Members of a core, see :class:`Core`; ``faults`` is the number of its sources of faults."""
    return {
        "m_axi":             Out(MemorySignature(data_width=config.axi_data_width,
                                                 addr_width=config.axi_addr_width)),
        "reset":             In(1),
        "start":             In(1),
        "address":           In(64),
        "count":             In(32),
        "halt":              In(1),
        "faults":            Out(Fault).array(faults),
        "completed":         Out(32),
        "idle":              Out(1),
        "quiet":             Out(1),
        "progress":          Out(1),
        "oldest":            Out(16),
        "count_up":          Out(data.StructLayout({c.name.lower(): 1 for c in COUNTED})),
        "event_start":       Out(len(Engine)),
        "event_done":        Out(len(Engine)),
        "event_start_index": Out(data.ArrayLayout(16, len(Engine))),
        "event_done_index":  Out(data.ArrayLayout(16, len(Engine))),
    }


class Core(wiring.Component):
    """Executes a command stream.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    m_axi : :py:`Out(MemorySignature(...))`
    start, address, count, halt, faults, completed, idle, quiet, progress, oldest, count_up
        As in :class:`~weft.hw.control.port.ControlPort`, seen from the other side.
    reset : :py:`In(1)`
        Pulse: a cycle later everything is reset.
    event_start, event_done : :py:`Out(4)`
        Bit for each :class:`Engine`: it takes, or finishes, a command in this cycle.
    event_start_index, event_done_index : :py:`Out(data.ArrayLayout(16, 4))`
        Which one.

    Attributes
    ----------
    FAULTS : :class:`int`
        Sources of faults.
    """

    FAULTS = 6

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(core_members(config, faults=self.FAULTS))

    def elaborate(self, platform):
        m = Module()

        config = self._config
        port = {"data_width": config.axi_data_width, "addr_width": config.axi_addr_width}
        dma  = {**port, "burst_beats": config.axi_burst_beats}

        def add(name, component):
            # Each has a register of its own for the reset, or one of them would drive thousands
            # all over the device.
            reset = register(m, self.reset, f"reset_{name}", keep=True)
            m.submodules[name] = ResetInserter(reset)(watched(component))
            return component

        fetch      = add("fetch", CommandFetch(config))
        dispatcher = add("dispatcher", Dispatcher(config))
        load       = add("load", LoadEngine(config))
        matrix     = add("matrix", MatrixEngine(config))
        store      = add("store", StoreEngine(config))
        components = {Engine.LOAD: load, Engine.MATRIX: matrix}
        if config.vector:
            vector = components[Engine.VECTOR] = add("vector", VectorEngine(config))
        components[Engine.STORE] = store
        ports = len(components) - 1  # load reads nothing there, store writes nothing
        activation = add("activation", ActivationMemory(config, readers=ports, writers=ports))
        fetch_dma  = add("fetch_dma", ReadEngine(
            **dma, outstanding=CommandFetch.OUTSTANDING, id=0))
        load_dma   = add("load_dma", ReadEngine(**dma, outstanding=config.axi_outstanding, id=1))
        store_dma  = add("store_dma", WriteEngine(**dma, outstanding=config.axi_outstanding, id=0))
        arbiter    = add("arbiter", ReadArbiter(**port))

        # Memory port.
        connect(m, fetch_dma.axi, arbiter.readers[0])
        connect(m, load_dma.axi, arbiter.readers[1])
        for half in (arbiter.axi, store_dma.axi):
            for name, member in half.signature.members.items():
                if member.flow == Out:
                    m.d.comb += getattr(self.m_axi, name).eq(getattr(half, name))
                else:
                    m.d.comb += getattr(half, name).eq(getattr(self.m_axi, name))

        # Commands.
        connect(m, fetch.requests, fetch_dma.requests)
        connect(m, fetch_dma.o, fetch.beats)
        connect(m, fetch.commands, dispatcher.commands)
        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.address.eq(self.address),
            fetch.count.eq(self.count),
            fetch.error.eq(fetch_dma.o_error),
            fetch.halt.eq(self.halt),
            dispatcher.clear.eq(self.start),
            dispatcher.halt.eq(self.halt),
        ]
        for engine, component in components.items():
            head = dispatcher.engines[engine.value]
            m.d.comb += [
                component.commands.valid.eq(head.valid),
                Value.cast(component.commands.payload).eq(Value.cast(head.payload)),
                head.ready.eq(component.commands.ready),
                dispatcher.done[engine.value].eq(component.done),
            ]

        # Data. The matrix engine comes first at the activation memory, and is never refused; then
        # the vector engine, if there is one.
        connect(m, load.requests, load_dma.requests)
        connect(m, load_dma.o, load.beats)
        connect(m, load.weight, matrix.weight_write)
        connect(m, load.parameter, matrix.parameter_write)
        connect(m, store.requests, store_dma.requests)
        connect(m, store.beats, store_dma.i)
        connect(m, matrix.request, activation.read_request[0])
        connect(m, store.read_request, activation.read_request[-1])
        connect(m, matrix.write, activation.write[0])
        connect(m, load.activation, activation.write[-1])
        moving = Signal()  # the vector engine reads or writes
        if config.vector:
            connect(m, load.vector_weight, vector.weight_write)
            connect(m, load.vector_parameter, vector.parameter_write)
            connect(m, load.table, vector.table_write)
            connect(m, vector.request, activation.read_request[1])
            connect(m, vector.write, activation.write[1])
            m.d.comb += [
                vector.word.eq(activation.read_data[1]),
                moving.eq((vector.request.valid & vector.request.ready)
                          | (vector.write.valid & vector.write.ready)),
            ]
        m.d.comb += [
            load.beats_error.eq(load_dma.o_error),
            store.write_error.eq(store_dma.error),
            store.write_done.eq(store_dma.done),
            matrix.word.eq(activation.read_data[0]),
            store.read_data.eq(activation.read_data[-1]),
            store.read_valid.eq(activation.read_valid[-1]),
            fetch_dma.halt.eq(self.halt),
            load_dma.halt.eq(self.halt),
            store_dma.halt.eq(self.halt),
        ]

        # State.
        for number, source in enumerate((fetch, dispatcher, *components.values())):
            m.d.comb += self.faults[number].eq(source.fault)
        axi = self.m_axi
        m.d.comb += [
            self.completed.eq(dispatcher.completed),
            self.idle.eq(~fetch.busy & dispatcher.idle),
            self.quiet.eq(fetch_dma.idle & load_dma.idle & store_dma.idle),
            self.oldest.eq(dispatcher.oldest),
            self.event_start.eq(dispatcher.event_start),
            self.event_done.eq(dispatcher.event_done),
            self.event_start_index.eq(dispatcher.event_start_index),
            self.event_done_index.eq(dispatcher.event_done_index),
        ]
        # From all over the device, so they meet in a register each.
        moves = [getattr(axi, f"{channel}valid") & getattr(axi, f"{channel}ready")
                 for channel in ("ar", "r", "aw", "w", "b")]
        moves += [matrix.activity.busy, matrix.draining, moving,
                  dispatcher.event_start.any(), dispatcher.event_done.any()]
        m.d.comb += self.progress.eq(register(m, Cat(moves), "moves").any())

        accounting = add("accounting", CycleAccounting())
        m.d.comb += [
            accounting.pending.eq(dispatcher.pending),
            accounting.fetching.eq(
                fetch.busy & ~(fetch.commands.valid & ~fetch.commands.ready)),
            accounting.read_beat.eq(axi.rvalid & axi.rready),
            accounting.write_beat.eq(axi.wvalid & axi.wready),
            self.count_up.eq(accounting.count_up),
        ]
        for engine, component in components.items():
            m.d.comb += getattr(accounting, engine.name.lower()).eq(component.activity)

        return m
