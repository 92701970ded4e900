"""A board under simulation, as a device: the code for a real board, at a simulated line."""

from weft.boards.board import Board
from weft.hw.isa.config import AcceleratorConfig
from weft.sim.board import BoardSimulator, build_board
from weft.sim.build import Build, Progress

from .base import check_room
from .serial import SerialDevice

__all__ = ["BoardSimDevice", "SimulatedPort"]


# A simulated host is never slow, and simulated time is expensive.
_PATIENCE_CYCLES = 500


class SimulatedPort:
    """What ``serial.Serial`` is for a real line. Simulated time passes while it waits for bytes,
    and at no other time."""

    def __init__(self, simulator: BoardSimulator, *, name: str):
        self.name = name
        self.timeout: float | None = None
        self._simulator = simulator

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read without waiting."""
        return self._simulator.available

    def read(self, size: int = 1) -> bytes:
        """Up to ``size`` bytes; fewer if they do not come within ``timeout`` simulated seconds."""
        assert self.timeout is not None
        self._simulator.run_until_received(size, self._simulator.cycles(self.timeout))
        return self._simulator.receive(size)

    def write(self, data: bytes, /) -> int:
        """Sends bytes."""
        self._simulator.send(data)
        return len(data)

    def close(self) -> None:
        """Ends the simulation."""
        self._simulator.close()


class BoardSimDevice(SerialDevice):
    """A :class:`SerialDevice` at the system of a board that is simulated cycle by cycle, serial
    line included.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        What the host takes the board for.
    memory_bytes : :class:`int`
        Memory that is needed, at least.
    board : :class:`Board`
    mismatch, latency : :class:`float`
        Of the host's line, see :class:`weft.sim.board.BoardSimulator`.
    direct : :class:`bool`
        Memory is not read and written over the line, which takes 40 cycles for a byte, but at once
        in the chip beside the FPGA.
    progress : callable
        Called with one line of text at each step of a build.
    build : :class:`Build`
        Use this simulator and not that of ``board``.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int, board: Board,
                 mismatch: float = 0.0, latency: float = 0.0, direct: bool = False,
                 progress: Progress | None = None, build: Build | None = None):
        check_room(memory_bytes, board.memory_bytes, board.name)  # a build takes minutes
        built = build_board(board, progress=progress) if build is None else build
        self._direct = direct
        self._simulator = BoardSimulator(board, built, mismatch=mismatch, latency=latency)
        patience = _PATIENCE_CYCLES / (board.clock_mhz * 1e6) + 2 * latency
        super().__init__(config, memory_bytes=memory_bytes, baud=board.baud, patience=patience,
                         port=SimulatedPort(self._simulator, name=board.name))

    @property
    def simulator(self) -> BoardSimulator:
        """The simulator itself, for disturbing the line and counting cycles."""
        return self._simulator

    def pause(self, seconds: float) -> None:
        """Let so much simulated time pass."""
        self._simulator.run(self._simulator.cycles(seconds))

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to memory."""
        if self._direct:
            memoryview(self._simulator.chip_bytes(address, len(data))).cast("B")[:] = bytes(data)
        else:
            super().write_memory(address, data)

    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of memory."""
        if self._direct:
            return self._simulator.chip_bytes(address, count).raw
        return super().read_memory(address, count)
