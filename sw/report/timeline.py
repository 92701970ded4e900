"""What every engine did in every cycle, as a trace for Perfetto and ``chrome://tracing``.

The format is the JSON object form of the Trace Event Format: a complete event (``X``) for each
command, counters (``C``) and names (``M``). A clock cycle is a microsecond there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from weft.compiler import Resident
from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import Engine
from weft.runtime.device import EventKind
from weft.runtime.segment import Execution, Figures

__all__ = ["Slice", "slices", "live_spans", "trace_events"]


_LANES = Dispatcher.IN_FLIGHT + 1  # tracks that an engine may have


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The time that a command spent in its engine.

    Attributes
    ----------
    engine : :class:`weft.hw.isa.commands.Engine`
    lane : :class:`int`
        An engine may take up a command while it finishes the one before. Slices of one engine and
        lane do not overlap; lane 0 is the first.
    start, end : :class:`int`
        Cycles since the doorbell.
    command : :class:`int`
        Its index in the stream.
    layer : :class:`str`
        Name of its layer, or an empty one.
    """

    engine: Engine
    lane: int
    start: int
    end: int
    command: int
    layer: str


def slices(execution: Execution) -> list[Slice]:
    """Every command of an execution, engine by engine, in the order of their starts."""
    starts = {event.index: event for event in execution.events if event.kind == EventKind.START}
    ends = {event.index: event.cycle for event in execution.events
            if event.kind == EventKind.DONE}
    result = []
    for engine in Engine:
        free: list[int] = []  # from when on each lane is free
        for index, event in starts.items():
            if event.engine is not engine:
                continue
            end = ends.get(index, execution.cycles)
            lane = next((lane for lane, since in enumerate(free) if since <= event.cycle),
                        len(free))
            free[lane:lane + 1] = [end]
            layer = execution.infos[index].layer
            result.append(Slice(
                engine=engine, lane=lane, start=event.cycle, end=end, command=index,
                layer="" if layer is None else execution.program.layers[layer].name))
    return result


def live_spans(execution: Execution) -> list[tuple[Resident, int, int]]:
    """Buffers of the activation memory, and from which cycle to which each of them is in use: from
    the start of its first command to the end of its last one."""
    begins = {each.command: each for each in slices(execution)}
    return [(resident, begins[resident.first].start,
             max(begins[index].end for index in (resident.first, resident.last)))
            for resident in execution.residents if resident.first in begins
            and resident.last in begins]


def trace_events(frames: Sequence[Figures], *, model: str) -> dict[str, Any]:
    """The trace of some frames or batches, one after the other; ready to be written as JSON.

    Each accelerated graph is a process, with a track for each engine; an engine that works on two
    commands at a time has a second track. What the host does between graphs takes no time.

    Parameters
    ----------
    frames : list of :class:`weft.runtime.segment.Figures`
        At least one.
    model : :class:`str`
        Name of the model.
    """
    events: list[dict[str, Any]] = []
    tracks: set[tuple[int, Engine, int]] = set()
    names: dict[int, str] = {}
    now = 0
    for number, frame in enumerate(frames):
        for process, execution in enumerate(frame.executions, 1):
            names[process] = model if len(frame.executions) == 1 else \
                f"{model}, part {process} of {len(frame.executions)}"
            for each in slices(execution):
                tracks.add((process, each.engine, each.lane))
                events.append(_complete(each, execution, process, now, number))
            events += _memory_in_use(execution, process, now)
            now += execution.cycles
    config = frames[0].executions[0].program.config
    return {
        "traceEvents": [*_metadata(names, tracks), *events],
        "displayTimeUnit": "ns",
        "otherData": {"model": model, "config": config.to_dict(), "cycles": now,
                      "time": "1 us is one clock cycle"},
    }


def _complete(each: Slice, execution: Execution, process: int, now: int,
              frame: int) -> dict[str, Any]:
    info = execution.infos[each.command]
    return {
        "name": each.layer or info.text, "cat": each.engine.name.lower(), "ph": "X",
        "ts": now + each.start, "dur": each.end - each.start,
        "pid": process, "tid": _track(each.engine, each.lane),
        "args": {"command": each.command, "text": info.text, "frame": frame,
                 "reads": _spans(info.reads), "writes": _spans(info.writes)},
    }


def _spans(spans: Iterable[tuple[str, int, int]]) -> list[str]:
    return [f"{space} {start}..{stop - 1}" for space, start, stop in spans]


def _memory_in_use(execution: Execution, process: int, now: int) -> Iterator[dict[str, Any]]:
    """The sum of the buffers in use, at every cycle at which it changes."""
    changes: dict[int, int] = {0: 0, execution.cycles: 0}
    for resident, start, end in live_spans(execution):
        changes[start] = changes.get(start, 0) + resident.words
        changes[end] = changes.get(end, 0) - resident.words
    cycles = sorted(changes)
    for cycle, words in zip(cycles, accumulate(changes[cycle] for cycle in cycles), strict=True):
        yield {"name": "activation words in use", "ph": "C", "ts": now + cycle, "pid": process,
               "tid": 0, "args": {"words": words}}


def _track(engine: Engine, lane: int) -> int:
    return 1 + _LANES * engine.value + lane


def _metadata(processes: dict[int, str], tracks: Iterable[tuple[int, Engine, int]]) \
        -> Iterator[dict[str, Any]]:
    def item(kind: str, process: int, track: int, **args: Any) -> dict[str, Any]:
        return {"name": kind, "ph": "M", "ts": 0, "pid": process, "tid": track, "args": args}

    for process, name in processes.items():
        yield item("process_name", process, 0, name=name)
    for process, engine, lane in sorted(tracks, key=lambda track: (track[0], track[1].value,
                                                                   track[2])):
        name = engine.name.lower() + (f" ({lane + 1})" if lane else "")
        yield item("thread_name", process, _track(engine, lane), name=name)
        yield item("thread_sort_index", process, _track(engine, lane),
                   sort_index=_track(engine, lane))
