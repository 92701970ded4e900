"""All FPGA families."""

from .ecp5.family import ECP5
from .family import Family
from .gowin.family import GOWIN
from .ice40.family import ICE40

__all__ = ["FAMILIES"]


FAMILIES: tuple[Family, ...] = (ECP5, ICE40, GOWIN)
"""Families that can be built for."""
