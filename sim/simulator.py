"""The simulator as a Python object: a thin binding of ``harness.cpp``."""

import ctypes
import os
import struct
from contextlib import suppress
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from weft.errors import InputError, ToolError, WeftError
from weft.hw.verilog import broken_rule

from .build import Build
from .cache import mark_used
from .trace import FstFunctions, TraceFormat, fst_end_time, fst_functions

__all__ = ["MemoryModel", "ProtocolError", "RuleError", "RunStatus", "SimulatorEvent", "Simulator"]


class ProtocolError(WeftError):
    """The simulated hardware broke a rule of AXI4 or AXI4-Lite."""


class RuleError(WeftError):
    """The simulated hardware failed one of its own checks, see :mod:`weft.hw.lib.checks`."""

    def __init__(self, build: Build, line: int, cycle: int):
        rule = broken_rule(build.verilog.read_text(encoding="utf-8"), line)
        super().__init__(f"The accelerator broke a rule of its own before cycle {cycle}, which is "
                         f"a defect of Weft; please report it: {rule}")


class RunStatus(IntEnum):
    """Why a run ended."""
    IRQ     = 0
    TIMEOUT = 1


_PROTOCOL = 2
_RULE = 3


class SimulatorEvent(NamedTuple):
    """One pulse of the event ports; ``cycle`` counts from the creation of the simulator."""
    engine: int
    done: bool
    index: int  # type: ignore[assignment]  # hides a method of tuples that nobody needs here
    cycle: int


_EVENT = struct.Struct("<QHBB4x")


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """How the simulated external memory behaves.

    Parameters
    ----------
    bytes : :class:`int`
        Size, at least 1. Pages that are never touched cost nothing.
    latency : :class:`int`
        Cycles from an accepted address to the first beat, and from the last beat written to the
        response. At least 1.
    bandwidth : :class:`float`
        Beats per cycle, reads and writes together: above 0, up to 2. Without it, each direction
        moves a beat in every cycle.
    stall_probability : :class:`float`
        Probability, 0..0.95, with which each of the five channels pauses in a cycle. Above 0,
        beats of reads with different identifiers are also interleaved at random.
    seed : :class:`int`
        Of all that is random, 0..2**64-1.
    outstanding : :class:`int`
        Bursts accepted ahead, for each read identifier and for writes: 1..64.
    """

    bytes: int
    latency: int = 32
    bandwidth: float | None = None
    stall_probability: float = 0.0
    seed: int = 0
    outstanding: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.bytes < 1 << 48:
            raise InputError(f"Memory bytes must be at least 1, not {self.bytes!r}")
        if not 1 <= self.latency < 1 << 20:
            raise InputError(f"Memory latency must be between 1 and {(1 << 20) - 1} cycles, "
                             f"not {self.latency!r}")
        if self.bandwidth is not None and not 0.001 <= self.bandwidth <= 2:
            raise InputError(f"Memory bandwidth must be between 0.001 and 2 beats per cycle, "
                             f"not {self.bandwidth!r}")
        if not 0 <= self.stall_probability <= 0.95:
            raise InputError(f"Stall probability must be between 0 and 0.95, "
                             f"not {self.stall_probability!r}")
        if not 0 <= self.seed < 1 << 64:
            raise InputError(f"Seed must be between 0 and 2**64 - 1, not {self.seed!r}")
        if not 1 <= self.outstanding <= 64:
            raise InputError(f"Outstanding bursts must be between 1 and 64, "
                             f"not {self.outstanding!r}")


class _Parameters(ctypes.Structure):
    """``MemoryParameters`` of the harness."""
    _fields_ = [("bytes", c_uint64), ("seed", c_uint64), ("latency", c_uint32),
                ("bandwidth", c_uint32), ("stall", c_uint32), ("outstanding", c_uint32)]


