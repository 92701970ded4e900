"""``weft run``: frames through a network on the accelerator."""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import InputError
from weft.errors.guard import EXIT_MISMATCH
from weft.files.output import check_outputs, replacing, write_text

from .float_model import int8_model
from .frames import add_frame_options, choose_frames, files_read, given_arrays
from .model import add_model_arguments
from .options import Commands, add_state_option, state_pairs
from .session import add_session_options, open_layers_session, open_session, session_target

if TYPE_CHECKING:
    from weft.runtime.session import Figures

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "run", help="run a network on the accelerator",
        description="Runs frames through a network on the accelerator and reports the "
                    "cycles of each layer. Exit code: 0, 1 if --verify found a difference, 2 after "
                    "an error, 130 after Ctrl-C, 143 after SIGTERM.")
    add_model_arguments(parser)
    add_session_options(parser)
    add_frame_options(parser, default="1")
    add_state_option(parser, "an output that the next frame reads as an input; the frames "
                             "of a batch are of streams side by side")
    parser.add_argument("--output", type=Path, metavar="Y.npz",
                        help="write the results: array 'output' [frames, ...], or one for each "
                             "output")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--trace", type=Path, metavar="FILE.fst",
                        help="write a waveform of all signals: .fst, or .vcd, which is far larger")
    parser.add_argument("--timeline", type=Path, metavar="FILE.json",
                        help="write what every engine did when, for ui.perfetto.dev or "
                             "chrome://tracing")
    parser.add_argument("--energy", nargs="?", const="", metavar="TABLE.toml",
                        help="show the energy of each layer of the last frame: counts of events "
                             "times a table of energies, by default one of published figures")
    parser.add_argument("--timeline-frames", choices=("last", "all"),
                        help="frames in the timeline (default: last)")
    parser.set_defaults(program=_run)


def _run(options: argparse.Namespace) -> int:
    from weft.files.arrays import write_arrays
    from weft.report.energy import energy_table
    from weft.report.terminal import Progress, print_run, terminal
    from weft.report.timeline import trace_events
    from weft.runtime.device.choice import runs_layers
    from weft.runtime.energy import load_energy_table
    from weft.runtime.layer_energy import frame_energy
    from weft.runtime.runner import run_frames

    if options.trace is not None and options.device != "verilator":
        raise InputError(f"A waveform (--trace) needs --device verilator, not {options.device}")
    if options.timeline is not None and options.device != "verilator":
        raise InputError(f"A timeline (--timeline) needs --device verilator, not {options.device}")
    if options.timeline_frames is not None and options.timeline is None:
        raise InputError("Option --timeline-frames needs --timeline")
    table = None if options.energy is None else load_energy_table(
        Path(options.energy) if options.energy else None)
    target = session_target(options)
    device = target.device
    check_outputs({"--output": options.output, "--json": options.json, "--trace": options.trace,
                   "--timeline": options.timeline}, files_read(options))
    arrays = given_arrays(options)
    states = state_pairs(options)
    model = int8_model(options, states)

    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        trace = None if options.trace is None else stack.enter_context(replacing(options.trace))
        session = stack.enter_context(
            open_session(model, options.model.name, target, progress, trace=trace,
                         batch=options.batch, states=states or None,
                         rule=options.rule))
        if options.trace is not None or options.timeline is not None:
            session.plan.accelerated()
        inputs = choose_frames(session, arrays, options, default=1)
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
    layers_energy = None if table is None else frame_energy(run.last.executions, table)
    if options.json is not None:
        energy = {} if layers_energy is None else {"energy": {
            "total_uj": sum(each.energy_uj for each in layers_energy),
            "layers": [each.to_dict() for each in layers_energy]}}
        write_text(options.json, json.dumps({**run.to_dict(), **energy}, indent=2) + "\n")
    if options.timeline is not None:
        timeline = trace_events(frames or [run.last], model=options.model.name)
        write_text(options.timeline, json.dumps(timeline) + "\n")
    print_run(run, terminal())
    if layers_energy is not None:
        terminal().print(energy_table(layers_energy))
    return EXIT_MISMATCH if run.differing else 0
