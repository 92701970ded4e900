"""A LiteX SoC with a VexRiscv, simulated: its processor runs the digits from C.

Needs LiteX: `make litex-test`.
"""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest

import weft.litex
from weft.digits import MODEL, load
from weft.errors import InputError, ToolError
from weft.hw.isa.presets import PRESETS
from weft.litex import __main__ as program
from weft.reference.golden import GoldenSession

needs_litex = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("litex", "ziglang")),
    reason="LiteX or its C compiler is not installed: make litex-test")

FRAMES = 10
SCALE, ZERO_POINT = np.float32(float.fromhex("0x1.db33acp-5")), 5   # of the model's logits


@needs_litex
@pytest.mark.slow
def test_processor_gets_the_right_classes_and_onnxruntimes_scores(tmp_path):
    # With room for all weights, so that constants stay on chip from the second frame on.
    done = subprocess.run(
        [sys.executable, "-m", "weft.litex", "--config", "tiny,weight_bytes=65536,name='roomy'",
         "--frames", str(FRAMES), "--folder", "soc"],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{FRAMES} of {FRAMES} classes are right\n")
    frames = re.findall(r"^frame (\d+): class (\d+), (\d+) cycles, (\w+), scores(.*)$",
                        done.stdout, re.MULTILINE)
    images, labels = load()
    golden = GoldenSession(MODEL)
    assert len(frames) == FRAMES
    for (number, found, _cycles, how, scores), image, label in zip(frames, images, labels):
        assert how == ("interrupt" if int(number) % 2 else "polled")
        assert int(found) == label
        logits = golden.run({"input": image[None]})["logits"].reshape(-1)
        expected = np.rint(logits / SCALE).astype(np.int64) + ZERO_POINT
        assert [int(score) for score in scores.split()] == (expected % 256).tolist()
    # The first one loads the constants.
    cycles = [int(frame[2]) for frame in frames]
    assert max(cycles[1:]) < cycles[0]


@pytest.mark.slow
def test_target_of_a_ulx3s_elaborates_with_an_accelerator_beside_its_processor(tmp_path):
    targets = pytest.importorskip("litex_boards.targets.radiona_ulx3s",
                                  reason="litex-boards is not installed: make litex-test")
    from weft.litex import add_weft

    soc = targets.BaseSoC(device="LFE5U-85F", revision="2.0", toolchain="trellis",
                          sys_clk_freq=50e6, integrated_rom_size=0x20000)
    add_weft(soc, PRESETS["tiny"], folder=tmp_path)
    soc.finalize()
    assert {"main_ram", "weft"} <= set(soc.bus.regions)
    assert soc.irq.locs["weft"] is not None and "weft_dma" in soc.bus.masters
    verilog = soc.platform.get_verilog(soc, name="ulx3s").main_source
    assert re.search(r"^weft_tiny \w+", verilog, re.MULTILINE)


@needs_litex
def test_address_must_be_that_of_the_bus_wrong(tmp_path):
    from weft.litex import WeftCore

    with pytest.raises(InputError, match=r"^axi_addr_width of an accelerator on a SoC's bus "
                                         r"must be 32, not 40$"):
        WeftCore(None, PRESETS["tiny"].replace(axi_addr_width=40), folder=tmp_path)


def test_missing_extra_wrong(monkeypatch, capsys):
    for name in [*sys.modules]:
        if name.split(".")[0] in ("litex", "migen") or name.startswith("weft.litex."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(weft.litex, "core", raising=False)
    monkeypatch.setitem(sys.modules, "litex", None)
    with pytest.raises(ToolError, match=r"^LiteX is not installed in this Python environment: run "
                                        r"pip install '.*\[litex\]'$"):
        from weft.litex import add_weft  # noqa: F401
    assert program.main([]) == 2
    assert re.fullmatch(r"weft: error: LiteX is not installed in this Python environment: run "
                        r"pip install '.*\[litex\]'\n", capsys.readouterr().err)


def test_number_of_frames_wrong(capsys):
    assert program.main(["--frames", "0"]) == 2
    assert capsys.readouterr().err == \
        "weft: error: Number of frames must be between 1 and 450, not 0\n"
