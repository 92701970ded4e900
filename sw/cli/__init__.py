"""The command line ``weft``: a function for each sub-command, and the parser."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weft.errors import InputError
from weft.errors.guard import DEBUG, EXIT_MISMATCH, guarded
from weft.files.arrays import read_arrays, write_arrays
from weft.files.output import check_outputs, replacing, write_text
from weft.hw.isa.config import PRESETS, AcceleratorConfig, load_config

if TYPE_CHECKING:
    from weft.report.terminal import Progress
    from weft.runtime.session import Figures, InferenceSession

# What is slow to import (onnxruntime, Amaranth, rich) is imported by the command that needs it, so
# that `weft --help` and a misspelt option answer at once.

__all__ = ["add_session_options", "main", "open_session", "session_target"]


def _add_config_option(parser: argparse.ArgumentParser, default: str | None = "base",
                       default_text: str = "base") -> None:
    parser.add_argument("--config", default=default, metavar="NAME|FILE.toml",
                        help=f"configuration: {', '.join(PRESETS)}, or a file "
                             f"(default: {default_text})")


def _add_frame_options(parser: argparse.ArgumentParser, *, default: str) -> None:
    """The options that say what goes through a network."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--inputs", type=Path, metavar="X.npz",
                        help="frames: array 'input' [frames, ...], or one array for each input "
                             "under its name")
    source.add_argument("--random", type=int, metavar="N",
                        help=f"run N random frames instead (default: {default})")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="seed of the random frames (default: 0)")
    parser.add_argument("--batch", type=int, default=1, metavar="N",
                        help="compute N frames together, which share loads of weights "
                             "(default: 1)")
    parser.add_argument("--verify", action="store_true",
                        help="compare every layer of every frame with onnxruntime; on a board, the "
                             "outputs")


def _add_board_option(parser: argparse.ArgumentParser) -> None:
    from weft.boards.registry import BOARDS

    parser.add_argument("--board", required=True, metavar="NAME",
                        help=f"board: {', '.join(BOARDS)}")


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """The options that say on what to run; see :func:`session_target`."""
    _add_config_option(parser, None, "the board's, else base")
    parser.add_argument("--device", default="verilator", metavar="DEVICE",
                        help="verilator: cycle-accurate simulation of the Verilog (default); "
                             "functional: a model that is quick to start and knows no cycles; "
                             "serial:PORT: a board at a serial port; board-sim:BOARD: a board "
                             "under simulation")
    parser.add_argument("--board", metavar="NAME",
                        help="the board at the serial port, for its configuration and baud rate")


def session_target(options: argparse.Namespace) -> tuple[AcceleratorConfig | None, str]:
    """The configuration that was asked for, if any, and the device.

    Raises
    ------
    ConfigError
        If there is no such configuration or board.
    InputError
        If a board is named for a device that is none at a serial port.
    """
    config = None if options.config is None else load_config(options.config)
    device: str = options.device
    if options.board is not None:
        from weft.boards.registry import find_board

        if not device.startswith("serial:"):
            raise InputError(f"A board (--board) needs --device serial:PORT, not {device}")
        board = find_board(options.board)
        config = config or board.config
        if "?" not in device:
            device = f"{device}?baud={board.baud}"
    return config, device


@contextmanager
def open_session(model: Path, config: AcceleratorConfig | None, device: str,
                 progress: "Progress", trace: Path | None = None,
                 batch: int = 1) -> "Iterator[InferenceSession]":
    """A session that says what it is doing while it is set up."""
    from weft.runtime.session import InferenceSession

    name = "" if config is None else f" for {config.name}"
    progress.stage(f"Preparing {model.name}{name} on the device {device}")
    with InferenceSession(model, config=config, device=device, trace=trace, batch=batch,
                          progress=progress.stage) as session:
        yield session


