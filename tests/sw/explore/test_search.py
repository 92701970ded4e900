"""The search: the same seed finds the same, however it is cut and spread; and it gets better."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from weft.boards.family import Capacity
from weft.boards.memory import OnChipMemory
from weft.boards.registry import BOARDS
from weft.cluster import cluster, digest
from weft.digits import MODEL
from weft.errors import InputError
from weft.explore.points import find_points
from weft.explore.search import BATCH, Problem, Search, Trial, count_reasons, front
from weft.explore.space import Space
from weft.explore.study import Study
from weft.explore.trial import Job, Network, NetworkFigures, Outcome, Target, evaluate
from weft.hw.isa.presets import PRESETS
from weft.runtime.energy import load_energy_table

DATA = MODEL.read_bytes()
BOARD = BOARDS["ulx3s-85f-onchip"]
SPACE = Space({"rows": (4, 8, 16), "cols": (4, 8, 16), "requant_lanes": (1, 2, 3),
               "weight_bytes": (8192, 65536, 1 << 20), "vector_taps": (1, 3)})


def problem(**changes):
    target = Target(title="a budget", board="", family="ecp5", device="LFE5U-85F", memory=None,
                    capacity=BOARD.capacity, blocks=BOARD.capacity.multipliers)
    job = Job(config={}, networks=(Network(name="digits", hash=digest(DATA), tflite=False),),
              target=target, energy=load_energy_table(), objectives=("fps", "luts"))
    return replace(Problem(base=PRESETS["small"], space=SPACE, job=job,
                           objectives=("fps", "luts"), seed=3), **changes)


def formula(job):
    """In place of a trial, something with as many rules that takes no time."""
    config = job.config
    if config["rows"] % config["requant_lanes"]:
        return Outcome(reason="Lanes must divide", kind="no configuration", violation=10)
    size = config["rows"] * config["cols"]
    used = Capacity(luts=size * 50 + config["weight_bytes"] // 64, ffs=1, multipliers=1,
                    block_rams=1)
    if used.luts > 12_000:
        return Outcome(reason="12,001 LUTs", kind="LUTs", violation=used.luts / 12_000 - 1,
                       used=used)
    cycles = 10_000_000 // size // config["vector_taps"] + 20_000_000 // config["weight_bytes"]
    return Outcome(used=used, clock_mhz=100, networks=(NetworkFigures(
        name="n", first=cycles, further=cycles, energy_uj=1.0, memory_bytes=0),))


def study(path, what=None):
    return closing(Study(path, (what or problem()).identity()))


def search(path, trials, what=None, task=formula):
    with pytest.MonkeyPatch.context() as patch, cluster() as here, study(path, what) as kept:
        found = Search(what or problem(), kept)
        patch.setattr("weft.explore.search.evaluate", task)
        here.ship(DATA)
        found.run(here, trials=trials, seconds=None, progress=lambda now: None)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return search(tmp_path_factory.mktemp("whole") / "study.db", 24)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return search(tmp_path_factory.mktemp("real") / "study.db", 12, task=evaluate)


def test_a_stopped_search_goes_on_as_if_it_had_not_been(whole, tmp_path):
    # 20 trials are a batch and a part of one.
    assert search(tmp_path / "study.db", 20).resumed == 0
    second = search(tmp_path / "study.db", 24)
    assert second.resumed == 20
    assert second.trials[:BATCH] == whole.trials[:BATCH]
    assert search(tmp_path / "study.db", 24).trials == second.trials


def test_what_was_lost_in_the_middle_of_a_batch_is_tried_again(whole, tmp_path):
    calls = []

    def dies(job):
        calls.append(job)
        if len(calls) == 19:
            raise KeyboardInterrupt
        return formula(job)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "study.db", 24, task=dies)
    second = search(tmp_path / "study.db", 24)
    assert BATCH < second.resumed < 24
    assert second.trials == whole.trials


def test_another_seed_tries_others(whole, tmp_path):
    other = search(tmp_path / "study.db", 24, problem(seed=4))
    assert [each.parameters for each in other.trials] != [each.parameters for each in whole.trials]


def test_a_study_of_something_else_is_refused(tmp_path):
    search(tmp_path / "study.db", 1)
    with pytest.raises(InputError, match=r"must be of the same networks, board, space, objectives "
                                         "and seed to go on; it is of others: -o with another "
                                         "folder starts anew$"), \
            study(tmp_path / "study.db", problem(seed=5)):
        pass
    (tmp_path / "text.db").write_text("no database")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE trials (trial_id INTEGER)")
    other.close()
    for name in ("text.db", "other.db"):
        with pytest.raises(InputError, match=rf"{name} cannot be opened: it is none of this "
                                             r"version of Weft \([a-z :]+\); -o with another "
                                             r"folder starts anew$"), study(tmp_path / name):
            pass


def test_two_searches_in_one_folder(tmp_path):
    with study(tmp_path / "study.db"), \
            pytest.raises(InputError, match=r"study.db cannot be opened: another search has "
                                            r"it$"), \
            study(tmp_path / "study.db"):
        pass


def test_what_cannot_be_written_is_named(tmp_path):
    with study(tmp_path / "study.db") as kept:
        kept.keep(0, {}, Outcome())
        with pytest.raises(InputError, match=r"study.db cannot be written: UNIQUE constraint "):
            kept.keep(0, {}, Outcome())
    with pytest.raises(InputError, match=r"none/study.db cannot be opened: .* \(unable to "
                                         r"open database file\); -o "), \
            study(tmp_path / "none" / "study.db"):
        pass


def test_the_same_configuration_is_tried_once(tmp_path):
    calls = []

    def counts(job):
        calls.append(tuple(job.config[name] for name in SPACE.choices))
        return formula(job)

    found = search(tmp_path / "study.db", 60, task=counts)
    tried = [tuple(each.parameters.values()) for each in found.trials]
    assert len(set(tried)) < len(tried)
    assert calls == list(dict.fromkeys(tried))
    assert len({each.outcome for each in found.trials}) <= len(calls)


def test_what_is_sure_to_be_beaten_is_not_compiled(monkeypatch):
    job = replace(problem().job, config=PRESETS["small"].to_dict())
    with cluster() as here:
        here.ship(DATA)
        known = evaluate(job)
        whole = evaluate(replace(job, whole=True))
        fps, luts = known.values(job.objectives)
        monkeypatch.setattr("weft.explore.trial._figures", None)
        # More frames from fewer tables than it can ever reach.
        beaten = evaluate(replace(job, beat=((1.3 * fps, luts / 1.2), (fps / 2, luts / 2))))
        assert beaten.kind == "beaten"
        assert beaten.fits
        assert beaten.used == known.used
        assert beaten.networks[0].further <= min(known.networks[0].further,
                                                 whole.networks[0].further)
        assert beaten.reason == f"{beaten.violation:.1%} behind others at best"
        assert beaten.violation == pytest.approx(0.2)
        # What is better in one objective, or nearly as good, is compiled.
        for value in ((1.3 * fps, luts * 1.01), (fps / 2, luts / 2), (1.3 * fps, luts / 1.05)):
            with pytest.raises(TypeError):
                evaluate(replace(job, beat=(value,)))
        # Of energy there is no bound.
        with pytest.raises(TypeError):
            evaluate(replace(job, beat=((1.3 * fps, luts / 1.2, 1e-9),),
                             objectives=("fps", "luts", "energy")))


def test_trials_have_what_is_to_be_beaten(tmp_path):
    asked = []

    def keeps(job):
        asked.append(job.beat)
        return formula(job)

    found = search(tmp_path / "study.db", 2 * BATCH, task=keeps)
    assert asked[0] == ()
    assert asked[-1] == tuple(each.outcome.values(("fps", "luts"))
                              for each in front(found.trials[:BATCH], ("fps", "luts")))


def test_what_is_impossible_is_named(whole, real):
    found = {kind: reason for kind, _, reason in count_reasons(real.trials)}
    assert found["no configuration"].startswith("Requant lanes must divide both rows")
    assert found["block RAMs"].endswith(" block RAMs, 208 are available")
    assert sum(count for _, count, _ in count_reasons(whole.trials)) == sum(
        bool(each.outcome.reason) for each in whole.trials)


def test_networks_that_do_not_fit_are_named():
    job = problem().job
    with cluster() as here:
        here.ship(DATA)
        small = evaluate(replace(job, config=PRESETS["small"].replace(weight_bytes=512).to_dict()))
        assert small.kind == "network"
        assert "bytes of weight memory" in small.reason
        assert small.reason.startswith("digits: Layer ")
        target = replace(job.target, memory=OnChipMemory(size=4096))
        outside = evaluate(replace(job, config=PRESETS["small"].to_dict(), target=target))
        assert outside.kind == "external memory"
        assert outside.reason.endswith(" bytes of external memory, 4,096 are available")
        assert outside.violation > 0


def test_front_is_that_of_all_trials(whole):
    objectives = ("fps", "luts")
    found = front(whole.trials, objectives)
    possible = [each for each in whole.trials if not each.outcome.reason]
    for trial in possible:
        mine = trial.outcome.values(objectives)
        others = [other.outcome.values(objectives) for other in possible]
        beaten = any(other != mine and all(a <= b for a, b in zip(other, mine))
                     for other in others)
        same = any(other.outcome.values(objectives) == mine for other in found)
        assert same != beaten
    assert [each.outcome.value("fps") for each in found] == sorted(
        (each.outcome.value("fps") for each in found), reverse=True)


def trial(number, further, luts):
    used = Capacity(luts=luts, ffs=0, multipliers=0, block_rams=0)
    return Trial(number=number, parameters={}, outcome=Outcome(
        used=used, clock_mhz=100, networks=(NetworkFigures(
            name="n", first=further, further=further, energy_uj=1, memory_bytes=0),)))


def test_of_equal_trials_the_first_is_on_the_front():
    trials = [trial(0, 100, 10), trial(1, 100, 10), trial(2, 50, 20), trial(3, 60, 20)]
    assert [each.number for each in front(trials, ("fps", "luts"))] == [2, 0]


def test_points_are_compiled_in_full_once(real, tmp_path, monkeypatch):
    with cluster() as here, study(tmp_path / "study.db") as kept:
        here.ship(DATA)
        points = find_points(real.trials, problem(), kept, here)
        monkeypatch.setattr("weft.explore.points.evaluate", None)
        assert find_points(real.trials, problem(), kept, here) == points
        kept.close()
        with study(tmp_path / "study.db") as kept:
            assert find_points(real.trials, problem(), kept, here) == points
        again = evaluate(replace(problem().job, whole=True, config=points[0].config.to_dict()))
    assert points[0].name == points[0].config.name == "point1"
    assert points[0].trial.outcome == again
    figures = points[0].trial.outcome.networks[0]
    assert points[0].trial.outcome.value("fps") == pytest.approx(
        points[0].trial.outcome.clock_mhz * 1e6 / figures.further)


def test_the_mean_of_several_networks_is_geometric():
    figures = [NetworkFigures(name=name, first=cycles, further=cycles, energy_uj=cycles,
                              memory_bytes=0) for name, cycles in (("a", 100), ("b", 400))]
    outcome = Outcome(used=Capacity(luts=1, ffs=1, multipliers=1, block_rams=1), clock_mhz=1,
                      networks=tuple(figures))
    assert outcome.value("fps") == pytest.approx(1e6 / 200)
    assert outcome.value("energy") == pytest.approx(200)
    assert outcome.value("latency") == pytest.approx(0.4)
