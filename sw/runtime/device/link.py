"""Requests over a serial line, and answers to them, whatever the line does in between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from weft.boards.system.protocol import (
    FLAG,
    LAST_TAG,
    Answer,
    Opcode,
    Response,
    decode_response,
    encode_request,
)

from .base import DeviceError, DeviceTimeout

__all__ = ["PATIENCE", "Link", "Port", "Request"]


PATIENCE = 0.25
"""Seconds that a loaded host, its USB adapter and the device may take for nothing at all."""


PAYLOAD_BYTES = 1024
"""Of a frame that writes memory. A damaged frame costs as much; the overhead is 2 %."""
DATA_BYTES = 4096
"""Of an answer that reads memory."""

# Requests in flight, at most. The device takes requests as fast as the line delivers them, so the
# window need only cover the latency of the host's adapter. A device that is answering buffers one
# further request.
_WINDOW = 32
_READ_WINDOW = 2

_BYTE_BITS = 10
_SHORT_BYTES = 16
_RETRIES = 4
_GARBAGE_BYTES = 1 << 17  # without an answer among them


class Port(Protocol):
    """What is used of ``serial.Serial``."""

    timeout: float | None

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read without waiting."""
        ...

    def read(self, size: int = 1) -> bytes:
        """Up to ``size`` bytes; fewer if they do not come within ``timeout`` seconds."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """Sends bytes."""
        ...

    def close(self) -> None:
        """Lets go of the port."""
        ...


class Request(NamedTuple):
    """What to ask for; a read gives ``length`` bytes."""
    opcode: Opcode
    address: int = 0
    payload: bytes = b""
    length: int = 0


@dataclass
class _Sent:
    """A request that is on its way."""
    index: int
    tag: int
    frame: bytes
    request: Request


class Link:
    """Sends requests and collects answers; repeats what was lost.

    Every request may be repeated without harm, see :mod:`weft.boards.system.protocol`. Answers come
    in the order of the requests, so one that is missing before another is known to be lost at once;
    only the last needs a time-out.

    Parameters
    ----------
    port : :class:`Port`
        Open.
    name : :class:`str`
        Of the port, for messages.
    baud : :class:`int`
        Of the line.
    patience : :class:`float`
        Seconds of silence, beyond what the line takes for the longest request on its way, after
        which all that is not answered is sent again.

    Attributes
    ----------
    flags : :class:`Answer`
        Of the last answer.
    requests : :class:`int`
        Requests that were made so far.
    repeated : :class:`int`
        Requests that were sent again so far.
    """

    def __init__(self, port: Port, *, name: str, baud: int, patience: float = PATIENCE):
        self._port = port
        self._name = name
        self._patience = patience
        self._byte_seconds = _BYTE_BITS / baud
        self._tag = 0
        self._received = bytearray()
        self._garbage = 0  # bytes since the last answer
        self.flags = Answer(0)
        self.requests = 0
        self.repeated = 0

    def ask(self, request: Request) -> bytes:
        """The data of the answer to one request."""
        return self.exchange([request], window=1)[0]

    def write(self, address: int, data: bytes) -> None:
        """Writes memory."""
        self.exchange([Request(Opcode.WRITE_MEMORY, address + start,
                               data[start:start + PAYLOAD_BYTES])
                       for start in range(0, len(data), PAYLOAD_BYTES)], window=_WINDOW)

    def read(self, address: int, count: int) -> bytes:
        """Reads memory."""
        return b"".join(self.exchange(
            [Request(Opcode.READ_MEMORY, address + start, length=min(DATA_BYTES, count - start))
             for start in range(0, count, DATA_BYTES)], window=_READ_WINDOW))

    def exchange(self, requests: Sequence[Request], *, window: int) -> list[bytes]:
        """The data of the answers to all ``requests``, up to ``window`` of which are on their way
        at a time.

        Raises
        ------
        DeviceTimeout
            If nothing comes back, though all was sent several times.
        DeviceError
            If the device was reset since :attr:`Opcode.IDENTIFY`, or a register cannot be reached.
        """
        answers: list[bytes] = [b""] * len(requests)
        waiting = iter(enumerate(requests))
        sent: list[_Sent] = []
        silences = 0
        while True:
            while len(sent) < window and (following := next(waiting, None)) is not None:
                sent.append(self._send(*following))
            if not sent:
                return answers
            progress = False
            self._expect(max(len(each.frame) + each.request.length for each in sent))
            for response in self._responses():
                position = next((number for number, each in enumerate(sent)
                                 if each.tag == response.tag
                                 and each.request.length == len(response.data)), None)
                if position is None:
                    continue  # to a request that was sent twice
                self._check(response, sent[position].request)
                answers[sent[position].index] = response.data
                lost, sent = sent[:position], sent[position + 1:]
                self._repeat(lost)
                sent += lost
                progress = True
            if progress:
                silences = self._garbage = 0
            elif self._garbage > _GARBAGE_BYTES or not self._heard:
                silences += 1
                self._garbage = 0
                if silences > _RETRIES:
                    raise DeviceTimeout(f"Device at {self._name} does not answer: check cable, "
                                        f"power, bitstream and baud rate")
                self._repeat(sent)

    def drain(self) -> None:
        """Throws away what still comes of an earlier conversation, until the line is quiet."""
        self._expect(0)
        for _ in range(_GARBAGE_BYTES):
            if not self._read():
                return
        raise DeviceError(f"Port {self._name} never falls silent: check baud rate and cable")

    def _expect(self, count: int) -> None:
        """The next bytes may take as long as ``count`` of them, escaped, and a short answer."""
        self._port.timeout = self._patience + 2 * (count + _SHORT_BYTES) * self._byte_seconds

    def _send(self, index: int, request: Request) -> _Sent:
        self._tag = self._tag % LAST_TAG + 1
        count = request.length or len(request.payload)
        self.requests += 1
        frame = encode_request(request.opcode, self._tag, request.address, count, request.payload)
        self._write(frame)
        return _Sent(index, self._tag, frame, request)

    def _repeat(self, lost: Sequence[_Sent]) -> None:
        self.repeated += len(lost)
        for each in lost:
            self._write(each.frame)

    def _check(self, response: Response, request: Request) -> None:
        self.flags = response.flags
        if response.flags & Answer.FRESH and request.opcode is not Opcode.IDENTIFY:
            raise DeviceError(f"Device at {self._name} was reset while it was in use: open it "
                              f"again")
        if response.flags & Answer.FAILED:
            raise DeviceError(f"Device at {self._name} answered an access to register "
                              f"{request.address:#x} with an error")

    def _responses(self) -> Iterator[Response]:
        """The answers in what has come meanwhile; waits for a byte."""
        data = self._read()
        self._heard = bool(data)
        self._garbage += len(data)
        self._received += data
        *frames, rest = self._received.split(bytes([FLAG]))
        self._received = rest[-_GARBAGE_BYTES:]
        for frame in frames:
            response = decode_response(bytes(frame))
            if response is not None:
                yield response

    def _read(self) -> bytes:
        try:
            return self._port.read(max(1, self._port.in_waiting))
        except OSError as error:  # serial.SerialException is one
            raise self._failure(error) from None

    def _write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> DeviceError:
        return DeviceError(f"Port {self._name} failed, was it unplugged? "
                           f"({error.strerror or error})")
