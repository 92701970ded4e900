"""The page of ``weft report``, out of real runs on the smallest accelerator."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from configs import ODD
from models import QdqBuilder

from weft import cli, compiler
from weft.compiler.limits import Limits, program_limits
from weft.compiler.timing.player import play
from weft.frontend import partition
from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import cycle_counters
from weft.report.page import report_page
from weft.report.page.contents import contents
from weft.report.page.roofline import Dot, roofline
from weft.runtime.runner import random_frames, run_frames
from weft.runtime.session import InferenceSession

TINY = PRESETS["tiny"]
NASTY = "<b>&\"'</script>"


def small_model():
    """A few layers, the first of a nasty name; the host in the middle, so that there are two
    accelerated parts."""
    b = QdqBuilder(np.random.default_rng(8))
    x = b.quantize(b.conv(b.input("x", (1, 4, 6, 6)), 4, 8, (3, 3), name=NASTY))
    x = b.quantize(b.node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2]))
    x = b.quantize(b.node("Softmax", [x], "hosted", axis=1))
    b.output(b.quantize(b.conv(x, 8, 4, (1, 1), name="last")))
    return b.build()


def real_run(*, frames=2, batch=1):
    with InferenceSession(small_model(), config=TINY, batch=batch) as session:
        run = run_frames(session, random_frames(session, frames), model="a<i>.onnx",
                         device="verilator", verify=True)
        return run, session.plan


@pytest.fixture(scope="module")
def result():
    return real_run()


@pytest.fixture(scope="module")
def page(result):
    return report_page(*result)


def layers_of(plan):
    return [layer.name for graph in plan.graphs for layer in graph.layers]


def assert_bytes_add_up(run, plan):
    shown = contents(run, plan)
    assert sum(layer["bytes"] for layer in shown["layers"]) + shown["input_bytes"] \
        + shown["command_bytes"] == shown["dram_bytes"] > 0
    assert sum(layer["cycles"] for layer in shown["layers"]) == run.last.cycles
    assert all(0 < layer["utilization"] <= 1 for layer in shown["layers"] if layer["macs"])
    assert all(0 <= layer["reached"] <= 1 for layer in shown["layers"])
    assert 0 < shown["reached"] == shown["limits"].cycles / run.last.cycles < 1


class Document(HTMLParser):
    """Refuses what is not well-formed; keeps elements and the text of the page."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.data = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.data = self.data or data
        elif self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag, **attributes):
        return [found for name, found in self.elements if name == tag
                and all(key in found for key in attributes)]


def test_page_is_well_formed_and_has_every_layer(result, page):
    document = Document(page)
    assert document.elements[0][0] == "html"
    rows = [found["data-layer"] for found in document.all("tr") if "data-layer" in found]
    assert rows == layers_of(result[1]) and rows[0] == NASTY and rows[-1] == "last"
    marks = [found["data-layer"] for found in document.all("circle")]
    assert marks == [NASTY, "last"]  # a pooling has no MACs
    ids = [found["id"] for _, found in document.elements if "id" in found]
    assert len(ids) == len(set(ids))


