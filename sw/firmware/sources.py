"""Writes a folder with all that a C compiler needs to run a program."""

from importlib import resources
from pathlib import Path

from weft.compiler import Program
from weft.errors import InputError
from weft.files.output import write_text

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Folder {folder} cannot be written: {error.strerror}") from None
    for file, text in files.items():
        write_text(folder / file, text)
    return [folder / file for file in files]
