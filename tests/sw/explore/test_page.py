"""The page of an exploration, and the files beside it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from weft.boards.family import Capacity
from weft.boards.registry import BOARDS
from weft.explore import Exploration, Result
from weft.explore.page import exploration_page
from weft.explore.points import Point, write_points
from weft.explore.search import Trial
from weft.explore.trial import NetworkFigures, Outcome
from weft.hw.isa.presets import PRESETS, load_config


def trial(number, rows, cycles, luts, reason=""):
    used = Capacity(luts=luts, ffs=luts, multipliers=rows, block_rams=rows)
    outcome = Outcome(used=used, clock_mhz=100.0, networks=(NetworkFigures(
        name="<b>net</b>", first=2 * cycles, further=cycles, energy_uj=cycles / 10,
        memory_bytes=4096),))
    return Trial(number=number, parameters={"rows": rows}, outcome=Outcome(
        reason=reason, kind="LUTs", violation=1.0, used=used) if reason else outcome)


@pytest.fixture
def result(tmp_path):
    trials = [trial(0, 4, 9000, 10_000), trial(1, 8, 5000, 15_000), trial(2, 16, 3000, 30_000),
              trial(3, 16, 3000, 31_000), trial(4, 32, 0, 99_000, "99,000 LUTs, 83,640 are "
                                                                  "available")]
    points = [Point(name=f"point{number}", trial=each, config=PRESETS["small"].replace(
        rows=each.parameters["rows"], name=f"point{number}"))
        for number, each in enumerate((trials[2], trials[1], trials[0]), 1)]
    return Result(
        about={"networks": ["<b>net</b>"], "target": "a budget", "board": None, "seed": 0,
               "trials": 5, "space": {"rows": [4, 8, 16, 32]}, "objectives": {
                   "fps": "frames", "luts": "tables"}, "not_possible": {"LUTs": 1},
               "errors": {"luts": 0.02, "ffs": 0.01, "clock": 0.04, "builds": 8}},
        objectives=("fps", "luts"), trials=trials, points=points, base=trials[0].outcome,
        folder=tmp_path)


class Reader(HTMLParser):
    """Fails on what is not closed, and collects what is there."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.kinds, self.links = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.kinds.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page,
                                re.DOTALL)[1])


def test_page_is_whole_and_needs_nothing_else(result):
    page = exploration_page(result)
    assert not Reader(page).links
    assert "<b>net</b>" not in page
    assert "&lt;b&gt;net&lt;/b&gt;" in page


def test_page_shows_points_and_trials(result):
    data = data_of(exploration_page(result))
    assert [each["name"] for each in data["points"]] == ["point1", "point2", "point3"]
    assert [each["number"] for each in data["tried"]] == [0, 1, 2, 3]
    assert data["points"][0]["objectives"]["fps"] == pytest.approx(100e6 / 3000)
    assert data["points"][0]["config"]["rows"] == 16
    assert (data["across"], data["up"]) == ("luts", "fps")
    assert data["base"]["luts"] == 10_000


def test_page_tells_what_a_parameter_does(result):
    page = exploration_page(result)
    # Ranks of rows 1, 2, 3.5, 3.5, of fps the same, of LUTs 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    assert "fps +1.00, luts +0.95" in page
    assert "99,000 LUTs, 83,640 are available" in page


def test_page_without_a_base_that_fits(result):
    page = exploration_page(replace(result, base=result.trials[4].outcome))
    assert data_of(page)["base"] is None


def test_files_of_the_points(result, tmp_path):
    (tmp_path / "point9.toml").write_text("of an earlier front")
    write_points(result.points, tmp_path, result.about)
    assert not (tmp_path / "point9.toml").exists()
    found = json.loads((tmp_path / "front.json").read_text())
    assert found["format"] == 1
    assert found["points"][1]["networks"][0]["latency_ms"] == pytest.approx(0.1)
    for point in result.points:
        assert load_config(str(tmp_path / f"{point.name}.toml")) == point.config


def test_a_board_builds_a_point(result, tmp_path):
    write_points(result.points, tmp_path, result.about)
    config = load_config(str(tmp_path / "point1.toml"))
    assert replace(BOARDS["ulx3s-85f"], config=config).config.rows == 16
    assert Exploration.__doc__
