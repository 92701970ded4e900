"""What the control port and a core tell each other, and what a core tells a logic analyser."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.commands import Engine
from weft.hw.isa.fault import INDEX_WIDTH, Fault
from weft.hw.lib.cycle_accounting import COUNT_LAYOUT

__all__ = ["CommandEvents", "CoreControl"]


class CoreControl(wiring.Signature):
    """Control of a core and its state, seen from the control port.

    Parameters
    ----------
    faults : :class:`int`
        Sources of faults in the core, at least 1.

    Members
    -------
    reset : :py:`Out(1)`
        Pulse: everything in the core is reset, at the latest in the cycle after.
    start : :py:`Out(1)`
        Pulse: begin a command stream. ``completed`` must be zero from the next cycle.
    address : :py:`Out(64)`
        Address of the command stream, valid with ``start``.
    count : :py:`Out(32)`
        Commands in the stream, valid with ``start``. The core checks it.
    halt : :py:`Out(1)`
        Start nothing more.
    faults : :py:`In(Fault).array(faults)`
        A ``code`` other than zero stops the device, busy or not.
    completed : :py:`In(32)`
        Commands completed since ``start``.
    idle : :py:`In(1)`
        Nothing is being done.
    quiet : :py:`In(1)`
        No memory transaction is in flight.
    progress : :py:`In(1)`
        Something moved in this cycle.
    oldest : :py:`In(16)`
        Index of the oldest command that is not done: the one to report when nothing moves.
    count_up : :py:`In(COUNT_LAYOUT)`
        Performance counters that count this cycle, see
        :data:`~weft.hw.lib.cycle_accounting.COUNT_LAYOUT`.

    Raises
    ------
    ValueError
        If the number of faults is not a positive integer.
    """

    def __init__(self, *, faults: int):
        if not isinstance(faults, int) or isinstance(faults, bool) or faults < 1:
            raise ValueError(f"Faults must be a positive integer, not {faults!r}")
        super().__init__({
            "reset":     Out(1),
            "start":     Out(1),
            "address":   Out(64),
            "count":     Out(32),
            "halt":      Out(1),
            "faults":    In(Fault).array(faults),
            "completed": In(32),
            "idle":      In(1),
            "quiet":     In(1),
            "progress":  In(1),
            "oldest":    In(INDEX_WIDTH),
            "count_up":  In(COUNT_LAYOUT),
        })


class CommandEvents(wiring.Signature):
    """Start and end of each command, for simulators and logic analysers; seen from the core.

    Members
    -------
    start, done : :py:`Out(4)`
        Bit for each :class:`Engine`: it takes, or finishes, a command in this cycle.
    start_index, done_index : :py:`Out(data.ArrayLayout(16, 4))`
        Index of that command in its stream.
    """

    def __init__(self) -> None:
        indices = data.ArrayLayout(INDEX_WIDTH, len(Engine))
        super().__init__({
            "start":       Out(len(Engine)),
            "done":        Out(len(Engine)),
            "start_index": Out(indices),
            "done_index":  Out(indices),
        })
