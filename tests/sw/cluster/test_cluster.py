"""Work for many processes."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from cluster_tasks import dies_once, fails, length
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


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def started(*programs):
    """Programs of Dask, stopped in the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    running = [subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_" + name, *options],
                                env=environment, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL) for name, *options in programs]
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def wait_for_workers(address, count):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with cluster(scheduler=address) as there:
                if there.workers == count:
                    return
        except InputError:
            pass
        time.sleep(0.3)
    raise AssertionError("no workers")


@pytest.mark.slow
def test_workers_started_by_hand_and_one_that_dies(tmp_path):
    port = unused_port()
    address = f"tcp://127.0.0.1:{port}"
    with started(("scheduler", "--no-dashboard", "--host", "127.0.0.1", "--port",
                  str(port))):
        with started(*[("worker", address, "--nthreads", "1", "--no-dashboard",
                        "--local-directory", str(tmp_path)) for _ in range(2)]):
            wait_for_workers(address, 2)
            with cluster(scheduler=address) as there:
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
