"""A scheduler and workers of Dask, as they are started by hand."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

from places import ROOT

from weft.cluster import cluster
from weft.errors import InputError

__all__ = ["scheduler", "workers"]


_SECONDS = 600


def _start(name, *options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{name}", *options,
                             "--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
                            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def _stopped(processes):
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextmanager
def scheduler():
    """The address of a scheduler that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with _stopped([_start("scheduler", "--host", "127.0.0.1", "--port", str(port))]):
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "no scheduler"
                time.sleep(0.3)
        yield f"tcp://127.0.0.1:{port}"


@contextmanager
def workers(address, folder, count, *options):
    """``count`` workers that the scheduler knows, each a program; with a nanny that starts another
    if it dies, unless the options say otherwise."""
    with _stopped([_start("worker", address, "--nthreads", "1", "--local-directory", str(folder),
                          *options) for _ in range(count)]) as processes:
        deadline = time.monotonic() + _SECONDS
        while _known(address) != count:
            assert time.monotonic() < deadline, "no workers"
            time.sleep(0.3)
        yield processes


def _known(address):
    try:
        with cluster(scheduler=address) as there:
            return there.workers
    except InputError:
        return 0
