"""Verilator's lint over generated Verilog: everything on, but for what the generator's style
brings with it."""

import subprocess
from pathlib import Path

from weft.errors import ToolError

from .toolchain import tool_environment, verilator

__all__ = ["WAIVERS", "lint"]


WAIVERS = {
    "DECLFILENAME": "all modules are in one file, and a module's name is its path",
    "UNUSEDSIGNAL": "each field of a structure is a wire of its own, whether it is read or not",
    "PROCASSINIT": "registers have their reset value as initial value too, as FPGAs do",
    "CASEINCOMPLETE": "every process sets its outputs before the case",
    "VARHIDDEN": "a memory inside a module may be named like the module's instance",
    "WIDTHEXPAND": "Yosys leaves the extension of comparison and arithmetic operands implicit",
    "WIDTHTRUNC": "Yosys writes conditions of several bits and shifts that are cut afterwards",
    "ALWNEVER": "Yosys writes a process of constants as one that never runs, beside an initial one",
}
"""Lint rules that are off, each with its reason."""


def lint(verilog: Path, *, top: str) -> str:
    """What Verilator has to say about a file, with ``-Wall`` less :data:`WAIVERS`.

    Returns
    -------
    :class:`str`
        The warnings; empty for a clean file.

    Raises
    ------
    ToolError
        If Verilator is missing.
    """
    environment = tool_environment()
    try:
        result = subprocess.run(
            [str(verilator()), "--lint-only", "-Wall", "--top-module", top,
             *(f"-Wno-{rule}" for rule in WAIVERS), str(verilog)],
            env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(f"Verilator cannot be started: {error.strerror}") from None
    if result.returncode and not result.stderr:
        raise ToolError(f"Verilator failed with exit code {result.returncode}")
    return result.stderr
