"""What a board may have for its accelerator's memory."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped
from models import QdqBuilder
from tiny_board import TINY_BOARD

from weft.boards.memory import OnChipMemory, SdramChipMemory
from weft.boards.sdram.chip import GW2AR_SDRAM, MT48LC16M16_CLASS, SdramChip
from weft.boards.system.staging import StagingMemory
from weft.compiler.timing.memory import MemoryTiming
from weft.digits import MODEL, load
from weft.hw.bus.axi import memory_port
from weft.hw.bus.axi_slice import AxiSlice
from weft.hw.isa.config import ConfigError
from weft.reference.golden import GoldenSession
from weft.runtime.device.board_sim import BoardSimDevice, SimulatedPort
from weft.runtime.device.serial import SerialDevice
from weft.runtime.estimate import estimate_programs
from weft.runtime.session import InferenceSession
from weft.sim.board import BoardSimulator, ChipError, build_board


@dataclass(frozen=True)
class FarMemory:
    """A memory behind a few registers."""

    size: int
    distance: int
    chip: SdramChip | None = None

    def startup_cycles(self, clock_mhz):
        return 0

    def timing(self, config, clock_mhz):
        return MemoryTiming(latency=StagingMemory.LATENCY + 2 * self.distance)

    def make(self, config, *, clock_mhz):
        return FarMemoryComponent(self.size, self.distance, config)


class FarMemoryComponent(wiring.Component):
    def __init__(self, size, distance, config):
        self._distance, self._widths = distance, memory_port(config)
        self._storage = StagingMemory(size=size, **self._widths)
        super().__init__(self._storage.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = self._storage
        connect(m, flipped(self.bytes), storage.bytes)
        port = flipped(self.axi)
        for number in range(self._distance):
            m.submodules[f"slice_{number}"] = step = AxiSlice(**self._widths)
            connect(m, port, step.i)
            port = step.o
        connect(m, port, storage.axi)
        return m


def digits_on(memory):
    """Runs two digits on the board with ``memory``: whether they are as they should be, the cycles
    of a further frame, and what the estimate tells for them."""
    images = load()[0][:2].astype(np.float32)
    board = replace(TINY_BOARD, memory=memory)

    def device(config, *, memory_bytes):
        return BoardSimDevice(config, memory_bytes=memory_bytes, board=board)

    timing = board.memory_timing(board.config)
    with InferenceSession(MODEL, config=board.config, device=device, memory=timing) as session:
        name = session.get_inputs()[0].name
        got, = session.run(None, {name: images})
        cycles = session.run_frame({name: images[:1]}).cycles
        told = estimate_programs(session.programs, model="", memory=timing)
    golden = GoldenSession(MODEL)
    wanted = [next(iter(golden.run({name: image[None]}).values())) for image in images]
    return np.array_equal(got, np.concatenate(wanted)), cycles, told.further.cycles


@pytest.mark.slow
def test_a_board_brings_a_memory_of_its_own():
    (near_right, near, near_told), (far_right, far, far_told) = (
        digits_on(FarMemory(32 * 1024, distance)) for distance in (1, 9))
    assert near_right and far_right
    assert far > near
    assert [near_told, far_told] == pytest.approx([near, far], rel=0.05)


@pytest.mark.slow
def test_digits_run_from_an_sdram():
    """At 48 MHz, from the serial line to the chip and back."""
    right, cycles, told = digits_on(SdramChipMemory(chip=MT48LC16M16_CLASS))
    assert right and told == pytest.approx(cycles, rel=0.05)


@pytest.mark.slow
def test_a_network_larger_than_block_memories_runs_from_an_sdram():
    """366 KB of constants and commands; its input and output go over the line."""
    builder = QdqBuilder(np.random.default_rng(16))
    x, channels = builder.input("x", (1, 8, 24, 24)), 8
    for filters, stride in ((48, 1), (64, 2), (128, 2), (192, 1)):
        x = builder.conv(x, channels, filters, (3, 3), pads=[1] * 4, strides=[stride] * 2)
        x, channels = builder.quantize(builder.node("Relu", [x])), filters
    builder.output(builder.quantize(builder.conv(x, channels, 100)))
    model = builder.build()
    board = replace(TINY_BOARD, memory=SdramChipMemory(chip=MT48LC16M16_CLASS))

    def device(config, *, memory_bytes):
        return BoardSimDevice(config, memory_bytes=memory_bytes, board=board, direct=True)

    given = {"x": np.random.default_rng(1).standard_normal((1, 8, 24, 24)).astype(np.float32)}
    timing = board.memory_timing(board.config)
    with InferenceSession(model, config=board.config, device=device, memory=timing) as session:
        assert sum(len(data) for _address, data in session.program.image) > 350_000
        session.device._direct = False
        got, = session.run(None, given)
        session.device._direct = True
        cycles = session.run_frame(given).cycles
        told = estimate_programs(session.programs, model="", memory=timing).further.cycles
    assert told == pytest.approx(cycles, rel=0.05)
    wanted, = GoldenSession(model).run(given).values()
    assert np.array_equal(got, wanted)


@pytest.mark.slow
def test_a_controller_that_breaks_a_rule_stops_the_board():
    """Which takes the chip for another one."""
    slow = SdramChipMemory(chip=replace(MT48LC16M16_CLASS, t_rcd=60))
    board = replace(TINY_BOARD, memory=SdramChipMemory(chip=MT48LC16M16_CLASS))
    simulator = BoardSimulator(replace(board, memory=slow), build_board(board))
    device = SerialDevice(board.config, memory_bytes=4096, baud=board.baud, patience=1e-5,
                          port=SimulatedPort(simulator, name="broken"))
    with pytest.raises(ChipError, match=r"^The board broke a rule of its SDRAM, which is a defect "
                                        r"of Weft; please report it: tRCD, in cycle \d+: WRITE of "
                                        r"bank 1 after 41\.7 ns, must be 60\.0 ns at least$"):
        device.write_memory(1024, bytes(8))


@pytest.mark.parametrize("chip, width, widths", [
    (MT48LC16M16_CLASS, 256, "32, 64 or 128"), (GW2AR_SDRAM, 32, "64, 128 or 256")])
def test_port_of_an_sdram_wrong(chip, width, widths):
    config = TINY_BOARD.config.replace(axi_data_width=width, axi_burst_beats=8)
    with pytest.raises(ConfigError, match=rf"^AXI data width must be {widths} for an SDRAM of "
                                          rf"{chip.data_width} bits, not {width}$"):
        SdramChipMemory(chip=chip).make(config, clock_mhz=48)


@pytest.mark.parametrize("size", [0, 2048, 3 << 12])
def test_size_wrong(size):
    with pytest.raises(ConfigError, match=rf"^Memory bytes must be a power of 2 of at least 4096, "
                                          rf"not {size}$"):
        OnChipMemory(size=size)
