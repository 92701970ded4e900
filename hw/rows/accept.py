"""How an engine takes a command on words of pixels, one at a time."""

from typing import Any

from amaranth import *

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Error

__all__ = ["accept"]


def accept(m: Module, engine: Any, job: Any, config: AcceleratorConfig,
           impossible: Value | None = None) -> Signal:
    """Takes a command while there is none, and checks it in the cycle after. Returns a pulse for
    its start; if it is impossible there is none, but a fault.

    Parameters
    ----------
    m : :class:`Module`
    engine : component
        With ``commands``, ``busy`` and ``fault``. It lets ``busy`` go at the end.
    job : record
        Registers for the command: ``index``, which is set here, and ``pixels``, ``blocks`` and
        ``lanes``, which the engine copies while it is not busy, as all other fields that it needs.
    config : :class:`AcceleratorConfig`
    impossible : value
        What else may be wrong with it.
    """
    checking, start = Signal(), Signal()
    wrong = Cat(job.pixels == 0, job.blocks == 0, job.lanes == 0, job.lanes > config.word_lanes,
                0 if impossible is None else impossible).any()
    m.d.comb += [
        engine.commands.ready.eq(~engine.busy),
        start.eq(checking & ~wrong),
    ]
    m.d.sync += checking.eq(engine.commands.valid & ~engine.busy)
    with m.If(engine.commands.valid & ~engine.busy):
        m.d.sync += engine.busy.eq(1)
    with m.If(~engine.busy):
        m.d.sync += job.index.eq(engine.commands.p.index)
    with m.If(checking & wrong):
        m.d.sync += [engine.fault.code.eq(Error.ARGUMENT), engine.fault.index.eq(job.index)]
    return start
