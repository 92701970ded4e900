"""What the engines of commands on rows have in common."""

from abc import abstractmethod
from typing import Any, ClassVar

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import INDEX_WIDTH, Fault, indexed_layout
from weft.hw.isa.registers import Error
from weft.hw.memory.scratch import unit_write_layout

from .accept import accept
from .sweep import RowSweep

__all__ = ["RowEngine"]


class RowEngine(wiring.Component):
    """Executes commands on rows of words in the activation memory, one after the other.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    commands : :py:`In(stream.Signature(indexed_layout(COMMAND)))`
    done : :py:`Out(1)`
        All of a command is written.
    fault : :py:`Out(Fault)`
        Held until reset. ``ARGUMENT``: no pixels or blocks, an impossible number of lanes, or what
        the command has beside these. ``ADDRESS``: a word outside the memory.
    busy : :py:`Out(1)`
        A command is executing.
    moves : :py:`Out(1)`
        A lane is taken, or a word comes, in this cycle.
    refused : :py:`Out(1)`
        The activation memory refuses a word.
    request : :py:`Out(stream.Signature(24))`
        Words to read.
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word, ``ActivationMemory.LATENCY`` cycles after its request was accepted.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes)))`
        To the activation memory.
    row_constant : :py:`In(stream.Signature(unit_write_layout(4), always_ready=True))`
        Entries of the memory ROW_CONSTANT.
    """

    COMMAND: ClassVar[type[data.Struct]]

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        bytes_ = config.word_data_bytes
        super().__init__({
            "commands": In(stream.Signature(indexed_layout(self.COMMAND))),
            "done":     Out(1),
            "fault":    Out(Fault),
            "busy":     Out(1),
            "moves":    Out(1),
            "refused":  Out(1),
            "request":  Out(stream.Signature(24)),
            "word":     In(data.ArrayLayout(8, bytes_)),
            "write":    Out(stream.Signature(unit_write_layout(bytes_))),
            "row_constant": In(stream.Signature(unit_write_layout(4), always_ready=True)),
        })

    @abstractmethod
    def _sweep(self) -> RowSweep:
        """The passes that a command needs."""

    @abstractmethod
    def _impossible(self, job: Any) -> Value:
        """Whether fields of this command have values that they must not have."""

    @abstractmethod
    def _compute(self, m: Module, job: Any, sweep: RowSweep) -> None:
        """From the lanes of a sweep to its results."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.sweep = sweep = self._sweep()
        job, start = self._take(m)
        m.d.comb += [getattr(sweep, name).eq(job[name])
                     for name in ("in_base", "in_plane", "out_base", "out_plane", "pixels",
                                  "blocks", "lanes")]
        connect(m, sweep.request, flipped(self.request))
        connect(m, sweep.write, flipped(self.write))
        m.d.comb += [
            sweep.start.eq(start),
            sweep.word.eq(self.word),
            self.moves.eq(sweep.moves),
            self.refused.eq(self.request.valid & ~self.request.ready),
            self.done.eq(sweep.done),
        ]
        with m.If(sweep.beyond):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(job.index)]
        with m.If(self.done):
            m.d.sync += self.busy.eq(0)
        self._compute(m, job, sweep)
        return m

    def _take(self, m: Module) -> tuple[Any, Signal]:
        """Takes a command while there is none, and checks it. Returns its fields, with its index,
        and a pulse for its start."""
        coming = self.commands.p.command
        fields = {name: field.shape for name, field in data.Layout.cast(self.COMMAND)
                  if name != "header" and not name.startswith("_")}
        job: Any = Signal(data.StructLayout({"index": INDEX_WIDTH, **fields}), reset_less=True)
        with m.If(~self.busy):
            m.d.sync += [job[name].eq(coming[name]) for name in fields]
        return job, accept(m, self, job, self._config, self._impossible(job))
