"""Before anything is sent to a board: is it what the host takes it for?"""

import dataclasses
import re

import pytest
from tiny_board import TINY_BOARD, open_board

from weft.boards import registry
from weft.boards.system.design_hash import design_hash
from weft.cli import main
from weft.digits import MODEL
from weft.errors import OtherDesignWarning
from weft.runtime.device import DeviceError
from weft.runtime.device.board_sim import SimulatedPort
from weft.runtime.device.design import OtherDesign, check_design
from weft.runtime.device.link import PATIENCE
from weft.runtime.device.serial import SerialDevice
from weft.runtime.session import InferenceSession
from weft.sim.board import BoardSimulator, build_board

# The same configuration, and another memory behind it.
OTHER_BOARD = dataclasses.replace(TINY_BOARD, memory=dataclasses.replace(
    TINY_BOARD.memory, size=64 * 1024))
OTHER = (f"Board holds another design, {design_hash(TINY_BOARD):08x}, than tiny_board of this "
         f"release of Weft, {design_hash(OTHER_BOARD):08x}: build its bitstream again and load it")
GO_ON = "; as its configuration is the same, --other-design goes on all the same"


@pytest.fixture
def written(monkeypatch):
    """Whatever is written to the memory or the label of a board."""
    found = []
    write, remember = SerialDevice.write_memory, SerialDevice.remember

    def write_memory(self, address, data):
        found.append(address)
        write(self, address, data)

    def note(self, digest, end=0):
        found.append("label")
        remember(self, digest, end)

    monkeypatch.setattr(SerialDevice, "write_memory", write_memory)
    monkeypatch.setattr(SerialDevice, "remember", note)
    return found


def test_the_board_s_own_design_is_known():
    device = open_board()
    assert check_design(TINY_BOARD, device) == f"hash {design_hash(TINY_BOARD):08x}"
    with pytest.raises(OtherDesign, match=f"^{re.escape(OTHER)}$"):
        check_design(OTHER_BOARD, device)
    device.close()


def test_another_design_gets_no_program(written):
    with pytest.raises(OtherDesign, match=f"^{re.escape(OTHER)}$"):
        InferenceSession(MODEL, device=open_board, board=OTHER_BOARD)
    assert not written


def test_another_design_of_the_configuration_may_be_used():
    with pytest.warns(OtherDesignWarning, match=f"^{re.escape(OTHER)}$"), \
            InferenceSession(MODEL, device=open_board, board=OTHER_BOARD,
                             other_design=True) as session:
        assert session.sent


@pytest.mark.parametrize("other_design", [False, True])
def test_another_configuration_is_an_error_whatever_is_allowed(other_design, written):
    """The simulated board takes its configuration from its own sources, not from what is asked."""
    config = TINY_BOARD.config.replace(vector_taps=1)
    message = (f"Device must have vector_taps = 1 (configuration 'tiny'), not "
               f"{TINY_BOARD.config.vector_taps}: build it again from that configuration, or "
               f"choose the one it was built from")
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        InferenceSession(MODEL, config=config, device=open_board, board=TINY_BOARD,
                         other_design=other_design)
    assert not written


class QuickPort(SimulatedPort):
    """Simulated time is expensive: nobody waits for a slow host."""

    def read(self, size=1):
        self.timeout = max(self.timeout - PATIENCE, 0) + 1e-5
        return super().read(size)


@pytest.fixture
def serial_line(monkeypatch):
    """Serial ports lead to the simulated board."""
    monkeypatch.setitem(registry.BOARDS, TINY_BOARD.name, TINY_BOARD)
    monkeypatch.setitem(registry.BOARDS, "other", OTHER_BOARD)
    monkeypatch.setattr("weft.runtime.device.serial.open_port", lambda path, baud: QuickPort(
        BoardSimulator(TINY_BOARD, build_board(TINY_BOARD)), name=path))


@pytest.mark.parametrize("command", ["run", "load"])
def test_commands(command, serial_line, capsys):
    arguments = [command, str(MODEL), "--device", "serial:PORT", "--board"]
    assert main([*arguments, "tiny_board"]) == 0
    assert "Warning" not in capsys.readouterr().err
    assert main([*arguments, "other"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"weft: error: {OTHER}{GO_ON}"
    assert main([*arguments, "other", "--other-design"]) == 0
    assert f"Warning: {OTHER}" in capsys.readouterr().err
