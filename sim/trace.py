"""The files to which a simulator records signals."""

import ctypes
from ctypes import c_void_p
from enum import StrEnum
from pathlib import Path

from weft.errors import InputError, ToolError
from weft.errors.distribution import install_command

__all__ = ["FstFunctions", "TraceFormat", "fst_end_time", "fst_functions"]


class TraceFormat(StrEnum):
    """File formats for recorded signals. FST is many times smaller, VCD is text."""
    VCD = "vcd"
    FST = "fst"

    @classmethod
    def of(cls, path: str | Path) -> "TraceFormat":
        """The format that the suffix of ``path`` asks for.

        Raises
        ------
        InputError
            If it is neither.
        ToolError
            If what it takes to write the format is not installed.
        """
        suffix = Path(path).suffix
        try:
            trace = cls(suffix[1:])
        except ValueError:
            raise InputError(f"Trace file must end in .vcd or .fst, not {suffix!r}") from None
        if trace is cls.FST:
            fst_functions()
        return trace


# Members of ``FstFunctions`` in trace.h.
_FUNCTIONS = {
    "create":        "fstWriterCreate",
    "close":         "fstWriterClose",
    "set_pack_type": "fstWriterSetPackType",
    "set_timescale": "fstWriterSetTimescaleFromString",
    "set_scope":     "fstWriterSetScope",
    "set_upscope":   "fstWriterSetUpscope",
    "create_var":    "fstWriterCreateVar",
    "emit_time":     "fstWriterEmitTimeChange",
    "emit_value":    "fstWriterEmitValueChange",
}


class FstFunctions(ctypes.Structure):
    """Addresses of functions of libfst."""
    _fields_ = [(name, c_void_p) for name in _FUNCTIONS]


def fst_functions() -> FstFunctions:
    """What the harness needs of libfst, which the package pylibfst carries.

    Raises
    ------
    ToolError
        If the package is not installed.
    """
    try:
        from pylibfst import ffi, lib
    except ImportError:
        raise ToolError("pylibfst, which writes .fst files, is not installed in this Python "
                        f"environment: run {install_command('toolchain')}, or record to a "
                        f".vcd file") from None
    return FstFunctions(**{
        name: int(ffi.cast("uintptr_t", ffi.addressof(lib, function)))
        for name, function in _FUNCTIONS.items()})


def fst_end_time(path: str | Path) -> int | None:
    """The last time in an FST file, or None if the file is not whole: libfst does not tell when
    it could not write."""
    from pylibfst import ffi, lib
    reader = lib.fstReaderOpen(str(path).encode())
    if reader == ffi.NULL:
        return None
    try:
        return int(lib.fstReaderGetEndTime(reader))
    finally:
        lib.fstReaderClose(reader)
