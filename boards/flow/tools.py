"""The FPGA tools: native ones where they are on the PATH, else those of the Python packages."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from weft.errors import ToolError
from weft.errors.distribution import install_command

from .names import rename

__all__ = ["find_tool", "run_tool", "run_yosys"]


def find_tool(name: str) -> str:
    """The program that answers to ``name``: ``yosys``, ``nextpnr-ecp5``, ``ecppack``, ...

    Python packages install it beside the Python interpreter; those of YoWASP call it
    ``yowasp-NAME``.

    Raises
    ------
    ToolError
        If there is neither.
    """
    beside = str(Path(sys.executable).parent)
    found = next(filter(None, (shutil.which(program, path=path) for path in (None, beside)
                               for program in (name, f"yowasp-{name}"))), None)
    if found is None:
        raise ToolError(f"{name} was not found: run {install_command('fpga')}, which brings it as "
                        f"a Python package, or put a native one on the PATH")
    return found


def run_yosys(design: str, commands: str, *, folder: Path) -> None:
    """Runs Yosys in ``folder``; ``synthesis.log`` gets all that it says.

    Parameters
    ----------
    design : :class:`str`
        In RTLIL, as Amaranth writes it.
    commands : :class:`str`
        For the design once it is read, separated by semicolons.

    Raises
    ------
    ToolError
        If it is missing or fails.
    """
    (folder / "top.il").write_text(rename(design), encoding="utf-8")
    # YoWASP's Yosys says nothing on its standard output once ABC has run.
    log = folder / "synthesis.log"
    run_tool([find_tool("yosys"), "-q", "-l", log.name, "-p", f"read_rtlil top.il; {commands}"],
             folder=folder, log=log, writes_log=True)


def run_tool(command: Sequence[str], *, folder: Path, log: Path, writes_log: bool = False,
             stop: Callable[[str], bool] = lambda line: False) -> bool:
    """Runs a tool in ``folder``; ``log`` gets all that it says.

    Parameters
    ----------
    writes_log : :class:`bool`
        The tool writes it by itself.
    stop : callable
        Told each line that the tool says; whether to stop it.

    Returns
    -------
    :class:`bool`
        Whether it ran to its end.

    Raises
    ------
    ToolError
        If it fails; the message has the tool's own error and the name of the log.
    """
    if writes_log:
        log.unlink(missing_ok=True)
    with (open(os.devnull, "wb") if writes_log else log.open("wb", buffering=0) as file,
          subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT) as process):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                if stop(line.decode(errors="replace")):
                    process.kill()
                    return False
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return True
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] \
        or [f"exit code {process.returncode}, without a message"]
    raise ToolError(f"{Path(command[0]).name} failed: {errors[0].removeprefix('ERROR:').strip()} "
                    f"(log: {log})")