def test_page_needs_nothing_else(page):
    document = Document(page)
    for _, attributes in document.elements:
        assert not {"src", "href", "srcset", "data", "action"} & set(attributes)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|\bimport\b|fetch\(|XMLHttp", page)


def test_names_are_escaped(page):
    assert NASTY not in page and "<b>&amp;" not in page and "<i>" not in page
    assert "a<i>.onnx on tiny" in Document(page).text
    assert page.count("<script") == page.count("</script>") == 2


def test_page_has_the_figures_of_the_run(result, page):
    run, plan = result
    assert_bytes_add_up(run, plan)
    text = Document(page).text
    for value in (run.last.cycles, run.macs, run.last.dram_read_bytes, run.compared):
        assert f"{value:,}" in text or str(value) in text
    assert f"0 of {run.compared} output bytes differ from onnxruntime" in text
    assert f"{run.utilization(run.macs, run.last.cycles):.1%}" in text
    for engine in Engine:
        for name, counter in cycle_counters(engine).items():
            count = run.last.counters[counter.name.lower()]
            assert not count or f"{name} {count:,}" in text
    assert "hosted Softmax" in text
    for field in TINY.to_dict():
        assert field in text


def test_timeline_has_every_command_within_the_frame(result, page):
    run, plan = result
    data = json.loads(Document(page).data)
    assert data["cycles"] == run.last.cycles
    assert data["parts"] == [0, run.last.executions[0].cycles]
    assert len(data["bars"]) == sum(len(execution.infos) for execution in run.last.executions)
    assert len(data["boxes"]) == sum(len(each.residents) for each in run.last.executions) >= 5
    for _first, _second, start, end, layer, *_rest in [*data["bars"], *data["boxes"]]:
        assert 0 <= start <= end <= data["cycles"] and 0 <= layer < len(data["layers"])
    # A function of one value rides on the layer in front of it.
    assert sorted([*data["layers"], "pool/scale"]) == sorted(["input", *layers_of(plan)])
    assert all(0 <= address < address + words <= TINY.activation_depth
               for address, words, *_rest in data["boxes"])


def test_page_of_a_batch():
    run, plan = real_run(frames=4, batch=2)
    document = Document(report_page(run, plan))
    assert [found["data-layer"] for found in document.all("tr") if "data-layer" in found] \
        == layers_of(plan)
    assert "4 frames in batches of 2" in document.text
    assert_bytes_add_up(run, plan)


def test_page_without_counters(result):
    run, plan = result
    silent = {name: value if name in ("cycles", "read_beats", "write_beats") else 0
              for name, value in run.last.counters.items()}
    page = report_page(replace(run, last=replace(run.last, counters=silent)), plan)
    assert "This configuration has no counters of what its engines do." in Document(page).text


# What it is made of -------------------------------------------------------------------------------

def test_traffic_is_what_the_counters_say(result):
    run, _ = result
    found = [program_limits(execution.program, warm=execution.warm)
             for execution in run.last.executions]
    total = Limits.sum(each.total for each in found)
    assert (TINY.axi_bytes * total.read, TINY.axi_bytes * total.write) \
        == (run.last.dram_read_bytes, run.last.dram_write_bytes)
    assert all(part.read > 0 for each in found for part in (each.layers[0], each.inputs,
                                                            each.commands))


def test_traffic_counts_whole_beats():
    """Of a wide memory port, which parameters of a few channels do not fill."""
    config = ODD.replace(axi_data_width=512)
    for graph in partition(small_model()).graphs:
        program = compiler.compile(graph, config)
        played = play(program.commands, config, address=program.command_address)
        total = program_limits(program).total
        assert (total.read, total.write) == (played.read_beats, played.write_beats)


def test_roofline_ceilings_meet_at_the_ridge():
    ridge = TINY.rows * TINY.cols / TINY.axi_bytes
    dots = [Dot(name="ridge", engine="matrix", macs=16_000, cycles=1000,
                dram_bytes=round(16_000 / ridge)),
            Dot(name="half", engine="matrix", macs=8_000, cycles=1000,
                dram_bytes=round(16_000 / ridge)),
            Dot(name="none", engine="vector", macs=10, cycles=1000, dram_bytes=0)]
    plot = roofline(dots, TINY)
    at_ridge, half, none = plot["dots"]
    array, vector = plot["ceilings"]
    assert (at_ridge["x"], at_ridge["y"]) == (plot["slope"]["x2"], plot["slope"]["y2"])
    assert at_ridge["y"] == array["y"] < vector["y"] < none["y"] < plot["bottom"]
    assert (array["rate"], vector["rate"]) == (16, 12)
    slope = plot["slope"]
    part = (half["x"] - slope["x1"]) / (slope["x2"] - slope["x1"])
    on_slope = slope["y1"] + part * (slope["y2"] - slope["y1"])
    assert half["y"] < on_slope + 0.2 or half["y"] > on_slope  # below the roof, in the picture
    assert none["x"] == plot["right"] and none["intensity"] is None
    assert all(plot["left"] <= x <= plot["right"] for x, _ in plot["x_ticks"])


def test_roofline_without_a_vector_engine_has_one_ceiling():
    dots = [Dot(name="slow", engine="matrix", macs=10, cycles=1000, dram_bytes=10)]
    plot = roofline(dots, TINY.replace(vector_taps=0))
    assert [(each["name"], each["rate"]) for each in plot["ceilings"]] == [("array", 16)]
    assert plot["top"] < plot["ceilings"][0]["y"] < plot["dots"][0]["y"] < plot["bottom"]


# weft report --------------------------------------------------------------------------------------

@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(small_model().SerializeToString())
    return path


def test_report_writes_a_page(model, capsys):
    target = model.with_name("r.html")
    assert cli.main(["report", str(model), "--config", "tiny", "--verify", "-o", str(target)]) == 0
    assert re.fullmatch(rf"{re.escape(str(target))}: [\d,]+ cycles\n", capsys.readouterr().out)
    text = Document(target.read_text(encoding="utf-8")).text
    assert "2 frames" in text
    assert re.search(r"Bound by [a-z ,]+ in \d+% of the cycles: ", text)


@pytest.mark.parametrize("options, message", [
    (["-o", "{folder}/none/r.html"],
     "Output {folder}/none/r.html cannot be written: there is no folder {folder}/none"),
    (["-o", "{folder}/r.html", "--random", "0"],
     "Number of random frames must be at least 1, not 0"),
    (["-o", "{folder}/r.html", "--inputs", "{folder}/x.npz"],
     "Inputs {folder}/x.npz cannot be read: No such file or directory")])
def test_report_refuses(options, message, model, tmp_path, capsys):
    options = [option.format(folder=tmp_path) for option in options]
    assert cli.main(["report", str(model), "--config", "tiny", *options]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "", f"weft: error: {message.format(folder=tmp_path)}\n")
    assert list(tmp_path.iterdir()) == [model]