def open_layers_session(session: "InferenceSession", device: str) -> "InferenceSession":
    """A second session like ``session``, for the outputs of its layers."""
    from weft.runtime.session import InferenceSession

    return InferenceSession(session.plan, config=session.config, device=device, keep_tensors=True,
                            batch=session.batch)


def _run(options: argparse.Namespace) -> int:
    from weft.report.terminal import Progress, print_run, terminal
    from weft.report.timeline import trace_events
    from weft.runtime.device.choice import runs_layers
    from weft.runtime.runner import run_frames

    if options.trace is not None and options.device != "verilator":
        raise InputError(f"A waveform (--trace) needs --device verilator, not {options.device}")
    if options.timeline is not None and options.device != "verilator":
        raise InputError(f"A timeline (--timeline) needs --device verilator, not {options.device}")
    if options.timeline_frames is not None and options.timeline is None:
        raise InputError("Option --timeline-frames needs --timeline")
    config, device = session_target(options)
    check_outputs({"--output": options.output, "--json": options.json, "--trace": options.trace,
                   "--timeline": options.timeline}, _read_files(options))
    arrays = _source(options)

    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        trace = None if options.trace is None else stack.enter_context(replacing(options.trace))
        session = stack.enter_context(
            open_session(options.model, config, device, progress, trace, options.batch))
        inputs = _frames(session, arrays, options, default=1)
        layers = stack.enter_context(open_layers_session(session, device)) \
            if options.verify and runs_layers(device) else None
        progress.stage("Running")
        frames: list[Figures] = []
        run = run_frames(session, inputs, model=options.model.name, device=device,
                         verify=options.verify, layers=layers, progress=progress.step,
                         observe=frames.append if options.timeline_frames == "all" else None)
        names = [info.name for info in session.get_outputs()]

    if options.output is not None:
        keys = ["output"] if len(names) == 1 else names
        write_arrays(options.output, dict(zip(keys, run.outputs, strict=True)))
    if options.json is not None:
        write_text(options.json, json.dumps(run.to_dict(), indent=2) + "\n")
    if options.timeline is not None:
        timeline = trace_events(frames or [run.last], model=options.model.name)
        write_text(options.timeline, json.dumps(timeline) + "\n")
    print_run(run, terminal())
    return EXIT_MISMATCH if run.differing else 0


def _report(options: argparse.Namespace) -> int:
    from weft.report.page import report_page
    from weft.report.terminal import Progress
    from weft.runtime.runner import run_frames

    config = load_config(options.config)
    check_outputs({"--output": options.output}, _read_files(options))
    arrays = _source(options)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        session = stack.enter_context(
            open_session(options.model, config, "verilator", progress, batch=options.batch))
        # Of a single frame one would not see what it takes once all weights are on chip.
        inputs = _frames(session, arrays, options, default=2 * options.batch)
        layers = stack.enter_context(open_layers_session(session, "verilator")) \
            if options.verify else None
        progress.stage("Running")
        run = run_frames(session, inputs, model=options.model.name, device="verilator",
                         verify=options.verify, layers=layers, progress=progress.step)
        page = report_page(run, session.plan)
    write_text(options.output, page)
    print(f"{options.output}: {run.last.cycles:,} cycles")
    return EXIT_MISMATCH if run.differing else 0


def _check(options: argparse.Namespace) -> int:
    from weft.frontend import partition
    from weft.report.inspection import inspect_plan
    from weft.report.terminal import print_inspection, terminal

    config = load_config(options.config)
    inspection = inspect_plan(partition(options.model), config)
    if options.json:
        print(json.dumps(inspection.to_dict(options.model), indent=2))
    else:
        print_inspection(inspection, terminal())
    return EXIT_MISMATCH if options.strict and inspection.fallbacks else 0


