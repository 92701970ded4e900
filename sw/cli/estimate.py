"""``weft estimate``: how long a model takes, or what a configuration takes of an FPGA."""

import argparse
import json

from weft.errors import InputError
from weft.hw.isa.presets import load_config

from .model import add_model_arguments, chosen_plan
from .options import Commands, add_config_option

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "estimate", help="tell how long a model takes, without building or running anything",
        description="Compiles a model, plays its commands in virtual time and reports the cycles "
                    "of each layer, what bounds it, what it would take at least, memory traffic, "
                    "and which change of the configuration would help. The cycles of a frame are "
                    "those of the simulated accelerator within 1 %% on most models.")
    add_model_arguments(parser, nargs="?", help="the network; not with --resources")
    add_config_option(parser, default=None,
                      default_text="base; with --board or --resources, the board's own")
    parser.add_argument("--board", metavar="NAME",
                        help="on this board: its configuration, with its memory")
    parser.add_argument("--resources", metavar="BOARD",
                        help="instead, tell what the configuration takes of the FPGA of a board")
    parser.add_argument("--batch", type=int, default=1, metavar="N",
                        help="compute N frames together (default: 1)")
    parser.add_argument("--latency", type=int, metavar="CYCLES",
                        help="latency of the external memory (default: as in weft run)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(program=_estimate)


def _estimate(options: argparse.Namespace) -> int:
    from weft.boards.registry import find_board
    from weft.compiler.timing.memory import MEMORY, MemoryTiming
    from weft.report.terminal import Progress, print_estimate, terminal
    from weft.runtime.advice import advise
    from weft.runtime.device.base import check_room
    from weft.runtime.estimate import estimate_plan

    if (options.model is None) == (options.resources is None):
        raise InputError("Estimate needs either a model or --resources BOARD")
    for name in ("quantize", "rule", "board"):
        if options.resources is not None and getattr(options, name) is not None:
            raise InputError(f"Option --{name} needs a model, not --resources")
    if options.board is not None and options.latency is not None:
        raise InputError("The latency is that of the board's memory: give --board or --latency, "
                         "not both")
    if options.resources is not None:
        return _estimate_resources(options)
    board = None if options.board is None else find_board(options.board)
    config = board.config if board and options.config is None else \
        load_config(options.config or "base")
    memory = MEMORY if options.latency is None else MemoryTiming(latency=options.latency)
    if board is not None:
        memory = board.memory_timing(config)
    plan = chosen_plan(options, config)
    with Progress() as progress:
        if not options.json:
            progress.stage(f"Compiling {options.model.name} for {config.name}")
        estimate = estimate_plan(plan, config, model=options.model.name, batch=options.batch,
                                 memory=memory)
        if board is not None:
            check_room(estimate.memory_bytes, board.memory_bytes, board.name)
        advice = advise(plan, estimate, memory=memory,
                        progress=None if options.json else progress.stage)
    if options.json:
        print(json.dumps({**estimate.to_dict(), "advice": advice.to_dict()}, indent=2))
    else:
        print_estimate(estimate, advice, terminal())
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
