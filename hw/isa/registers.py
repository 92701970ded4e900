"""Registers of the AXI4-Lite control port: one definition for RTL, driver and documentation.

All registers are 32 bits wide; addresses are in bytes. Unlisted addresses read as zero and ignore
writes. The port's address is 12 bits wide.
"""

from enum import IntEnum, IntFlag

from .commands import Engine
from .config import AcceleratorConfig

__all__ = ["DEVICE_ID", "VERSION", "Register", "Control", "Status", "Error", "Counter",
           "COUNTER_BASE", "CONFIG_BASE", "CONFIG_NAMES", "config_words", "cycle_counters"]


DEVICE_ID = 0x54464557  # "WEFT" in memory order
VERSION = 3


class Register(IntEnum):
    """Byte addresses of the registers."""
    ID            = 0x00  # read: DEVICE_ID
    VERSION       = 0x04  # read: VERSION of command set and register map
    CONTROL       = 0x08  # write: see Control
    STATUS        = 0x0C  # read: see Status
    ERROR         = 0x10  # read: see Error; held until the next reset
    ERROR_INDEX   = 0x14  # read: index in the stream of the command that failed
    COMMAND_ADDR  = 0x18  # address of the command stream, low half
    COMMAND_ADDRH = 0x1C  # and high half
    COMMAND_COUNT = 0x20  # commands in the stream, at least 1
    IRQ_ENABLE    = 0x24  # bit 0
    IRQ_CLEAR     = 0x28  # write bit 0: acknowledge done and error
    WATCHDOG      = 0x2C  # cycles without progress before the device stops; 0 turns it off
    COMPLETED     = 0x30  # read: commands completed since the doorbell
    CYCLE_LIMIT   = 0x34  # cycles from the doorbell before the device stops; 0 turns it off


class Control(IntFlag):
    """Bits of the CONTROL register; each acts once when written as 1."""
    START = 1  # the doorbell; ignored while busy or in the error state
    RESET = 2  # leave the error state, empty all queues, clear all semaphores


class Status(IntFlag):
    """Bits of the STATUS register."""
    BUSY  = 1  # from doorbell to interrupt, and while a reset waits for QUIET
    DONE  = 2  # all commands completed; until acknowledged or restarted
    ERROR = 4  # stopped; until reset
    QUIET = 8  # no memory transaction is in flight: a reset is safe


class Error(IntEnum):
    """Why the device stopped."""
    NONE        = 0
    OPCODE      = 1  # illegal opcode
    ADDRESS     = 2  # an address outside the memory, or an unaligned one
    ARGUMENT    = 3  # a field is zero that must not be, is too large, or contradicts another
    READ        = 4  # the memory answered a read with SLVERR or DECERR
    WRITE       = 5  # the memory answered a write with SLVERR or DECERR
    SEMAPHORE   = 6  # a semaphore overflowed
    WATCHDOG    = 7  # no progress: stalled memory or deadlocked semaphores
    CYCLE_LIMIT = 8  # the stream takes too long: a command is larger than it was meant to be


class Counter(IntEnum):
    """Performance counters: cleared by the doorbell, frozen at the interrupt.

    Every cycle is counted under exactly one name of each engine, the first one that holds, so the
    names of an engine sum to CYCLES. A configuration without ``counters`` has CYCLES only, and the
    others read as zero.
    """
    CYCLES             = 0   # from doorbell to interrupt
    READ_BEATS         = 1   # beats read from memory
    WRITE_BEATS        = 2   # beats written to memory

    LOAD_BUSY          = 3   # a unit or a beat moved
    LOAD_ACTIVATION    = 4   # a write was refused, the memory's port was in use
    LOAD_MEMORY        = 5   # waited for data from memory
    LOAD_SETUP         = 6   # a command was checked, or its end reported
    LOAD_SEMAPHORE     = 7   # the next command waited for a token, or had just got it
    LOAD_FETCH         = 8   # no command, while the next one was being fetched
    LOAD_IDLE          = 9   # no command: none left, or behind one whose queue was full

    MATRIX_BUSY        = 10  # the array accepted a pixel
    MATRIX_ACCUMULATOR = 11  # both accumulator banks were in use
    MATRIX_WEIGHTS     = 12  # the next weight tile was not in the shadow registers yet
    MATRIX_DRAIN       = 13  # everything accepted, results still draining
    MATRIX_SEMAPHORE   = 14  # as of LOAD
    MATRIX_FETCH       = 15  # as of LOAD
    MATRIX_IDLE        = 16  # as of LOAD

    VECTOR_BUSY        = 17  # a tap was issued, or a result written
    VECTOR_ACTIVATION  = 18  # a read or a write was refused by the activation memory
    VECTOR_DRAIN       = 19  # began, or waited for results that were under way
    VECTOR_SEMAPHORE   = 20  # as of LOAD
    VECTOR_FETCH       = 21  # as of LOAD
    VECTOR_IDLE        = 22  # as of LOAD

    STORE_BUSY         = 23  # a word was read, or a beat handed over for writing
    STORE_ACTIVATION   = 24  # a read was refused by the activation memory
    STORE_MEMORY       = 25  # waited for the bus, or for the response to what was written
    STORE_SETUP        = 26  # a command was checked
    STORE_SEMAPHORE    = 27  # as of LOAD
    STORE_FETCH        = 28  # as of LOAD
    STORE_IDLE         = 29  # as of LOAD


def cycle_counters(engine: Engine) -> dict[str, Counter]:
    """The counters that share out the cycles of an engine, in order, by what the engine did."""
    return {counter.name.removeprefix(f"{engine.name}_").lower(): counter for counter in Counter
            if counter.name.startswith(f"{engine.name}_")}


COUNTER_BASE = 0x100
"""Counter ``n`` is at ``COUNTER_BASE + 4 * n``."""

CONFIG_BASE = 0x200
"""Word ``n`` of the configuration ROM is at ``CONFIG_BASE + 4 * n``."""

_CONFIG_FIELDS = ("rows", "cols", "fip", "activation_width", "weight_width", "accumulator_width",
                  "activation_depth", "activation_banks", "weight_depth", "accumulator_pixels",
                  "parameter_depth", "requant_lanes", "axi_data_width", "axi_addr_width",
                  "axi_burst_beats", "axi_outstanding", "queue_depth", "vector_taps",
                  "vector_entries", "vector_tables", "drain_lookup", "fixed_point", "counters",
                  "sequential")

# What few have, at the end: where a word is missing, a read yields zero.
_RARE_FIELDS = ("products", "vector_lines", "softmax", "normalize_channels", "row_units")

CONFIG_NAMES = (*_CONFIG_FIELDS, *_RARE_FIELDS)
"""Words of the configuration ROM, of which the last ones may be missing: they read as zero."""


def config_words(config: AcceleratorConfig) -> dict[str, int]:
    """Contents of the configuration ROM, in order, by name. Without SOFTMAX and NORMALIZE there
    are no ``row_units``."""
    words = {name: int(getattr(config, name)) for name in CONFIG_NAMES}
    if not (config.softmax or config.normalize_channels):
        words["row_units"] = 0
    for name in reversed(_RARE_FIELDS):
        if words[name]:
            break
        del words[name]
    return words
