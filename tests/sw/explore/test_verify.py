"""Proof of points."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from weft.boards.family import Capacity
from weft.boards.flow.placement import Route
from weft.boards.registry import BOARDS
from weft.cluster import cluster, digest
from weft.digits import MODEL
from weft.errors import ToolError
from weft.explore.points import Point
from weft.explore.search import Trial
from weft.explore.trial import Job, Network, Target, evaluate
from weft.explore.verify import verify_build, verify_rtl
from weft.hw.isa.presets import PRESETS
from weft.runtime.energy import load_energy_table

DATA = MODEL.read_bytes()
NETWORK = Network(name="digits", hash=digest(DATA), tflite=False)
CONFIG = PRESETS["tiny"]


@pytest.fixture(scope="module")
def here():
    with cluster() as found:
        found.ship(DATA)
        yield found


@pytest.fixture(scope="module")
def point(here):
    board = BOARDS["ulx3s-85f"]
    target = Target(title="", board="", family="ecp5", device=board.device, memory=None,
                    capacity=board.capacity, blocks=board.capacity.multipliers)
    outcome = evaluate(Job(config=CONFIG.to_dict(), networks=(NETWORK,), target=target,
                           energy=load_energy_table(), whole=True))
    return Point(name="point1", config=CONFIG,
                 trial=Trial(number=0, parameters={}, outcome=outcome))


def test_a_point_is_exact_on_rtl_and_takes_as_long_as_was_told(here, point):
    kept, said = [], []
    proven, = verify_rtl([point], [NETWORK], here, said.append, kept.append)
    proof = proven.proofs["rtl"]
    assert proof["exact"]
    assert (proof["differing"], proof["compared"]) == (0, 80)    # 10 floats, twice
    assert abs(proof["worst_cycles"]) < 0.01
    assert proof["networks"][0]["first"] == pytest.approx(
        point.trial.outcome.networks[0].first, rel=0.01)
    assert proof["text"].startswith("0 of 80 bytes differ; cycles ")
    assert kept == [[proven]]
    assert said == ["RTL: 0 of 1 points are done"]


def test_bytes_that_differ_are_no_proof(here, point, monkeypatch):
    def differs(session, inputs, observe, **options):
        for cycles in (point.trial.outcome.networks[0].first, 10 ** 9):
            observe(SimpleNamespace(cycles=cycles))
        return SimpleNamespace(differing=3, compared=20)

    monkeypatch.setattr("weft.explore.verify.run_frames", differs)
    proof = verify_rtl([point], [NETWORK], here, print, print)[0].proofs["rtl"]
    assert not proof["exact"]
    assert proof["worst_cycles"] > 1000
    assert proof["text"].startswith("3 of 20 bytes differ; cycles +")


def test_what_does_not_run_is_no_proof(here, point):
    broken = replace(point, config=CONFIG.replace(weight_bytes=128))
    proof = verify_rtl([broken], [NETWORK], here, print, print)[0].proofs["rtl"]
    assert not proof["exact"]
    assert "bytes of weight memory" in proof["text"]


def test_a_build_is_compared_with_what_was_promised(here, point, tmp_path, monkeypatch):
    promised = point.trial.outcome
    asked = []

    def built(board, folder, *, seeds, cluster, progress):
        asked.append((board.name, board.config, folder, seeds))
        return SimpleNamespace(
            met=True, asked_mhz=100.0, clock_mhz=2 * promised.clock_mhz,
            used=Capacity(luts=promised.used.luts // 2, ffs=1, multipliers=1, block_rams=1),
            routes=(Route(seed=1, clock_mhz=2 * promised.clock_mhz, seconds=1.0),))

    monkeypatch.setattr("weft.explore.verify.build", built)
    proof = verify_build([point], "ulx3s-85f", tmp_path, here, seeds=3, progress=print,
                         keep=print)[0].proofs["build"]
    assert asked == [("ulx3s-85f", CONFIG, tmp_path / "point1", 3)]
    assert proof["met"]
    assert "MHz (+100.0%), " in proof["text"]
    assert proof["text"].endswith(" LUTs (-50.0%)")


def test_a_build_that_fails_says_why(here, point, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise ToolError("nextpnr-ecp5 was killed")

    monkeypatch.setattr("weft.explore.verify.build", fails)
    proof = verify_build([point], "ulx3s-85f", tmp_path, here, seeds=1, progress=print,
                         keep=print)[0].proofs["build"]
    assert proof == {"met": False, "failure": "nextpnr-ecp5 was killed",
                     "text": "nextpnr-ecp5 was killed"}
