"""What a board may have for its accelerator's memory."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped
from tiny_board import TINY_BOARD

from weft.boards.memory import OnChipMemory
from weft.boards.sdram.chip import SdramChip
from weft.boards.system.staging import StagingMemory
from weft.digits import MODEL, load
from weft.hw.bus.axi import memory_port
from weft.hw.bus.axi_slice import AxiSlice
from weft.hw.isa.config import ConfigError
from weft.reference.golden import GoldenSession
from weft.runtime.device.board_sim import BoardSimDevice
from weft.runtime.session import InferenceSession


@dataclass(frozen=True)
class FarMemory:
    """A memory behind a few registers."""

    size: int
    distance: int
    chip: SdramChip | None = None

    def startup_cycles(self, clock_mhz):
        return 0

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


@pytest.mark.slow
def test_a_board_brings_a_memory_of_its_own():
    images = load()[0][:2].astype(np.float32)
    cycles = {}
    for distance in (1, 9):
        board = replace(TINY_BOARD, memory=FarMemory(32 * 1024, distance))

        def device(config, *, memory_bytes, board=board):
            return BoardSimDevice(config, memory_bytes=memory_bytes, board=board)

        with InferenceSession(MODEL, config=board.config, device=device) as session:
            name = session.get_inputs()[0].name
            got, = session.run(None, {name: images})
            cycles[distance] = session.run_frame({name: images[:1]}).cycles
    golden = GoldenSession(MODEL)
    wanted = [next(iter(golden.run({name: image[None]}).values())) for image in images]
    assert np.array_equal(got, np.concatenate(wanted))
    assert cycles[9] > cycles[1]


@pytest.mark.parametrize("size", [0, 2048, 3 << 12])
def test_size_wrong(size):
    with pytest.raises(ConfigError, match=rf"^Memory bytes must be a power of 2 of at least 4096, "
                                          rf"not {size}$"):
        OnChipMemory(size=size)