_FUNCTIONS: dict[str, tuple[list[Any], Any]] = {
    "weft_create":             ([c_void_p], c_void_p),
    "weft_destroy":            ([c_void_p], None),
    "weft_reset":              ([c_void_p], None),
    "weft_run_until_irq":      ([c_void_p, c_uint64], c_int),
    "weft_run":                ([c_void_p, c_uint64], c_int),
    "weft_rule_line":          ([c_void_p], c_int),
    "weft_cycle":              ([c_void_p], c_uint64),
    "weft_protocol_error":     ([c_void_p], c_char_p),
    "weft_reg_write":          ([c_void_p, c_uint32, c_uint32], c_int),
    "weft_reg_read":           ([c_void_p, c_uint32, POINTER(c_uint32)], c_int),
    "weft_memory":             ([c_void_p, c_uint64, c_uint64], c_void_p),
    "weft_read_bytes":         ([c_void_p], c_uint64),
    "weft_write_bytes":        ([c_void_p], c_uint64),
    "weft_add_error_range":    ([c_void_p, c_uint64, c_uint64], None),
    "weft_clear_error_ranges": ([c_void_p], None),
    "weft_stop_memory":        ([c_void_p, c_uint64], None),
    "weft_event_count":        ([c_void_p], c_uint64),
    "weft_events":             ([c_void_p], c_void_p),
    "weft_clear_events":       ([c_void_p], None),
    "weft_trace_start":        ([c_void_p, c_char_p, POINTER(FstFunctions)], c_int),
    "weft_trace_error":        ([c_void_p], c_int),
    "weft_trace_stop":         ([c_void_p], c_int),
}

_NEVER = (1 << 64) - 1


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolError(f"The simulator {path} cannot be loaded ({error}): delete its folder to "
                        f"have it built again") from None
    for name, (arguments, result) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = result
    return library


