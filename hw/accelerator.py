"""The whole accelerator."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.bus.axi import LiteSignature, MemorySignature, memory_port
from weft.hw.control.core_control import CommandEvents
from weft.hw.control.port import ControlPort
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
    event : :py:`Out(CommandEvents())`
        For simulators and logic analysers: when each command starts and ends.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "s_axi": In(LiteSignature()),
            "m_axi": Out(MemorySignature(**memory_port(config))),
            "irq":   Out(1),
            "event": Out(CommandEvents()),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        core: Any = (SequentialCore if self._config.sequential else Core)(self._config)
        m.submodules.control = control = ControlPort(self._config, faults=core.FAULTS)
        m.submodules.core = core

        connect(m, flipped(self.s_axi), control.s_axi)
        connect(m, control.core, core.control)
        connect(m, core.m_axi, flipped(self.m_axi))
        connect(m, core.event, flipped(self.event))
        m.d.comb += self.irq.eq(control.irq)

        return m
