"""The load engine of an accelerator that multiplies activations: LOAD, TURN, and the commands on
rows, in order."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Error
from weft.hw.lib.checks import require
from weft.hw.normalize.engine import NormalizeEngine
from weft.hw.rows.engine import RowEngine
from weft.hw.softmax.engine import SoftmaxEngine

from .load import LoadEngine
from .turn import TurnEngine

__all__ = ["FillEngine"]


class FillEngine(wiring.Component):
    """Executes LOAD, TURN, SOFTMAX and NORMALIZE commands: all but LOAD when everything before is
    done, and alone.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``products``; there is a SOFTMAX with ``softmax``, and a NORMALIZE with
        ``normalize_channels``.

    Members
    -------
    All those of a :class:`LoadEngine` but ``row_constant``, and:

    request : :py:`Out(stream.Signature(24))`
        Words that are turned, or of rows.
    word : :py:`In(data.ArrayLayout(8, word_data_bytes))`
        As of a :class:`TurnEngine`.
    turns : :py:`Out(1)`
        A step of a command other than LOAD is taken in this cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._load   = LoadEngine(config)
        members = dict(self._load.signature.members)
        members.pop("row_constant", None)
        super().__init__({
            **members,
            "request": Out(stream.Signature(24)),
            "word":    In(data.ArrayLayout(8, config.word_data_bytes)),
            "turns":   Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.load = load = self._load
        m.submodules.turn = turn = TurnEngine(self._config)
        alone: dict[Opcode, Any] = {Opcode.TURN: turn}
        rows: dict[Opcode, RowEngine] = {}
        if self._config.softmax:
            m.submodules.softmax = rows[Opcode.SOFTMAX] = SoftmaxEngine(self._config)
        if self._config.normalize_channels:
            m.submodules.normalize = rows[Opcode.NORMALIZE] = NormalizeEngine(self._config)
        alone |= rows
        self._dispatch(m, load, alone)
        m.d.comb += [
            self.turns.eq(Cat(engine.moves for engine in alone.values()).any()),
            self.done.eq(load.done | Cat(engine.done for engine in alone.values()).any()),
            self.busy.eq(load.busy | Cat(engine.busy for engine in alone.values()).any()),
            self.fault.eq(load.fault),
            self.activity.eq(load.activity),
        ]
        for engine in alone.values():
            m.d.comb += engine.word.eq(self.word)
            with m.If(engine.fault.code != Error.NONE):
                m.d.comb += self.fault.eq(engine.fault)
            with m.If(engine.busy):
                m.d.comb += [
                    self.activity.busy.eq(engine.moves),
                    self.activity.activation.eq(engine.refused),
                    self.activity.setup.eq(1),
                ]
        self._either(m, self.request, *(engine.request for engine in alone.values()))

        shared = {"weight": [turn.weight], "parameter": [turn.parameter]}
        if rows:
            shared["activation"] = [engine.write for engine in rows.values()]
        for engine in rows.values():
            m.d.comb += [
                engine.row_constant.valid.eq(load.row_constant.valid),
                engine.row_constant.payload.eq(load.row_constant.payload),
            ]
        for name in self._load.signature.members:
            if name in ("commands", "done", "fault", "busy", "activity", "row_constant"):
                continue
            inner, outer = getattr(load, name), getattr(self, name)
            if name in shared:
                self._either(m, outer, inner, *shared[name])
            elif name == "beats_error":
                m.d.comb += inner.eq(outer)
            else:
                connect(m, inner, flipped(outer))
        return m

    def _dispatch(self, m: Module, load: LoadEngine, alone: dict[Opcode, Any]) -> None:
        """Hands each command to its engine: one of those that work ``alone`` when no other command
        is executing, a LOAD when none of theirs is."""
        head    = Value.cast(self.commands.payload)
        opcode  = self.commands.p.command.header.opcode
        loading = Signal(4)
        free    = Signal(init=1)    # loading == 0
        taken   = load.commands.valid & load.commands.ready
        with m.If(taken & ~load.done):
            m.d.sync += [loading.eq(loading + 1), free.eq(0)]
        with m.If(load.done & ~taken):
            m.d.sync += [loading.eq(loading - 1), free.eq(loading == 1)]
        busy = Cat(engine.busy for engine in alone.values())
        require(m, ~(busy.any() & ~free), "no LOAD is executed beside another command")
        is_load = Const(1)
        for number, (own, engine) in enumerate(alone.items()):
            chosen  = opcode == own
            others  = Cat(bit for place, bit in enumerate(busy) if place != number)
            allowed = free & ~others.any() if len(alone) > 1 else free
            is_load = is_load & ~chosen
            with m.If(chosen):
                m.d.comb += self.commands.ready.eq(engine.commands.ready & allowed)
            m.d.comb += [
                Value.cast(engine.commands.payload).eq(head),
                engine.commands.valid.eq(self.commands.valid & chosen & allowed),
            ]
        with m.If(is_load):
            m.d.comb += self.commands.ready.eq(load.commands.ready & ~busy.any())
        m.d.comb += [
            Value.cast(load.commands.payload).eq(head),
            load.commands.valid.eq(self.commands.valid & is_load & ~busy.any()),
        ]

    def _either(self, m: Module, target: Any, *sources: Any) -> None:
        """What any of ``sources`` sends, of which one sends at a time."""
        m.d.comb += target.valid.eq(Cat(source.valid for source in sources).any())
        for source in sources:
            if not source.signature.always_ready:
                m.d.comb += source.ready.eq(target.ready)
            with m.If(source.valid):
                m.d.comb += target.payload.eq(source.payload)
