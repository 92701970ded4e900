"""Running FPGA tools."""

import json

import pytest
from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.boards.flow.tools import run_yosys
from weft.errors import ToolError


class _Elements(wiring.Component):
    """Logic on the elements of an array, which Amaranth names as Yosys names its bits."""

    i: In(data.ArrayLayout(4, 4))
    o: Out(data.ArrayLayout(4, 4))

    def elaborate(self, platform):
        m = Module()
        held = Signal(data.ArrayLayout(4, 4))
        for k in range(4):
            m.d.sync += held[k].eq(self.i[k] ^ (held[k] & self.i[3 - k]))
            m.d.comb += self.o[k].eq(held[k] + self.i[k])
        return m


def test_elements_of_arrays_are_not_named_as_bits_are(tmp_path):
    design = rtlil.convert(_Elements(), name="top")
    assert "\\held[1]" in design
    run_yosys(design, "synth_ecp5 -top top; write_json top.json", folder=tmp_path)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"].values()
    assert sum(cell["type"] == "TRELLIS_FF" for cell in cells) == 16
    written = (tmp_path / "top.il").read_text()
    assert "\\held<1>" in written and "\\held[1]" not in written


def test_the_error_of_yosys_is_shown(tmp_path):
    with pytest.raises(ToolError, match=r"yosys failed: No such command: flatter .*synthesis\.log"):
        run_yosys("module \\top\nend\n", "flatter", folder=tmp_path)
    assert "flatter" in (tmp_path / "synthesis.log").read_text()
