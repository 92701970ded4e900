"""The timeline of a run, against the rules of the trace format and the figures of the run."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from models import QdqBuilder

from weft import cli
from weft.digits import MODEL
from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS
from weft.report.timeline import live_spans, slices, trace_events
from weft.runtime.device import Event, EventKind
from weft.runtime.runner import random_frames
from weft.runtime.segment import layer_results
from weft.runtime.session import InferenceSession


@pytest.fixture(scope="module")
def frames():
    """Three frames of the digits network on the RTL; the last two find their weights on chip."""
    with InferenceSession(MODEL, config="base") as session:
        inputs = random_frames(session, 3)
        return [session.run_frame({name: values[index:index + 1]
                                   for name, values in inputs.items()}) for index in range(3)]


@pytest.fixture(scope="module")
def split_frame():
    """A frame of a model that is accelerated in two parts, with the host between them."""
    b = QdqBuilder(np.random.default_rng(3))
    x = b.quantize(b.conv(b.input("x", (1, 4, 6, 6)), 4, 4, (3, 3), name="before"))
    x = b.quantize(b.node("Softmax", [x], axis=1))
    b.output(b.quantize(b.conv(x, 4, 8, (1, 1), name="after")))
    with InferenceSession(b.build(), config="tiny") as session:
        return session.run_frame(random_frames(session, 1))


def by_phase(trace, phase):
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def assert_is_trace(trace):
    """The rules for the JSON object form with events of the phases X, C and M."""
    assert json.loads(json.dumps(trace, allow_nan=False)) == trace
    assert trace["displayTimeUnit"] in ("ms", "ns")
    for event in trace["traceEvents"]:
        assert set(event) >= {"name", "ph", "ts", "pid", "tid", "args"}
        assert event["ph"] in ("X", "C", "M")
        assert isinstance(event["name"], str) and isinstance(event["args"], dict)
        assert all(isinstance(event[key], int) and event[key] >= 0 for key in ("ts", "pid", "tid"))
        if event["ph"] == "X":
            assert isinstance(event["dur"], int) and event["dur"] >= 0
        if event["ph"] == "C":
            assert event["args"] and all(isinstance(value, int) and value >= 0
                                         for value in event["args"].values())
    assert {event["name"] for event in by_phase(trace, "M")} \
        == {"process_name", "thread_name", "thread_sort_index"}
    named = {(event["pid"], event["tid"]) for event in by_phase(trace, "M")
             if event["name"] == "thread_name"}
    tracks = {}
    for event in by_phase(trace, "X"):
        tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    assert tracks.keys() == named
    for events in tracks.values():  # slices of a track may nest, but not cross; ours do neither
        events.sort(key=lambda event: (event["ts"], event["dur"]))
        for before, after in pairwise(events):
            assert before["ts"] + before["dur"] <= after["ts"]


def test_trace_follows_the_rules_of_its_format(frames):
    assert_is_trace(trace_events(frames, model="digits"))


def test_every_command_of_every_frame_is_there_once(frames):
    trace = trace_events(frames, model="digits")
    program = frames[0].executions[0].program
    found = {}
    for event in by_phase(trace, "X"):
        found.setdefault(event["args"]["frame"], []).append(event["args"]["command"])
    assert [sorted(found[frame]) for frame in range(3)] == [
        list(range(len(program.infos))), *[list(range(len(program.warm_infos)))] * 2]
    names = {event["name"] for event in by_phase(trace, "X") if event["cat"] == "matrix"}
    assert names == {"conv1", "conv2", "conv3", "fc"}


def test_frames_follow_each_other(frames):
    trace = trace_events(frames, model="digits")
    start = 0
    for number, frame in enumerate(frames):
        for event in by_phase(trace, "X"):
            if event["args"]["frame"] == number:
                assert start <= event["ts"] <= event["ts"] + event["dur"] <= start + frame.cycles
        start += frame.cycles
    assert trace["otherData"]["cycles"] == start


def test_slices_are_as_long_as_the_counters_say(frames):
    execution = frames[-1].executions[0]
    store = [each for each in slices(execution) if each.engine.name == "STORE"]
    without = sum(execution.counters[f"store_{cause}"] for cause in ("semaphore", "fetch", "idle"))
    assert sum(each.end - each.start for each in store) \
        == pytest.approx(execution.cycles - without, abs=4)


def test_cycles_of_a_layer_count_once_where_its_commands_overlap(frames):
    execution = frames[-1].executions[0]
    events = [Event(engine=info.engine, kind=kind, index=index, cycle=7 * index + 20 * late)
              for index, info in enumerate(execution.infos)
              for late, kind in enumerate((EventKind.START, EventKind.DONE))]
    made_up = replace(execution, events=events)
    assert {each.lane for each in slices(made_up)} > {0}
    layers = execution.program.layers
    covered = [{cycle for index, info in enumerate(execution.infos)
                if info.layer == number and info.engine is layer.engine
                for cycle in range(7 * index, 7 * index + 20)}
               for number, layer in enumerate(layers)]
    spans = {each.command: (each.start, each.end) for each in slices(made_up)
             if each.engine in (Engine.MATRIX, Engine.VECTOR)}
    results = layer_results(execution.program, spans, execution.cycles, warm=execution.warm)
    assert [layer.engine_cycles for layer in results] == [len(cycles) for cycles in covered]


def test_memory_in_use_starts_and_ends_at_zero_and_fits(frames):
    execution = frames[-1].executions[0]
    words = [event["args"]["words"] for event
             in by_phase(trace_events(frames[-1:], model="digits"), "C")]
    assert words[-1] == 0
    assert 0 < max(words) <= PRESETS["base"].activation_depth
    assert len(live_spans(execution)) == len(execution.residents) == 5
    assert all(0 < start < end <= execution.cycles for _, start, end in live_spans(execution))


def test_each_part_of_a_model_is_a_process(split_frame):
    assert len(split_frame.executions) == 2
    trace = trace_events([split_frame], model="split")
    assert_is_trace(trace)
    assert [event["args"]["name"] for event in by_phase(trace, "M")
            if event["name"] == "process_name"] == ["split, part 1 of 2", "split, part 2 of 2"]
    first = split_frame.executions[0].cycles
    assert all((event["ts"] >= first) == (event["pid"] == 2) for event in by_phase(trace, "X"))
    assert trace["otherData"]["cycles"] == split_frame.cycles


# weft run --timeline --------------------------------------------------------------------------

@pytest.mark.parametrize("options, frames", [((), 1), (("--timeline-frames", "all"), 3)])
def test_run_writes_a_timeline(options, frames, tmp_path):
    path = tmp_path / "timeline.json"
    assert cli.main(["run", str(MODEL), "--random", "3", "--timeline", str(path), *options]) == 0
    trace = json.loads(path.read_text())
    assert_is_trace(trace)
    assert len({event["args"]["frame"] for event in by_phase(trace, "X")}) == frames
    assert trace["otherData"]["model"] == MODEL.name


@pytest.mark.parametrize("options, message", [
    (["--device", "functional", "--timeline", "{folder}/t.json"],
     "A timeline (--timeline) needs --device verilator, not functional"),
    (["--timeline-frames", "all"], "Option --timeline-frames needs --timeline"),
    (["--timeline", "{folder}/none/t.json"],
     "Output {folder}/none/t.json cannot be written: there is no folder {folder}/none")])
def test_run_refuses(options, message, tmp_path, capsys):
    options = [option.format(folder=tmp_path) for option in options]
    assert cli.main(["run", str(MODEL), *options]) == 2
    assert capsys.readouterr().err \
        == f"weft: error: {message.format(folder=tmp_path)}\n"
    assert list(tmp_path.iterdir()) == []
