"""The steps of a self-test, from the line to a network."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from weft.boards.board import Board
from weft.digits import MODEL
from weft.errors import WeftError
from weft.hw.isa.config import AcceleratorConfig
from weft.runtime.device import Device, Driver
from weft.runtime.device.design import check_design
from weft.runtime.device.serial import SerialDevice
from weft.runtime.runner import run_frames
from weft.runtime.session import InferenceSession

from .kernels import kernels, run_copy, run_kernel
from .memory import Flaw, check_address_lines, check_data_lines, check_random_data

__all__ = ["Report", "Step", "self_test"]


_FRAMES = 2  # of the network; the first loads its constants, the second is timed
_HOLD_REFRESHES = 1.1  # of all rows of a chip, at least, while data is held


@dataclass(frozen=True, kw_only=True)
class Step:
    """What was tested.

    Parameters
    ----------
    name : :class:`str`
    text : :class:`str`
        What came of it, or what is wrong.
    passed : :class:`bool`
    seconds : :class:`float`
        Wall time.
    """

    name: str
    text: str
    passed: bool
    seconds: float


@dataclass(kw_only=True)
class Report:
    """What came of a self-test.

    Attributes
    ----------
    board : :class:`~weft.boards.board.Board`
    device : :class:`str`
        By what name it was opened.
    steps : list of :class:`Step`
        The last one is the one that failed, if one did.
    clock_mhz : :class:`float`
        As the board states it; 0 if it was not asked.
    design : :class:`int`
        The hash of what it was built from.
    cycles : :class:`int`
        Of a frame of the digits network, by the board's counter.
    line_frames : :class:`float`
        Frames per second over the line.
    counters : :class:`dict`
        Of that frame.
    """

    board: Board
    device: str
    steps: list[Step] = field(default_factory=list)
    clock_mhz: float = 0.0
    design: int = 0
    cycles: int = 0
    line_frames: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return all(step.passed for step in self.steps)

    @property
    def frames(self) -> float:
        """Frames per second that the accelerator computes."""
        return self.clock_mhz * 1e6 / self.cycles if self.cycles else 0.0


def self_test(board: Board, device: str, open_device: Callable[[], SerialDevice], *,
              sample_bytes: int, hold_seconds: float = 0,
              progress: Callable[[str], None] = lambda text: None,
              observe: Callable[[Step], None] = lambda step: None) -> Report:
    """Tests a board until something is wrong with it.

    Parameters
    ----------
    board : :class:`~weft.boards.board.Board`
        What it is meant to be.
    device : :class:`str`
        For the report.
    open_device : callable
        Opens it; it is closed at the end.
    sample_bytes : :class:`int`
        How much of the memory gets random data.
    hold_seconds : :class:`float`
        How long a chip beside the FPGA has to keep them, at least; for as long as each row is
        refreshed once in any case.
    progress : callable
        Told what is being done.
    observe : callable
        Given each step when it is over.
    """
    report = Report(board=board, device=device)
    test = _SelfTest(report, sample_bytes, hold_seconds, progress, observe)
    try:
        test.run(open_device)
    except _Stop:
        pass
    finally:
        test.close()
    return report


class _Stop(Exception):
    """A step has failed."""


class _SelfTest:
    def __init__(self, report: Report, sample_bytes: int, hold_seconds: float,
                 progress: Callable[[str], None], observe: Callable[[Step], None]):
        chip = report.board.memory.chip
        self._report = report
        self._sample_bytes = sample_bytes
        self._hold_seconds = 0 if chip is None else max(
            hold_seconds, _HOLD_REFRESHES * chip.refresh_ms / 1000)
        self._progress = progress
        self._observe = observe
        self._device: SerialDevice | None = None

    def close(self) -> None:
        if self._device is not None:
            self._device.close()

    @contextmanager
    def _step(self, name: str) -> Iterator[list[str]]:
        """A step, which fills the list with what came of it."""
        self._progress(f"Testing: {name}")
        start, words = time.perf_counter(), list[str]()
        failed = None
        try:
            yield words
        except WeftError as error:
            failed = str(error)
        step = Step(name=name, text=", ".join(words) if failed is None else failed,
                    passed=failed is None, seconds=time.perf_counter() - start)
        self._report.steps.append(step)
        self._observe(step)
        if failed is not None:
            raise _Stop

    def run(self, open_device: Callable[[], SerialDevice]) -> None:
        report, config = self._report, self._report.board.config
        with self._step("connection") as words:
            device = self._device = open_device()
            report.clock_mhz, report.design = device.clock_mhz, device.design
            words += [f"{device.memory_bytes:,} bytes of memory", f"{device.clock_mhz:g} MHz"]
            device.remember(None)  # a network that was kept in memory is about to be lost
        with self._step("configuration") as words:
            driver = Driver(device)
            words += [f"{config.name}, {config.rate_text}"]
        with self._step("design") as words:
            words += [check_design(report.board, device)]
        with self._step("data lines") as words:
            words += [check_data_lines(device, config.axi_bytes)]
        with self._step("address lines") as words:
            words += [check_address_lines(device)]
        with self._step("memory") as words:
            words += [check_random_data(device, self._sample_bytes,
                                        hold_seconds=self._hold_seconds)]
        with self._step("load and store") as words:
            words += run_copy(driver)
        for kernel in kernels(config):
            with self._step(kernel.graph.name) as words:
                words += [run_kernel(driver, kernel)]
        with self._step("digits") as words:
            words += [self._run_digits(device)]
        with self._step("serial line") as words:
            words += [_check_line(device)]

    def _run_digits(self, device: SerialDevice) -> str:
        def reopen(config: AcceleratorConfig, *, memory_bytes: int) -> Device:
            if memory_bytes > device.memory_bytes:
                raise Flaw(f"Digits network needs {memory_bytes} bytes of memory, and the board "
                           f"has {device.memory_bytes}")
            return device

        report = self._report
        # A session closes its device, which is the caller's here: it is left open.
        session = InferenceSession(MODEL, config=report.board.config, device=reopen)
        info, = session.get_inputs()
        images = np.random.default_rng(4).integers(0, 17, (_FRAMES, *info.shape[1:]))
        run = run_frames(session, {info.name: images.astype(np.float32)}, model=MODEL.name,
                         device=report.device, verify=True)
        if run.differing:
            assert run.first is not None
            frame, mismatch = run.first
            raise Flaw(f"Digits network gives {run.differing} of {run.compared} bytes that differ "
                       f"from {run.golden}'s; frame {frame + 1}: {mismatch}")
        report.cycles, report.counters = run.cycles[-1], dict(run.last.counters)
        report.line_frames = len(run.cycles) / run.seconds
        return f"{_FRAMES} frames equal {run.golden}'s, {report.cycles:,} cycles each"


def _check_line(device: SerialDevice) -> str:
    link = device.link
    if link.repeated:
        raise Flaw(f"Serial line lost or damaged bytes: {link.repeated} of {link.requests:,} "
                   f"requests were sent again; no result is wrong, but check cable, ground and "
                   f"baud rate")
    return f"{link.requests:,} requests, none sent again"
