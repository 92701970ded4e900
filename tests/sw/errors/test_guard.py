import os
import subprocess
import sys

import pytest

from weft import cli
from weft.errors import InputError, guard
from weft.errors.guard import guarded
from weft.errors.text import printable


def failing(error):
    def program(arguments):
        raise error
    return program


def line(capsys, error, *arguments):
    assert guarded(failing(error), list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_result_is_the_exit_code(capsys):
    assert guarded(lambda arguments: len(arguments), ["a", "--debug", "b", "c"]) == 3
    assert capsys.readouterr().err == ""


def test_user_error_is_one_line_whatever_its_names_are_made_of(capsys):
    text = line(capsys, InputError("Name 'a\nb\x1b[31m\u202e' is wrong"))
    assert text == "weft: error: Name 'a\\nb\\x1b[31m\\u202e' is wrong\n"


def test_anything_else_names_its_type_and_place_and_asks_for_a_report(capsys, monkeypatch):
    def mistake(options):
        return {}["key"]

    monkeypatch.setitem(mistake.__globals__, "__name__", "weft.somewhere")
    monkeypatch.setattr(cli, "_main", mistake)
    assert cli.main(["check"]) == 2
    number = mistake.__code__.co_firstlineno + 1
    assert capsys.readouterr().err == (
        f"weft: error: Weft made a mistake at weft.somewhere:{number}: KeyError: 'key'; please "
        f"report it, with the model and what --debug shows\n")


def test_debug_shows_the_traceback_before_the_line(capsys):
    first, *_, last = line(capsys, InputError("wrong"), "--debug").splitlines()
    assert first == "Traceback (most recent call last):" and last == "weft: error: wrong"


def test_missing_memory_and_a_failing_system_are_no_mistakes_of_weft(capsys):
    assert line(capsys, MemoryError()).startswith("weft: error: Memory must be enough for ")
    text = line(capsys, OSError(28, "No space left on device", "/some/file"))
    assert text.startswith("weft: error: /some/file: No space left on device (at weft.errors.")


def test_interruption(capsys):
    assert guarded(failing(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == "weft: interrupted\n"


def run_shell(command):
    return subprocess.run(["sh", "-c", command.replace("weft ", f"{sys.executable} -m weft ")],
                          capture_output=True, text=True)


LISTING = "weft config list"


def test_full_disk_at_standard_output_is_named():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    for command in (LISTING, "weft config show tiny"):
        done = run_shell(f"{command} > /dev/full")
        assert (done.returncode, done.stderr) == (
            2, "weft: error: Output cannot be written: No space left on device\n")


def test_output_that_nobody_reads_ends_quietly():
    # The reader is gone before the first line is written.
    for command in (LISTING, "weft config show tiny"):
        done = run_shell(f"{{ sleep 1; {command}; echo $? >&2; }} | true")
        assert done.stderr == "141\n"


def test_closed_streams_are_none_of_the_programs_business():
    assert run_shell(f"{LISTING} >&- 2>&-").returncode == 0
    done = run_shell("weft config show none >&-")
    assert done.returncode == 2 and done.stderr.startswith("weft: error: Config must be one of ")


def test_text_without_a_place_in_the_encoding_is_escaped():
    done = run_shell(f"PYTHONIOENCODING=ascii {LISTING}")
    assert done.returncode == 0 and "base" in done.stdout


@pytest.mark.parametrize("text, shown", [
    ("plain", "plain"), ("größe → 1", "größe → 1"), ("a\r\n\tb", "a\\r\\n\\tb"), ("\x7f", "\\x7f"),
    ("\x9b31m", "\\x9b31m"), ("\u2028", "\\u2028"), ("\ud800", "\\ud800"), ("\u200b", "\\u200b")])
def test_printable(text, shown):
    assert printable(text) == shown


def test_exit_codes_differ():
    codes = [guard.EXIT_MISMATCH, guard.EXIT_ERROR, guard.EXIT_INTERRUPTED, guard.EXIT_PIPE]
    assert len({0, *codes}) == 5