class Simulator:
    """One accelerator under simulation, with its memory; reset and ready.

    Parameters
    ----------
    build : :class:`Build`
        From :func:`weft.sim.build.build`.
    memory : :class:`MemoryModel`
        The external memory, all zero at first.
    """

    def __init__(self, build: Build, memory: MemoryModel):
        self._build = build
        self._trace: Path | None = None
        self._trace_start = 0
        self._bytes = memory.bytes
        self._handle: int | None = None
        self._library = _load(build.library)
        mark_used(build.library.parent)
        parameters = _Parameters(
            bytes=memory.bytes, seed=memory.seed, latency=memory.latency,
            bandwidth=0 if memory.bandwidth is None else round(memory.bandwidth * 65536),
            stall=round(memory.stall_probability * 4096), outstanding=memory.outstanding)
        self._handle = self._library.weft_create(ctypes.byref(parameters))
        if not self._handle:
            raise InputError(f"Memory of {memory.bytes} bytes cannot be allocated")

    def close(self) -> None:
        """Free everything; a trace is finished, see :meth:`trace_stop`."""
        if self._handle:
            try:
                self.trace_stop()
            finally:
                self._library.weft_destroy(self._handle)
                self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(InputError):
            self.close()

    def _open(self) -> int:
        if not self._handle:
            raise InputError("The simulator is closed")
        return self._handle

    def _check(self, status: int) -> int:
        if status == _RULE:
            raise RuleError(self._build, self._library.weft_rule_line(self._handle), self.cycle)
        if status == _PROTOCOL:
            text = self._library.weft_protocol_error(self._handle).decode()
            raise ProtocolError(f"The accelerator broke the bus protocol in {text}")
        return status

    def _check_trace(self) -> None:
        if self._library.weft_trace_error(self._handle):
            self.trace_stop()

    def reset(self) -> None:
        """Hold the reset for some cycles. Memory contents and totals stay."""
        self._library.weft_reset(self._open())

    def run_until_irq(self, max_cycles: int) -> RunStatus:
        """Run until the interrupt is up, at most ``max_cycles``.

        Raises
        ------
        InputError
            If the file of a trace cannot be written any more.
        ProtocolError, RuleError
            If the accelerator breaks a rule of its buses, or one of its own.
        """
        status = self._check(self._library.weft_run_until_irq(self._open(), max_cycles))
        self._check_trace()
        return RunStatus(status)

    def run(self, cycles: int) -> None:
        """Run for ``cycles``, whatever the accelerator does.

        Raises
        ------
        InputError
            If the file of a trace cannot be written any more.
        ProtocolError, RuleError
            If the accelerator breaks a rule of its buses, or one of its own.
        """
        self._check(self._library.weft_run(self._open(), cycles))
        self._check_trace()

    @property
    def cycle(self) -> int:
        """Clock cycles since the simulator was created."""
        return int(self._library.weft_cycle(self._open()))

    @property
    def read_bytes(self) -> int:
        """Bytes of all beats read from memory by the accelerator."""
        return int(self._library.weft_read_bytes(self._open()))

    @property
    def write_bytes(self) -> int:
        """Bytes written to memory by the accelerator, by their strobes."""
        return int(self._library.weft_write_bytes(self._open()))

    @property
    def memory_bytes(self) -> int:
        """Size of the external memory."""
        return self._bytes

    def write_register(self, address: int, value: int) -> None:
        """Write a register through the control port, which takes some cycles."""
        self._check(self._library.weft_reg_write(self._open(), address, value & 0xffff_ffff))

    def read_register(self, address: int) -> int:
        """Read a register through the control port, which takes some cycles."""
        value = c_uint32()
        self._check(self._library.weft_reg_read(self._open(), address, ctypes.byref(value)))
        return value.value

    def _locate(self, address: int, count: int) -> int:
        if address < 0 or count < 0 or address + count > self._bytes:
            raise InputError(f"Memory access must lie within the {self._bytes} bytes of memory, "
                             f"not {count} bytes at {address:#x}")
        return int(self._library.weft_memory(self._open(), address, count))

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to memory, in no time."""
        raw = bytes(data)
        ctypes.memmove(self._locate(address, len(raw)), raw, len(raw))

    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of memory, in no time."""
        return ctypes.string_at(self._locate(address, count), count)

    def events(self) -> list[SimulatorEvent]:
        """The event pulses since they were last cleared."""
        handle = self._open()
        count = self._library.weft_event_count(handle)
        if not count:
            return []
        raw = ctypes.string_at(self._library.weft_events(handle), count * _EVENT.size)
        return [SimulatorEvent(engine, bool(done), index, cycle)
                for cycle, index, engine, done in _EVENT.iter_unpack(raw)]

    def clear_events(self) -> None:
        """Forget all event pulses."""
        self._library.weft_clear_events(self._open())

    def add_error_range(self, start: int, end: int) -> None:
        """Answer SLVERR to accesses that touch ``start <= address < end``."""
        self._library.weft_add_error_range(self._open(), start, end)

    def clear_error_ranges(self) -> None:
        """No SLVERR any more."""
        self._library.weft_clear_error_ranges(self._open())

    def stop_memory(self, *, after_beats: int = 0) -> None:
        """Let the memory fall silent after so many more beats: nothing is accepted or answered."""
        self._library.weft_stop_memory(self._open(), after_beats)

    def resume_memory(self) -> None:
        """Let a memory that was stopped go on where it was."""
        self._library.weft_stop_memory(self._open(), _NEVER)

    def trace_start(self, path: str | Path) -> None:
        """Record all signals to a file, ``.vcd`` or ``.fst``; a time unit is half a clock cycle.

        Raises
        ------
        InputError
            If this simulator was not built to record, or the file cannot be written.
        ToolError
            If the file is to be ``.fst`` and pylibfst is not installed.
        """
        functions = fst_functions() if TraceFormat.of(path) is TraceFormat.FST else None
        if not self._build.trace:
            raise InputError("Recording needs a simulator that was built for it, with trace=True")
        self.trace_stop()
        if error := self._library.weft_trace_start(self._open(), str(path).encode(), functions):
            raise _trace_error(path, os.strerror(error))
        self._trace = Path(path)
        self._trace_start = self.cycle

    def trace_stop(self) -> None:
        """Finish the file of :meth:`trace_start`, if there is one.

        Raises
        ------
        InputError
            If it is not whole.
        """
        error = self._library.weft_trace_stop(self._open())
        path, self._trace = self._trace, None
        if path is None:
            return
        if error:
            raise _trace_error(path, os.strerror(error))
        if TraceFormat.of(path) is TraceFormat.FST and self.cycle > self._trace_start \
                and fst_end_time(path) != 2 * self.cycle - 1:
            raise _trace_error(path, "it is not whole; is there space left?")


def _trace_error(path: str | Path, reason: str) -> InputError:
    return InputError(f"The trace file {path} cannot be written: {reason}")
