# amaranth: UnusedElaboratable=no
"""Builds with the real tools: a small design always, whole boards among the slow tests."""


import pytest
from amaranth import *
from amaranth.lib import io

from weft.boards.clock import PllClock
from weft.boards.ecp5.pll import Ecp5Pll
from weft.boards.flow.bitstream import build
from weft.boards.flow.resources import resources
from weft.boards.registry import BOARDS, make_platform
from weft.hw.lib.multiplier import Multiplier


class Small(Elaboratable):
    """Clock, reset and pins as on a board, around one multiplier."""

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain("sync", reset_less=True)
        m.submodules.clock = PllClock(Ecp5Pll.nearest(25, 100))
        m.submodules.multiplier = multiplier = Multiplier(a_width=9, b_width=9)
        m.submodules.led = led = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.submodules.rx = rx = io.Buffer("i", platform.request("uart", dir="-").rx)
        sent = Signal(18)
        m.d.sync += sent.eq(Cat(rx.i, sent))
        m.d.comb += [
            multiplier.a.eq(sent[:9]),
            multiplier.b.eq(sent[9:]),
            led.o.eq(multiplier.o.xor()),
        ]
        return m


@pytest.fixture
def small(monkeypatch):
    """Builds put :class:`Small` on the board, at 100 MHz."""
    def design(board):
        files = make_platform(board).prepare(Small(), "top").files
        return 100.0, {name: files[name] for name in ("top.il", "top.lpf")}

    monkeypatch.setattr("weft.boards.flow.bitstream.design", design)


def test_small_design_becomes_a_bitstream(small, tmp_path):
    result = build(BOARDS["ulx3s-25f"], tmp_path, seeds=2)
    assert result.met
    assert {route.seed for route in result.routes} == {1, 2}
    assert result.used.multipliers == 1
    assert 10 < result.used.ffs < 100
    # Bitstreams begin with a comment, then a preamble.
    image = result.bitstream.read_bytes()
    assert image.startswith(b"\xff\x00Part: LFE5U-25F-6CABGA381\x00")
    assert b"\xff\xff\xbd\xb3" in image
    assert all(step.signal for step in result.path.steps)
    assert result.path.logic_ns + result.path.routing_ns == \
        pytest.approx(1000 / result.clock_mhz, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_board_reaches_its_clock_and_takes_what_was_estimated(name, tmp_path):
    result = build(BOARDS[name], tmp_path)
    estimate = resources(BOARDS[name].config, BOARDS[name]).total
    assert result.met, f"{result.clock_mhz} MHz, {result.path}"
    for field in ("luts", "ffs", "multipliers", "block_rams"):
        assert getattr(result.used, field) <= getattr(result.available, field)
        assert getattr(estimate, field) == \
            pytest.approx(getattr(result.used, field), rel=0.15)
