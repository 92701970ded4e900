"""A reader and a writer side by side, so that their cocotb benches share one build."""

import os
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from weft.hw.bus.dma_read import ReadEngine
from weft.hw.bus.dma_write import WriteEngine
from weft.sim.cache import locked
from weft.sim.cocotb_bench import run_cocotb

__all__ = ["run_dma_bench"]


DATA_WIDTH, BURST_BEATS, OUTSTANDING = 64, 16, 4


class _DmaPair(wiring.Component):
    def __init__(self) -> None:
        parameters = {"data_width": DATA_WIDTH, "addr_width": 16, "burst_beats": BURST_BEATS,
                          "outstanding": OUTSTANDING, "id": 0}
        self._engines = {"read": ReadEngine(**parameters), "write": WriteEngine(**parameters)}
        super().__init__({name: Out(engine.signature) for name, engine in self._engines.items()})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for name, engine in self._engines.items():
            m.submodules[name] = engine
            connect(m, flipped(getattr(self, name)), engine)
        return m


def run_dma_bench(name: str, factory: pytest.TempPathFactory) -> None:
    """Runs the cocotb module ``name`` of ``tests/hw/bus``; one build serves all processes."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with locked(folder / "dma_pair.lock"):
        run_cocotb(_DmaPair(), name="dma_pair",
                   bench=Path(__file__).parent / "hw" / "bus" / f"{name}.py",
                   build_dir=folder / "dma_pair", environment={
                       "DATA_BYTES": str(DATA_WIDTH // 8), "BURST_BEATS": str(BURST_BEATS),
                       "OUTSTANDING": str(OUTSTANDING)})
