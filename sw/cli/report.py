"""``weft report``: a page that shows where each cycle of a network goes."""

import argparse
from contextlib import ExitStack
from pathlib import Path

from weft.errors.guard import EXIT_MISMATCH
from weft.files.output import check_outputs, write_text
from weft.hw.isa.presets import load_config

from .float_model import int8_model
from .frames import add_frame_options, choose_frames, files_read, given_arrays
from .model import add_model_arguments
from .options import Commands, add_config_option
from .session import SessionTarget, open_layers_session, open_session

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "report", help="run a network and show on a page where each cycle goes",
        description="Runs frames through a network on the simulated accelerator and writes one "
                    "HTML page: figures, timeline, memory map, roofline, causes of stalls. Exit "
                    "code as for run.")
    add_model_arguments(parser)
    add_config_option(parser)
    add_frame_options(parser, default="2, so that the last one finds weights on chip")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html",
                        help="page to write")
    parser.set_defaults(program=_report)


def _report(options: argparse.Namespace) -> int:
    from weft.report.page import report_page
    from weft.report.terminal import Progress
    from weft.runtime.advice import advise
    from weft.runtime.estimate import estimate_programs
    from weft.runtime.runner import run_frames

    config = load_config(options.config)
    check_outputs({"--output": options.output}, files_read(options))
    arrays = given_arrays(options)
    model = int8_model(options)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        session = stack.enter_context(
            open_session(model, options.model.name, SessionTarget(config, "verilator"), progress,
                         batch=options.batch, rule=options.rule))
        # Of a single frame one would not see what it takes once all weights are on chip.
        inputs = choose_frames(session, arrays, options, default=2 * options.batch)
        layers = stack.enter_context(open_layers_session(session, "verilator")) \
            if options.verify else None
        progress.stage("Running")
        run = run_frames(session, inputs, model=options.model.name, device="verilator",
                         verify=options.verify, layers=layers, progress=progress.step)
        advice = None
        if session.programs:
            estimate = estimate_programs(session.programs, model=options.model.name)
            advice = advise(session.plan, estimate, progress=progress.stage)
        page = report_page(run, session.plan, advice)
    write_text(options.output, page)
    print(f"{options.output}: {run.last.cycles:,} cycles" if run.last.layers else
          f"{options.output}: nothing on the accelerator")
    return EXIT_MISMATCH if run.differing else 0
