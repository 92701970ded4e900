"""Loads a bitstream into a board."""

import shutil
import subprocess
from pathlib import Path

from weft.boards.board import Board
from weft.errors import InputError, ToolError

__all__ = ["program"]


_LOADER = "openFPGALoader"


def program(board: Board, bitstream: Path, *, flash: bool = False) -> str:
    """Loads ``bitstream`` into ``board`` with openFPGALoader, or says how to.

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
        What was done, or is to be done.

    Raises
    ------
    InputError
        If there is no such file, or its kind is another family's.
    ToolError
        If openFPGALoader fails.
    """
    suffix = board.family.tools.image
    if bitstream.suffix != suffix:
        raise InputError(f"Bitstream for {board.name} must be a {suffix} file, not {bitstream}")
    if not bitstream.is_file():
        raise InputError(f"Bitstream {bitstream} cannot be read: there is no such file")
    command = [_LOADER, "--board", board.loader, *(["--write-flash"] if flash else []),
               str(bitstream)]
    line = " ".join(command)
    if shutil.which(_LOADER) is None:
        return (f"{_LOADER} was not found (Debian, Ubuntu: apt install openfpgaloader). The "
                f"command is:\n{line}")
    result = subprocess.run(command, check=False)
    if result.returncode:
        raise ToolError(f"{line} failed with exit code {result.returncode}: is the board "
                        f"connected, and may you use its USB port?")
    return f"{board.title} runs {bitstream}"
