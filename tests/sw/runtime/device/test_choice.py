import re

import pytest

from weft import cli
from weft.boards.registry import BOARDS
from weft.errors import WeftError
from weft.runtime.device.board_sim import BoardSimDevice
from weft.runtime.device.choice import choose_device, is_simulated, records_signals, runs_layers
from weft.runtime.device.serial import SerialDevice

BOARD = BOARDS["ulx3s-85f"]


def test_serial_ports_have_a_path_and_a_baud_rate():
    choice = choose_device("serial:/dev/ttyUSB7?baud=115200")
    assert (choice.factory, choice.board) == (SerialDevice, None)
    assert choice.options == {"port": "/dev/ttyUSB7", "baud": 115200}
    assert choose_device("serial:COM3").options == {"port": "COM3", "baud": 3_000_000}


@pytest.mark.parametrize("option, baud", [("", int(BOARD.clock_mhz * 1e6 / 4)),
                                          (f"?baud={BOARD.baud}", BOARD.baud)])
def test_simulated_boards_bring_their_configuration(option, baud):
    choice = choose_device(f"board-sim:{BOARD.name}{option}")
    assert choice.board is not None and choice.board.config == BOARD.config
    assert choice.factory.func is BoardSimDevice
    assert choice.factory.keywords["board"].baud == baud
    assert not choice.factory.keywords["direct"]
    direct = choose_device(f"board-sim:{BOARD.name}{option}?load=direct")
    assert direct.factory.keywords == choice.factory.keywords | {"direct": True}


@pytest.mark.parametrize("device, signals, layers", [
    ("verilator", True, True), ("functional", False, True), ("serial:x", False, False),
    (f"board-sim:{BOARD.name}", False, False), (object, True, True)])
def test_what_devices_can_do(device, signals, layers):
    assert (records_signals(device), runs_layers(device)) == (signals, layers)
    assert is_simulated(str(device)) == (device != "serial:x")


@pytest.mark.parametrize("device, message", [
    ("board-sim:none", f"Board must be one of {', '.join(BOARDS)} or a .py file, "
                       f"not 'none'"),
    ("board-sim", "Device must be 'verilator', 'functional', 'serial:PORT', 'board-sim:BOARD' or "
                  "a callable, not 'board-sim'"),
    (3, "Device must be 'verilator', 'functional', 'serial:PORT', 'board-sim:BOARD' or a callable, "
        "not 3"),
    ("serial:x?speed=9", "Device must be serial:NAME or serial:NAME?baud=N, not "
                         "'serial:x?speed=9'"),
    ("board-sim:x?baud=0", "Device must be board-sim:NAME, board-sim:NAME?load=direct or "
                           "board-sim:NAME?baud=N, not 'board-sim:x?baud=0'"),
    ("board-sim:icebreaker?load=direct", "Board must have a memory chip for load=direct, "
                                         "icebreaker has none"),
])
def test_device_wrong(device, message):
    with pytest.raises(WeftError, match=f"^{re.escape(message)}$"):
        choose_device(device)


@pytest.mark.parametrize("arguments, message", [
    (["--board", BOARD.name], "A board (--board) needs --device serial:PORT, not verilator"),
    (["--board", BOARD.name, "--device", "serial:/dev/no-such-port"],
     f"Serial port /dev/no-such-port cannot be opened at {BOARD.baud} baud: "),
    (["--device", f"board-sim:{BOARD.name}", "--trace", "x.fst"],
     f"A waveform (--trace) needs --device verilator, not board-sim:{BOARD.name}"),
])
def test_command_line_wrong(capsys, arguments, message):
    from weft.digits import MODEL
    assert cli.main(["run", str(MODEL), *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"weft: error: {message}")
