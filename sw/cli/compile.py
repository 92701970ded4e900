"""``weft compile``: what a model becomes."""

import argparse
from pathlib import Path

from weft.errors import InputError
from weft.hw.isa.presets import load_config

from .model import add_model_arguments, chosen_plan
from .options import Commands, add_config_option

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "compile", help="compile a model and show what it became",
        description="Compiles a model, without building or running anything.")
    add_model_arguments(parser)
    add_config_option(parser)
    parser.add_argument("--dump", action="store_true",
                        help="print layers, memory map and command stream as text")
    parser.add_argument("--c", type=Path, metavar="DIR",
                        help="write the program as C, with a driver and its header, for a "
                             "processor beside the accelerator; DIR is created if need be")
    parser.set_defaults(program=_compile)


def _compile(options: argparse.Namespace) -> int:
    from weft import compiler

    config = load_config(options.config)
    graphs = chosen_plan(options, config).accelerated()
    if options.c and len(graphs) != 1:
        raise InputError(f"Model of a program in C must have a single graph on the accelerator, "
                         f"not {len(graphs)} with parts for the host between them")
    programs = compiler.compile_parts(graphs, config)
    for graph, program in zip(graphs, programs, strict=True):
        if options.dump:
            print(program.dump())
        else:
            print(f"{graph.name} for {config.name}: {len(program.layers)} layers, "
                  f"{program.count} commands, {program.memory_bytes:,} bytes of external memory")
    if options.c:
        from weft.firmware import write_firmware

        for path in write_firmware(options.c, programs[0], options.model.stem):
            print(path)
    return 0
