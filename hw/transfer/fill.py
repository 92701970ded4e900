"""The load engine of an accelerator that multiplies activations: LOAD and TURN, in order."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Error
from weft.hw.lib.checks import require

from .load import LoadEngine
from .turn import TurnEngine

__all__ = ["FillEngine"]


class FillEngine(wiring.Component):
    """Executes LOAD and TURN commands: each TURN when all before it is done, and alone.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``products``.

    Members
    -------
    All those of a :class:`LoadEngine`, and:

    request : :py:`Out(stream.Signature(24))`
        Words that are turned.
    word : :py:`In(data.ArrayLayout(8, word_data_bytes))`
        As of a :class:`TurnEngine`.
    turns : :py:`Out(1)`
        A step of a TURN is taken in this cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._load   = LoadEngine(config)
        super().__init__({
            **self._load.signature.members,
            "request": Out(stream.Signature(24)),
            "word":    In(data.ArrayLayout(8, config.word_data_bytes)),
            "turns":   Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.load = load = self._load
        m.submodules.turn = turn = TurnEngine(self._config)
        self._dispatch(m, load, turn)
        connect(m, turn.request, flipped(self.request))
        m.d.comb += [
            turn.word.eq(self.word),
            self.turns.eq(turn.moves),
            self.done.eq(load.done | turn.done),
            self.busy.eq(load.busy | turn.busy),
            self.fault.eq(Mux(turn.fault.code != Error.NONE, turn.fault, load.fault)),
            self.activity.eq(load.activity),
        ]
        with m.If(turn.busy):
            m.d.comb += [
                self.activity.busy.eq(turn.moves),
                self.activity.activation.eq(turn.refused),
                self.activity.setup.eq(1),
            ]

        for name in self._load.signature.members:
            if name in ("commands", "done", "fault", "busy", "activity"):
                continue
            inner, outer = getattr(load, name), getattr(self, name)
            if name in ("weight", "parameter"):
                self._either(m, outer, inner, getattr(turn, name))
            elif name == "beats_error":
                m.d.comb += inner.eq(outer)
            else:
                connect(m, inner, flipped(outer))
        return m

    def _dispatch(self, m: Module, load: LoadEngine, turn: TurnEngine) -> None:
        """Hands each command to its engine, a TURN when no LOAD is executing, a LOAD when no TURN
        is."""
        head    = Value.cast(self.commands.payload)
        is_turn = self.commands.p.command.header.opcode == Opcode.TURN
        loading = Signal(4)
        free    = Signal(init=1)    # loading == 0
        taken   = load.commands.valid & load.commands.ready
        with m.If(taken & ~load.done):
            m.d.sync += [loading.eq(loading + 1), free.eq(0)]
        with m.If(load.done & ~taken):
            m.d.sync += [loading.eq(loading - 1), free.eq(loading == 1)]
        require(m, ~(turn.busy & ~free), "a TURN is executed while no LOAD is")
        for engine, chosen in ((load, ~is_turn & ~turn.busy), (turn, is_turn & free)):
            m.d.comb += [
                Value.cast(engine.commands.payload).eq(head),
                engine.commands.valid.eq(self.commands.valid & chosen),
            ]
        m.d.comb += self.commands.ready.eq(Mux(
            is_turn, turn.commands.ready & free, load.commands.ready & ~turn.busy))

    def _either(self, m: Module, target: Any, *sources: Any) -> None:
        """Writes of any of ``sources``, of which one writes at a time."""
        m.d.comb += target.valid.eq(Cat(source.valid for source in sources).any())
        for source in sources:
            with m.If(source.valid):
                m.d.comb += target.payload.eq(source.payload)
