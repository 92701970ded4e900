"""Delay lines in distributed memory: the netlist that is placed does what the design does."""

import json

import pytest
from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from primitives import simulate

from weft.boards.flow.tools import find_tool, run_tool
from weft.boards.gowin.delay_lines import LEAST_CYCLES, replace_delay_lines
from weft.errors import ToolError
from weft.hw.lib.delay import delay

# Cycles, and flip-flops that are left of so many for each bit: the last one, and those of what is
# too short for a second memory.
LINES = {LEAST_CYCLES - 1: LEAST_CYCLES - 1, LEAST_CYCLES: 1, 9: 1, 16: 1, 17: 1, 20: 4, 23: 1,
         40: 1}
WIDTH = 6


class Lines(wiring.Component):
    """Delays of several lengths, one with an output in its middle, one that can be stopped. Each
    has an input of its own, or synthesis would make one line of them."""

    i: In(WIDTH * (len(LINES) + 2))
    enable: In(1)
    o: Out(WIDTH * (len(LINES) + 3))

    def elaborate(self, platform):
        m = Module()
        *inputs, split, stopped = (self.i.word_select(k, WIDTH) for k in range(len(LINES) + 2))
        outputs = [delay(m, value, cycles, name=f"line_{cycles}", reset_less=True)
                   for value, cycles in zip(inputs, LINES)]
        outputs.append(delay(m, split, 7, name="first", reset_less=True))
        outputs.append(delay(m, outputs[-1], 8, name="second", reset_less=True))
        with m.If(self.enable):
            for number in range(8):
                following = Signal(WIDTH, name=f"stopped_{number}", reset_less=True)
                m.d.sync += following.eq(stopped)
                stopped = following
        outputs.append(stopped)
        m.d.comb += self.o.eq(Cat(outputs))
        return m


@pytest.fixture
def netlist(tmp_path):
    (tmp_path / "lines.il").write_text(rtlil.convert(Lines(), name="lines", emit_src=False))
    _yosys(tmp_path, "read_rtlil lines.il; synth_gowin -noiopads -family gw2a -top lines; "
                     "write_json lines.json")
    return json.loads((tmp_path / "lines.json").read_text())


def _yosys(folder, commands):
    run_tool([find_tool("yosys"), "-q", "-p", commands], folder=folder, log=folder / "yosys.log")


def _count(top, kind):
    return sum(cell["type"] == kind for cell in top["cells"].values())


def _simulate(netlist, folder):
    """Compares the netlist with the design."""
    # Without Yosys' own descriptions of the cells' ports.
    modules = {"lines": netlist["modules"]["lines"]}
    (folder / "changed.json").write_text(json.dumps({"modules": modules}))
    _yosys(folder, "read_json changed.json; write_rtlil changed.il")

    class Netlist(Lines):
        def elaborate(self, platform):
            return Instance("lines", i_clk=ClockSignal(), i_rst=Const(0), i_i=self.i,
                            i_enable=self.enable, o_o=self.o)

    simulate([(Lines(), Netlist())], None, folder, "+gowin/cells_sim.v", "changed.il", settle=0)


def test_a_line_that_is_a_cycle_longer_is_noticed(netlist, tmp_path):
    top = netlist["modules"]["lines"]
    replace_delay_lines(top)
    table = next(cell for name, cell in top["cells"].items() if "read" in name and "LUT4_0" in name)
    table["parameters"]["INIT"] = "".join("10"[int(bit)] for bit in table["parameters"]["INIT"])
    with pytest.raises(ToolError, match="outputs differ"):
        _simulate(netlist, tmp_path)


def test_delay_lines_do_what_registers_do(netlist, tmp_path):
    top = netlist["modules"]["lines"]
    before = _count(top, "DFF")
    replace_delay_lines(top)
    saved = WIDTH * sum(cycles - left for cycles, left in LINES.items()) + WIDTH * (6 + 7)
    assert before - saved < _count(top, "DFF") <= before - saved + 4 * 8
    assert _count(top, "RAM16SDP4") > 0
    assert _count(top, "DFFE") == 8 * WIDTH
    _simulate(netlist, tmp_path)
