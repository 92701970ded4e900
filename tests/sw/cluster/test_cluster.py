"""Work for many processes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from cluster_tasks import dies_once, fails, length
from dask_programs import scheduler, workers
from default_signals import take_by_default
from places import ROOT

from weft.cluster import cluster, digest
from weft.errors import InputError

DATA = b"twelve bytes"


def test_one_process_does_it_itself():
    with cluster() as here:
        here.ship(DATA)
        assert here.workers == 1
        assert list(here.map(length, [digest(DATA)])) == [(12, os.getpid())]
        with pytest.raises(InputError, match=r"^Item must not be 3$"):
            list(here.map(fails, [3]))


def test_workers_must_be_some():
    with pytest.raises(InputError, match=r"^Workers must be at least 1, not 0$"), \
            cluster(workers=0):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "nowhere", "http://127.0.0.1:80", ""])
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match=r"^Scheduler must be the address of a Dask scheduler "
                                         rf"such as tcp://127\.0\.0\.1:8786, not '{address}'$"), \
            cluster(scheduler=address):
        pass


def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr("weft.cluster._CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match=r"^Scheduler tcp://127\.0\.0\.1:1 must answer within 1 s, "
                                         r"and does not: "), \
            cluster(scheduler="tcp://127.0.0.1:1"):
        pass


@pytest.mark.slow
def test_workers_started_by_hand_and_one_that_dies(tmp_path):
    with scheduler() as address, workers(address, tmp_path, 2), cluster(scheduler=address) as there:
        there.ship(DATA)
        found = list(there.map(length, [digest(DATA)] * 20))
        assert {size for size, _ in found} == {12}
        assert os.getpid() not in {process for _, process in found}
        with pytest.raises(InputError, match=r"^Item must not be 3$"):
            list(there.map(fails, [3]))
        items = [(number, str(tmp_path) if number == 5 else "") for number in range(20)]
        assert list(there.map(dies_once, items)) == list(range(20))
        # Its nanny starts another, which knows what was shipped.
        assert {size for size, _ in there.map(length, [digest(DATA)] * 20)} == {12}


@pytest.mark.slow
def test_a_scheduler_without_workers():
    with scheduler() as address, pytest.raises(
            InputError, match=rf"^Scheduler {address} must have workers, and has none: start some "
                              rf"with dask worker {address}$"), cluster(scheduler=address):
        pass

@pytest.mark.slow
def test_ctrl_c_ends_all_processes_in_a_line():
    """A terminal sends it to the workers, too."""
    with subprocess.Popen([sys.executable, "-m", "interrupted_cluster"], start_new_session=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}, text=True,
                          preexec_fn=take_by_default, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "at work\n"
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said == "weft: interrupted\n"
    for _ in range(600):    # the last of them leave a little later
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("processes are left")
