"""The whole accelerator."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.bus.axi import LiteSignature, MemorySignature
from weft.hw.control.port import ControlPort
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.sequential.core import SequentialCore

from .core import Core

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """Control port and core; the top level of the generated Verilog.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    s_axi : :py:`In(LiteSignature())`
        Control: the registers of :mod:`weft.hw.isa.registers`.
    m_axi : :py:`Out(MemorySignature(...))`
        Memory.
    irq : :py:`Out(1)`
    event_start, event_done, event_start_index, event_done_index
        For simulators and logic analysers: see :class:`~weft.hw.core.Core`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "s_axi":             In(LiteSignature()),
            "m_axi":             Out(MemorySignature(data_width=config.axi_data_width,
                                                     addr_width=config.axi_addr_width)),
            "irq":               Out(1),
            "event_start":       Out(len(Engine)),
            "event_done":        Out(len(Engine)),
            "event_start_index": Out(data.ArrayLayout(16, len(Engine))),
            "event_done_index":  Out(data.ArrayLayout(16, len(Engine))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        core = (SequentialCore if self._config.sequential else Core)(self._config)
        m.submodules.control = control = ControlPort(self._config, faults=core.FAULTS)
        m.submodules.core = core

        connect(m, flipped(self.s_axi), control.s_axi)
        connect(m, core.m_axi, flipped(self.m_axi))
        m.d.comb += [
            self.irq.eq(control.irq),
            core.reset.eq(control.core_reset),
            core.start.eq(control.start),
            core.address.eq(control.address),
            core.count.eq(control.count),
            core.halt.eq(control.halt),
            control.completed.eq(core.completed),
            control.idle.eq(core.idle),
            control.quiet.eq(core.quiet),
            control.progress.eq(core.progress),
            control.oldest.eq(core.oldest),
            control.count_up.eq(core.count_up),
            self.event_start.eq(core.event_start),
            self.event_done.eq(core.event_done),
            self.event_start_index.eq(core.event_start_index),
            self.event_done_index.eq(core.event_done_index),
        ]
        for number in range(core.FAULTS):
            m.d.comb += control.faults[number].eq(core.faults[number])

        return m
