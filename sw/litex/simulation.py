"""A LiteX SoC with a VexRiscv, simulated by Verilator: its processor runs a program in C."""

import importlib.util
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from weft.errors import ToolError
from weft.errors.distribution import install_command
from weft.hw.isa.config import AcceleratorConfig
from weft.sim.steps import Steps
from weft.sim.toolchain import MAKE_VARIABLES, tool_environment, verilator

from .core import add_weft

try:
    from litex.build.generic_platform import Pins, Subsignal
    from litex.build.io import CRG
    from litex.build.sim import SimPlatform
    from litex.soc.integration import export
    from litex.soc.integration.soc_core import SoCCore
except ImportError:
    raise ToolError(f"LiteX is not installed in this Python environment: run "
                    f"{install_command('litex')}") from None

__all__ = ["SimulatedSoC"]


_TOP = "weft_soc"
_CLOCK_HZ = 1_000_000   # for what divides it; nothing does here
_ROM_BYTES, _RAM_BYTES = 1 << 17, 1 << 17

# A character and its handshake, in place of a serial line.
_SERIAL = {"source_valid": 1, "source_ready": 1, "source_data": 8,
           "sink_valid": 1, "sink_ready": 1, "sink_data": 8}

_CPU = ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m")
_WARNINGS = ("-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror")


class SimulatedSoC:
    """A SoC with an accelerator on its bus: VexRiscv, ROM, 128 KiB of main RAM for both, UART.

    Parameters
    ----------
    config : :class:`~weft.hw.isa.config.AcceleratorConfig`
    folder : :class:`Path`
        Where everything is built; it must exist.

    Raises
    ------
    InputError
        As :class:`~.core.WeftCore`.
    ToolError
        If the compiler or a tool of the simulation is missing.
    """

    def __init__(self, config: AcceleratorConfig, folder: Path):
        if importlib.util.find_spec("ziglang") is None:
            raise ToolError(f"Zig, whose C compiler makes programs for the processor, is not "
                            f"installed: run {install_command('litex')}")
        self._folder = folder.absolute()
        environment = tool_environment() | {
            "ZIG_GLOBAL_CACHE_DIR": str(self._folder / "zig"),
            "MAKEFLAGS": " ".join(f"{key}={value}" for key, value in MAKE_VARIABLES.items())}
        self._steps = Steps(self._folder, self._folder / "build.log", environment)
        platform = SimPlatform("SIM", [
            ("sys_clk", 0, Pins(1)),
            ("serial", 0, *(Subsignal(name, Pins(width)) for name, width in _SERIAL.items()))],
            name=_TOP)
        self._soc = soc = SoCCore(
            platform, _CLOCK_HZ, cpu_type="vexriscv", integrated_rom_size=_ROM_BYTES,
            integrated_main_ram_size=_RAM_BYTES, uart_name="sim")
        soc.crg = CRG(platform.request("sys_clk"))
        add_weft(soc, config, folder=self._folder)
        soc.finalize()

    def compile(self, sources: list[Path]) -> bytes:
        """The contents of the ROM, from sources in C, with LiteX's start-up code and headers.

        Raises
        ------
        ToolError
            If they cannot be compiled.
        """
        folder, soc = self._folder, self._soc
        headers = {
            "mem.h": export.get_mem_header(soc.mem_regions),
            "soc.h": export.get_soc_header(soc.constants),
            "csr.h": export.get_csr_header(soc.csr_regions, soc.constants),
            "regions.ld": export.get_linker_regions(soc.mem_regions),
            "output_format.ld": export.get_linker_output_format(soc.cpu)}
        (folder / "generated").mkdir(exist_ok=True)
        for name, text in headers.items():
            (folder / "generated" / name).write_text(text, encoding="utf-8")
        litex = Path(str(resources.files("litex.soc")))
        cpu = litex / "cores" / "cpu" / "vexriscv"
        self._steps.run("The C compiler", [
            sys.executable, "-m", "ziglang", "cc", *_CPU, *_WARNINGS, "-ffreestanding", "-static",
            f"-I{folder}", f"-I{litex / 'software' / 'include'}", f"-I{cpu}", f"-L{folder}",
            f"-Wl,-T,{litex / 'software' / 'bios' / 'linker.ld'}", str(cpu / "crt0.S"),
            *(str(path.absolute()) for path in sources), "-o", "program.elf"])
        return _contents((folder / "program.elf").read_bytes())

    def build(self, rom: bytes) -> Path:
        """The simulator of the SoC with these contents of its ROM.

        Raises
        ------
        ToolError
            If a tool fails.
        """
        folder, soc = self._folder, self._soc
        soc.init_rom("rom", list(struct.unpack(f"<{len(rom) // 4}I", rom)))
        verilog = soc.platform.get_verilog(soc, name=_TOP)
        files: Mapping[str, str] = {f"{_TOP}.v": verilog.main_source, **verilog.data_files}
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        own = Path(str(resources.files("weft.litex"))) / "demo" / "main.cpp"
        self._steps.run("Verilator", [
            str(verilator()), "--cc", "--exe", "--build", "-j", "2", "-O3", "--x-assign", "fast",
            "--x-initial", "fast", "--no-timing", "--noassert", "-Wno-fatal", "-Wno-lint",
            "-Wno-style", "-CFLAGS", "-O1", "--top-module", _TOP, "-Mdir", "cpp", f"{_TOP}.v",
            *(name for name, *_ in soc.platform.sources), str(own), "-o", "simulator"])
        return folder / "cpp" / "simulator"

    def run(self, simulator: Path, cycles: int, line: Callable[[str], Any]) -> None:
        """Runs the SoC until its program ends the transmission.

        Parameters
        ----------
        cycles : :class:`int`
            The most it may take.
        line : callable
            Told each line that it prints, as soon as it does.

        Raises
        ------
        ToolError
            If the program does not end in time.
        """
        with subprocess.Popen([str(simulator), str(cycles)], cwd=self._folder,
                              stdout=subprocess.PIPE, text=True, errors="replace") as process:
            assert process.stdout is not None
            try:
                for text in process.stdout:
                    line(text.rstrip("\n"))
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise ToolError(f"Program on the simulated SoC must end within {cycles} cycles, and "
                            f"did not")


def _contents(elf: bytes) -> bytes:
    """What a 32-bit little-endian ELF file loads, from address 0, in whole words."""
    offset, = struct.unpack_from("<I", elf, 28)
    size, count = struct.unpack_from("<2H", elf, 42)
    image = bytearray()
    for number in range(count):
        kind, start, _, address, length = struct.unpack_from("<5I", elf, offset + number * size)
        if kind == 1 and length:   # PT_LOAD, at its physical address
            image.extend(bytes(max(0, address + length - len(image))))
            image[address:address + length] = elf[start:start + length]
    return bytes(image) + bytes(-len(image) % 4)
