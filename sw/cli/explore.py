"""``weft explore``: the best accelerators for some networks and an FPGA."""

import argparse
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import InputError, ToolError
from weft.errors.distribution import install_command
from weft.errors.guard import EXIT_MISMATCH
from weft.hw.isa.presets import load_config

from .options import Commands, add_cluster_options

if TYPE_CHECKING:
    from weft.explore.trial import Target
    from weft.hw.isa.config import AcceleratorConfig

__all__ = ["add_parser"]


_OBJECTIVES = ("fps", "luts", "latency", "energy")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "explore", help="find the best accelerators for some networks and an FPGA",
        description="Searches for the configurations that no other one beats: tries many, each "
                    "compiled for all networks and estimated, and writes a page, front.json and a "
                    "configuration for each point of the front. A search that was stopped goes on.")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL",
                        help="int8 networks: ONNX in QDQ or QOperator form, or TFLite")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                        help="folder for the results, and the study in which a search goes on")
    parser.add_argument("--board", metavar="NAME", help="the board that it is to fit")
    for name, what in (("luts", "look-up tables"), ("multipliers", "multipliers of 18 bits"),
                       ("block-rams", "block RAMs of 2 KiB")):
        parser.add_argument(f"--{name}", type=int, metavar="N",
                            help=f"{what} that it may take: of the board, or without one of an "
                                 f"ECP5 85F, for the accelerator by itself")
    parser.add_argument("--objective", default="fps,luts", metavar="NAME,...",
                        help=f"one or more of {', '.join(_OBJECTIVES)} (default: fps,luts)")
    parser.add_argument("--space", type=Path, metavar="FILE.toml",
                        help="what to try: a list of values for each field of the configuration")
    parser.add_argument("--config", metavar="NAME|FILE.toml",
                        help="where to begin, and all fields that are not in the space (default: "
                             "the board's, else base)")
    parser.add_argument("--trials", type=int, default=300, metavar="N",
                        help="configurations to try, those of before included (default: 300)")
    parser.add_argument("--time", metavar="30m", help="stop after so long: 90s, 30m, 2h")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="the same seed finds the same front (default: 0)")
    parser.add_argument("--rule", choices=("tflite", "tflite-micro", "onnxruntime"),
                        help="how sums become int8 values, as of weft run")
    parser.add_argument("--energy-table", type=Path, metavar="FILE.toml",
                        help="energies of events, as of weft run --energy")
    parser.add_argument("--verify", choices=("rtl", "build"),
                        help="prove the points: rtl runs each network on the simulated hardware "
                             "and compares every byte; build places and routes them for --board")
    parser.add_argument("--seeds", type=int, default=1, metavar="N",
                        help="placements of each build, side by side on the workers (default: 1)")
    add_cluster_options(parser, workers=2)
    parser.set_defaults(program=_explore)


def _explore(options: argparse.Namespace) -> int:
    if find_spec("optuna") is None:
        raise ToolError("Package optuna is needed to explore: " + install_command("explore"))
    from weft.explore import Exploration, explore
    from weft.explore.space import DEFAULT_SPACE, load_space
    from weft.report.terminal import terminal
    from weft.runtime.energy import load_energy_table

    from .search_progress import SearchProgress

    target, base = _target(options)
    objectives = _objectives(options.objective)
    if options.trials < 1:
        raise InputError(f"Trials must be at least 1, not {options.trials}")
    if options.verify == "build" and options.board is None:
        raise InputError("Option --verify build needs a board to build for (--board NAME)")
    if options.seeds < 1:
        raise InputError(f"Seeds must be at least 1, not {options.seeds}")
    if options.seed < 0:
        raise InputError(f"Seed must be at least 0, not {options.seed}")
    space = DEFAULT_SPACE if options.space is None else load_space(options.space, base)
    task = Exploration(models=tuple(options.models), rule=options.rule, target=target, base=base,
                       space=space, objectives=objectives, seed=options.seed,
                       trials=options.trials, seconds=_seconds(options.time),
                       energy=load_energy_table(options.energy_table), folder=options.output,
                       verify=options.verify or "", seeds=options.seeds)
    with SearchProgress() as progress:
        result = explore(task, workers=options.workers, scheduler=options.scheduler,
                         progress=progress)
    result.show(terminal())
    return 0 if result.proven else EXIT_MISMATCH


def _objectives(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.split(",")))
    for name in found:
        if name not in _OBJECTIVES:
            raise InputError(f"Objective must be one or more of {', '.join(_OBJECTIVES)}, with "
                             f"commas between, not {text!r}")
    return found


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None or not float(found[1]):
        raise InputError(f"Time must be a number above 0 of s, m or h, such as 30m, not {text!r}")
    return float(found[1]) * _UNITS[found[2]]


def _target(options: argparse.Namespace) -> "tuple[Target, AcceleratorConfig]":
    """What the accelerator is to fit, and where the search begins."""
    from dataclasses import replace

    from weft.boards.flow.reached import clock_model
    from weft.boards.registry import find_board
    from weft.explore.trial import Target

    budget = {name: getattr(options, name) for name in ("luts", "multipliers", "block_rams")
              if getattr(options, name) is not None}
    for name, value in budget.items():
        if value < 1:
            raise InputError(f"Option --{name.replace('_', '-')} must be at least 1, not {value}")
    if options.board is None and not budget:
        raise InputError("Explore needs a board (--board NAME) or a budget (--luts N, "
                         "--multipliers N, --block-rams N)")
    board = find_board(options.board or "ulx3s-85f")
    if board.family.name != "ecp5":
        raise InputError(f"Board must be one with an ECP5, whose resources can be predicted, not "
                         f"{board.name}")
    capacity = board.capacity
    if options.board is not None:
        # More has never been routed.
        share = clock_model(board.family).routed_share
        capacity = replace(capacity, luts=round(share * capacity.luts))
    config = load_config(options.config) if options.config is not None else \
        board.config if options.board is not None else load_config("base")
    if config.sequential:
        raise InputError(f"Explore takes pipelined accelerators: {config.name} is sequential")
    capacity = replace(capacity, **budget)
    limits = (f"{capacity.luts:,} LUTs, {capacity.multipliers:,} multipliers, "
              f"{capacity.block_rams:,} block RAMs")
    return Target(
        title=f"{board.title}: {limits}" if options.board else limits,
        board=options.board or "", family=board.family.name, device=board.device,
        capacity=capacity, blocks=capacity.multipliers,
        memory=board.memory if options.board else None), config
