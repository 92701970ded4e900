"""Single data rate SDRAM chips: geometry and timing as their datasheets have them."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor

from weft.hw.isa.config import ConfigError

__all__ = ["GW2AR_SDRAM", "M12L64322A_UNMASKED", "MT48LC16M16_CLASS", "SdramChip", "SdramTiming"]


@dataclass(frozen=True, kw_only=True)
class SdramChip:
    """A chip, as its datasheet describes it. Names of times are those of JEDEC.

    Parameters
    ----------
    name : :class:`str`
    bank_bits, row_bits, column_bits : :class:`int`
        Logarithms of banks, rows of a bank, and words of a row.
    data_width : :class:`int`
        Bits of a word, 16 or 32.
    byte_masks : :class:`bool`
        The board connects DQM, which hides bytes of a word that is written. Otherwise it is low,
        and words are written whole.
    cas_latency : :class:`int`
        Cycles from READ to the first word that are programmed, 2 or 3.
    t_ck : :class:`float`
        Shortest clock period with that latency, ns.
    t_rcd, t_rp, t_ras, t_rc, t_rrd, t_wr, t_rfc : :class:`float`
        ACTIVATE to READ or WRITE; PRECHARGE to ACTIVATE; ACTIVATE to PRECHARGE; ACTIVATE to
        ACTIVATE of the same and of another bank; last word written to PRECHARGE; REFRESH to the
        next command. ns.
    t_ras_max : :class:`float`
        Longest time that a row may be open, ns.
    t_mrd : :class:`int`
        MODE REGISTER SET to the next command, cycles.
    refresh_ms : :class:`float`
        All rows are to be refreshed once in this time: one REFRESH for each row of a bank.
    startup_us : :class:`float`
        From a stable clock to the first command.
    startup_refreshes : :class:`int`
        REFRESH commands before the chip is used.
    """

    name: str
    bank_bits: int = 2
    row_bits: int
    column_bits: int
    data_width: int = 16
    byte_masks: bool = True
    cas_latency: int
    t_ck: float
    t_rcd: float
    t_rp: float
    t_ras: float
    t_rc: float
    t_rrd: float
    t_wr: float
    t_rfc: float
    t_ras_max: float
    t_mrd: int
    refresh_ms: float
    startup_us: float
    startup_refreshes: int

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.data_width // 8) << (self.bank_bits + self.row_bits + self.column_bits)

    @property
    def t_refi(self) -> float:
        """Mean time between two REFRESH commands, ns."""
        return self.refresh_ms * 1e6 / (1 << self.row_bits)


MT48LC16M16_CLASS = SdramChip(
    name="16M x 16 SDRAM", row_bits=13, column_bits=9, cas_latency=3, t_ck=7.5,
    t_rcd=21, t_rp=21, t_ras=45, t_rc=67.5, t_rrd=15, t_wr=15, t_rfc=70, t_ras_max=100_000,
    t_mrd=2, refresh_ms=64, startup_us=200, startup_refreshes=8)
"""32 MiB in four banks: a MT48LC16M16A2-75, IS42S16160G-7 or AS4C16M16SA-7, which boards carry by
turns. Of each figure the slowest of them."""

M12L64322A_UNMASKED = SdramChip(
    name="2M x 32 SDRAM", row_bits=11, column_bits=8, data_width=32, byte_masks=False,
    cas_latency=3, t_ck=7, t_rcd=21, t_rp=21, t_ras=49, t_rc=70, t_rrd=14, t_wr=15, t_rfc=70,
    t_ras_max=100_000, t_mrd=2, refresh_ms=32, startup_us=200, startup_refreshes=8)
"""8 MiB in four banks: a M12L64322A on a board that does not connect DQM. Of each figure the
slowest that is known of chips of this kind with CAS latency 3 at 143 MHz; 4096 refreshes in 64 ms
are two of each row."""


GW2AR_SDRAM = replace(M12L64322A_UNMASKED, name="2M x 32 SDRAM of a GW2AR-18", byte_masks=True)
"""8 MiB in four banks, in the package of a Gowin GW2AR-18, whose datasheet names no chip: taken for
one of the same kind."""


@dataclass(frozen=True)
class SdramTiming:
    """Times of a chip in whole cycles of a clock, as a controller has to keep them.

    Parameters
    ----------
    chip : :class:`SdramChip`
    clock_mhz : :class:`float`

    Raises
    ------
    ConfigError
        If the clock is too fast for the chip, or too slow for its refresh.
    """

    chip: SdramChip
    clock_mhz: float

    def __post_init__(self) -> None:
        fastest = 1000 / self.chip.t_ck
        if not 10 <= self.clock_mhz <= fastest:
            raise ConfigError(f"Clock must be between 10 and {fastest:.0f} MHz for the SDRAM "
                              f"({self.chip.name}, CAS latency {self.chip.cas_latency}), not "
                              f"{self.clock_mhz:g} MHz")

    def _least(self, ns: float) -> int:
        return max(1, ceil(ns * self.clock_mhz / 1000 - 1e-9))

    @cached_property
    def rcd(self) -> int:
        """ACTIVATE to READ or WRITE."""
        return self._least(self.chip.t_rcd)

    @cached_property
    def rp(self) -> int:
        """PRECHARGE to ACTIVATE or REFRESH."""
        return self._least(self.chip.t_rp)

    @cached_property
    def ras(self) -> int:
        """ACTIVATE to PRECHARGE, such that ``t_rc`` is kept too by who keeps ``t_rp``."""
        return max(self._least(self.chip.t_ras), self._least(self.chip.t_rc) - self.rp)

    @cached_property
    def rrd(self) -> int:
        """ACTIVATE to ACTIVATE of another bank."""
        return self._least(self.chip.t_rrd)

    @cached_property
    def wr(self) -> int:
        """Last word written to PRECHARGE."""
        return self._least(self.chip.t_wr)

    @cached_property
    def rfc(self) -> int:
        """REFRESH to the next command."""
        return self._least(self.chip.t_rfc)

    @cached_property
    def refi(self) -> int:
        """Mean time between two REFRESH commands, at most."""
        return floor(self.chip.t_refi * self.clock_mhz / 1000)

    @cached_property
    def startup(self) -> int:
        """Until the first command."""
        return self._least(self.chip.startup_us * 1000)
