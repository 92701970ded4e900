"""Everything behind the control port: command fetch, dispatch, engines and their memories."""

from collections.abc import Iterable
from functools import reduce
from operator import and_
from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.bus.axi import MemorySignature, memory_port
from weft.hw.bus.dma_read import ReadEngine
from weft.hw.bus.dma_write import WriteEngine
from weft.hw.bus.read_arbiter import ReadArbiter
from weft.hw.control.core_control import CommandEvents, CoreControl
from weft.hw.control.dispatch import Dispatcher
from weft.hw.control.fetch import CommandFetch
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import watched
from weft.hw.lib.cycle_accounting import CycleAccounting
from weft.hw.lib.delay import register
from weft.hw.matrix.engine import MatrixEngine
from weft.hw.memory.activation import ActivationMemory
from weft.hw.transfer.fill import FillEngine
from weft.hw.transfer.load import LoadEngine
from weft.hw.transfer.store import StoreEngine
from weft.hw.vector.engine import VectorEngine

__all__ = ["Core"]


class Core(wiring.Component):
    """Executes a command stream.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    m_axi : :py:`Out(MemorySignature(...))`
        Memory.
    control : :py:`In(CoreControl(faults=FAULTS))`
        The control port.
    event : :py:`Out(CommandEvents())`
        When each command starts and ends.

    Attributes
    ----------
    FAULTS : :class:`int`
        Sources of faults.
    """

    FAULTS = 6

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "m_axi":   Out(MemorySignature(**memory_port(config))),
            "control": In(CoreControl(faults=self.FAULTS)),
            "event":   Out(CommandEvents()),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        dma = memory_port(config) | {"burst_beats": config.axi_burst_beats}

        fetch      = self._add(m, "fetch", CommandFetch(config))
        dispatcher = self._add(m, "dispatcher", Dispatcher(config))
        load       = self._add(m, "load", FillEngine(config) if config.products
                               else LoadEngine(config))
        matrix     = self._add(m, "matrix", MatrixEngine(config))
        store      = self._add(m, "store", StoreEngine(config))
        components = {Engine.LOAD: load, Engine.MATRIX: matrix}
        if config.vector:
            components[Engine.VECTOR] = self._add(m, "vector", VectorEngine(config))
        components[Engine.STORE] = store
        ports = len(components) - 1  # load reads nothing there but for TURN, store writes nothing
        activation = self._add(m, "activation", ActivationMemory(
            config, readers=ports + config.vector_pairs + config.products, writers=ports))
        fetch_dma = self._add(m, "fetch_dma", ReadEngine(
            **dma, outstanding=CommandFetch.OUTSTANDING, id=0))
        load_dma  = self._add(m, "load_dma",
                              ReadEngine(**dma, outstanding=config.axi_outstanding, id=1))
        store_dma = self._add(m, "store_dma",
                              WriteEngine(**dma, outstanding=config.axi_outstanding, id=0))
        arbiter    = self._add(m, "arbiter", ReadArbiter(
            data_width=config.axi_data_width, addr_width=config.axi_addr_width,
            readers=config.axi_readers))
        accounting = self._add(m, "accounting", CycleAccounting())

        self._connect_memory_port(m, arbiter, readers=(fetch_dma, load_dma), writer=store_dma)
        self._connect_commands(m, fetch, fetch_dma, dispatcher, components)
        self._connect_data(m, load, load_dma, store, store_dma)
        moving = self._connect_activation(m, activation, components)
        self._report_state(m, fetch, dispatcher, components,
                           masters=(fetch_dma, load_dma, store_dma))
        self._report_progress(m, matrix, dispatcher, moving=moving)
        self._account(m, accounting, fetch, dispatcher, components)
        return m

    def _add(self, m: Module, name: str, component: Any) -> Any:
        """Adds a submodule. Each has its own register for the reset: a single one would drive
        thousands of flip-flops all over the device."""
        reset = register(m, self.control.reset, f"reset_{name}", keep=True)
        m.submodules[name] = ResetInserter(reset)(watched(component))
        return component

    def _connect_memory_port(self, m: Module, arbiter: ReadArbiter, *,
                             readers: Iterable[ReadEngine], writer: WriteEngine) -> None:
        for reader, port in zip(readers, arbiter.readers, strict=True):
            connect(m, reader.axi, port)
        # Both halves share the prefix of the port's names.
        for half in (arbiter.axi, writer.axi):
            for name, member in half.signature.members.items():
                if member.flow == Out:
                    m.d.comb += getattr(self.m_axi, name).eq(getattr(half, name))
                else:
                    m.d.comb += getattr(half, name).eq(getattr(self.m_axi, name))
        m.d.comb += [master.halt.eq(self.control.halt) for master in (*readers, writer)]

    def _connect_commands(self, m: Module, fetch: CommandFetch, fetch_dma: ReadEngine,
                          dispatcher: Dispatcher, components: dict[Engine, Any]) -> None:
        control = self.control
        connect(m, fetch.requests, fetch_dma.requests)
        connect(m, fetch_dma.o, fetch.beats)
        connect(m, fetch.commands, dispatcher.commands)
        connect(m, dispatcher.event, flipped(self.event))
        m.d.comb += [
            fetch.start.eq(control.start),
            fetch.address.eq(control.address),
            fetch.count.eq(control.count),
            fetch.error.eq(fetch_dma.o_error),
            fetch.halt.eq(control.halt),
            dispatcher.clear.eq(control.start),
            dispatcher.halt.eq(control.halt),
        ]
        for engine, component in components.items():
            head = dispatcher.engines[engine.value]
            m.d.comb += [
                component.commands.valid.eq(head.valid),
                Value.cast(component.commands.payload).eq(Value.cast(head.payload)),
                head.ready.eq(component.commands.ready),
                dispatcher.done[engine.value].eq(component.done),
            ]

    def _connect_data(self, m: Module, load: LoadEngine, load_dma: ReadEngine, store: StoreEngine,
                      store_dma: WriteEngine) -> None:
        """Joins the engines that move data to external memory."""
        connect(m, load.requests, load_dma.requests)
        connect(m, load_dma.o, load.beats)
        connect(m, store.requests, store_dma.requests)
        connect(m, store.beats, store_dma.i)
        m.d.comb += [
            load.beats_error.eq(load_dma.o_error),
            store.write_error.eq(store_dma.error),
            store.write_done.eq(store_dma.done),
        ]

    def _connect_activation(self, m: Module, activation: ActivationMemory,
                            components: dict[Engine, Any]) -> Value:
        """Joins the engines to the memories on chip. The matrix engine comes first at the
        activation memory, and is never refused; then the vector engine, if there is one, its second
        operands first, and the words that are turned. Returns whether the vector engine reads or
        writes, or a word is turned."""
        load, matrix, store = (components[engine]
                               for engine in (Engine.LOAD, Engine.MATRIX, Engine.STORE))
        connect(m, load.weight, matrix.weight_write)
        connect(m, load.parameter, matrix.parameter_write)
        # Both engines have copies of the tables.
        for engine in (Engine.VECTOR, Engine.MATRIX):
            for name in ("table", "lane_table"):
                write = getattr(components.get(engine), f"{name}_write", None)
                if write is not None:
                    entry = getattr(load, name)
                    m.d.comb += [write.payload.eq(entry.payload), write.valid.eq(entry.valid)]
        connect(m, matrix.request, activation.read_request[0])
        connect(m, matrix.write, activation.write[0])
        connect(m, store.read_request, activation.read_request[-1])
        connect(m, load.activation, activation.write[-1])
        m.d.comb += [
            matrix.word.eq(activation.read_data[0]),
            store.read_data.eq(activation.read_data[-1]),
            store.read_valid.eq(activation.read_valid[-1]),
        ]
        moving = Signal()
        if Engine.VECTOR in components:
            vector = components[Engine.VECTOR]
            connect(m, load.vector_weight, vector.weight_write)
            connect(m, load.vector_parameter, vector.parameter_write)
            number = 1
            if self._config.vector_pairs:
                connect(m, vector.second_request, activation.read_request[number])
                m.d.comb += vector.second_word.eq(activation.read_data[number])
                number += 1
            connect(m, vector.request, activation.read_request[number])
            connect(m, vector.write, activation.write[1])
            m.d.comb += [
                vector.word.eq(activation.read_data[number]),
                moving.eq((vector.request.valid & vector.request.ready)
                          | (vector.write.valid & vector.write.ready)),
            ]
        if not self._config.products:
            return moving
        connect(m, load.request, activation.read_request[-2])
        m.d.comb += load.word.eq(activation.read_data[-2])
        return moving | load.turns

    def _report_state(self, m: Module, fetch: CommandFetch, dispatcher: Dispatcher,
                      components: dict[Engine, Any], *, masters: Iterable[Any]) -> None:
        control = self.control
        for number, source in enumerate((fetch, dispatcher, *components.values())):
            m.d.comb += control.faults[number].eq(source.fault)
        m.d.comb += [
            control.completed.eq(dispatcher.completed),
            control.idle.eq(~fetch.busy & dispatcher.idle),
            control.quiet.eq(reduce(and_, (master.idle for master in masters))),
            control.oldest.eq(dispatcher.oldest),
        ]

    def _report_progress(self, m: Module, matrix: MatrixEngine, dispatcher: Dispatcher, *,
                         moving: Value) -> None:
        # These come from all over the device, so each goes into a register before they meet.
        axi = self.m_axi
        moves = [getattr(axi, f"{channel}valid") & getattr(axi, f"{channel}ready")
                 for channel in ("ar", "r", "aw", "w", "b")]
        moves += [matrix.activity.busy, matrix.draining, moving,
                  dispatcher.event.start.any(), dispatcher.event.done.any()]
        m.d.comb += self.control.progress.eq(register(m, Cat(moves), "moves").any())

    def _account(self, m: Module, accounting: CycleAccounting, fetch: CommandFetch,
                 dispatcher: Dispatcher, components: dict[Engine, Any]) -> None:
        axi = self.m_axi
        m.d.comb += [
            accounting.pending.eq(dispatcher.pending),
            accounting.fetching.eq(
                fetch.busy & ~(fetch.commands.valid & ~fetch.commands.ready)),
            accounting.read_beat.eq(axi.rvalid & axi.rready),
            accounting.write_beat.eq(axi.wvalid & axi.wready),
            self.control.count_up.eq(accounting.count_up),
        ]
        for engine, component in components.items():
            m.d.comb += getattr(accounting, engine.name.lower()).eq(component.activity)