def _estimate(options: argparse.Namespace) -> int:
    from weft.compiler.timing.player import MemoryTiming
    from weft.frontend import partition
    from weft.report.terminal import Progress, print_estimate, terminal
    from weft.runtime.estimate import estimate_plan

    if (options.model is None) == (options.resources is None):
        raise InputError("Estimate needs either a model or --resources BOARD")
    if options.resources is not None:
        return _estimate_resources(options)
    config = load_config(options.config or "base")
    memory = MemoryTiming() if options.latency is None else MemoryTiming(latency=options.latency)
    with Progress() as progress:
        if not options.json:
            progress.stage(f"Compiling {options.model.name} for {config.name}")
        estimate = estimate_plan(partition(options.model), config, model=options.model.name,
                                 batch=options.batch, memory=memory)
    if options.json:
        print(json.dumps(estimate.to_dict(), indent=2))
    else:
        print_estimate(estimate, terminal())
    return 0


def _estimate_resources(options: argparse.Namespace) -> int:
    from weft.boards.flow.report import print_resources
    from weft.boards.flow.resources import resources
    from weft.boards.registry import find_board
    from weft.report.terminal import Progress, terminal

    board = find_board(options.resources)
    config = board.config if options.config is None else load_config(options.config)
    with Progress() as progress:
        if not options.json:
            progress.stage(f"Generating {config.name} for {board.title}")
        result = resources(config, board)
    if options.json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        print_resources(result, terminal())
    return 0


def _compile(options: argparse.Namespace) -> int:
    from weft import compiler
    from weft.frontend import partition

    config = load_config(options.config)
    base = 0
    for graph in partition(options.model).graphs:
        program = compiler.compile(graph, config, base=base)
        base = program.memory_bytes
        if options.dump:
            print(program.dump())
        else:
            print(f"{graph.name} for {config.name}: {len(program.layers)} layers, "
                  f"{program.count} commands, {program.memory_bytes:,} bytes of external memory")
    return 0


def _read_files(options: argparse.Namespace) -> dict[str, str | Path | None]:
    """The files that a run reads, none of which it may write to."""
    return {"the model": options.model, "--inputs": options.inputs, "--config": options.config}


def _source(options: argparse.Namespace) -> dict[str, np.ndarray] | None:
    """The arrays of ``--inputs``, if it was given."""
    if options.random is not None and options.random < 1:
        raise InputError(f"Number of random frames must be at least 1, not {options.random}")
    return None if options.inputs is None else read_arrays(options.inputs)


def _frames(session: "InferenceSession", arrays: dict[str, np.ndarray] | None,
            options: argparse.Namespace, *, default: int) -> dict[str, np.ndarray]:
    """The frames to run: those of ``--inputs``, or random ones."""
    from weft.runtime.runner import random_frames

    if arrays is None:
        return random_frames(session, options.random or default, seed=options.seed)
    names = [info.name for info in session.get_inputs()]
    return _choose_inputs(arrays, names, options.inputs)


def _choose_inputs(arrays: dict[str, np.ndarray], names: list[str], path: Path) \
        -> dict[str, np.ndarray]:
    """The arrays that the model's inputs stand for; further ones in the file do no harm."""
    keys = {name: name for name in names}
    if len(names) == 1 and names[0] not in arrays:
        keys[names[0]] = "input"
    for key in keys.values():
        if key not in arrays:
            found = ", ".join(f"'{name}'" for name in arrays) or "none"
            raise InputError(f"Inputs {path} must have an array '{key}'; it has {found}")
    return {name: arrays[key] for name, key in keys.items()}


def _verilog(options: argparse.Namespace) -> int:
    from weft.hw.accelerator import Accelerator
    from weft.hw.verilog import to_verilog

    config = load_config(options.config)
    folder: Path = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Folder {folder} cannot be created: {error.strerror}") from None
    top = f"weft_{config.name}"
    verilog, description = folder / f"{top}.v", folder / f"{top}.json"
    check_outputs({"the Verilog": verilog, "its configuration": description},
                  {"--config": options.config})
    component = Accelerator(config)
    write_text(verilog, to_verilog(component, name=top))
    # What goes with the Verilog, for tools that would otherwise have to guess it.
    write_text(description, json.dumps({"top": top, "verilog": verilog.name,
                                         "config": config.to_dict()}, indent=2) + "\n")
    print(f"{verilog}: module {top}, {config.rate_text}")
    print(f"{description}: its configuration")
    return 0


