"""What runs where, by one rule for all who ask; and layers that have no room run on the host."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from fuzz.networks.cases import CONFIGS, draw_case
from fuzz.networks.check import Refused, check
from models import QdqBuilder, random_inputs

from weft.boards.registry import BOARDS
from weft.cli import main
from weft.compiler import compile_parts, misfits
from weft.frontend import partition
from weft.frontend.onnx import cures
from weft.frontend.onnx.patterns import HANDLERS
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS
from weft.ir import Where
from weft.reference.golden import GoldenSession
from weft.runtime.placing import place
from weft.runtime.session import InferenceSession

TINY = PRESETS["tiny"]
SMALL_KERNELS = TINY.replace(vector_entries=16)
"""No room for the weights of a window of 10 x 10."""


def model(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions, and between them a depthwise one of 10 x 10 taps."""
    b = QdqBuilder(np.random.default_rng(seed))
    x = b.input("x", (1, 6, 12, 12))
    x = b.quantize(b.conv(x, 6, 8, name="first"))
    x = b.quantize(b.conv(x, 1, 8, (10, 10), group=8, name="wide"))
    b.output(b.quantize(b.conv(x, 8, 5, name="last")))
    return b.build()


def hosted(plan):
    """Nodes of the host that do more than quantize."""
    return [row for row in plan.placements if row.where is Where.HOST
            and row.op not in ("QuantizeLinear", "DequantizeLinear")]


def assert_golden(source: onnx.ModelProto, config: AcceleratorConfig) -> None:
    feeds = random_inputs(np.random.default_rng(1), source)
    with InferenceSession(source, config=config, device="functional") as session:
        found = session.run(None, feeds)
    for values, expected in zip(found, GoldenSession(source).run(feeds).values(), strict=True):
        np.testing.assert_array_equal(values, expected)


# One layer on the host --------------------------------------------------------------------------

def test_layer_without_room_runs_on_the_host_and_the_others_do_not():
    source = model()
    assert hosted(place(source, TINY)) == []
    row, = hosted(place(source, SMALL_KERNELS))
    assert (row.name, row.op) == ("wide", "Conv")
    assert row.reason == ("Layer 'wide' needs 480 bytes of vector weight memory for 4 channels, "
                          "192 are available")
    assert len(place(source, SMALL_KERNELS).graphs) == 2
    assert_golden(source, SMALL_KERNELS)


@pytest.mark.parametrize("scale, nodes", [(0.5, ["wide", "bound"]), (0.25, ["wide"])],
                         ids=["part of the layer", "a layer of its own"])
def test_layer_runs_on_the_host_with_its_bound(scale, nodes):
    b = QdqBuilder(np.random.default_rng(6))
    x = b.quantize(b.conv(b.input("x", (1, 6, 12, 12)), 6, 8, name="first"))
    x = b.quantize(b.conv(x, 1, 8, (10, 10), group=8, name="wide"), scale=0.5, zero_point=3)
    x = b.quantize(b.node("Relu", [x], "bound"), scale=scale, zero_point=3)
    b.output(b.quantize(b.conv(x, 8, 5, name="last")))
    assert [row.name for row in hosted(place(b.build(), SMALL_KERNELS))] == nodes
    assert_golden(b.build(), SMALL_KERNELS)


def test_cure_for_the_configuration_is_one():
    source = model()
    for config in (SMALL_KERNELS, TINY.replace(activation_bytes=1024),
                   TINY.replace(weight_bytes=128, parameter_channels=8)):
        for _ in range(8):
            rows = hosted(place(source, config))
            if not rows:
                break
            field, least = re.fullmatch(
                r"use a configuration with (\w+) = (\d+) or more \(--config FILE.toml\)",
                rows[0].cure).groups()
            assert int(least) > getattr(config, field)
            config = config.replace(**{field: int(least)})
        assert not hosted(place(source, config))


def test_vector_layers_run_on_the_host_where_there_is_no_vector_engine():
    b = QdqBuilder(np.random.default_rng(2))
    x = b.quantize(b.conv(b.input("x", (1, 6, 8, 8)), 6, 8, name="first"))
    x = b.quantize(b.node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2]),
                   scale=0.5)
    b.output(b.quantize(b.conv(x, 8, 5, name="last")))
    config = BOARDS["icebreaker"].config
    row, = hosted(place(b.build(), config))
    assert row.name == "pool" and "vector engine" in row.reason and "tiny" in row.cure
    assert_golden(b.build(), config)


