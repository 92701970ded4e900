"""Damaged model files: each gives a result or one line, in bounded memory and time."""

import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from damaged_models import mutant, sound_models

from weft import cli
from weft.errors.guard import EXIT_ERROR, EXIT_MISMATCH

MEMORY = 2 << 30        # of data; onnxruntime maps far more addresses than it uses
SECONDS = 30            # of processor time, which does not hang on what else the machine does
WAIT = 20 * SECONDS     # for one that does nothing
MUTANTS = 5000
SLICE = 60              # of them in `make test`
RUN_BYTES = 1 << 18     # activations of a model that is run, not only compiled
_PROGRESS = re.compile(r"(Preparing|Compiling|Running)\b.*")
_FAULTS = ("Weft made a mistake", "Memory must be enough", "Traceback")


class Faulty(Exception):
    """What a mutant must not lead to."""


def call(out, err, *arguments):
    """Runs the command line with its output in files; gives exit code, output and last line."""
    for file in (out, err):
        os.ftruncate(file.fileno(), 0)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
    kept = [(os.dup(target), target) for target in (1, 2)]
    streams = sys.stdout, sys.stderr
    try:
        for file, target in ((out, 1), (err, 2)):
            os.dup2(file.fileno(), target)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(target), "w") for target in (1, 2))
        code = cli.main([str(argument) for argument in arguments])
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.close()
        sys.stdout, sys.stderr = streams
        for copy, target in kept:
            os.dup2(copy, target)
            os.close(copy)
    texts = [Path(file.name).read_text(encoding="utf-8") for file in (out, err)]
    lines = texts[1].split("\n")[:-1]
    errors = [line for line in lines if not _PROGRESS.fullmatch(line)]
    if any(fault in texts[1] for fault in _FAULTS) or len(errors) != (code == EXIT_ERROR):
        raise Faulty(f"{arguments[0]} gives {code}: {errors}")
    if code not in (0, EXIT_MISMATCH, EXIT_ERROR) or re.search("[\x00-\x09\x0b-\x1f]", texts[0]):
        raise Faulty(f"{arguments[0]} gives {code}: {texts[0]!r}")
    return code, texts[0], "".join(errors)


def examine(raw, folder):
    """How far the commands get with a file: refused, compiled, run."""
    path = Path(folder) / "m.onnx"
    path.write_bytes(raw)
    with open(Path(folder) / "out", "w+b") as out, open(Path(folder) / "err", "w+b") as err:
        code, text, _ = call(out, err, "check", path, "--json")
        if code == EXIT_ERROR:
            return "refused by check"
        if call(out, err, "compile", path, "--dump", "--config", "tiny")[0] == EXIT_ERROR:
            return "refused by compile"
        size = sum(node.get("output_bytes", 0) for node in json.loads(text)["nodes"])
        if size > RUN_BYTES:
            return "compiled"
        code, text, _ = call(out, err, "run", path, "--device", "functional", "--config", "tiny",
                             "--verify")
    if code == EXIT_MISMATCH:
        if "in float32" not in text:    # then onnxruntime itself is not exact
            raise Faulty(f"run differs from onnxruntime: {text[-400:]!r}")
        return "run, float32 in onnxruntime"
    return "run" if code == 0 else "refused by run"


def child(models, numbers, pipe):
    """Examines mutants one after the other, and reports the beginning and end of each."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            os.write(pipe, f"{json.dumps([number, '', ''])}\n".encode())
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                result = examine(mutant(models, number), folder), ""
            except Faulty as fault:
                result = "faulty", str(fault)[:1500]
            except BaseException as error:
                result = "faulty", f"{type(error).__name__}: {error}"[:1500]
            os.write(pipe, f"{json.dumps([number, *result])}\n".encode())


def sweep(numbers, group=50):
    """Results of mutants by number: examined in child processes, a group in each, so that one that
    crashes or hangs takes no other with it. With the largest memory of a child."""
    models, results, faults = sound_models(), {}, {}
    todo = list(numbers)
    peak = 0
    while todo:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.close(reader)
                child(models, todo[:group], writer)
            finally:
                os._exit(0)
        os.close(writer)
        current, end, buffer = todo[0], time.monotonic() + WAIT, b""
        why = "ended without a word"
        while True:
            if not select.select([reader], [], [], max(0, end - time.monotonic()))[0]:
                os.kill(pid, signal.SIGKILL)
                why = "hangs"
            data = os.read(reader, 1 << 16)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                current, result, fault = json.loads(line)
                end = time.monotonic() + WAIT
                if result:
                    results[current] = result
                if fault:
                    faults[current] = fault
        os.close(reader)
        _, status, usage = os.wait4(pid, 0)
        peak = max(peak, usage.ru_maxrss << 10)
        if current not in results:
            code = os.waitstatus_to_exitcode(status)
            results[current], faults[current] = "faulty", f"{why} (exit code {code})"
        todo = [number for number in todo if number not in results]
    return Counter(results.values()), faults, peak


def test_sound_models_run(tmp_path):
    for model in sound_models().values():
        assert examine(model.SerializeToString(), tmp_path) == "run"


def test_damaged_models_give_a_result_or_a_line(tmp_path):
    models = sound_models()
    found = Counter(examine(mutant(models, number), tmp_path) for number in range(SLICE))
    assert found["run"] > 5 and found["refused by check"] > 20


@pytest.mark.slow
def test_thousands_of_damaged_models_do_so_in_bounded_memory_and_time():
    counts, faults, peak = sweep(range(MUTANTS))
    assert not faults
    assert peak < MEMORY and counts.total() == MUTANTS and counts["run"] > MUTANTS // 10


def test_what_the_sweep_must_find_is_found(monkeypatch):
    def misbehave(arguments):
        time.sleep(1000)

    monkeypatch.setattr(cli, "_main", misbehave)
    monkeypatch.setitem(globals(), "WAIT", 1)
    assert sweep([3, 4])[1] == dict.fromkeys((3, 4), "hangs (exit code -9)")
    monkeypatch.setitem(globals(), "WAIT", 60)
    monkeypatch.setitem(globals(), "SECONDS", 1)
    monkeypatch.setattr(cli, "_main", lambda arguments: sum(iter(int, 1)))
    assert sweep([8])[1][8] == f"ended without a word (exit code {-signal.SIGPROF})"
    monkeypatch.setattr(cli, "_main", lambda arguments: [].pop())
    counts, faults, _ = sweep([5])
    assert counts == {"faulty": 1} and "Weft made a mistake" in faults[5]
    monkeypatch.setattr(cli, "_main", lambda arguments: bytearray(4 << 30)[0])
    assert "Memory must be enough" in sweep([6])[1][6]
    monkeypatch.setattr(cli, "_main", lambda arguments: os.kill(os.getpid(), signal.SIGKILL))
    assert sweep([7])[1][7] == "ended without a word (exit code -9)"


if __name__ == "__main__":
    first, last = map(int, sys.argv[1:])
    start = time.monotonic()
    counts, faults, peak = sweep(range(first, last))
    for number, fault in faults.items():
        print(number, fault)
    print(dict(counts), f"{peak >> 20} MiB, {time.monotonic() - start:.0f} s")
