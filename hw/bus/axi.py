"""Signatures of the AXI4 memory port and the AXI4-Lite control port (Arm IHI 0022).

Member names are those of the standard (``awaddr``, ``wvalid``, ...), so the ports of the generated
Verilog are what every bus tool expects.
"""

from amaranth.hdl import unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.config import AcceleratorConfig

__all__ = ["Response", "ReadSignature", "WriteSignature", "MemorySignature", "LiteSignature",
           "BURST_INCR", "id_width", "memory_port"]


BURST_INCR = 0b01


def id_width(managers: int) -> int:
    """Bits of a transaction identifier that tells so many managers apart; at least one."""
    return max(1, ceil_log2(managers))


def memory_port(config: AcceleratorConfig) -> dict[str, int]:
    """The widths of the memory port of a configuration: the parameters of
    :class:`MemorySignature`."""
    return {"data_width": config.axi_data_width, "addr_width": config.axi_addr_width,
            "id_width": id_width(config.axi_readers)}


class Response(enum.Enum, shape=2):
    """RRESP and BRESP. Bit 1 set means failure."""
    OKAY   = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def _check(data_width: int, addr_width: int, id_width: int) -> None:
    if data_width not in (32, 64, 128, 256, 512):
        raise ValueError(f"Data width must be one of 32, 64, 128, 256, 512, not {data_width!r}")
    if addr_width not in range(12, 65):
        raise ValueError(f"Address width must be between 12 and 64, not {addr_width!r}")
    if id_width not in range(1, 33):
        raise ValueError(f"Identifier width must be between 1 and 32, not {id_width!r}")


class ReadSignature(wiring.Signature):
    """The read half of AXI4, seen from the manager."""

    def __init__(self, *, data_width: int, addr_width: int, id_width: int = 1):
        _check(data_width, addr_width, id_width)
        super().__init__({
            "arid":    Out(id_width),
            "araddr":  Out(addr_width),
            "arlen":   Out(8),
            "arsize":  Out(3),
            "arburst": Out(2),
            "arvalid": Out(1),
            "arready": In(1),
            "rid":     In(id_width),
            "rdata":   In(data_width),
            "rresp":   In(Response),
            "rlast":   In(1),
            "rvalid":  In(1),
            "rready":  Out(1),
        })


class WriteSignature(wiring.Signature):
    """The write half of AXI4, seen from the manager."""

    def __init__(self, *, data_width: int, addr_width: int, id_width: int = 1):
        _check(data_width, addr_width, id_width)
        super().__init__({
            "awid":    Out(id_width),
            "awaddr":  Out(addr_width),
            "awlen":   Out(8),
            "awsize":  Out(3),
            "awburst": Out(2),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata":   Out(data_width),
            "wstrb":   Out(data_width // 8),
            "wlast":   Out(1),
            "wvalid":  Out(1),
            "wready":  In(1),
            "bid":     In(id_width),
            "bresp":   In(Response),
            "bvalid":  In(1),
            "bready":  Out(1),
        })


class MemorySignature(wiring.Signature):
    """All of AXI4 that is used, seen from the manager: both halves under one prefix."""

    def __init__(self, *, data_width: int, addr_width: int, id_width: int = 1):
        port = {"data_width": data_width, "addr_width": addr_width, "id_width": id_width}
        super().__init__({**ReadSignature(**port).members, **WriteSignature(**port).members})


class LiteSignature(wiring.Signature):
    """AXI4-Lite with 32 data bits, seen from the manager."""

    def __init__(self, *, addr_width: int = 12):
        super().__init__({
            "awaddr":  Out(addr_width),
            "awprot":  Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata":   Out(unsigned(32)),
            "wstrb":   Out(4),
            "wvalid":  Out(1),
            "wready":  In(1),
            "bresp":   In(Response),
            "bvalid":  In(1),
            "bready":  Out(1),
            "araddr":  Out(addr_width),
            "arprot":  Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata":   In(unsigned(32)),
            "rresp":   In(Response),
            "rvalid":  In(1),
            "rready":  Out(1),
        })
