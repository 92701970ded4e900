"""Proofs about hardware: an Amaranth design with assertions is checked for every input there is.

:func:`prove` looks at all cycles (by property directed reachability, which finds the inductive
invariant by itself, and then checks it) or at a number of cycles behind the start. Yosys makes an
and-inverter graph of the design, and ABC does the rest; both are in the package `pyosys`.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyosys
from amaranth.asserts import AnySeq
from amaranth.back import rtlil
from amaranth.hdl import Array, Assert, Cat, ClockDomain, Const, Fragment, Module, Signal, Value
from amaranth.lib import wiring

__all__ = ["Refuted", "checked", "follow", "free", "in_order", "inside", "keeps", "prove", "spoil"]


_ABC = Path(pyosys.__file__).parent / "yosys-abc"

# As SymbiYosys does it for the same engine. Memories become registers, and checks at the edge of
# the clock are looked at in the cycle before it, as there is one clock alone.
_PREPARE = """
read_rtlil spec.il
hierarchy -top top
proc
memory_nordff
setparam -set TRG_ENABLE 0 t:$check
chformal -lower
flatten -noscopeinfo
setattr -unset keep w:* t:*
opt_clean -purge
async2sync
chformal -assume -early
formalff -clk2ff -ff2anyinit
setundef -undriven -anyseq
opt -fast
memory_map -formal
opt -fast
formalff -clk2ff -ff2anyinit
write_rtlil flat.il
delete -output
opt -full
techmap
opt -fast
simplemap
dffunmap
aigmap
opt_clean
write_aiger -I -B -zinit -no-startoffset -map spec.aim spec.aig
"""

_TRACE = """
read_rtlil flat.il
sim -clock clk -r trace.aiw -map spec.aim -vcd trace.vcd
"""


_FAILS = re.compile(r"was asserted in frame (\d+)")


class Refuted(AssertionError):
    """A property does not hold. The message tells the cycle, and where the waveform is."""


def prove(spec: Module, *, folder: Path, depth: int | None = None, seconds: int = 900) -> None:
    """Proves every assertion in ``spec``, under its assumptions.

    Parameters
    ----------
    spec : Module
        Specification, with the design in it. Its domain ``sync`` starts with the initial values,
        and there is no reset.
    folder : Path
        Where the files go.
    depth : int, optional
        Cycles to look at. Without, it is all there are.
    seconds : int
        After which to give up.

    Raises
    ------
    Refuted
        If an assertion can fail.
    TimeoutError
        If there is no answer in time.
    """
    top  = Module()
    sync = ClockDomain("sync", reset_less=True)
    top.domains += sync
    top.submodules.spec = spec
    (folder / "spec.il").write_text(rtlil.convert(top, ports=[sync.clk]))
    _yosys(_PREPARE, folder)
    # How many it has: the sixth number.
    if (folder / "spec.aig").read_bytes().split(b"\n", 1)[0].split()[6] == b"0":
        raise ValueError("There is no assertion")
    # All assertions are one property: each may help to prove the others. Signals that are always
    # equal, as those of a model and a design, are found first, by induction; that is all it takes
    # for a property that is inductive.
    engine = "pdr" if depth is None else f"bmc3 -F {depth}"
    report = _abc(f"scleanup; scorr -C 20000; {engine} -T {seconds}; sat", folder)
    if refuted := _FAILS.search(report):
        # The engine may have found a way round; the trace is of the design as it was.
        trace = _abc(f"bmc3 -F {int(refuted[1]) + 1}; write_cex -a trace.aiw", folder)
        _yosys(_TRACE, folder)
        raise Refuted(f"An assertion fails in cycle {_FAILS.search(trace)[1]}: "
                      f"see {folder}/trace.vcd")
    # Where nothing at all is left to prove, the engine does not say so.
    trivial = "UNSATISFIABLE" in report
    proved  = "Property proved" if depth is None else f"No output asserted in {depth} frames"
    if not trivial and proved not in report:
        raise TimeoutError(f"Neither proved nor refuted:\n{report}")


def free(m: Module, component: wiring.Component, *, but: Iterable[Any] = ()) -> None:
    """Gives the inputs of a component any value in every cycle, but those in ``but``, which the
    specification drives."""
    driven = {id(Value.cast(port)) for port in but}
    for _, member, port in component.signature.flatten(component):
        value = Value.cast(port)
        given = id(value) in driven or isinstance(value, Const)  # the ready of some streams
        if member.flow is wiring.In and not given:
            m.d.comb += value.eq(AnySeq(len(value)))


def inside(m: Module, component: wiring.Component, name: str = "dut") -> Any:
    """Adds a component to the specification, and gives its own signals by their names: an
    assertion about these often helps to prove another, and does no harm."""
    fragment = Fragment.get(component, None)
    m.submodules[name] = fragment
    return _signals(fragment)


def _signals(fragment: Fragment) -> SimpleNamespace:
    signals = {signal.name: signal for statements in fragment.statements.values()
               for statement in statements for signal in statement._lhs_signals()}
    parts   = {name: _signals(part) for part, name, _ in fragment.subfragments if name}
    return SimpleNamespace(**(parts | signals))


def checked(kind: type[wiring.Component]) -> type[wiring.Component]:
    """A kind of queue or slice that must be ready whenever it is given something: for places where
    ``ready`` is not looked at."""
    class Checked(kind):
        def elaborate(self, platform: Any) -> Module:
            m = super().elaborate(platform)
            m.d.comb += Assert(~self.i.valid | self.i.ready)
            return m

    return Checked


def in_order(m: Module, i: Any, o: Any, capacity: int) -> Signal:
    """Asserts that what comes out of a stream is what went in: a payload picked at any time is
    followed on its way. Never more than ``capacity`` are held. Returns how many are."""
    put, take = i.valid & i.ready, o.valid & o.ready
    level   = Signal(range(capacity + 2))
    picked  = Signal()
    payload = Signal(Value.cast(i.payload).shape())
    ahead   = Signal.like(level)  # of the one that was picked
    m.d.sync += level.eq(level + put - take)
    with m.If(picked & take):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += picked.eq(0)
            m.d.comb += Assert(Value.cast(o.payload) == payload)
    with m.If(~picked & put & AnySeq(1)):
        m.d.sync += [picked.eq(1), payload.eq(i.payload), ahead.eq(level - take)]
    m.d.comb += [Assert(level <= capacity), Assert(~(take & (level == 0)))]
    return level


def follow(m: Module, starts: Value, what: Value, ends: Value,
           depth: int) -> tuple[Array, Signal]:
    """What is known of each thing under way, oldest first, and how many things there are: never
    more than ``depth``, which is asserted."""
    known   = Array(Signal.like(what, name=f"known_{number}") for number in range(depth + 1))
    count   = Signal(range(depth + 2))
    m.d.sync += count.eq(count + starts - ends)
    with m.If(ends):
        m.d.sync += [known[number].eq(known[number + 1]) for number in range(depth)]
    with m.If(starts):
        m.d.sync += known[(count - ends)[:len(count)]].eq(what)
    m.d.comb += Assert(count <= depth)
    return known, count


def spoil(component: wiring.Component, change: Callable[[Module], None]) -> Any:
    """The component with an error: ``change`` adds statements, of which the last one counts."""
    elaborate = component.elaborate

    def broken(platform: Any) -> Module:
        m = elaborate(platform)
        change(m)
        return m

    component.elaborate = broken
    return component


def keeps(m: Module, valid: Value, ready: Value, *payload: Any) -> Value:
    """Whether a stream obeys its rule in this cycle: what was offered and not taken still is."""
    bits   = Cat(valid, *(Value.cast(part) for part in payload))
    before = Signal.like(bits)
    offers = Signal()
    m.d.sync += [before.eq(bits), offers.eq(valid & ~ready)]
    return ~offers | (bits == before)


def _yosys(script: str, folder: Path) -> None:
    # A process of its own: an error ends it.
    (folder / "script.ys").write_text(script)
    run = "from pyosys.libyosys import run_pass; run_pass('script script.ys')"
    _run([sys.executable, "-c", run], folder)


def _abc(commands: str, folder: Path) -> str:
    return _run([_ABC, "-c", f"read_aiger spec.aig; fold -s; strash; orpos; {commands}"], folder)


def _run(command: list[Any], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
