"""Limits of the command set and of the bus: what more than one part has to agree on."""

__all__ = ["LOCAL_ADDRESSES", "LOCAL_ADDRESS_WIDTH", "PAGE_BYTES", "WINDOW_GROUPS"]


LOCAL_ADDRESS_WIDTH = 24
"""Bits of an address, or a number of units, of an on-chip memory in a command."""

LOCAL_ADDRESSES = 1 << LOCAL_ADDRESS_WIDTH
"""Addresses of words on chip are modulo this: what the engines add wraps around."""

WINDOW_GROUPS = 32
"""Groups of taps of a window whose words the vector engine can keep: of a VECTOR with ``slide``."""

PAGE_BYTES = 4096
"""A burst of AXI4 must not cross a multiple of it."""
