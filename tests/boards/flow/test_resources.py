# amaranth: UnusedElaboratable=no
import json

import pytest
from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import memory

from weft.boards.ecp5.family import ECP5
from weft.boards.family import Capacity
from weft.boards.flow.resources import Resources, features, resources
from weft.boards.registry import BOARDS
from weft.cli import main
from weft.hw.isa.presets import PRESETS


class Parts(Elaboratable):
    """A countable number of operators, some of them in a submodule."""

    def __init__(self, depth):
        self._depth = depth
        self.a, self.b = Signal(9), Signal(9)
        self.o, self.read = Signal(20), Signal(36)

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Module()
        product, total = Signal(18), Signal(10, reset_less=True)
        inner.d.sync += product.eq(self.a * self.b)
        m.d.sync += total.eq(self.a + self.b)
        with m.If(self.a[0]):
            m.d.comb += self.o.eq(product)
        with m.Else():
            m.d.comb += self.o.eq(total)

        m.submodules.memory = storage = memory.Memory(shape=36, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port()
        m.d.comb += [write.en.eq(1), write.addr.eq(self.a), write.data.eq(self.b),
                     read.addr.eq(self.b), self.read.eq(read.data)]
        return m


def count(depth):
    parts = Parts(depth)
    return features(rtlil.convert(parts, name="top", ports=[parts.a, parts.b, parts.o, parts.read]),
                    ECP5)


def test_operators_are_counted_where_they_are():
    found = count(depth=600)
    assert found["top.inner"] == {"arithmetic": 81, "register": 18, "select": 18}  # its reset
    assert found["top"]["register"] == 10
    assert found["top"]["arithmetic"] == 10
    assert found["top"]["select"] >= 20


@pytest.mark.parametrize("depth, block_rams, bits", [
    (16, 0, 36), (32, 0, 72), (512, 1, 0), (513, 2, 0), (1024, 2, 0), (1025, 3, 0), (16384, 32, 0)])
def test_memories(depth, block_rams, bits):
    found = count(depth)
    total = sum(counts["block_rams"] for counts in found.values())
    assert (total, sum(counts["memory"] for counts in found.values())) == (block_rams, bits)


BOARD = BOARDS["ulx3s-85f-onchip"]


@pytest.fixture(scope="module")
def tiny():
    return resources(PRESETS["tiny"], BOARD)


def test_components_sum_up(tiny):
    components = tiny.components
    core = components["system.accelerator.core"]
    parts = [used for name, used in components.items()
             if name.count(".") == 3 and name.startswith("system.accelerator.core.")]
    assert len(parts) >= 8
    for field, slack in (("luts", 20), ("ffs", 20), ("multipliers", 0), ("block_rams", 0)):
        whole = getattr(core, field)
        # The core's own few registers and gates come on top.
        assert 0.9 * whole <= sum(getattr(part, field) for part in parts) <= whole + slack
        assert whole <= getattr(tiny.total, field)


def test_array_multipliers_and_staging_memory_are_exact(tiny):
    config = PRESETS["tiny"]
    assert tiny.components["system.accelerator.core.matrix.array"].multipliers == config.multipliers
    assert tiny.components["system.memory"].block_rams == BOARD.memory_bytes // 2048


@pytest.mark.parametrize(("changes", "luts", "ffs", "multipliers", "block_rams"), [
    ({}, 13_659, 17_626, 22, 51),
    pytest.param({"vector_taps": 0}, 8_648, 11_220, 14, 44, marks=pytest.mark.slow),
])
def test_estimate_is_near_what_nextpnr_packed(changes, luts, ffs, multipliers, block_rams):
    # The figures were measured once; the builds among the slow tests measure anew.
    board = BOARDS["ulx3s-25f"]
    total = resources(board.config.replace(**changes), board).total
    assert total.luts == pytest.approx(luts, rel=0.15)
    assert total.ffs == pytest.approx(ffs, rel=0.15)
    assert (total.multipliers, total.block_rams) == (multipliers, block_rams)


def test_fits():
    small, large = (Capacity(luts=n, ffs=n, multipliers=n, block_rams=n) for n in (5, 6))
    board = BOARDS["ulx3s-25f"]
    assert Resources(board=board, total=small, available=small, components={}).fits
    assert not Resources(board=board, total=large, available=small, components={}).fits


def test_command_line(capsys, tiny, monkeypatch):
    monkeypatch.setattr("weft.boards.flow.resources.resources", lambda config, board: tiny)
    arguments = ["estimate", "--resources", "ulx3s-85f", "--config", "tiny"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "it fits" in out
    assert f"{tiny.total.luts:,}" in out
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["used"]["luts"] == tiny.total.luts
    assert figures["available"]["multipliers"] == 156
    assert figures["fits"] is True


def test_command_line_takes_the_configuration_of_the_board(capsys):
    assert main(["estimate", "--resources", "ulx3s-25f", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["name"] == "ulx3s_25f"


@pytest.mark.parametrize("arguments", [["estimate"], ["estimate", "a.onnx", "--resources", "x"]])
def test_command_line_wrong(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err == \
        "weft: error: Estimate needs either a model or --resources BOARD\n"


def test_an_array_too_large_for_the_device_is_an_error(capsys):
    assert main(["estimate", "--resources", "ulx3s-25f", "--config", "base"]) == 2
    assert capsys.readouterr().err.endswith(
        "weft: error: Array must fit into 1 x 28 multipliers with no row of PEs in two rows of "
        "them, not be 8 x 17 PEs\n")
