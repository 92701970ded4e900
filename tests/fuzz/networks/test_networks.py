"""Random networks on the RTL; and the tools that find, shrink and repeat one that fails."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from models import random_inputs, run_plan
from places import REPRODUCERS

from fuzz.networks import __main__ as runner
from fuzz.networks import check as checker
from fuzz.networks.cases import CONFIGS, Case, draw_case
from fuzz.networks.check import Difference, Refused, Twins, check
from fuzz.networks.draw import draw_graph
from fuzz.networks.graphs import FloatGraph
from fuzz.networks.nodes import Node, Unfit
from fuzz.networks.shrink import shrink
from weft.hw.isa.presets import PRESETS
from weft.reference.golden import cpu_is_exact
from weft.runtime.compare import Verifier
from weft.runtime.device.functional import FunctionalDevice
from weft.runtime.session import InferenceSession

SEED = 1

# Others that need no simulator of their own are slow.
CHEAP = ("tiny", "small", "base", "fixed", "products", "lines", "sequential")


@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize("config", CHEAP)
def test_random_network_is_right_on_the_rtl(config, index):
    assert runner.run(draw_case(SEED, index, config)).error == ""


@pytest.mark.slow
@pytest.mark.parametrize("index", range(60))
@pytest.mark.parametrize("config", CONFIGS)
def test_more_random_networks_are_right_on_the_rtl(config, index):
    assert runner.run(draw_case(SEED + 1, index, config)).error == ""


# Networks that hung, or came out wrong, before two drain jobs could be announced in a row.


@pytest.mark.skipif(not REPRODUCERS.is_dir(), reason="needs ../shared/repro")
@pytest.mark.parametrize("config, name, batch", [
    ("tiny", "wrong_tiny_28", 1), ("tiny", "hang_tiny", 1), ("base", "wrong_base_113", 1),
    *(("base", name, batch) for name in ("batch_base_6_2_3_8", "batch_base_6_2_3_32")
      for batch in (1, 2, 3))])
def test_single_pixels_right_behind_other_jobs(config, name, batch):
    model = onnx.load(REPRODUCERS / f"{name}.onnx")
    rng = np.random.default_rng(batch)
    feeds = [random_inputs(rng, model) for _ in range(batch)]
    with InferenceSession(model, config=config, batch=batch, keep_tensors=True) as session:
        verifier = Verifier(session.plan)
        for tensors in (False, True, False):
            result = session.run_batch(feeds, tensors=tensors)
            expected = [run_plan(session.plan, feed)[0] for feed in feeds]
            for feed, values, outputs, layers in zip(feeds, expected, result.outputs,
                                                     result.tensors, strict=True):
                for info, output in zip(session.get_outputs(), outputs, strict=True):
                    np.testing.assert_array_equal(output, values[info.name])
                if tensors and cpu_is_exact():
                    assert verifier.check(feed, outputs, layers).mismatches == ()


# The tools ------------------------------------------------------------------------------------

class Broken(FunctionalDevice):
    """A device whose stored bytes are wrong now and then, in the place of the RTL."""

    def __init__(self, config, *, latency, stall_probability, **options):
        super().__init__(config, **options)

    def read_memory(self, address, count):
        data = super().read_memory(address, count)
        return bytes([data[0] ^ 1]) + data[1:] if count > 4 else data


@pytest.fixture
def broken(monkeypatch):
    """Checks take a broken device for the RTL; no simulator is built."""
    monkeypatch.setattr(checker, "VerilatorDevice", Broken)
    monkeypatch.setattr(runner, "build", lambda config, progress: None)


FEW = Case(config="tiny", batch=2, graph=FloatGraph(
    seed=1, inputs={"x": (1, 1, 3)}, outputs=("b",),
    nodes=(Node("a", "Conv", ("x",)), Node("b", "Add", ("x", "a")))))


def test_every_layer_is_compared(broken):
    with pytest.raises(Difference, match=r"^.* '.*': value 0 is -?\d+, the reference gives -?\d+ "
                                         r"\(1 of \d+ bytes differ\)$"):
        check(FEW)


def test_twins_tell_where_they_differ():
    devices = [FunctionalDevice(PRESETS["tiny"], memory_bytes=4096) for _ in range(2)]
    twins = Twins(*devices)
    twins.write_memory(16, bytes(range(16)))
    assert twins.read_memory(16, 16) == bytes(range(16))
    assert twins.differences == []
    devices[1].write_memory(20, b"\xff")
    assert twins.read_memory(16, 16) == bytes(range(16))
    assert twins.differences == ["byte 0x14 of memory is 4 on the RTL and 255 on the functional "
                                 "device"]


@pytest.mark.parametrize("config", CONFIGS)
def test_network_depends_on_seed_and_number_alone(config):
    cases = [draw_case(SEED, index, config) for index in (3, 4, 3)]
    assert cases[0] == cases[2] != cases[1]
    assert draw_case(SEED + 1, 3, config) != cases[0]


def test_case_survives_being_written_down():
    for index in range(30):
        case = draw_case(SEED, index, "tiny")
        again = Case.from_dict(json.loads(json.dumps(case.to_dict())))
        assert again == case
        assert again.graph.to_onnx() == case.graph.to_onnx()


def test_shapes_are_those_that_onnx_infers():
    for index in range(60):
        graph = draw_graph(np.random.default_rng([SEED, index]), lanes=(4, 4), macs=50000)
        model = onnx.shape_inference.infer_shapes(graph.to_onnx(), strict_mode=True)
        found = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
                 for value in (*model.graph.value_info, *model.graph.output)}
        for node in graph.nodes:
            assert found[node.name] == (1, *graph.shapes[node.name])[:3 if graph.signal else 4]


def test_networks_have_what_people_build():
    ops, planes, outputs, signals = set(), set(), set(), set()
    for index in range(150):
        graph = draw_graph(np.random.default_rng([SEED, index]), lanes=(4, 4), macs=50000)
        ops |= {node.op for node in graph.nodes}
        planes |= {shape[1:] for shape in graph.shapes.values() if len(shape) == 3}
        outputs.add(len(graph.outputs))
        signals.add(graph.signal)
    assert ops >= {"Conv", "Depthwise", "Gemm", "Add", "Mul", "Concat", "Resize", "MaxPool",
                   "AveragePool", "GlobalAveragePool", "Vector", "Clip", "Relu", "Sigmoid", "Turn",
                   "Regroup", "Tokens", "Widen", "Flat", "Piece", "Place", "Lead"}
    assert (1, 1) in planes and any(1 == height < width for height, width in planes)
    assert outputs >= {1, 2, 3} and signals == {False, True}


def test_description_that_is_no_network_is_refused():
    convolution = Node("a", "Conv", ("x",), kernel=(3, 3))
    with pytest.raises(Unfit, match=r"^a is empty$"):
        FloatGraph(seed=0, inputs={"x": (1, 2, 2)}, nodes=(convolution,), outputs=("a",))
    with pytest.raises(Unfit, match=r"^b joins \[\(1, 1, 1\), \(1, 3, 3\)\]$"):
        FloatGraph(seed=0, inputs={"x": (1, 3, 3)}, outputs=("b",),
                   nodes=(convolution, Node("b", "Add", ("a", "x"))))


def test_shrinking_leaves_what_makes_it_fail():
    """Here: a product right behind a sigmoid, on more than two channels, in batches."""
    def fails(case):
        ops = {node.name: node.op for node in case.graph.nodes}
        return case.batch > 1 and any(
            node.op == "Mul" and ops.get(node.inputs[1]) == "Sigmoid"
            and case.graph.shapes[node.name][0] > 2 for node in case.graph.nodes)

    cases = (draw_case(SEED, index, "tiny") for index in range(1000))
    for _ in range(3):
        small = shrink(next(filter(fails, cases)), fails, attempts=1000)
        assert fails(small)
        assert [node.op for node in small.graph.nodes] == ["Sigmoid", "Mul"]
        assert set(small.graph.inputs.values()) <= {(3, 1, 1)}
        plain = Case(graph=small.graph, config="tiny", batch=2, seed=small.seed)
        assert small == plain


def test_network_that_fails_is_written_and_repeats(broken, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runner, "draw_case", lambda seed, index, config: FEW)
    arguments = ["--first", "7", "--count", "1", "--seed", "5", "--config", "tiny",
                 "--processes", "1", "--folder", str(tmp_path)]
    assert runner.main(arguments) == 1
    out = capsys.readouterr().out
    assert "network 7 of seed 5 on tiny: Difference: " in out
    path = tmp_path / "tiny_5_7.json"
    assert onnx.load(path.with_suffix(".onnx")).graph.node
    assert f"--replay {path}" in json.loads(path.read_text())["command"]
    assert runner.main(["--replay", str(path)]) == 1
    assert len(json.loads(path.read_text())["case"]["graph"]["nodes"]) == 1
    assert "Difference" in capsys.readouterr().out


def test_networks_that_pass_or_are_refused_are_counted(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(runner, "build", lambda config, progress: None)

    def passes(case):
        if case.seed % 2:
            raise Refused("Layer 'n1' needs 12 bytes")
        return checker.Passed(compared=10, golden=5, cycles=2000, commands=Counter(), equal=True)

    monkeypatch.setattr(runner, "check", passes)
    assert runner.main(["--count", "8", "--config", "tiny", "--config", "odd", "--processes", "1",
                        "--folder", str(tmp_path)]) == 0
    refused = {name: sum(draw_case(0, index, name).seed % 2 for index in range(first, 8, 2))
               for first, name in enumerate(("tiny", "odd"))}
    lines = capsys.readouterr().out.splitlines()
    for line, (name, count) in zip(lines[1:3], refused.items(), strict=True):
        assert line.split()[:5] == [name, "4", str(4 - count), str(count), "0"]
    assert lines[3] == f"refused {sum(refused.values())}: Layer N needs N bytes"
    assert not list(tmp_path.iterdir())


def test_interrupted_run_tells_what_it_has(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(runner, "build", lambda config, progress: None)

    def run_two(jobs, processes, scheduler):
        yield from (runner.Outcome(FEW, compared=8) for _ in range(2))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_all", run_two)
    assert runner.main(["--count", "3", "--config", "tiny", "--folder", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "interrupted after 2 networks"
    assert lines[2].split()[:5] == ["tiny", "2", "2", "0", "0"]
