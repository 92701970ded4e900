"""``weft check`` and ``weft compile``: what runs where, before anything is built."""

import json

import numpy as np
import onnx
import pytest
from models import QdqBuilder, quantize_model

from weft.bench.networks import NETWORKS
from weft.cli import main
from weft.compiler.estimate import estimate
from weft.frontend import partition
from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS
from weft.report.inspection import inspect_plan
from weft.runtime.session import InferenceSession


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A network that fits the accelerator whole, and one with a pool for the host inside."""
    found = {}
    for name in ("mobilenet_v2_block", "unet"):
        folder = tmp_path_factory.mktemp(name)
        rng = np.random.default_rng(3)
        onnx.save(quantize_model(rng, NETWORKS[name](rng)), folder / "model.onnx")
        found[name] = folder / "model.onnx"
    return found


def test_every_node_has_a_place(paths, capsys):
    assert main(["check", str(paths["mobilenet_v2_block"]), "--strict", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    nodes = onnx.load(paths["mobilenet_v2_block"]).graph.node
    constants = {value.name for value in onnx.load(
        paths["mobilenet_v2_block"]).graph.initializer}
    computing = {node.name for node in nodes if not set(node.input) <= constants}
    assert {node["name"] for node in report["nodes"]} == computing
    assert report["fallbacks"] == []
    assert all(node["reason"] == "" for node in report["nodes"] if node["where"] == "accelerator")
    assert {node["engine"] for node in report["nodes"] if node["op"] == "Conv"} == \
        {"matrix", "vector"}


def test_figures_are_those_of_the_network(paths):
    plan = partition(paths["mobilenet_v2_block"])
    inspection = inspect_plan(plan, PRESETS["base"])
    graph, = plan.graphs
    assert inspection.macs == sum(layer.macs(graph.tensors[layer.output])
                                  for layer in graph.layers) > 0
    costs = [node.cost for node in inspection.nodes if node.cost is not None]
    assert [cost.name for cost in costs] == [layer.name for layer in graph.layers]
    assert inspection.cycles == sum(cost.cycles for cost in costs)
    assert inspection.cycles * 256 > inspection.macs


def test_figures_of_all_layers_of_a_node_are_its_own():
    b = QdqBuilder(np.random.default_rng(1))
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 8, name="first"))
    weights, _ = b.weights("turned", (8, 4, 3, 3), 1)
    turned = b.node("ConvTranspose", [x, weights], "turned", strides=[2, 2])
    large = b.node("Resize", [b.quantize(turned, scale=0.1), "", b.constant(
        "scales", np.array([1, 1, 2, 2], np.float32))], "large", mode="linear")
    b.output(b.quantize(large, scale=0.1234567))
    plan = partition(b.build())
    graph, = plan.graphs
    costs = {node.placement.name: node.cost for node in inspect_plan(plan, PRESETS["tiny"]).nodes
             if node.cost is not None}
    assert costs.keys() == {"first", "turned", "large"} and len(graph.layers) == 8
    alone = estimate(graph, PRESETS["tiny"])
    assert sum(cost.macs for cost in costs.values()) == sum(cost.macs for cost in alone)
    assert sum(cost.cycles for cost in costs.values()) == sum(cost.cycles for cost in alone)
    phases = [cost for cost in alone if cost.name.startswith("turned")]
    assert len(phases) == 5
    assert costs["turned"].macs == sum(cost.macs for cost in phases) > 0
    assert costs["turned"].engine is Engine.VECTOR


def test_quantizers_of_layers_are_counted_and_not_listed(paths, capsys):
    assert main(["check", str(paths["unet"]), "--json"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert main(["check", str(paths["unet"])]) == 0
    text = capsys.readouterr().out
    quantizers = [node for node in nodes if node["op"] in ("QuantizeLinear", "DequantizeLinear")]
    parts = [node for node in quantizers if node["where"] == "accelerator"]
    assert 0 < len(parts) < len(quantizers)
    assert f"({len(parts)} quantizers of its layers are not listed)" in text
    listed = [line for line in text.splitlines() if line.startswith("│")]
    assert len(listed) == len(nodes) - len(parts)
    assert sum("QuantizeLinear" in line for line in listed) \
        + sum("DequantizeLinear" in line for line in listed) == len(quantizers) - len(parts)


def test_fallback_is_named_and_strict_fails(paths, capsys):
    assert main(["check", str(paths["unet"])]) == 0
    text = capsys.readouterr().out
    assert "host" in text
    assert "is added up in float32 by onnxruntime" in text
    assert main(["check", str(paths["unet"]), "--strict"]) == 1
    capsys.readouterr()
    assert main(["check", str(paths["unet"]), "--strict", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["fallbacks"]) == 1
    row, = [node for node in report["nodes"] if node["name"] == report["fallbacks"][0]]
    assert (row["op"], row["where"]) == ("AveragePool", "host")
    assert report["segments"] == 5


def test_parts_on_the_host_run_between_the_others(paths):
    model = onnx.load(paths["unet"])
    rng = np.random.default_rng(1)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = {model.graph.input[0].name: rng.standard_normal(shape).astype(np.float32)}
    with InferenceSession(model, config="tiny", device="functional") as session:
        assert len(session.programs) == 2
        ends = [(program.command_address, program.memory_bytes) for program in session.programs]
        assert ends[0][1] <= ends[1][0]  # side by side in memory
        first = session.run_frame(feeds)
        second = session.run_frame(feeds)  # each part has taken the other's place on the chip
        assert not second.warm
        for a, b in zip(first.outputs, second.outputs, strict=True):
            np.testing.assert_array_equal(a, b)
        assert [layer.name for layer in first.layers] == [
            layer.name for graph in session.plan.graphs for layer in graph.layers]


def test_compile_dumps_layers_and_commands(paths, capsys):
    assert main(["compile", str(paths["unet"]), "--config", "small", "--dump"]) == 0
    text = capsys.readouterr().out
    assert text.count("program ") == 2
    assert "activation memory" in text and "matrix wait=" in text and "vector wait=" in text
    assert main(["compile", str(paths["unet"])]) == 0
    assert "commands" in capsys.readouterr().out


def test_check_of_a_float_model_wrong(tmp_path, capsys):
    rng = np.random.default_rng(0)
    onnx.save(NETWORKS["autoencoder"](rng), tmp_path / "float.onnx")
    assert main(["check", str(tmp_path / "float.onnx")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("weft: error: ") and captured.err.count("\n") == 1
    assert main(["compile", str(tmp_path / "missing.onnx")]) == 2
    assert "missing.onnx" in capsys.readouterr().err
