"""Hardware and timing model read their latencies and depths in one place: whoever changes one there
changes both, and the cycles of the one are still those of the other."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from command_streams import load, lookup, matrix, store, vector, window
from pysim_device import PysimDevice
from sweeps import sweep

from weft.compiler.timing.player import MemoryTiming, play
from weft.hw.bus.dma_write import WriteEngine
from weft.hw.control.dispatch import Dispatcher
from weft.hw.control.fetch import CommandFetch
from weft.hw.isa.commands import Memory, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import COUNTER_BASE, Control, Counter, Register
from weft.hw.lib.queue import Queue
from weft.hw.matrix.pe import ProcessingElement
from weft.hw.requantize.float32 import FloatScale
from weft.hw.transfer.front import TransferFront
from weft.hw.transfer.store import StoreEngine
from weft.hw.vector.alu import VectorAlu
from weft.hw.vector.decode import VectorDecoder
from weft.hw.vector.issue import VectorIssue

LEAST = AcceleratorConfig(
    name="least", rows=2, cols=2, requant_lanes=1, activation_bytes=4096, weight_bytes=1024,
    accumulator_pixels=16, parameter_channels=16, axi_data_width=32, axi_burst_beats=16,
    axi_outstanding=8, activation_banks=2, queue_depth=2, vector_taps=1, vector_entries=8,
    vector_tables=1, counters=False)


@dataclass(frozen=True)
class Stream:
    """Commands, and the latency of the memory that they meet, as the model counts it."""
    commands: tuple[bytes, ...]
    latency: int


STREAMS = {
    # The engine waits for its commands; for the data; for responses.
    "loads":        Stream((load(1, memory=Memory.ACTIVATION),) * 5, 12),
    "lines":        Stream((load(2, 5, memory=Memory.ACTIVATION),) * 2, 4),
    "stores":       Stream((store(20),) * 5, 60),
    "long store":   Stream((store(60),), 20),
    # Tiles of an array that computes, and then is drained; operations of both kinds.
    "convolutions": Stream((matrix(16, 8, kernel=2, columns=2),) * 2, 4),
    "lookups":      Stream((lookup(6),) * 2, 4),
    "products":     Stream((vector(VectorOp.CONV, 4, taps=3),) * 2, 4),
}

ADDRESS = 1 << 15  # of the commands


def elaborated(config: AcceleratorConfig, latency: int) -> PysimDevice:
    """The RTL as it is now."""
    # This memory counts from the cycle after an address.
    return PysimDevice(config, memory_bytes=1 << 16, latency=latency - 1)


shared = cache(elaborated)


def cycles(stream: Stream, device: PysimDevice, config: AcceleratorConfig) -> tuple[int, int]:
    """From doorbell to interrupt: of the RTL and of the model as it is now."""
    raw = b"".join(stream.commands)
    device.write_memory(ADDRESS, raw)
    for register, value in ((Register.COMMAND_ADDR, ADDRESS), (Register.IRQ_ENABLE, 1),
                            (Register.COMMAND_COUNT, len(stream.commands)),
                            (Register.CONTROL, Control.START)):
        device.write_register(register, value)
    device.wait()
    found = device.read_register(COUNTER_BASE + 4 * Counter.CYCLES)
    timeline = play(raw, config, address=ADDRESS, memory=MemoryTiming(latency=stream.latency))
    return found, timeline.cycles


@cache
def unperturbed(name: str) -> tuple[int, int]:
    stream = STREAMS[name]
    return cycles(stream, shared(LEAST, stream.latency), LEAST)


@pytest.mark.parametrize("component, attribute, value, stream", [
    (CommandFetch, "OUTSTANDING", 1, "loads"),
    (ProcessingElement, "MULTIPLIER_LATENCY", 5, "convolutions"),
    (Dispatcher, "IN_FLIGHT", 2, "stores"),
    (Queue, "DISTRIBUTED_DEPTH", 8, "stores"),
    (TransferFront, "SETTLING", 3, "lines"),
    (StoreEngine, "OPEN_COMMANDS", 2, "stores"),
    (StoreEngine, "WORDS_AHEAD", 17, "long store"),
    (WriteEngine, "BUFFER_BURSTS", 1, "long store"),
    (FloatScale, "MULTIPLIER_LATENCY", 7, "convolutions"),
    (FloatScale, "MULTIPLIER_LATENCY", 4, "products"),
    (VectorAlu, "MULTIPLIER_LATENCY", 7, "products"),
    (VectorDecoder, "LATENCY", 6, "lookups"),
    (VectorIssue, "QUEUE_DEPTH", 17, "lookups"),
])
def test_model_and_hardware_change_together(component: Any, attribute: str, value: int,
                                            stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = unperturbed(stream)
    assert before[0] == before[1]
    monkeypatch.setattr(component, attribute, value)
    device = elaborated(LEAST, STREAMS[stream].latency)
    found, expected = cycles(STREAMS[stream], device, LEAST)
    assert found == expected
    assert found != before[0]


# Size, strides and padding.
WINDOWS = [(3, (1, 1), 1), (3, (2, 2), 0), (5, (1, 1), 2), (5, (1, 1), 0), (5, (2, 2), 2),
           (5, (3, 1), 4)]


@pytest.mark.parametrize("window_of, taps", sweep(
    WINDOWS, (6, 10), fast=lambda window_of, taps: taps == (6 if window_of[0] == 5 else 10)))
def test_windows_of_kept_rows_take_as_long_as_in_the_model(
        window_of: tuple[int, tuple[int, int], int], taps: int) -> None:
    config = LEAST.replace(vector_taps=taps, vector_lines=16, vector_entries=16)
    commands = tuple(window(op, *window_of) for op in (VectorOp.CONV, VectorOp.MAX))
    found, expected = cycles(Stream(commands, 4), shared(config, 4), config)
    assert found == expected