def _build(options: argparse.Namespace) -> int:
    from weft.boards.flow.bitstream import build
    from weft.boards.flow.report import print_build
    from weft.boards.registry import find_board
    from weft.report.terminal import Progress, terminal

    board = find_board(options.board)
    if options.config is not None:
        board = dataclasses.replace(board, config=load_config(options.config))
    if options.freq is not None:
        board = dataclasses.replace(board, clock_mhz=options.freq)
    check_outputs({"--json": options.json}, {"--config": options.config})
    folder: Path = options.output or Path("build") / board.name
    with Progress() as progress:
        result = build(board, folder, seeds=options.seeds, progress=progress.stage,
                       allow_timing_fail=options.allow_timing_fail)
    if options.json is not None:
        write_text(options.json, json.dumps(result.to_dict(), indent=2) + "\n")
    print_build(result, terminal())
    return 0 if result.bitstream is not None else EXIT_MISMATCH


def _program(options: argparse.Namespace) -> int:
    from weft.boards.flow.program import program
    from weft.boards.registry import find_board

    print(program(find_board(options.board), options.bitstream, flash=options.flash))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from weft.bench import baseline, scale_sim
    from weft.bench.document import benchmark_page
    from weft.bench.run import measure_all
    from weft.bench.suite import select
    from weft.report.terminal import Progress, bench_table, terminal

    record: Path = options.baseline
    comparisons_file = record.with_name(scale_sim.SCALE_SIM.name)
    check_outputs({"--json": options.json, "--markdown": options.markdown,
                   "--baseline": record if options.record else None,
                   "the comparison with SCALE-Sim": comparisons_file if options.record else None},
                  {"--baseline": None if options.record else record})
    recorded = baseline.load(record) if options.check or (options.record and record.exists()) \
        else []
    cases = select(networks=options.network, configs=options.config, models=options.models,
                   slow=options.all)
    with Progress() as progress:
        measured = measure_all(cases, models=options.models, jobs=options.jobs,
                               progress=progress.stage)
        comparisons = [] if options.scalesim is None else [
            each for measurement in measured if measurement.config == "base"
            for each in scale_sim.compare_layers(measurement, python=options.scalesim,
                                                 progress=progress.stage)]
    terminal().print(bench_table(measured))
    if options.json is not None:
        baseline.save(measured, options.json)
    if options.markdown is not None:
        write_text(options.markdown, benchmark_page(measured, comparisons))

    changes = baseline.compare(recorded, measured)
    grown = [change for change in changes if change.share > baseline.TOLERANCE]
    for change in changes:
        if change not in grown or options.record:
            print(change)
    if options.record:
        fresh = {(each.network, each.config) for each in measured}
        kept = [each for each in recorded if (each.network, each.config) not in fresh]
        baseline.save([*kept, *measured], record)
        print(f"{record}: {len(measured)} recorded, {len(kept)} left as they were")
        if comparisons:
            networks = {each.network for each in comparisons}
            scale_sim.save([*(each for each in scale_sim.load(comparisons_file)
                              if each.network not in networks), *comparisons], comparisons_file)
        return 0
    for change in grown:
        print(f"weft: error: {change}; at most {baseline.TOLERANCE:+.0%} is allowed: mend it, or "
              f"accept it with weft bench --record", file=sys.stderr)
    return EXIT_MISMATCH if grown else 0


def _config_list(options: argparse.Namespace) -> int:
    from weft.report.terminal import config_table, terminal

    terminal().print(config_table(PRESETS.values()))
    return 0


