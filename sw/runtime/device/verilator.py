"""The accelerator's own RTL as a device, simulated by Verilator."""

from collections.abc import Sequence
from pathlib import Path

from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Control, Register
from weft.sim.build import Build, Progress, build
from weft.sim.simulator import MemoryModel, RunStatus, Simulator
from weft.sim.trace import TraceFormat

from .base import DeviceTimeout, Event, EventKind

__all__ = ["VerilatorDevice"]


# Between slices Python handles signals, so that a run can be interrupted.
_SLICE_CYCLES = 200_000


class VerilatorDevice:
    """A :class:`weft.runtime.device.base.Device` that is simulated cycle by cycle.

    The simulator is built at the first use of a configuration and then found in a cache.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        The accelerator.
    memory_bytes : :class:`int`
        Size of the external memory, at least 1.
    latency, bandwidth, stall_probability, seed :
        Behaviour of the external memory, see :class:`weft.sim.simulator.MemoryModel`.
    trace : :class:`Path` or :class:`str`
        File to record all signals to, until the device is closed: ``.fst``, or ``.vcd``, which is
        many times larger.
    progress : callable
        Called with one line of text at each step of a build.
    simulator : :class:`Build`
        Use this build and not that of ``config``.

    Raises
    ------
    InputError
        If the trace file cannot be written.
    ToolError
        If the simulator cannot be built, or pylibfst for a ``.fst`` file is not installed.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int, latency: int = 32,
                 bandwidth: float | None = None, stall_probability: float = 0.0, seed: int = 0,
                 trace: str | Path | None = None, progress: Progress | None = None,
                 simulator: Build | None = None):
        memory = MemoryModel(bytes=memory_bytes, latency=latency, bandwidth=bandwidth,
                             stall_probability=stall_probability, seed=seed)
        if trace is not None:
            TraceFormat.of(trace)  # a wrong name shall not be found only after a build
        if simulator is None:
            simulator = build(config, progress=progress, trace=trace is not None)
        self._config = config
        self._doorbell = 0
        self._simulator = Simulator(simulator, memory)
        if trace is not None:
            self._simulator.trace_start(trace)

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration that is simulated."""
        return self._config

    @property
    def memory_bytes(self) -> int:
        """Size of the external memory."""
        return self._simulator.memory_bytes

    @property
    def simulator(self) -> Simulator:
        """The simulator itself, for injecting errors and counting bytes."""
        return self._simulator

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to external memory, in no simulated time."""
        self._simulator.write_memory(address, data)

    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of external memory, in no simulated time."""
        return self._simulator.read_memory(address, count)

    def write_register(self, register: int, value: int) -> None:
        """Write a register through the control port."""
        if register == Register.CONTROL and value & Control.START:
            self._simulator.clear_events()
            self._doorbell = self._simulator.cycle
        self._simulator.write_register(register, value)

    def read_register(self, register: int) -> int:
        """Read a register through the control port."""
        return self._simulator.read_register(register)

    def wait(self, timeout_cycles: int | None = None) -> None:
        """Simulate until the interrupt is up.

        Raises
        ------
        DeviceTimeout
            If it is not after ``timeout_cycles``.
        ProtocolError, RuleError
            If the accelerator breaks a rule of its buses, or one of its own.
        """
        left = timeout_cycles
        while True:
            cycles = _SLICE_CYCLES if left is None else min(left, _SLICE_CYCLES)
            if self._simulator.run_until_irq(cycles) is RunStatus.IRQ:
                return
            if left is not None:
                left -= cycles
                if left <= 0:
                    raise DeviceTimeout(f"Device did not raise its interrupt within "
                                        f"{timeout_cycles} cycles")

    def events(self) -> Sequence[Event]:
        """Starts and ends of commands since the last doorbell."""
        return [Event(Engine(event.engine), EventKind.DONE if event.done else EventKind.START,
                      event.index, event.cycle - self._doorbell)
                for event in self._simulator.events()]

    def close(self) -> None:
        """End the simulation; a trace is finished."""
        self._simulator.close()
