"""Checks that the hardware makes of itself: compiled into simulations, absent from what is built.

Amaranth's simulator stops at a check that fails, and so does Verilator's, see
:func:`weft.hw.verilog.to_verilog`. While checks are off, which is the default, none of these
functions adds a gate.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from amaranth.hdl import Assert, Elaboratable, Fragment, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Flow, In, Out

from .queue import Queue
from .stream_slice import StreamSlice

__all__ = ["are_on", "checking", "require", "watched"]


_on: ContextVar[bool] = ContextVar("checks", default=False)


@contextmanager
def checking(on: bool = True) -> Iterator[None]:
    """What is elaborated inside has its checks, or with ``on`` false none."""
    token = _on.set(on)
    try:
        yield
    finally:
        _on.reset(token)


def are_on() -> bool:
    """Whether checks are elaborated now: registers that only a check looks at hang on it."""
    return _on.get()


def require(m: Module, condition: Any, rule: str) -> None:
    """Checks ``condition`` in every cycle; inside ``m.If`` in those in which it is reached.

    Parameters
    ----------
    m : :class:`Module`
    condition : value
        What must not be zero. In a component that is reset, registers alone or what hangs on them.
    rule : :class:`str`
        What is true then, as a sentence without a full stop.
    """
    if _on.get():
        m.d.sync += Assert(condition, rule)


class _Watched(Elaboratable):
    def __init__(self, component: Elaboratable):
        self._component = component

    def elaborate(self, platform: Any) -> Fragment:
        fragment = Fragment.get(self._component, platform)
        _watch(fragment, platform, outside=True)
        return fragment


def watched(component: Any) -> Any:
    """``component``, with checks of the stream rules at its outputs and at those of all components
    inside: while a payload waits, neither it nor ``valid`` changes. Of slices and queues, whose
    outputs keep the rules if their inputs do, the inputs are looked at. Goes inside a
    ``ResetInserter``, so that the checks are reset with what they look at."""
    return _Watched(component) if _on.get() else component


def _watch(fragment: Any, platform: Any, *, outside: bool) -> None:
    for inner, _name, _source in list(fragment.subfragments):
        if not any(isinstance(origin, _Watched) for origin in inner.origins or ()):
            _watch(inner, platform, outside=False)
    for origin in fragment.origins or ():
        if isinstance(origin, wiring.Component):
            stores = isinstance(origin, StreamSlice | Queue) and not outside
            for path, port in _streams(origin.signature, origin, In if stores else Out):
                fragment.add_subfragment(Fragment.get(_stream_rules(path, port), platform),
                                         f"rules_of_{path}")


def _streams(signature: Any, interface: Any, flow: Flow) -> Iterator[tuple[str, Any]]:
    """The stream ports in one direction of an interface that may be refused."""
    for name, member in signature.members.items():
        if not member.is_signature or member.flow != flow \
                or not isinstance(member.signature, stream.Signature) \
                or member.signature.always_ready:
            continue
        for index, port in _elements(getattr(interface, name), member.dimensions):
            yield "_".join([name, *index]), port


def _elements(port: Any, dimensions: tuple[int, ...]) -> Iterator[tuple[list[str], Any]]:
    if not dimensions:
        yield [], port
        return
    for number in range(dimensions[0]):
        for index, element in _elements(port[number], dimensions[1:]):
            yield [str(number), *index], element


def _stream_rules(name: str, port: Any) -> Module:
    m = Module()
    payload = Value.cast(port.payload)
    waiting = Signal()  # a payload was refused in the cycle before
    refused = Signal(len(payload), reset_less=True)
    m.d.sync += waiting.eq(port.valid & ~port.ready)
    with m.If(port.valid & ~port.ready):
        m.d.sync += refused.eq(payload)
    with m.If(waiting):
        require(m, port.valid, f"{name}.valid stays until the transfer")
        require(m, payload == refused, f"{name}.payload stays until the transfer")
    return m
