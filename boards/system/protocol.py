"""The serial protocol of a board: one definition for RTL, host and documentation.

A frame is enclosed in flags; in between, flag and escape are escaped (the framing of PPP, RFC
1662). A flag puts the receiver into its first state, whatever came before it.

All numbers are little-endian. A request is a header and its CRC; a write goes on with the payload,
and a CRC of all before it. An answer is a tag, flags, data, and a CRC.
"""

import struct
import zlib
from enum import IntEnum, IntFlag
from typing import NamedTuple

__all__ = ["PROTOCOL_VERSION", "FLAG", "ESCAPE", "ESCAPE_XOR", "CRC_BYTES", "CRC_POLYNOMIAL",
           "CRC_RESIDUE", "HEADER", "HEADER_BYTES", "MAX_COUNT", "LAST_TAG", "Opcode", "Answer",
           "Identity", "Response", "encode_request", "decode_response", "escape", "unescape"]


PROTOCOL_VERSION = 2

FLAG       = 0x7E
ESCAPE     = 0x7D
ESCAPE_XOR = 0x20

CRC_BYTES      = 4
CRC_POLYNOMIAL = 0xEDB88320
"""CRC-32 of IEEE 802.3, reflected. With 16 bits one corrupted frame in 65536 would pass, and give a
wrong result without a word."""
CRC_RESIDUE    = 0xDEBB20E3
"""What the register holds after data and its CRC, if both are intact. It holds it again after more
data and a CRC of everything: one register checks header and payload."""

HEADER = struct.Struct("<BBHI")
"""Opcode, tag, bytes of payload or data, address."""
HEADER_BYTES = HEADER.size
MAX_COUNT = (1 << 16) - 1

LAST_TAG = 255
"""Tags are 1..255, by turns. 0 is what a device has seen last after its reset."""


class Opcode(IntEnum):
    """What is asked for. Bit 0 means a write, bit 1 a register, bit 2 the device itself."""
    READ_MEMORY    = 0
    WRITE_MEMORY   = 1
    READ_REGISTER  = 2  # count 4
    WRITE_REGISTER = 3  # count 4; with the tag of the request before it, it is only acknowledged
    IDENTIFY       = 4  # data as in Identity
    READ_LABEL     = 6  # count 4: what a host has written there since the device was reset, or 0
    WRITE_LABEL    = 7  # count 4


class Answer(IntFlag):
    """Flags of an answer."""
    IRQ    = 1  # the accelerator's interrupt is up
    FRESH  = 2  # no IDENTIFY since the device was reset
    FAILED = 4  # the control port answered with an error


class Identity(NamedTuple):
    """What a device says of itself.

    ``memory_bits`` is the logarithm of its memory in bytes, to the base 2; ``clock`` its clock in
    units of 10 kHz; ``design`` the hash of what it was built from, see
    :func:`~weft.boards.system.design_hash.design_hash`.
    """
    version: int
    memory_bits: int
    clock: int
    design: int = 0

    LAYOUT = struct.Struct("<BBHI")  # type: ignore[misc]  # not a field: it has no annotation

    @classmethod
    def size(cls) -> int:
        """Bytes on the wire."""
        return cls.LAYOUT.size

    def pack(self) -> bytes:
        """The bytes on the wire."""
        return self.LAYOUT.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> "Identity":
        """From the bytes on the wire."""
        return cls(*cls.LAYOUT.unpack(data))


class Response(NamedTuple):
    """An answer that arrived whole."""
    tag: int
    flags: Answer
    data: bytes


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(CRC_BYTES, "little")


def escape(data: bytes) -> bytes:
    """``data`` without flags, for the inside of a frame."""
    return (data.replace(bytes([ESCAPE]), bytes([ESCAPE, ESCAPE ^ ESCAPE_XOR]))
                .replace(bytes([FLAG]), bytes([ESCAPE, FLAG ^ ESCAPE_XOR])))


def unescape(data: bytes) -> bytes:
    """The inverse of :func:`escape`."""
    return (data.replace(bytes([ESCAPE, FLAG ^ ESCAPE_XOR]), bytes([FLAG]))
                .replace(bytes([ESCAPE, ESCAPE ^ ESCAPE_XOR]), bytes([ESCAPE])))


def encode_request(opcode: Opcode, tag: int, address: int, count: int,
                   payload: bytes = b"") -> bytes:
    """A request as it goes on the wire, flags included."""
    body = HEADER.pack(opcode, tag, count, address)
    body += _crc(body)
    if payload:
        body += payload
        body += _crc(body)
    return bytes([FLAG]) + escape(body) + bytes([FLAG])


def decode_response(frame: bytes) -> Response | None:
    """The answer between two flags; :py:`None` if it is not whole."""
    body = unescape(frame)
    if len(body) < 2 + CRC_BYTES or _crc(body[:-CRC_BYTES]) != body[-CRC_BYTES:]:
        return None
    return Response(body[0], Answer(body[1] & 7), body[2:-CRC_BYTES])
