"""Runs cocotb test benches on the Verilog of a component, with Verilator."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from amaranth.lib import wiring

from weft.errors import ToolError
from weft.errors.distribution import install_command
from weft.hw.verilog import to_verilog

from .toolchain import MAKE_VARIABLES, tool_environment

__all__ = ["run_cocotb"]


_JOBS = 2


@contextmanager
def _environment(values: Mapping[str, str], folder: Path) -> Iterator[None]:
    """cocotb's runner takes its environment, and the path of the benches, from the process; both
    are put back afterwards."""
    saved, saved_path = dict(os.environ), list(sys.path)
    os.environ.update(values)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)
        sys.path[:] = saved_path


def _with_ports_alone(cocotb_runner: Any) -> Any:
    """A runner for Verilator whose benches reach the ports of the component, and no signal inside:
    if all may be read and written at any time, compiling them takes twice as long."""
    class Runner(cocotb_runner.Verilator):  # type: ignore[misc]
        def _build_command(self) -> list[list[str]]:
            verilate, *others = super()._build_command()
            place = verilate.index("--public-flat-rw")
            verilate[place:place + 1] = ["--public-depth", "1"]
            return [verilate, *others]

    return Runner()


def run_cocotb(component: wiring.Component, *, name: str, bench: Path, build_dir: Path,
               environment: Mapping[str, str] | None = None) -> None:
    """Converts ``component``, compiles it with Verilator and runs all cocotb tests of a module.

    Parameters
    ----------
    component : :class:`wiring.Component`
        Its clock and reset are ports ``clk`` and ``rst``; the others as in
        :func:`~weft.hw.verilog.to_verilog`.
    name : :class:`str`
        Name of the Verilog module.
    bench : :class:`Path`
        Python file with the cocotb tests. Modules beside it can be imported from it.
    build_dir : :class:`Path`
        Where everything is built; created if it is missing. A later call with the same component
        in the same place compiles nothing.
    environment : mapping of :class:`str` to :class:`str`
        Further environment variables: how a bench learns its parameters.

    Raises
    ------
    ToolError
        If a tool or cocotb is missing, or the build fails.
    AssertionError
        If a cocotb test fails, or there is none.
    """
    try:
        from cocotb_tools import runner as cocotb_runner
    except ImportError:
        raise ToolError(f"cocotb is not installed in this Python environment: run "
                        f"{install_command('dev')}") from None

    build_dir.mkdir(parents=True, exist_ok=True)
    source, built = build_dir / f"{name}.v", build_dir / f"{name}.built"
    text = to_verilog(component, name=name, checks=True)
    fresh = built.exists() and source.read_text(encoding="utf-8") == text

    values = tool_environment()
    # cocotb and its bus models raise deprecation warnings of their own.
    values["PYTHONWARNINGS"] = "default"
    # These designs are small and run for a moment: compiling is what takes time.
    variables = MAKE_VARIABLES | {"OPT_FAST": "-O1", "OPT_SLOW": "-O0", "OPT_GLOBAL": "-O0"}
    values["MAKEFLAGS"] = " ".join(f"{key}={value}" for key, value in variables.items())
    values.update(environment or {})
    results = build_dir / "results.xml"
    log = build_dir / "build.log"
    with _environment(values, bench.parent):
        cocotb_runner.MAX_PARALLEL_BUILD_JOBS = _JOBS
        runner = _with_ports_alone(cocotb_runner)
        if not fresh:
            built.unlink(missing_ok=True)
            source.write_text(text, encoding="utf-8")
            try:
                runner.build(sources=[source], hdl_toplevel=name, build_dir=build_dir,
                             log_file=log, build_args=["-Wno-fatal"], timescale=("1ns", "1ps"),
                             always=True)
            except (RuntimeError, SystemExit) as error:
                raise ToolError(f"Verilator could not build {name}, see {log}: {error}") from None
            built.touch()
        results.unlink(missing_ok=True)
        # A failure is told below, by the name of the test.
        with suppress(RuntimeError, SystemExit):
            runner.test(hdl_toplevel=name, hdl_toplevel_lang="verilog", test_module=bench.stem,
                        build_dir=build_dir, test_dir=build_dir, results_xml=str(results))

    if not results.exists():
        raise AssertionError(f"{bench.name} ended without results")
    cases = ElementTree.parse(results).getroot().findall(".//testcase")
    failed = [str(case.get("name")) for case in cases
              if case.find("failure") is not None or case.find("error") is not None]
    if not cases:
        raise AssertionError(f"{bench.name} has no cocotb test")
    if failed:
        raise AssertionError(f"{bench.name}: {', '.join(failed)} failed")
