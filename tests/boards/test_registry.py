"""A board that is defined in a file: the one that the documentation shows."""

import re
import sys

import pytest
from places import ROOT
from tiny_board import TINY_BOARD

from weft import compiler
from weft.boards.flow.bitstream import design
from weft.boards.registry import BOARDS, find_board, make_platform
from weft.cli import main
from weft.digits import MODEL
from weft.errors import ToolError
from weft.frontend import partition
from weft.hw.isa.config import ConfigError
from weft.sim.board import fast_line


@pytest.fixture
def example(tmp_path):
    page = (ROOT / "docs" / "howto" / "add-board.md").read_text(encoding="utf-8")
    path = tmp_path / "ecpix.py"
    path.write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")
    return path


def test_a_board_is_less_than_60_lines(example):
    assert len(example.read_text().splitlines()) < 60


def test_a_board_of_a_file_has_its_pins_and_its_package(example):
    board = find_board(str(example))
    clock_mhz, files = design(board)
    assert clock_mhz == 60
    pins = dict(re.findall(r'LOCATE COMP "(\w+)__io" SITE "(\w+)"', files["top.lpf"]))
    assert pins == {"clk100_0": "K23", "uart_0__rx": "R26", "uart_0__tx": "R24"}
    assert "CABGA554" in board.fpga.place
    assert "MULT18X18D" in files["top.il"]


def test_a_board_of_a_file_runs_under_simulation(example, capsys):
    # With their clock the simulator is that of other tests: the design is the same, whatever the
    # board is called.
    text = example.read_text()
    example.write_text(text.replace("clock_mhz=60,", "clock_mhz=48,"))
    assert example.read_text() != text
    board = fast_line(find_board(str(example)))
    assert (board.config, board.memory, board.baud) == (
        TINY_BOARD.config, TINY_BOARD.memory, TINY_BOARD.baud)
    assert main(["run", str(MODEL), "--device", f"board-sim:{example}", "--random", "1",
                 "--verify"]) == 0
    assert "0 of 40 output bytes differ" in capsys.readouterr().out


@pytest.mark.parametrize("text, message", [
    (None, "cannot be read: there is no such file"),
    ("1 / 0", "fails: ZeroDivisionError: division by zero"),
    ("BOARD = 3", "must define BOARD, a weft.boards.board.Board, and a function make_platform"),
])
def test_file_wrong(text, message, tmp_path):
    path = tmp_path / "board.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'Board file {path} {message}')}$"):
        find_board(str(path))


@pytest.mark.parametrize("name", BOARDS)
def test_the_digits_fit_every_board(name):
    board = BOARDS[name]
    graph, = partition(MODEL).graphs
    program = compiler.compile(graph, board.config)
    assert program.memory_bytes <= board.memory.size


def test_missing_package_of_pins_wrong(monkeypatch):
    for name in [*sys.modules]:
        if name.split(".")[0] == "amaranth_boards":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "amaranth_boards", None)
    with_pins = {"colorlight-i9", "tang-nano-20k", "tang-nano-20k-sdram"}  # have lists of their own
    for name in with_pins:
        make_platform(BOARDS[name])
    for name in BOARDS.keys() - with_pins:
        with pytest.raises(ToolError, match=r"^Package amaranth-boards, which has the pins of "
                                            r"boards, is not installed: run "
                                            r"pip install '.*\[fpga\]'$"):
            make_platform(BOARDS[name])
