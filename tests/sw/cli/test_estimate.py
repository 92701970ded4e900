"""``weft estimate``: what a network takes, without a simulator."""

import json
import re
from dataclasses import replace

import pytest

from weft.boards.memory import OnChipMemory
from weft.boards.registry import BOARDS
from weft.cli import main
from weft.compiler import batch, compile
from weft.compiler.timing.player import MemoryTiming, play
from weft.digits import MODEL
from weft.errors import InputError
from weft.frontend import partition
from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS
from weft.runtime.estimate import estimate_plan

CONFIG = PRESETS["base"]


@pytest.fixture(scope="module")
def estimate():
    return estimate_plan(partition(MODEL), CONFIG)


def test_cycles_are_those_of_the_streams_that_are_played(estimate):
    program = compile(partition(MODEL).graphs[0], CONFIG)
    assert estimate.warm
    assert estimate.first.cycles == play(program.commands, CONFIG,
                                         address=program.command_address).cycles
    assert estimate.further.cycles == play(program.warm_commands, CONFIG,
                                           address=program.warm_address).cycles
    assert estimate.further.cycles < estimate.first.cycles


def test_layers_share_all_cycles(estimate):
    for frame in (estimate.first, estimate.further):
        assert sum(layer.result.cycles for layer in frame.layers) == frame.cycles
        assert {layer.bound for layer in frame.layers} <= {
            "", "latency", *(engine.name.lower() for engine in Engine)}
        assert frame.layers[0].bound != ""
        for use in frame.engines.values():
            assert 0 <= use.busy <= frame.cycles
            assert sum(use.waits.values()) <= frame.cycles


def test_no_layer_or_frame_is_faster_than_its_limit(estimate):
    for frame in (estimate.first, estimate.further):
        assert frame.limits.cycles == frame.reached * frame.cycles <= frame.cycles
        for layer in frame.layers:
            assert 0 < layer.reached <= 1
    assert estimate.further.limits.read * CONFIG.axi_bytes == estimate.further.dram_read_bytes


def test_frame_without_loads_of_weights_reads_less(estimate):
    program = compile(partition(MODEL).graphs[0], CONFIG)
    constants = sum(len(data) for _, data in program.image[2:])
    less = estimate.first.dram_read_bytes - estimate.further.dram_read_bytes
    assert less == constants + len(program.commands) - len(program.warm_commands)


def test_layers_wait_for_a_slow_memory():
    slow = estimate_plan(partition(MODEL), CONFIG, memory=MemoryTiming(rate=0.02))
    bounds = {layer.bound for layer in slow.first.layers if layer.result.cycles}
    assert "load" in bounds


def test_batch_shares_its_loads(estimate):
    together = estimate_plan(partition(MODEL), CONFIG, batch=4)
    assert together.macs == estimate.macs
    assert together.first.cycles < 4 * estimate.first.cycles
    program = compile(batch(partition(MODEL).graphs[0], 4), CONFIG)
    assert together.first.cycles == play(program.commands, CONFIG,
                                         address=program.command_address).cycles
    figures = together.to_dict()
    assert figures["cycles"][0] == round(together.first.cycles / 4)


def test_batch_of_none_wrong():
    with pytest.raises(InputError) as caught:
        estimate_plan(partition(MODEL), CONFIG, batch=0)
    assert str(caught.value) == "Batch must be an integer of at least 1, not 0"


def test_json_has_the_names_of_a_run(estimate, capsys):
    assert main(["estimate", str(MODEL), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    figures = json.loads(captured.out)
    advice = figures.pop("advice")
    assert (advice["bound"], advice["trials"][0]["field"]) == ("matrix", "cols")
    assert figures == {**json.loads(json.dumps(estimate.to_dict())), "model": MODEL.name}
    assert figures["cycles"] == [estimate.first.cycles, estimate.further.cycles]
    assert figures["utilization"] == estimate.macs / (estimate.further.cycles * 256)
    assert {"config", "batch", "macs", "layers", "dram_read_bytes",
            "dram_write_bytes"} <= figures.keys()
    assert {"name", "op", "engine", "shape", "macs", "cycles"} <= figures["layers"][0].keys()
    for part in (figures, *figures["layers"], figures["first"]):
        assert part["limits"][part["limit"]] == max(part["limits"].values())
    assert figures["reached"] == max(figures["limits"].values()) / figures["cycles"][1]
    assert figures["first"]["cycles"] == estimate.first.cycles


def test_table_names_layers_and_what_bounds_them(estimate, capsys):
    assert main(["estimate", str(MODEL)]) == 0
    text = capsys.readouterr().out
    assert f"{estimate.first.cycles:,}" in text
    assert f"{estimate.further.cycles:,}" in text
    assert "matrix engine: at work" in text
    assert f"{estimate.further.limits.cycles:,} array" in text
    assert text.splitlines()[-1].startswith("Bound by the array in ")


def test_board_names_configuration_and_memory(capsys):
    found = {}
    for board in ("ulx3s-85f-onchip", "ulx3s-85f"):
        assert main(["estimate", str(MODEL), "--json", "--board", board]) == 0
        found[board] = json.loads(capsys.readouterr().out)
    near, far = found.values()
    assert [near["config"]["name"], far["config"]["name"]] == ["ulx3s_85f_onchip", "ulx3s_85f"]
    assert far["cycles"][0] > near["cycles"][0]
    assert not any(trial["field"] == "axi_data_width" for trial in far["advice"]["trials"])
    assert main(["estimate", str(MODEL), "--board", "ulx3s-85f", "--config", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["name"] == "tiny"


@pytest.mark.parametrize("options, message", [
    (["--board", "ulx3s-85f", "--latency", "9"],
     "The latency is that of the board's memory: give --board or --latency, not both"),
    (["--board", "ulx4"], "Board must be one of "),
])
def test_board_that_cannot_be(options, message, capsys):
    assert main(["estimate", str(MODEL), *options]) == 2
    assert capsys.readouterr().err.startswith(f"weft: error: {message}")


def test_network_larger_than_the_memory_of_the_board(monkeypatch, capsys):
    board = BOARDS["ulx3s-25f"]
    small = replace(board, memory=OnChipMemory(size=4096))
    monkeypatch.setitem(BOARDS, small.name, small)
    assert main(["estimate", str(MODEL), "--board", small.name, "--json"]) == 2
    assert re.fullmatch(r"weft: error: Model needs \d+ bytes of memory beside the accelerator, "
                        r"ulx3s-25f has 4096\n", capsys.readouterr().err)


def test_latency_is_an_option(estimate, capsys):
    assert main(["estimate", str(MODEL), "--json", "--latency", "200"]) == 0
    assert json.loads(capsys.readouterr().out)["cycles"][0] > estimate.first.cycles + 168
    assert main(["estimate", str(MODEL), "--latency", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == \
        "weft: error: Memory latency must be an integer of at least 1, not 0"
