"""C code for a processor beside the accelerator: a driver, its header, and programs as C.

Nothing of it knows a particular system: registers are mapped somewhere, and both see one memory.
"""

from .header import hardware_header
from .program import program_files
from .sources import DRIVER, write_firmware

__all__ = ["DRIVER", "hardware_header", "program_files", "write_firmware"]
