"""Writes a folder with all that a C compiler needs to run a program."""

from importlib import resources
from pathlib import Path

from weft.compiler import Program
from weft.files.output import write_folder

from .header import hardware_header
from .program import program_files

__all__ = ["DRIVER", "write_firmware"]


DRIVER = ("weft_driver.h", "weft_driver.c")
"""The driver's files, beside this one."""


def write_firmware(folder: Path, program: Program, name: str) -> list[Path]:
    """Writes the driver, ``weft_hw.h`` and ``NAME.h`` and ``NAME.c`` of a program to ``folder``,
    created if need be; gives their paths.

    Raises
    ------
    InputError
        If a file cannot be written, or as :func:`~.program.program_files`.
    """
    files = program_files(program, name) | {"weft_hw.h": hardware_header()}
    own = resources.files("weft.firmware")
    files |= {each: own.joinpath(each).read_text(encoding="utf-8") for each in DRIVER}
    return write_folder(folder, files)
