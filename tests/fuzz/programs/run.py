"""Runs batches of random command streams on two devices, which must agree."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from fuzz.programs.batch import CONFIGS, Batch, dump, entries, image, opening
from fuzz.programs.layout import Layout
from fuzz.programs.order import Command, encode_stream, tokens
from weft.errors import WeftError
from weft.hw.isa.commands import COMMAND_BYTES
from weft.hw.isa.registers import Counter
from weft.runtime.device.base import Device, DeviceStopped
from weft.runtime.device.driver import Driver
from weft.runtime.device.functional import FunctionalDevice
from weft.runtime.device.verilator import VerilatorDevice

__all__ = ["Difference", "Make", "compare", "rtl"]


_WATCHDOG = 20_000
_TIMEOUT = 3_000_000  # cycles of a stream

Make = Callable[[Batch], Device]


class Difference(Exception):
    """What the two devices disagree in, and the number of the stream."""

    def __init__(self, stream: int, text: str):
        self.stream = stream
        super().__init__(f"Stream {stream}: {text}")


class _Runner:
    """One of the two devices."""

    def __init__(self, device: Device):
        self.device = device
        self.driver = Driver(device, watchdog_cycles=_WATCHDOG)

    def run(self, address: int, stream: bytes) -> tuple[Any, ...]:
        """What is to be the same: how the stream ended, and what was moved."""
        self.device.write_memory(address, stream)
        try:
            result = self.driver.run(address, len(stream) // COMMAND_BYTES, commands=stream,
                                     timeout_cycles=_TIMEOUT)
        except DeviceStopped as stopped:
            self.driver.reset()
            return stopped.error.name, stopped.index
        except WeftError as error:  # no interrupt, or a rule of the bus is broken
            return type(error).__name__, str(error)
        return ("DONE", len(stream) // COMMAND_BYTES, result.counters[Counter.READ_BEATS],
                result.counters[Counter.WRITE_BEATS])


def rtl(batch: Batch) -> Device:
    """The RTL of a batch's configuration, on a memory that behaves as the batch says."""
    return VerilatorDevice(CONFIGS[batch.config], memory_bytes=Layout.MEMORY_BYTES, **batch.memory)


def compare(batch: Batch, make: Make = rtl) -> int:
    """Runs a batch on both devices; returns how many streams were stopped by an error.

    Parameters
    ----------
    make : callable
        Gives the device that is to do what the functional one does.

    Raises
    ------
    Difference
    """
    config = CONFIGS[batch.config]
    device = make(batch)
    try:
        return _compare(batch, [
            _Runner(FunctionalDevice(config, memory_bytes=Layout.MEMORY_BYTES)), _Runner(device)])
    finally:
        device.close()


def _compare(batch: Batch, runners: Sequence[_Runner]) -> int:
    config, layout = CONFIGS[batch.config], batch.layout
    rng = random.Random(batch.seed)
    contents = image(batch)
    stopped = 0

    def run(number: int, address: int, commands: Sequence[Command]) -> tuple[Any, ...]:
        spare = random.Random(f"{batch.seed} {number}")
        stream = encode_stream(commands, tokens(config, commands, spare), spare)
        expected, found = (runner.run(address, stream) for runner in runners)
        if expected != found:
            raise Difference(number, f"ends with {found}, should end with {expected}")
        return expected

    def check_memory(number: int) -> None:
        expected, found = (runner.device.read_memory(0, Layout.MEMORY_BYTES)
                           for runner in runners)
        if expected != found:
            wrong = [at for at in range(Layout.MEMORY_BYTES) if expected[at] != found[at]]
            where = ", ".join(f"{at:#x}" for at in wrong[:8])
            raise Difference(number, f"{len(wrong)} bytes differ, at {where}"
                                     f"{' ...' if len(wrong) > 8 else ''}")

    fresh = False
    for number, stream in enumerate(batch.streams):
        if not fresh:
            for runner in runners:
                runner.device.write_memory(0, contents)
            run(number, 0, opening(layout))
            fresh = True
        for command in stream:
            if command.places and command.origin is None:
                for runner in runners:
                    runner.device.write_memory(command.fields["address"],
                                               entries(config, command, batch.seed))
        room = len(Layout.COMMANDS) - len(stream) * COMMAND_BYTES
        end = run(number, rng.randrange(0, room, COMMAND_BYTES), stream)
        if end[0] == "DONE":
            run(number, 0, [dump(layout)])
            check_memory(number)
        else:  # what others wrote meanwhile is not defined
            stopped += 1
            fresh = False
    return stopped
