from dataclasses import replace

from tiny_board import TINY_BOARD

from weft.sim.board import build_board


def test_a_board_with_usb_is_simulated_from_its_serial_line_on(monkeypatch):
    made = []
    monkeypatch.setattr("weft.sim.board.build_library",
                        lambda identity, generate, harness, progress: made.append(
                            (identity, generate())))
    build_board(TINY_BOARD)
    build_board(replace(TINY_BOARD, usb=True))
    assert made[0] == made[1]
    assert "rx" in made[0][1]