def _config_show(options: argparse.Namespace) -> int:
    # TOML, so that `weft config show base > mine.toml` is a start for a configuration of one's own.
    for field, value in load_config(options.config).to_dict().items():
        print(f"{field} = {json.dumps(value)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weft", description="From a quantized ONNX network to a running hardware accelerator.")
    parser.add_argument(DEBUG, action="store_true",
                        help="show where an error came from; can also follow the command")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run", help="run a network on the accelerator",
        description="Runs frames through a network on the accelerator and reports the "
                    "cycles of each layer. Exit code: 0, 1 if --verify found a difference, 2 after "
                    "an error, 130 after Ctrl-C, 143 after SIGTERM.")
    run.add_argument("model", type=Path, metavar="MODEL.onnx", help="int8 network in QDQ form")
    add_session_options(run)
    _add_frame_options(run, default="1")
    run.add_argument("--output", type=Path, metavar="Y.npz",
                     help="write the results: array 'output' [frames, ...], or one for each output")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    run.add_argument("--trace", type=Path, metavar="FILE.fst",
                     help="write a waveform of all signals: .fst, or .vcd, which is far larger")
    run.add_argument("--timeline", type=Path, metavar="FILE.json",
                     help="write what every engine did when, for ui.perfetto.dev or "
                          "chrome://tracing")
    run.add_argument("--timeline-frames", choices=("last", "all"),
                     help="frames in the timeline (default: last)")
    run.set_defaults(program=_run)

    report = commands.add_parser(
        "report", help="run a network and show on a page where each cycle goes",
        description="Runs frames through a network on the simulated accelerator and writes one "
                    "HTML page: figures, timeline, memory map, roofline, causes of stalls. Exit "
                    "code as for run.")
    report.add_argument("model", type=Path, metavar="MODEL.onnx", help="int8 network in QDQ form")
    _add_config_option(report)
    _add_frame_options(report, default="2, so that the last one finds weights on chip")
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html",
                        help="page to write")
    report.set_defaults(program=_report)

    check = commands.add_parser(
        "check", help="tell what runs where, before anything is built",
        description="Lists every node of a model: where it runs, why not on the accelerator, what "
                    "it takes. Builds nothing.")
    check.add_argument("model", type=Path, metavar="MODEL.onnx")
    _add_config_option(check)
    check.add_argument("--strict", action="store_true",
                       help="exit with 1 if the host runs more than quantizing, dequantizing and "
                            "softmax at the graph's edges")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(program=_check)

    estimate = commands.add_parser(
        "estimate", help="tell how long a model takes, without building or running anything",
        description="Compiles a model, plays its commands in virtual time and reports the cycles "
                    "of each layer, what bounds it, and memory traffic. The cycles of a frame are "
                    "those of the simulated accelerator within 1 %% on most models.")
    estimate.add_argument("model", type=Path, metavar="MODEL.onnx", nargs="?",
                          help="the network; not with --resources")
    _add_config_option(estimate, default=None,
                       default_text="base; with --resources, the board's own")
    estimate.add_argument("--resources", metavar="BOARD",
                          help="instead, tell what the configuration takes of the FPGA of a board")
    estimate.add_argument("--batch", type=int, default=1, metavar="N",
                          help="compute N frames together (default: 1)")
    estimate.add_argument("--latency", type=int, metavar="CYCLES",
                          help="latency of the external memory (default: as in weft run)")
    estimate.add_argument("--json", action="store_true", help="print JSON")
    estimate.set_defaults(program=_estimate)

    compiler = commands.add_parser(
        "compile", help="compile a model and show what it became",
        description="Compiles a model, without building or running anything.")
    compiler.add_argument("model", type=Path, metavar="MODEL.onnx")
    _add_config_option(compiler)
    compiler.add_argument("--dump", action="store_true",
                          help="print layers, memory map and command stream as text")
    compiler.set_defaults(program=_compile)

    verilog = commands.add_parser("verilog", help="write the accelerator as Verilog",
                                  description="Writes the accelerator as Verilog, and a JSON file "
                                              "with the configuration it was made from.")
    verilog.add_argument("--config", required=True, metavar="NAME|FILE.toml",
                         help=f"configuration: {', '.join(PRESETS)}, or a file")
    verilog.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                         help="folder to write to, created if need be")
    verilog.set_defaults(program=_verilog)

    build = commands.add_parser(
        "build", help="build the bitstream of a board",
        description="Builds the bitstream of a board with yosys and nextpnr, and reports clock, "
                    "critical path and resources. Exit code: 0, 1 if the clock was missed, 2 after "
                    "an error.")
    _add_board_option(build)
    build.add_argument("--config", metavar="NAME|FILE.toml",
                       help="configuration instead of the board's own")
    build.add_argument("--freq", type=float, metavar="MHZ",
                       help="clock instead of the board's own")
    build.add_argument("--seeds", type=int, default=1, metavar="N",
                       help="try N placements, two at a time, and keep the fastest (default: 1)")
    build.add_argument("-o", "--output", type=Path, metavar="DIR",
                       help="folder for bitstream, intermediate files and logs "
                            "(default: build/BOARD)")
    build.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    build.add_argument("--allow-timing-fail", action="store_true",
                       help="write the bitstream even if the clock was missed")
    build.set_defaults(program=_build)

    program = commands.add_parser(
        "program", help="load a bitstream into a board",
        description="Loads a bitstream into a board with openFPGALoader; where that is not "
                    "installed, prints the command.")
    _add_board_option(program)
    program.add_argument("bitstream", type=Path, metavar="FILE")
    program.add_argument("--flash", action="store_true",
                         help="into the board's flash memory, to stay after power-off")
    program.set_defaults(program=_program)

    bench = commands.add_parser(
        "bench", help="measure the cycles of a suite of networks",
        description="Measures a suite of networks on several configurations, and compares the "
                    "cycles with recorded ones.")
    bench.add_argument("--network", action="append", metavar="NAME",
                       help="measure only this network; can be given several times")
    bench.add_argument("--config", action="append", metavar="NAME",
                       help="measure only on this configuration of the suite; can be given "
                            "several times")
    bench.add_argument("--all", action="store_true", help="measure what takes many minutes, too")
    bench.add_argument("--models", type=Path, metavar="DIR",
                       help="folder with the networks that are not part of Weft")
    bench.add_argument("--jobs", type=int, default=2, metavar="N",
                       help="cases measured at a time (default: 2)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the measurements as JSON")
    bench.add_argument("--markdown", type=Path, metavar="FILE", help="write them as a page")
    purpose = bench.add_mutually_exclusive_group()
    purpose.add_argument("--check", action="store_true",
                         help="fail if a frame takes over 1 %% more cycles than recorded")
    purpose.add_argument("--record", action="store_true", help="record the measurements")
    bench.add_argument("--baseline", type=Path, default=Path("benchmarks/baseline.json"),
                       metavar="FILE", help="recorded measurements (default: "
                                            "benchmarks/baseline.json)")
    bench.add_argument("--scalesim", nargs="?", const=sys.executable, metavar="PYTHON",
                       help="run the layers of config base on SCALE-Sim too, with a Python that "
                            "has it (default: this one)")
    bench.set_defaults(program=_bench)

    config = commands.add_parser("config", help="list or show configurations")
    actions = config.add_subparsers(title="actions", metavar="ACTION", required=True)
    actions.add_parser("list", help="list the presets").set_defaults(program=_config_list)
    show = actions.add_parser("show", help="print a configuration as TOML")
    show.add_argument("config", nargs="?", default="base", metavar="NAME|FILE.toml",
                      help="configuration (default: base)")
    show.set_defaults(program=_config_show)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs ``weft`` with ``arguments`` (default: those of the process); returns the exit code."""
    return guarded(_main, arguments)


def _main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    code: int = options.program(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
