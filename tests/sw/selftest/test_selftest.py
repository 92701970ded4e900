"""The self-test, at a simulated board that is sound, or broken in one way."""

import dataclasses
import re
from functools import partial

import pytest
from tiny_board import TINY_BOARD, open_board

from weft.boards import registry
from weft.cli import main
from weft.runtime.device.board_sim import BoardSimDevice
from weft.selftest import log_text, self_test


def run(board=TINY_BOARD, change=None, open_device=open_board):
    """Of a board to which ``change`` is made once it is open."""
    def opened():
        device = open_device()
        if change is not None:
            change(device)
        return device
    return self_test(board, "board-sim:tiny_board", opened, sample_bytes=2048)


def wrapped(name, method):
    """A change that puts ``method``, given the one before, in the place of a device's."""
    def change(device):
        setattr(device, name, partial(method, getattr(device, name)))
    return change


def flip(read, address, count):
    """Data line 9 of 32 is stuck."""
    return bytes(byte | (2 if place % 4 == 1 else 0)
                 for place, byte in enumerate(read(address, count), address))


def fold(access, address, *rest):
    """Address line 12 is lost."""
    return access(address & ~0x1000, *rest)


def fold_both(device):
    for name in ("read_memory", "write_memory"):
        wrapped(name, fold)(device)


def disturb(device):
    device.simulator.disturb(to_board=True, number=3000, flip=4)


def cut(device):
    device.simulator.cut()


@pytest.mark.parametrize("change, step, message", [
    (wrapped("read_memory", flip), "data lines",
     "Memory has broken data lines, of 32: line 9 read as 1"),
    (fold_both, "address lines", "Memory has a broken address line, 12 of 15: what is written at "
                                 "0x1000 is found at 0x0"),
    (cut, "connection", "Device at tiny_board does not answer: check cable, power, bitstream "
                           "and baud rate"),
])
def test_a_fault_is_named(change, step, message):
    report = run(change=change)
    last = report.steps[-1]
    assert (report.passed, last.name, last.text) == (False, step, message)
    assert f"FAIL {step}" in log_text(report)


def test_a_damaged_byte_is_named_although_nothing_is_wrong_for_it():
    report = run(change=disturb)
    assert [step.name for step in report.steps if not step.passed] == ["serial line"]
    assert re.fullmatch(r"Serial line lost or damaged bytes: \d+ of \d+ requests were sent again; "
                        r"no result is wrong, but check cable, ground and baud rate",
                        report.steps[-1].text)


def test_another_design_on_the_board_is_named():
    report = run(dataclasses.replace(TINY_BOARD, memory=dataclasses.replace(
        TINY_BOARD.memory, size=64 * 1024)))
    assert report.steps[-1].name == "design"
    assert re.fullmatch(r"Board holds another design, [0-9a-f]{8}, than tiny_board of this release "
                        r"of Weft, [0-9a-f]{8}: build its bitstream again and load it",
                        report.steps[-1].text)


def test_another_configuration_on_the_board_is_named():
    config = TINY_BOARD.config.replace(vector_taps=1)
    report = run(dataclasses.replace(TINY_BOARD, config=config),
                 open_device=partial(open_board, config))
    assert report.steps[-1].text.startswith("Device must have vector_taps = 1 (configuration ")


@pytest.fixture
def registered(monkeypatch, tmp_path):
    monkeypatch.setitem(registry.BOARDS, TINY_BOARD.name, TINY_BOARD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command(registered, monkeypatch, capsys):
    command = ["selftest", "--board", "tiny_board", "--device", "board-sim:tiny_board"]
    monkeypatch.setattr("weft.cli.selftest._SAMPLE_BYTES", {True: 2048})
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^PASS: 48 MHz, digits at [\d,]+ frames per second$", shown, re.MULTILINE)
    log = (registered / "selftest-tiny_board.log").read_text()
    assert log.startswith("weft selftest tiny_board: PASS\n\nweft ")
    assert re.findall(r"^ok   (\w[\w ]*\w) +[\d.]+ s  ", log, re.MULTILINE) == [
        "connection", "configuration", "design", "data lines", "address lines", "memory",
        "load and store", "matrix", "vector", "digits", "serial line"]
    for wanted in ("design: ", "configuration: {", "  cycles ", "amaranth ", "clock: 48 MHz"):
        assert wanted in log

    monkeypatch.setattr(BoardSimDevice, "read_memory",
                        lambda self, address, count: bytes(count))
    assert main([*command, "--log", "mine.log"]) == 1
    assert "FAIL data lines: Memory has broken data lines, of 32: lines 0, 1, 2" in \
        capsys.readouterr().out
    assert (registered / "mine.log").read_text().startswith("weft selftest tiny_board: FAIL\n")


@pytest.mark.parametrize("options, message", [
    (["--board", "none", "--device", "serial:x"], "Board must be one of "),
    (["--board", "tiny_board", "--device", "verilator"],
     "Self-test needs --device serial:PORT or board-sim:NAME, not verilator"),
    (["--board", "tiny_board", "--device", "serial:x", "--log", "no/where.log"], "Output "),
])
def test_command_wrong(options, message, registered, capsys):
    assert main(["selftest", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"weft: error: {message}") and error.count("\n") == 1


def test_a_port_that_is_not_there_is_a_fault(registered, capsys):
    assert main(["selftest", "--board", "tiny_board", "--device", "serial:/no/port"]) == 1
    assert "FAIL connection: Serial port /no/port cannot be opened at 12000000 baud: " in \
        capsys.readouterr().out
