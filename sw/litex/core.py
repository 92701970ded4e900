"""The accelerator as a module of LiteX."""

from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Out

from weft.errors import InputError, ToolError
from weft.errors.distribution import install_command
from weft.files.output import write_text
from weft.hw.accelerator import Accelerator
from weft.hw.bus.axi import LiteSignature, MemorySignature, memory_port
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.verilog import to_verilog

try:
    from litex.gen import LiteXModule
    from litex.soc.integration.soc import SoCRegion
    from litex.soc.interconnect.axi import AXIInterface, AXILiteInterface
    from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
    from migen import ClockSignal, Instance, ResetSignal, Signal
except ImportError:
    raise ToolError(f"LiteX is not installed in this Python environment: run "
                    f"{install_command('litex')}") from None

__all__ = ["WeftCore", "add_weft"]


_CONTROL_BYTES = 4096
_ADDRESS_BITS = 32      # of a SoC's bus

# How LiteX calls the parts of a channel, in the order of AXI's own names.
_CHANNELS = ("aw", "w", "b", "ar", "r")


class WeftCore(LiteXModule):
    """An accelerator with its buses and its interrupt, in the clock domain ``sys``.

    Parameters
    ----------
    platform
        LiteX's platform, which is told of the accelerator's Verilog.
    config : :class:`~weft.hw.isa.config.AcceleratorConfig`
        Its ``axi_addr_width`` must be 32, the width of a SoC's bus.
    folder : :class:`Path`
        Where the Verilog is written, created if need be.

    Attributes
    ----------
    control : ``AXILiteInterface``
        The registers of :mod:`weft.hw.isa.registers`, 4 KiB.
    memory : ``AXIInterface``
        The accelerator as a master, ``axi_data_width`` bits wide, with bursts.
    ev : ``EventManager``
        Its one source ``done``: high from the end of a run until the driver acknowledges it.

    Raises
    ------
    InputError
        If the address is not of 32 bits, or the Verilog cannot be written.
    """

    def __init__(self, platform: Any, config: AcceleratorConfig, *,
                 folder: Path | str = "build"):
        if config.axi_addr_width != _ADDRESS_BITS:
            raise InputError(f"axi_addr_width of an accelerator on a SoC's bus must be "
                             f"{_ADDRESS_BITS}, not {config.axi_addr_width}")
        self.control = control = AXILiteInterface(
            data_width=32, address_width=_ADDRESS_BITS)
        port = memory_port(config)
        self.memory = memory = AXIInterface(
            data_width=port["data_width"], address_width=port["addr_width"],
            id_width=port["id_width"], bursting=True)
        irq = Signal()

        self.ev = EventManager()
        self.ev.done = EventSourceLevel()
        self.ev.finalize()
        self.comb += self.ev.done.trigger.eq(irq)

        top = f"weft_{config.name}"
        target = Path(folder) / f"{top}.v"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Folder {target.parent} cannot be created: "
                             f"{error.strerror}") from None
        write_text(target, to_verilog(Accelerator(config), name=top))
        platform.add_source(str(target.resolve()))

        self.specials += Instance(
            top, i_clk=ClockSignal("sys"), i_rst=ResetSignal("sys"), o_irq=irq,
            **_ports("s_axi", LiteSignature(), control, manager=False),
            **_ports("m_axi", MemorySignature(**port), memory, manager=True))


def add_weft(soc: Any, config: AcceleratorConfig, *, name: str = "weft",
             folder: Path | str = "build") -> WeftCore:
    """Puts an accelerator on a SoC's bus: registers in a region, DMA as a master, interrupt.

    Parameters
    ----------
    soc
        LiteX's ``SoC``, before it is finalized.
    config : :class:`~weft.hw.isa.config.AcceleratorConfig`
    name : :class:`str`
        Of the module, the region (``NAME_BASE`` in ``generated/mem.h``), the interrupt
        (``NAME_INTERRUPT``) and the master ``NAME_dma``.
    folder : :class:`Path`
        Where the Verilog is written, created if need be.

    Returns
    -------
    :class:`WeftCore`
    """
    core = WeftCore(soc.platform, config, folder=folder)
    setattr(soc, name, core)
    soc.bus.add_slave(name, core.control, SoCRegion(size=_CONTROL_BYTES, cached=False))
    soc.bus.add_master(f"{name}_dma", core.memory)
    if soc.irq.enabled:
        soc.irq.add(name, use_loc_if_exists=True)
    return core


def _ports(prefix: str, signature: Any, interface: Any, *, manager: bool) -> dict[str, Any]:
    """Connections of one bus of the Verilog to an interface of LiteX: ``m_axi_awaddr`` is
    ``aw.addr``. The signature is seen from the manager, which the accelerator may be."""
    connections: dict[str, Any] = {}
    for name, member in signature.members.items():
        channel = next(each for each in _CHANNELS if name.startswith(each))
        signal = getattr(getattr(interface, channel), name.removeprefix(channel))
        kind = "o" if (member.flow == Out) == manager else "i"
        connections[f"{kind}_{prefix}_{name}"] = signal[:member.shape] \
            if isinstance(member.shape, int) and len(signal) > member.shape else signal
    return connections
