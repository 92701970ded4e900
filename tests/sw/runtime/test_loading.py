"""Programs are sent to a board once, and again whenever it may not have them any more."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_board import TINY_BOARD, open_board

from weft.boards.system.protocol import Opcode
from weft.digits import MODEL, load
from weft.reference.golden import GoldenSession
from weft.runtime.device.functional import FunctionalDevice
from weft.runtime.device.link import Request
from weft.runtime.device.serial import SerialDevice
from weft.runtime.loading import load_programs, programs_digest
from weft.runtime.session import InferenceSession


@pytest.fixture(scope="module")
def programs():
    with InferenceSession(MODEL, config="tiny", device="functional") as session:
        assert session.sent
        return session.programs


class Kept(FunctionalDevice):
    """A board's memory, in Python; ``room`` is for what it holds, beside its notes."""

    def __init__(self, room=1 << 20):
        super().__init__(TINY_BOARD.config, memory_bytes=1 << 16)
        self.room, self.known, self.writes = room, None, 0

    def write_memory(self, address, data):
        assert self.known is None, "what is written over must not be known any more"
        super().write_memory(address, data)
        self.writes += 1

    def holds(self, digest, end):
        return end <= self.room and digest == self.known

    def remember(self, digest, end=0):
        self.known = digest if end <= self.room else None


def test_sent_once(programs):
    device = Kept()
    assert load_programs(device, programs)
    writes = device.writes
    assert not load_programs(device, programs)
    assert device.writes == writes == sum(len(program.image) for program in programs)


def test_other_programs_take_their_place(programs):
    device = Kept()
    address, data = programs[0].image[0]
    other = [replace(programs[0], image=((address, data[:-1] + b"x"), *programs[0].image[1:]))]
    assert [load_programs(device, each) for each in (programs, other, programs)] == [True] * 3


def test_not_kept_without_room(programs):
    device = Kept(room=programs[-1].memory_bytes - 1)
    assert load_programs(device, programs) and load_programs(device, programs)


def test_digest_tells_where_and_what(programs):
    (address, data), *rest = programs[0].image
    images = [((address, data), *rest), ((address + 64, data), *rest),
              ((address, data + b"\0"), *rest)]
    assert len({programs_digest([replace(programs[0], image=image)]) for image in images}) == 3


@pytest.mark.slow
def test_a_board_keeps_its_network():
    """From session to session, until its reset; and what it has kept gives the right results."""
    device = open_board()
    port = device._port
    port.close = lambda: None
    images = load()[0][:1].astype(np.float32)

    def board(config, *, memory_bytes):
        return SerialDevice(config, memory_bytes=memory_bytes, port=port, baud=TINY_BOARD.baud,
                            patience=500 / (TINY_BOARD.clock_mhz * 1e6))

    def session():
        with InferenceSession(MODEL, config=TINY_BOARD.config, device=board) as session:
            name = session.get_inputs()[0].name
            got, = session.run(None, {name: images})
            return session.sent, got, session.device

    wanted = next(iter(GoldenSession(MODEL).run({"input": images}).values()))
    results = [session(), session()]
    device.simulator.reset()
    results.append(session())
    # As after a loss of power that the digest has survived.
    results[-1][2]._link.ask(Request(Opcode.WRITE_LABEL, payload=bytes(4)))
    results.append(session())
    # As if something else had lain there.
    results[-1][2].write_memory(TINY_BOARD.memory_bytes - 32, bytes(32))
    results.append(session())
    assert [sent for sent, _got, _device in results] == [True, False, True, True, True]
    assert all(np.array_equal(got, wanted) for _sent, got, _device in results)
    device.simulator.close()
