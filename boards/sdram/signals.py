"""The signals between a controller and its SDRAM chip."""

from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from .chip import SdramChip

__all__ = ["ALL_BANKS", "PIN_CYCLES", "Command", "SdramSignature", "mode_register"]


class Command(enum.Enum, shape=3):
    """RAS, CAS and WE, bit 0 being WE. A one is a low level of the pin."""
    NOP       = 0b000
    PRECHARGE = 0b101
    ACTIVATE  = 0b100
    READ      = 0b010
    WRITE     = 0b011
    REFRESH   = 0b110
    MODE      = 0b111


ALL_BANKS = 1 << 10
"""Address bit of a PRECHARGE of all banks."""

PIN_CYCLES = 1
"""Registers at the pins, in each direction: they lie in the pins themselves and are no part of the
component that has the signals. The chip's clock rises within a cycle, after the pins have changed;
what it shows is taken at the end of the next cycle."""


class SdramSignature(wiring.Signature):
    """Seen from the controller. One means active, whatever the pin's level is.

    Parameters
    ----------
    chip : :class:`~weft.boards.sdram.chip.SdramChip`

    Members
    -------
    command : :py:`Out(Command)`
    bank, address : :py:`Out`
    mask : :py:`Out`
        DQM, a bit for each byte.
    dq_o, dq_i : :py:`Out`, :py:`In`
        The word.
    dq_oe : :py:`Out(1)`
        Drive it.
    """

    def __init__(self, chip: SdramChip):
        super().__init__({
            "command": Out(Command),
            "bank":    Out(chip.bank_bits),
            "address": Out(max(chip.row_bits, ALL_BANKS.bit_length())),
            "mask":    Out(chip.data_width // 8),
            "dq_o":    Out(chip.data_width),
            "dq_oe":   Out(1),
            "dq_i":    In(chip.data_width),
        })


def mode_register(chip: SdramChip, burst: int) -> int:
    """What the mode register holds: sequential bursts of ``burst`` words (1, 2, 4 or 8), for reads
    and writes, and the chip's CAS latency."""
    return chip.cas_latency << 4 | {1: 0, 2: 1, 4: 2, 8: 3}[burst]
