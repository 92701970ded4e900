"""The command line ``weft``: a file for each sub-command."""

import argparse

from weft.errors.guard import DEBUG, guarded

from . import (
    bench,
    build,
    check,
    compile,
    config,
    estimate,
    explore,
    export,
    load,
    program,
    quantize,
    report,
    run,
    selftest,
    stream,
    survey,
    verilog,
)
from .version import add_version_option

# What is slow to import (numpy, onnxruntime, Amaranth, rich) is imported by the command that needs
# it, so that `weft --help` and a misspelt option answer at once.

__all__ = ["main"]


_COMMANDS = (run, report, quantize, stream, check, estimate, explore, survey, compile, verilog,
             export, build, program, load, selftest, bench, config)
"""In the order of the help text."""


def main(arguments: list[str] | None = None) -> int:
    """Runs ``weft`` with ``arguments`` (default: those of the process); returns the exit code."""
    return guarded(_main, arguments)


def _main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    code: int = options.program(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weft", description="From a quantized network, ONNX or TFLite, to a running "
                    "hardware accelerator.")
    parser.add_argument(DEBUG, action="store_true",
                        help="show where an error came from; can also follow the command")
    add_version_option(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser
