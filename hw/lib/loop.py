"""Loop nests: counters, and flags from registers that tell which loops are in their last round.

Whoever follows a loop nest goes on from where a loop ends, and cannot wait for a comparison of
counters. :class:`LoopNest` may make a step in every cycle, so it compares a round ahead.
:class:`PacedLoopNest` has three cycles for a step and compares afterwards, which takes about half
the logic and half the registers.
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .checks import require
from .delay import register
from .fanout import assign

__all__ = ["LoopNest", "PacedLoopNest", "loop_flags"]


def _bits(what: str, widths: Mapping[str, int]) -> data.StructLayout:
    for name, width in widths.items():
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise ValueError(f"Width of {what} {name!r} must be a positive integer, not {width!r}")
    return data.StructLayout(widths)


def loop_flags(loops: Mapping[str, int]) -> wiring.Signature:
    """One consumer's private copy of the flags of a :class:`LoopNest`.

    Members
    -------
    step : :py:`Out(1)`
        A step is made in this cycle.
    idle : :py:`Out(1)`
        There is no nest: what the next one starts from is to be loaded.
    last : :py:`Out(StructLayout({name: 1 for each loop}))`
        Which loops are in their last round.
    """
    return wiring.Signature({
        "step": Out(1),
        "idle": Out(1),
        "last": Out(data.StructLayout(dict.fromkeys(loops, 1))),
    })


class _Copy:
    """Registers of one copy of the flags, but for the last round of the outermost loop."""

    def __init__(self, name: str, loops: list[str]):
        def flag(what: str, **options: Any) -> Signal:
            return Signal(name=f"{what}_{name}", attrs={"keep": 1}, **options)

        self.may  = flag("may")  # there is a nest, and room
        self.idle = flag("idle", init=1)
        self.last = {loop: flag(f"last_{loop}", reset_less=True) for loop in loops}

    def turns(self, enable: Value) -> Value:
        """Whether this step begins a round of the outermost loop."""
        return self.may & enable & Cat(self.last.values()).all()


class LoopNest(wiring.Component):
    """Walks a loop nest, with a step in every cycle if wanted.

    The first step, a cycle after ``start`` at the earliest, begins the first round of every loop.
    Each further step ends a round of the innermost loop; a loop whose last round ends begins anew,
    and so ends a round of the loop around it. Two cycles after the last step the next nest may
    start, so there are at least three cycles without a round in between.

    All flags come from registers; ``step`` is a register and ``enable``. Each copy is worked out
    from itself and the counters, so that no register drives many others.

    Parameters
    ----------
    loops : mapping from :class:`str` to :class:`int`
        Loops, from the innermost to the outermost, and the bits of their trip counts. At least 2.
    copies : :class:`int`
        Copies of the flags. At least 1.

    Members
    -------
    start : :py:`In(1)`
        A nest starts. Only while there is none.
    counts : :py:`In(StructLayout(loops))`
        Its trip counts, at least 1: looked at while ``start`` is set.
    ones : :py:`In(StructLayout({name: 1 for each loop but the outermost}))`
        Which of them are 1; an input, as whoever makes the counts may know it in advance.
    room : :py:`In(1)`
        A step may be made in the next cycle.
    enable : :py:`In(1)`
        If a step may be made in this cycle, it is.
    flags : :py:`Out(loop_flags(loops)).array(copies)`
        All equal. The flag of the outermost loop is one register for all of them.
    active : :py:`Out(1)`
        The first round has begun: ``flags`` are those of a round, which ``step`` ends.
    ended : :py:`Out(1)`
        The last round has ended, in the cycle before.

    Raises
    ------
    ValueError
        If there is a single loop, no copy, or a width that is not a positive integer.
    """

    def __init__(self, loops: Mapping[str, int], *, copies: int):
        if len(loops) < 2:
            raise ValueError(f"Loop nest must have at least 2 loops, not {dict(loops)!r}")
        if not isinstance(copies, int) or isinstance(copies, bool) or copies < 1:
            raise ValueError(f"Copies of flags must be a positive integer, not {copies!r}")
        counts = _bits("loop", loops)
        *self._inner, self._outermost = loops
        super().__init__({
            "start":  In(1),
            "counts": In(counts),
            "ones":   In(data.StructLayout(dict.fromkeys(self._inner, 1))),
            "room":   In(1),
            "enable": In(1),
            "flags":  Out(loop_flags(loops)).array(copies),
            "active": Out(1),
            "ended":  Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # Two more copies: for the beginning and the end of the nest, and for the counters.
        control, counting = (_Copy(name, self._inner) for name in ("control", "counting"))
        others = [_Copy(str(number), self._inner) for number in range(len(self.flags))]
        copies = [control, counting, *others]
        last_outermost = Signal(reset_less=True)
        for flags, copy in zip(self.flags, others, strict=True):
            m.d.comb += [
                flags.step.eq(copy.may & self.enable),
                flags.idle.eq(copy.idle),
                flags.last.eq(Cat(*copy.last.values(), last_outermost)),
            ]

        runs   = Signal()  # there is a nest, and it has not ended
        going  = Signal()  # so it is in the next cycle, unless it ends in this one
        ending = Signal()
        m.d.comb += [
            going.eq(self.start | runs),
            ending.eq(control.turns(self.enable) & last_outermost),
        ]
        require(m, ~(self.start & runs), "a loop nest starts while there is none")
        m.d.sync += [
            runs.eq(going & ~ending),
            self.ended.eq(ending),
            *assign((copy.may for copy in copies), (self.room & going) & ~ending),
            *assign((copy.idle for copy in copies), (control.idle & ~self.start) | self.ended),
        ]
        with m.If(control.may & self.enable):
            m.d.sync += self.active.eq(1)
        with m.If(control.idle):
            m.d.sync += self.active.eq(0)

        single, two = self._elaborate_counters(m, counting, last_outermost)
        # While there is no nest all loops but the outermost are in their last round, so that the
        # first step begins each of them anew.
        for copy in copies:
            step = copy.may & self.enable
            for name, last in copy.last.items():
                with m.If(step):
                    m.d.sync += last.eq(Mux(last, single[name], two[name]))
                with m.If(copy.idle):
                    m.d.sync += last.eq(1)
                step &= last

        return m

    def _elaborate_counters(self, m: Module, flags: _Copy, last_outermost: Signal) -> \
            tuple[dict[str, Signal], dict[str, Signal]]:
        """The counters, which count down to 1. Returns for each loop but the outermost whether it
        has a single round, and whether two rounds are left."""
        step = flags.may & self.enable
        single, two = ({name: Signal(name=f"{what}_{name}", reset_less=True, attrs={"keep": 1})
                        for name in self._inner} for what in ("single", "two"))
        for name in self._inner:
            # The trip count and what is known of it: near the counters, unlike where it comes from.
            full   = Signal.like(self.counts[name], name=f"full_{name}", reset_less=True,
                                 attrs={"keep": 1})
            double = Signal(name=f"double_{name}", reset_less=True, attrs={"keep": 1})
            left   = Signal.like(self.counts[name], name=f"left_{name}", reset_less=True)
            with m.If(flags.idle):
                m.d.sync += [
                    full.eq(self.counts[name]),
                    single[name].eq(self.ones[name]),
                    double.eq(self.counts[name] == 2),
                ]
            with m.If(step):
                m.d.sync += [left.eq(left - 1), two[name].eq(left == 3)]
                with m.If(flags.last[name]):
                    m.d.sync += [left.eq(full), two[name].eq(double)]
            step &= flags.last[name]

        # Of the outermost loop, the rounds that have not begun. It turns seldom, so there is time
        # to compare.
        count = self.counts[self._outermost]
        ahead = Signal.like(count, name="ahead", reset_less=True)
        with m.If(step):
            m.d.sync += [ahead.eq(ahead - 1), last_outermost.eq(ahead == 1)]
        with m.If(flags.idle):
            m.d.sync += [ahead.eq(count), last_outermost.eq(0)]
        return single, two


class PacedLoopNest(wiring.Component):
    """Walks a loop nest, with a step in every third cycle at most.

    Unlike :class:`LoopNest` it leaves to its user when a nest begins and ends. After
    the last step it begins anew. All outputs are registers.

    Parameters
    ----------
    loops : mapping from :class:`str` to :class:`int`
        Loops, from the innermost to the outermost, and the bits of their counts.
    strides : mapping from :class:`str` to :class:`int`, optional
        Loops whose rounds take more than 1 of their count, as those over tiles do, and the bits of
        how much.

    Members
    -------
    start : :py:`In(1)`
        All loops are to be in their first round in the next cycle.
    step : :py:`In(1)`
        The innermost loop goes on to its next round, and so does each loop outside of loops that
        are all in their last round. At least three cycles after ``start`` or another step.
    counts : :py:`In(StructLayout(loops))`
        Trip counts, at least 1; of a loop with a stride, what its rounds share. Constant while
        the nest is walked.
    strides : :py:`In(StructLayout(strides))`
        What each round takes of the count, at least 1; the last round takes the rest. Constant like
        ``counts``.
    left : :py:`Out(StructLayout(loops))`
        What is left of the counts, this round included: from the first
        cycle after ``start`` or a step on.
    last : :py:`Out(StructLayout({name: 1 for each loop}))`
        Which loops are in their last round: from the second cycle on.
    ends : :py:`Out(StructLayout({name: 1 for each loop}))`
        Which loops end with the next step: they and all loops inside are in their last round.
        From the third cycle on.

    Raises
    ------
    ValueError
        If there is no loop, a stride of none of them, or a width that is not a positive integer.
    """

    def __init__(self, loops: Mapping[str, int], *, strides: Mapping[str, int] | None = None):
        strides = strides or {}
        if not loops:
            raise ValueError(f"Loop nest must have at least 1 loop, not {dict(loops)!r}")
        if unknown := [name for name in strides if name not in loops]:
            raise ValueError(
                f"Stride must be of one of the loops {list(loops)}, not {unknown[0]!r}")
        counts, steps = _bits("loop", loops), _bits("stride", strides)
        flags = data.StructLayout(dict.fromkeys(loops, 1))
        self._strides = strides
        super().__init__({
            "start":   In(1),
            "step":    In(1),
            "counts":  In(counts),
            "strides": In(steps),
            "left":    Out(counts),
            "last":    Out(flags),
            "ends":    Out(flags),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        step = self.step
        lasts: list[Value] = []
        for name, _field in self.counts.shape():
            count = self.counts[name]
            left  = Signal.like(count, name=f"left_{name}", reset_less=True)
            if name in self._strides:
                # "Not less" needs no comparison for equality.
                stride = self.strides[name]
                bits   = len(stride)
                is_last = ~(left[bits:].any() | (stride < left[:bits]))
            else:
                stride, is_last = 1, left == 1
            lasts.append(register(m, is_last, f"last_{name}"))
            ends = register(m, Cat(lasts).all(), f"ends_{name}")
            with m.If(self.start):
                m.d.sync += left.eq(count)
            with m.Elif(step):
                m.d.sync += left.eq(left - stride)
                with m.If(ends):
                    m.d.sync += left.eq(count)
            m.d.comb += [
                self.left[name].eq(left),
                self.last[name].eq(lasts[-1]),
                self.ends[name].eq(ends),
            ]
            step = self.step & ends

        return m
