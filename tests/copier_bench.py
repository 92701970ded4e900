"""The copier under simulation."""

import numpy as np
from copier import (
    CONTROL,
    LAST_BEAT,
    MISCHIEF,
    SECOND_ID,
    SOURCE,
    STATUS,
    STROBE,
    TARGET,
    Copier,
    Mischief,
)

from weft.hw.isa.presets import PRESETS
from weft.hw.verilog import to_verilog
from weft.sim.build import TOP, build_verilog
from weft.sim.simulator import MemoryModel, RunStatus, Simulator

CONFIG = PRESETS["small"]
MEMORY_BYTES = 1 << 20
SOURCE_ADDRESS, TARGET_ADDRESS = 0x1_0000, 0x2_0000
OKAY, SLVERR, DECERR = 0, 2, 3


def build_copier(config=CONFIG, *, trace=False):
    """At the level at which users run it."""
    return build_verilog(to_verilog(Copier(config), name=TOP), config, trace=trace, optimize=3)


def make_data(count, *, seed=1):
    return np.random.default_rng(seed).bytes(count)


class Bench:
    """A copier under simulation, with random data at its source."""

    def __init__(self, built, *, beats=16, beat_bytes=8, strobe=None, second_id=1, source=None,
                 target=None, mischief=Mischief.NONE, **memory):
        memory = {"bytes": MEMORY_BYTES, **memory}
        self.simulator = Simulator(built, MemoryModel(**memory))
        self.target = TARGET_ADDRESS if target is None else target
        self.data = make_data(2 * beats * beat_bytes)
        self.source = SOURCE_ADDRESS if source is None else source
        if self.source + len(self.data) <= MEMORY_BYTES:
            self.simulator.write_memory(self.source, self.data)
        strobe = (1 << beat_bytes) - 1 if strobe is None else strobe
        for register, value in ((SOURCE, self.source), (TARGET, self.target),
                                (LAST_BEAT, beats - 1), (STROBE, strobe),
                                (SECOND_ID, second_id), (MISCHIEF, mischief.value)):
            self.simulator.write_register(register, value)

    def start(self):
        self.simulator.write_register(CONTROL, 1)

    def run(self, max_cycles=100_000):
        """Cycles from the doorbell to the interrupt."""
        start = self.simulator.cycle
        self.start()
        assert self.simulator.run_until_irq(max_cycles) is RunStatus.IRQ
        return self.simulator.cycle - start

    @property
    def copied(self):
        return self.simulator.read_memory(self.target, len(self.data))

    @property
    def responses(self):
        status = self.simulator.read_register(STATUS)
        assert status & 1
        return status >> 4 & 3, status >> 6 & 3
