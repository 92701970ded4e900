"""The SDRAM chip of ``sdram.h``: its parameters."""

import ctypes
from ctypes import c_uint32, c_uint64

from weft.boards.sdram.chip import SdramChip

__all__ = ["SdramParameters", "sdram_parameters"]


_TIMES = ("t_rcd", "t_rp", "t_ras", "t_rc", "t_rrd", "t_wr", "t_rfc", "t_ras_max", "t_refi")


class SdramParameters(ctypes.Structure):
    """``SdramParameters`` of the harness. Times are picoseconds."""
    _fields_ = [*((name, c_uint32) for name in (
        "bank_bits", "row_bits", "column_bits", "data_width", "byte_masks",
        "cas_latency", "burst", "t_mrd", "startup_refreshes")),
        *((name, c_uint64) for name in ("clock", *_TIMES, "startup"))]


def sdram_parameters(chip: SdramChip, *, clock_mhz: float, beat_bits: int) -> SdramParameters:
    """Of ``chip`` at a clock, whose controller moves a beat with each READ or WRITE.

    The times are the datasheet's and not those that a controller makes of them.
    """
    return SdramParameters(
        bank_bits=chip.bank_bits, row_bits=chip.row_bits, column_bits=chip.column_bits,
        data_width=chip.data_width, byte_masks=chip.byte_masks, cas_latency=chip.cas_latency,
        burst=beat_bits // chip.data_width, t_mrd=chip.t_mrd,
        startup_refreshes=chip.startup_refreshes, clock=round(1e6 / clock_mhz),
        startup=round(chip.startup_us * 1e6),
        **{name: round(getattr(chip, name) * 1e3) for name in _TIMES})
