"""The words of rows, in the order in which they are needed."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay
from weft.hw.memory.activation import ActivationMemory

from .walk import PLACES, ROWS, BatchWalk, batch_rows

__all__ = ["GROUPS", "RowReader", "unit_of", "word_use"]


GROUPS = 4
"""Groups of words that may wait: those of a channel block of a batch of rows."""


def word_use(config: AcceleratorConfig) -> data.StructLayout:
    """What a word is read for."""
    return data.StructLayout({
        "row":   range(ROWS),
        # Whose row it is, if there are several.
        **({"unit": range(config.row_units)} if config.row_units > 1 else {}),
        "group": range(GROUPS),     # its place among those that wait
        "ahead": 1,                 # for the pass of words; otherwise it is one of a group
        "first": 1,                 # of its row
        "tail":  1,                 # the last one of its row
        "ends":  1,                 # the last one of its group
    })


def unit_of(config: AcceleratorConfig, use: Any) -> Value:
    """The unit whose row a word is read for."""
    return use.unit if config.row_units > 1 else C(0)


class RowReader(wiring.Component):
    """Reads the words of each batch as often as there are passes.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    passes : :class:`int`
        Passes over groups, at least 1.
    ahead : :class:`bool`
        There is one more before them, over words alone.

    Members
    -------
    start, base, plane, pixels, blocks
        See :data:`PLACES`.
    group_ends : :py:`In(1)`
        All of a group was used.
    batch_ends : :py:`In(1)`
        And it was the last one of its batch: those of the next one may be read.
    request : :py:`Out(stream.Signature(24))`
    use : :py:`Out(word_use(config))`
    here : :py:`Out(1)`
        The word of a request is there, for ``use``.
    beyond : :py:`Out(1)`
        A word would be outside the memory: nothing is read any more.
    """

    def __init__(self, config: AcceleratorConfig, *, passes: int, ahead: bool):
        self._config = config
        self._ahead  = ahead
        self._passes = passes + ahead
        super().__init__({
            **PLACES,
            "group_ends": In(1),
            "batch_ends": In(1),
            "request":    Out(stream.Signature(24)),
            "use":        Out(word_use(config)),
            "here":       Out(1),
            "beyond":     Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.walk = walk = BatchWalk(batch_rows(self._config))
        m.d.comb += [getattr(walk, name).eq(getattr(self, name)) for name in PLACES]
        offered: Any = Signal(word_use(self._config), reset_less=True)
        units = [offered.unit] if self._config.row_units > 1 else []
        more, valid, taken, goes = Signal(), Signal(), Signal(), Signal()
        number  = Signal(range(self._passes), reset_less=True)  # of the pass
        first   = Signal(reset_less=True)       # of the row
        another = Signal(reset_less=True)       # batch behind this one
        group   = Signal(range(GROUPS))
        waiting = Signal(range(GROUPS + 1))     # groups that are read, and not all used

        ahead     = (number == 0) & self._ahead
        last_pass = number == self._passes - 1
        begins    = ~ahead & (walk.row == 0)
        legal     = walk.address < self._config.activation_depth
        m.d.comb += [
            taken.eq(valid & self.request.ready),
            goes.eq(more & (~valid | taken) & (~begins | (waiting != GROUPS))),
            walk.step.eq(goes),
            walk.again.eq(~last_pass),
            self.beyond.eq(goes & ~legal),
            self.request.valid.eq(valid),
        ]
        m.d.sync += valid.eq((goes & legal) | (valid & ~taken))
        m.d.sync += waiting.eq(waiting + (goes & begins) - self.group_ends)
        require(m, (waiting != 0) | ~self.group_ends, "a group that is used was read")
        require(m, ~self.batch_ends | ~(more | valid), "a batch ends when all of it was read")
        require(m, ~self.start | ~(more | waiting.any()), "a command begins when none is read")

        with m.If(goes):
            m.d.sync += [
                self.request.payload.eq(walk.address),
                Cat(offered.row, *units).eq(walk.row),
                offered.group.eq(group),
                offered.ahead.eq(ahead),
                offered.first.eq(first),
                offered.tail.eq(walk.tail),
                offered.ends.eq(walk.ends),
            ]
            with m.If(walk.ends):
                m.d.sync += [first.eq(walk.tail), group.eq(group + ~ahead)]
            with m.If(walk.ends & walk.tail):
                m.d.sync += number.eq(number + 1)
                with m.If(last_pass):
                    m.d.sync += [more.eq(0), another.eq(~walk.final)]
        with m.If(self.beyond):
            m.d.sync += more.eq(0)

        with m.If(self.batch_ends):
            m.d.sync += [number.eq(0), more.eq(another)]
        with m.If(self.start):
            m.d.sync += [number.eq(0), first.eq(1), more.eq(1)]
        self._follow(m, offered, taken)
        return m

    def _follow(self, m: Module, offered: Any, taken: Signal) -> None:
        """Tells what a word is for when it comes."""
        m.d.comb += [
            self.here.eq(delay(m, taken, ActivationMemory.LATENCY, name="here")),
            Value.cast(self.use).eq(delay(m, Value.cast(offered), ActivationMemory.LATENCY,
                                          name="use", reset_less=True)),
        ]