def test_sums_that_leave_int32_are_refused_by_name():
    b = QdqBuilder(np.random.default_rng(3))
    x = b.quantize(b.conv(b.input("x", (1, 6, 8, 8)), 6, 8, name="first"))
    b.output(b.quantize(b.conv(x, 8, 5, name="last")))
    b.initializers["last_b"][2] = -(1 << 31)
    b.initializers["first_b"][2] = -(1 << 31)
    reason = r"^Layer 'first' may reach -2\d+ in its int32 sum with bias, which holds"
    assert re.match(reason, place(b.build(), TINY).warning.partition("all of it: ")[2])


def test_parts_share_external_memory():
    b = QdqBuilder(np.random.default_rng(4))
    x = b.input("x", (1, 64, 4, 4))
    for index in range(3):
        x = b.quantize(b.conv(x, 64, 64, (3, 3), pads=[1, 1, 1, 1], name=f"conv{index}"))
        x = b.quantize(b.node("Softmax", [x], f"soft{index}", axis=1), scale=1 / 64)
    config = TINY.replace(axi_addr_width=17)
    b.output(x)
    plan = place(b.build(), config)
    rows = [row for row in hosted(plan) if row.op == "Conv"]
    assert len(rows) == 1 and rows[0].reason.endswith("17 address bits reach 131072")
    programs = compile_parts(plan.graphs, config)
    assert len(programs) == 2 and programs[-1].memory_bytes <= 1 << 17


def test_nothing_that_fits_is_an_error_with_reason_and_cure(tmp_path, capsys):
    b = QdqBuilder(np.random.default_rng(5))
    b.output(b.quantize(b.conv(b.input("x", (1, 8, 12, 12)), 1, 8, (10, 10), group=8,
                               name="wide")))
    onnx.save(b.build(), tmp_path / "wide.onnx")
    (tmp_path / "little.toml").write_text('preset = "tiny"\nvector_entries = 16\n')
    for command in ("compile", "estimate"):
        assert main([command, str(tmp_path / "wide.onnx"), "--config",
                     str(tmp_path / "little.toml")]) == 2
        assert ("weft: error: Layer 'wide' needs 480 bytes of vector weight memory for 4 channels, "
                "192 are available; use a configuration with vector_entries = 40 or more"
                in capsys.readouterr().err)


# What check tells ---------------------------------------------------------------------------------

def test_check_tells_cures_and_crossings(tmp_path, capsys):
    path = tmp_path / "model.onnx"
    onnx.save(model(), path)
    (tmp_path / "little.toml").write_text('preset = "tiny"\nvector_entries = 16\n')
    options = ["check", str(path), "--config", str(tmp_path / "little.toml")]
    assert main(options) == 0
    text = capsys.readouterr().out
    assert "(use a configuration with vector_entries = 40 or more" in text
    # 6 and 8 channels in words of 4: two words of 4 bytes for each pixel, and as many beats.
    assert "part 1 reads 1,152 bytes from the host in 288 cycles, and writes 1,152 bytes in 288" \
        in text
    assert main([*options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fallbacks"] == ["wide"]
    row, = (node for node in report["nodes"] if node["name"] == "wide")
    assert row["where"] == "host" and row["cure"].startswith("use a configuration")
    assert report["parts"][1] == {"segment": report["parts"][0]["segment"] + 2,
                                  "read_bytes": 72, "write_bytes": 72, "read_cycles": 18,
                                  "write_cycles": 18}


def test_every_cure_is_for_a_reason_that_there_is():
    folder = Path(cures.__file__).parent
    texts = {re.sub(r"\"\s*\n?\s*f?\"", "", path.read_text()) for path in folder.glob("*.py")
             if path.name != "cures.py"}
    for part, _ in cures.CURES:
        assert any(part in text for text in texts), part
    assert not cures.OPERATOR_CURES.keys() & HANDLERS.keys()


# Random networks ----------------------------------------------------------------------------------

def assert_verdict_and_bytes(seed: int, count: int) -> int:
    compared = 0
    for index in range(count):
        case = draw_case(seed, index, list(CONFIGS)[index % len(CONFIGS)])
        try:
            compared += check(case, rtl=False).golden
        except Refused:
            continue
    return compared


def test_random_networks_run_as_they_are_placed():
    assert_verdict_and_bytes(1, 16)


@pytest.mark.slow
def test_many_random_networks_run_as_they_are_placed():
    assert assert_verdict_and_bytes(2, 100) > 50_000


def test_what_is_placed_compiles_on_every_configuration():
    source = model()
    for config in (*PRESETS.values(), *(board.config for board in BOARDS.values()),
                   TINY.replace(activation_bytes=1024, weight_bytes=64, parameter_channels=8)):
        plan = place(source, config)
        if plan.warning:
            graphs = partition(source).graphs
            assert set(misfits(graphs, config)) >= {layer.output for graph in graphs
                                                    for layer in graph.layers}
            continue
        assert compile_parts(plan.graphs, config)
