"""The generated Verilog is clean, and its ports are those of the standard."""

import re

import pytest
from configs import LINES, PRODUCTS, PRODUCTS_PLAIN
from sweeps import sweep

from weft.hw.accelerator import Accelerator
from weft.hw.isa.presets import PRESETS
from weft.hw.verilog import to_verilog
from weft.sim.lint import WAIVERS, lint

CONFIGS = PRESETS | {config.name: config for config in (PRODUCTS, PRODUCTS_PLAIN)} | {
    "turn": PRODUCTS_PLAIN.replace(normalize_channels=0),
    "softmax": PRODUCTS.replace(normalize_channels=0),
    "lines": LINES.replace(axi_data_width=64)}


# The large arrays take most of the time; all that they have is in a small one, too.
@pytest.mark.parametrize("name", sweep(
    CONFIGS, fast=lambda name: name not in ("small", "wide", "base")))
def test_verilog_is_lint_clean(name, tmp_path):
    path = tmp_path / "weft_top.v"
    path.write_text(to_verilog(Accelerator(CONFIGS[name]), name="weft_top"))
    assert lint(path, top="weft_top") == ""


def test_lint_sees_a_fault(tmp_path):
    path = tmp_path / "bad.v"
    path.write_text("module bad(input a, output [1:0] b);\n  assign b[0] = a;\nendmodule\n")
    assert "UNDRIVEN" in lint(path, top="bad")
    assert all(reason for reason in WAIVERS.values())


def test_ports_have_the_names_of_the_standard():
    text = to_verilog(Accelerator(PRESETS["tiny"]), name="weft_top")
    ports = set(re.search(r"module weft_top\((.*?)\)", text, re.DOTALL).group(1).split(", "))
    assert {"clk", "rst", "irq", "s_axi_awaddr", "s_axi_rdata", "m_axi_araddr", "m_axi_arready",
            "m_axi_wstrb", "m_axi_bresp", "m_axi_rlast"} <= ports
