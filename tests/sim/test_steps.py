import re
import subprocess
import time

import pytest

from weft.errors import ToolError
from weft.sim.steps import Steps, no_child_left

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def test_all_that_tools_say_is_in_the_log(tmp_path):
    steps = Steps(tmp_path, tmp_path / "log", ENVIRONMENT)
    done = []
    steps.run_all("Echo", [["echo", str(i)] for i in range(5)], done.append)
    assert done == list(range(6))
    assert sorted((tmp_path / "log").read_text().splitlines()) == sorted(
        line for i in range(5) for line in (f"$ echo {i}", str(i)))


def test_failing_tool_ends_those_that_run_beside_it(tmp_path):
    steps = Steps(tmp_path, tmp_path / "log", ENVIRONMENT)
    late = "(sleep 10; touch survived) & echo > ready; wait"
    soon = "until [ -e ready ]; do sleep 0.01; done; echo no; exit 3"
    with pytest.raises(ToolError, match=re.escape(
            f"Shell failed (exit code 3), the full log is {tmp_path}/log: no")):
        steps.run_all("Shell", [["sh", "-c", late], ["sh", "-c", soon], ["touch", "another"]])
    assert not (tmp_path / "survived").exists()
    time.sleep(0.1)
    assert not (tmp_path / "another").exists()


def test_tool_that_cannot_be_started_is_named(tmp_path):
    with pytest.raises(ToolError, match=r"^Tool cannot be started: No such file or directory$"):
        Steps(tmp_path, tmp_path / "log", ENVIRONMENT).run("Tool", ["./missing"])


def test_temporary_files_are_in_the_folder_of_the_build(tmp_path):
    steps = Steps(tmp_path, tmp_path / "log", ENVIRONMENT)
    steps.run("Shell", ["sh", "-c", 'touch "$TMPDIR/here"'])
    assert (tmp_path / "here").exists()


def start_and_raise(error):
    """A process that was started inside."""
    started = []
    try:
        with no_child_left():
            started.append(subprocess.Popen(["sleep", "10"]))
            raise error
    except error:
        return started[0]


def test_interrupt_kills_what_was_started_inside_alone():
    outside = subprocess.Popen(["sleep", "10"])
    inside = start_and_raise(KeyboardInterrupt)
    assert inside.wait() == -9
    assert outside.poll() is None
    outside.kill()
    outside.wait()


def test_error_kills_nothing():
    inside = start_and_raise(ValueError)
    assert inside.poll() is None
    inside.kill()
    inside.wait()
