import os
import signal
import threading

import pytest
from default_signals import by_default

from weft.errors.guard import guarded
from weft.errors.termination import terminable


@pytest.fixture(autouse=True)
def _by_default():
    with by_default():
        yield


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_ends_the_program_with_its_exit_code_and_cleans_up(number, code):
    cleaned = []

    def program():
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            cleaned.append(True)

    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("The signal did nothing"))
    signal.alarm(5)
    try:
        with pytest.raises(SystemExit) as ended:
            guarded(lambda arguments: program(), [])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert ended.value.code == code and cleaned == [True]


def test_handlers_are_put_back():
    with terminable():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_run_programs_too():
    results = []
    thread = threading.Thread(target=lambda: results.append(guarded(lambda arguments: 5, [])))
    thread.start()
    thread.join()
    assert results == [5]
