"""What a trace of a simulation holds, in both formats, and what can go wrong with one."""

import sys

import numpy as np
import pylibfst
import pytest
from copier_bench import Bench, build_copier

from weft.errors import InputError, ToolError
from weft.sim import simulator as simulator_module
from weft.sim.trace import TraceFormat, fst_end_time


@pytest.fixture(scope="module")
def recorder():
    return build_copier(trace=True)


def record(recorder, path):
    """Records a copy; gives the cycles in which the file starts and ends."""
    bench = Bench(recorder, beats=4)
    bench.simulator.trace_start(path)
    first = bench.simulator.cycle
    bench.run()
    last = bench.simulator.cycle
    bench.simulator.trace_stop()
    bench.simulator.run(10)  # after the end
    return bench, first, last


@pytest.mark.slow
def test_vcd_trace_records_every_cycle(recorder, tmp_path):
    path = tmp_path / "copy.vcd"
    _, first, last = record(recorder, path)
    lines = path.read_text().splitlines()
    assert any("m_axi_araddr" in line for line in lines)
    times = [int(line[1:]) for line in lines if line.startswith("#")]
    assert times == list(range(2 * first, 2 * last))


@pytest.mark.slow
def test_fst_trace_holds_the_clock_and_the_ports(recorder, tmp_path):
    path = tmp_path / "copy.fst"
    bench, first, last = record(recorder, path)
    changes = read_fst(path)
    assert changes["TOP.clk"] == [(time, str(time % 2)) for time in range(2 * first, 2 * last)]
    # The sample of a cycle is what its first half ends with.
    valid, ready, address = (
        np.array([int(value_at(changes[f"TOP.m_axi_{name}"], 2 * cycle), 2)
                  for cycle in range(first, last)])
        for name in ("arvalid", "arready", "araddr [31:0]"))
    half = len(bench.data) // 2
    assert list(address[(valid & ready) == 1]) == [bench.source, bench.source + half]
    strobes = changes["TOP.m_axi_wstrb [7:0]"]
    assert {len(value) for _, value in strobes} == {8}


@pytest.mark.slow
def test_both_trace_formats_hold_the_same(recorder, tmp_path):
    record(recorder, tmp_path / "copy.vcd")
    record(recorder, tmp_path / "copy.fst")
    names: dict[str, str] = {}
    changes: dict[str, list[tuple[int, str]]] = {}
    scopes, time = [], 0
    for line in (tmp_path / "copy.vcd").read_text().splitlines():
        match line.split():
            case ["$scope", _, name, _]:
                scopes.append(name)
            case ["$upscope", _]:
                scopes.pop()
            case ["$var", _, _, code, *name, _]:
                names[".".join([*scopes, " ".join(name)])] = code
            case [word] if word[0] == "#":
                time = int(word[1:])
            case [word] if word[0] in "01":
                changes.setdefault(word[1:], []).append((time, word[0]))
            case [word, code] if word[0] == "b":
                changes.setdefault(code, []).append((time, word[1:]))
    assert len(names) > 100
    assert read_fst(tmp_path / "copy.fst") == {
        name: changes[code] for name, code in names.items()}


def read_fst(path):
    """All changes of each signal: (time, bits as text)."""
    fst = pylibfst.lib.fstReaderOpen(str(path).encode())
    try:
        _, signals = pylibfst.get_scopes_signals2(fst)
        changes: dict[int, list[tuple[int, str]]] = {}
        pylibfst.lib.fstReaderSetFacProcessMaskAll(fst)
        pylibfst.fstReaderIterBlocks(fst, lambda data, time, handle, value: changes.setdefault(
            handle, []).append((time, pylibfst.string(value))))
        return {name: changes[signal.handle] for name, signal in signals.by_name.items()}
    finally:
        pylibfst.lib.fstReaderClose(fst)


def value_at(changes, time):
    return [value for when, value in changes if when <= time][-1]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["vcd", "fst"])
def test_trace_in_a_missing_folder_is_named(recorder, tmp_path, suffix):
    with pytest.raises(InputError, match=(
            rf"^The trace file {tmp_path}/no/x.{suffix} cannot be written: No such file or "
            rf"directory$")):
        Bench(recorder).simulator.trace_start(tmp_path / "no" / f"x.{suffix}")


@pytest.mark.slow
@pytest.mark.parametrize("act", [
    lambda simulator: simulator.run(5000),
    lambda simulator: simulator.run_until_irq(5000),
    lambda simulator: simulator.close(),  # what is short is written only now
])
def test_full_disk_ends_a_traced_run(recorder, tmp_path, act):
    path = tmp_path / "x.vcd"
    path.symlink_to("/dev/full")
    simulator = Bench(recorder).simulator
    simulator.trace_start(path)
    with pytest.raises(InputError, match=(
            rf"^The trace file {path} cannot be written: No space left on device$")):
        act(simulator)
    simulator.close()


@pytest.mark.slow
def test_trace_that_is_not_whole_is_named(recorder, tmp_path, monkeypatch):
    path = tmp_path / "x.fst"
    bench = Bench(recorder)
    bench.simulator.trace_start(path)
    bench.simulator.run(10)
    # libfst keeps quiet about what it could not write.
    monkeypatch.setattr(simulator_module, "fst_end_time", lambda path: None)
    with pytest.raises(InputError, match=(
            rf"^The trace file {path} cannot be written: it is not whole; is there space left\?$")):
        bench.simulator.close()
    with pytest.raises(InputError, match=r"^The simulator is closed$"):
        bench.simulator.run(1)


@pytest.mark.slow
def test_leftovers_of_libfst_are_gone_when_a_trace_ends(recorder, tmp_path):
    bench = Bench(recorder)
    bench.simulator.trace_start(tmp_path / "x.fst")
    bench.start()
    bench.simulator.run(10)
    bench.simulator.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x.fst"]


def test_end_time_of_a_broken_fst_file_is_none(tmp_path):
    path = tmp_path / "x.fst"
    assert fst_end_time(path) is None
    path.write_bytes(b"no trace")
    assert fst_end_time(path) is None


def test_trace_wrong_build(copier):
    with pytest.raises(InputError, match=(
            r"^Recording needs a simulator that was built for it, with trace=True$")):
        Bench(copier).simulator.trace_start("x.fst")


@pytest.mark.parametrize("name, suffix", [("x.txt", ".txt"), ("fst", "")])
def test_trace_wrong_suffix(copier, name, suffix):
    with pytest.raises(InputError, match=(
            rf"^Trace file must end in .vcd or .fst, not {suffix!r}$")):
        Bench(copier).simulator.trace_start(name)


def test_fst_trace_without_pylibfst_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pylibfst", None)
    assert TraceFormat.of("x.vcd") is TraceFormat.VCD
    with pytest.raises(ToolError, match=(
            r"^pylibfst, which writes .fst files, is not installed in this Python environment: run "
            r"pip install 'weft-npu\[toolchain\]', or record to a .vcd file$")):
        TraceFormat.of("x.fst")
