"""A search through a scheduler and workers that were started by hand."""

import json

import pytest
from dask_programs import scheduler, workers

from weft.cli import main
from weft.digits import MODEL
from weft.explore import study

SPACE = """
rows = [4, 8, 12]
cols = [4, 8, 12]
requant_lanes = [1, 2, 4]
weight_bytes = [8192, 32768]
vector_taps = [1, 3]
"""


def explore(folder, *options):
    folder.mkdir()
    space = folder / "space.toml"
    space.write_text(SPACE)
    assert main(["explore", str(MODEL), "--luts", "30000", "--config", "small", "--trials", "24",
                 "--space", str(space), "-o", str(folder / "out"), *options]) == 0
    return json.loads((folder / "out" / "front.json").read_text())


@pytest.mark.slow
def test_the_front_is_that_of_one_process_even_if_a_worker_is_killed(tmp_path, monkeypatch):
    alone = explore(tmp_path / "alone", "--workers", "1")
    assert len(alone["points"]) > 3
    assert explore(tmp_path / "local", "--workers", "2") == alone
    with scheduler() as address, workers(address, tmp_path, 2, "--no-nanny") as programs:
        assert explore(tmp_path / "two", "--scheduler", address) == alone

        def kill(self, number, parameters, outcome, keep=study.Study.keep):
            if number == 20:    # in a batch whose other trials are under way
                programs[0].kill()
            keep(self, number, parameters, outcome)

        monkeypatch.setattr(study.Study, "keep", kill)
        assert explore(tmp_path / "killed", "--scheduler", address) == alone
        assert programs[0].poll() is not None
        assert programs[1].poll() is None
