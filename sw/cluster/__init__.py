"""Work for many processes, on this machine or on a cluster: Dask distributed does all of it.

Tasks are functions of modules, which a worker imports: no code is shipped. Large values, models
above all, are shipped to each worker once, and a task names them by their hash (:func:`digest`). A
worker that joins late gets them too, and what a lost worker had to do others do again.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from signal import SIG_IGN, SIGINT, signal
from threading import current_thread, main_thread
from typing import Any, TypeVar

from weft.errors import InputError, ToolError, WeftError
from weft.errors.distribution import install_command

from .store import digest, receive, shipped

__all__ = ["Cluster", "cluster", "digest", "shipped"]


Item = TypeVar("Item")
Result = TypeVar("Result")

_CONNECT_SECONDS = 10


class Cluster:
    """Processes that work.

    Parameters
    ----------
    client : :class:`distributed.Client` or :py:`None`
        None of them: everything is done in this process.
    """

    def __init__(self, client: Any = None):
        self._client = client

    @property
    def workers(self) -> int:
        """How many there are now, by the threads of the workers; 1 without any."""
        if self._client is None:
            return 1
        info = self._client.scheduler_info(n_workers=-1)
        return sum(worker["nthreads"] for worker in info["workers"].values())

    def ship(self, *values: bytes) -> None:
        """Sends ``values`` to all workers, those that join later included."""
        named = {digest(value): value for value in values}
        if self._client is None:
            receive(named)
        else:
            from .plugin import Ship

            self._client.register_plugin(Ship(named), name=f"weft-{'-'.join(sorted(named))}")

    def map(self, task: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """What ``task`` makes of each item, in their order.

        Parameters
        ----------
        task : callable
            A function of a module; not one that changes anything but files of its own, as it may
            run again where a worker was lost.

        Raises
        ------
        WeftError
            What the task raised; or if all workers that tried it died.
        """
        if self._client is None:
            yield from map(task, items)
            return
        from distributed import KilledWorker

        futures = self._client.map(task, list(items), pure=False, retries=0)
        try:
            for future in futures:
                yield future.result()
        except KilledWorker as error:
            raise WeftError(f"Workers must live to do their work, and {error.allowed_failures + 1} "
                            f"died at the same task: they may lack memory") from None
        finally:
            self._client.cancel(futures)


@contextmanager
def cluster(*, workers: int = 1, scheduler: str | None = None) -> Iterator[Cluster]:
    """The processes for a command.

    Parameters
    ----------
    workers : :class:`int`
        Processes of this machine; with 1, this process does everything.
    scheduler : :class:`str`
        Address of a Dask scheduler that has workers, such as ``tcp://127.0.0.1:8786``, instead.

    Raises
    ------
    InputError
        If there is no such scheduler, or it has no workers.
    ToolError
        If Dask distributed is needed and not installed.
    """
    if workers < 1:
        raise InputError(f"Workers must be at least 1, not {workers}")
    if scheduler is None and workers == 1:
        yield Cluster()
        return
    if find_spec("distributed") is None:
        raise ToolError("Package distributed is needed to work in several processes: "
                        + install_command("explore"))
    with ExitStack() as stack:
        yield Cluster(stack.enter_context(_local(workers) if scheduler is None
                                          else _remote(scheduler)))


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    # At a port of its own: another one on this machine has the usual one.
    with ExitStack() as stack:
        with _deaf():
            local = stack.enter_context(LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True,
                dashboard_address="127.0.0.1:0", silence_logs=50))
        yield stack.enter_context(Client(local))


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started inside do not hear Ctrl-C, which a terminal sends to all: this one
    ends them."""
    if current_thread() is not main_thread():   # which alone may say what a signal does
        yield
        return
    before = signal(SIGINT, SIG_IGN)
    try:
        yield
    finally:
        signal(SIGINT, before)


@contextmanager
def _remote(address: str) -> Iterator[Any]:
    from distributed import Client

    if re.fullmatch(r"(tcp|tls)://[^/\s]+:\d{1,5}", address) is None:
        raise InputError(f"Scheduler must be the address of a Dask scheduler such as "
                         f"tcp://127.0.0.1:8786, not {address!r}")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(f"Scheduler {address} must answer within {_CONNECT_SECONDS} s, and does "
                         f"not: {error or type(error).__name__}") from None
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise InputError(f"Scheduler {address} must have workers, and has none: start some "
                             f"with dask worker {address}")
        yield client
