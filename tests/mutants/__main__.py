"""Changes the logic of hw/ at random places and tells which changes no unit test notices."""

import argparse
import ast
import hashlib
import json
import random
import re
import time
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mutation import Mutant, mutants
from trial import ROOT, trial

_FOLDER = ROOT / "build" / "mutants"
_OUTCOMES = ("killed", "broken", "hung", "survived", "equivalent")


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=150, help="changes to try (default: 150)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--file", default="", help="only files whose path contains this")
    parser.add_argument("--seconds", type=float, default=60.0,
                        help="of the processor to spend on the tests of a change, after those of "
                             "its own module (default: 60)")
    parser.add_argument("--again", action="store_true",
                        help="try once more those of the last run that survived")
    options = parser.parse_args()

    population = [mutant for path in sorted((ROOT / "hw").rglob("*.py"))
                  if options.file in str(path) and b"Module" in (source := path.read_bytes())
                  for mutant in mutants(path.relative_to(ROOT).as_posix(), source)]
    _FOLDER.mkdir(parents=True, exist_ok=True)
    record = _FOLDER / f"survivors-{options.seed}.json"
    if options.again:
        keys = {tuple(key) for key in json.loads(record.read_text())}
        chosen = [mutant for mutant in population if mutant.key in keys]
    else:
        chosen = _sample(population, options.count, options.seed)

    tests, equivalent = _Tests(_FOLDER / "tests.json", options.seconds), _equivalent()
    results = []
    for number, mutant in enumerate(chosen, 1):
        begin = time.monotonic()
        result, cause = ("equivalent", equivalent[mutant.key]) if mutant.key in equivalent \
            else tests.judge(mutant)
        print(f"{number:3}/{len(chosen)} {result:10} {time.monotonic() - begin:5.1f} s  "
              f"{mutant.file}:{mutant.line} [{mutant.operator}]\n    - {mutant.before}\n"
              f"    + {mutant.after}\n    {cause}", flush=True)
        results.append((mutant, result))
        record.write_text(json.dumps([tried.key for tried, its in results if its == "survived"]))
    _summary(results)


def _sample(population: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """Changes in ``count`` different lines, each of which is as likely as any other. A larger
    count begins with the same ones."""
    lines = defaultdict(list)
    for mutant in population:
        lines[mutant.file, mutant.line].append(mutant)
    rng = random.Random(seed)
    order = sorted(lines)
    rng.shuffle(order)
    return [rng.choice(lines[line]) for line in order[:count]]


class _Tests:
    """The files of tests, the files of hw/ that each of them imports, in so many steps, and what is
    known of each test from former trials: kept as long as neither it nor the hardware changes."""

    def __init__(self, stored: Path, limit: float):
        self._stored = stored
        self._limit  = limit
        old = json.loads(stored.read_text()) if stored.exists() else {}
        hardware = sorted((ROOT / "hw").rglob("*.py"))
        modules = {_module(path): path for path in hardware}
        self._steps: dict[str, dict[str, int]] = {}  # imports from a file of tests to one of hw/
        self._known: dict[str, dict[str, Any]] = {}
        for path in sorted((ROOT / "tests" / "hw").rglob("test_*.py")):
            name    = path.relative_to(ROOT).as_posix()
            helpers = _helpers(path)
            steps   = dict.fromkeys(helpers, 0)
            for file in (queue := list(helpers)):
                following = {modules[module] for module in _imports(file) if module in modules}
                queue += following - set(steps)
                steps |= dict.fromkeys(following - set(steps), steps[file] + 1)
            self._steps[name] = {file.relative_to(ROOT).as_posix(): step
                                 for file, step in steps.items() if file not in helpers}
            digest = hashlib.sha256(b"".join(
                file.read_bytes() for file in [*hardware, *helpers])).hexdigest()
            self._known[name] = old[name] if old.get(name, {}).get("digest") == digest else {
                "digest": digest, "seconds": {}, "left_out": []}

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """The result of a change, and the test that noticed it."""
        # The nearer a file of tests is, the more it is about this module, and the fewer others it
        # reaches, the quicker it is.
        files = sorted((name for name, steps in self._steps.items() if mutant.file in steps),
                       key=lambda name: (self._steps[name][mutant.file], len(self._steps[name])))
        spent = 0.0
        for number, name in enumerate(files):
            known = self._known[name]
            if spent > self._limit and self._steps[name][mutant.file] > 1:
                return "survived", f"{number} of {len(files)} files of tests"
            while not known.get("given_up"):
                outcome = trial(mutant, name, known["seconds"], known["left_out"],
                                _FOLDER / "trial.log")
                spent += sum(outcome.passed.values())
                known["left_out"] += outcome.refused
                known["given_up"] = bool(outcome.refused and not outcome.passed
                                         and outcome.result == "survived")
                right = (outcome.result == "survived"
                         or self._passes(name, outcome.test))
                known["seconds"] |= outcome.passed
                self._stored.write_text(json.dumps(self._known))
                if right:
                    if outcome.result != "survived":
                        return outcome.result, outcome.test
                    break
                print(f"{outcome.test} fails without a change, and is left out", flush=True)
        return "survived", f"{len(files)} files of tests"

    def _passes(self, name: str, test: str) -> bool:
        """Whether a test passes without a change."""
        known = self._known[name]
        if test not in known["seconds"] and test != name:
            outcome = trial(None, name, {}, (), _FOLDER / "right.log", only=test)
            if outcome.result != "survived":
                known["left_out"].append(test)
                return False
            known["seconds"] |= outcome.passed
        return True


def _module(path: Path) -> str:
    """The name of a file of hw/ as a module."""
    return ".".join(["weft", *path.relative_to(ROOT).with_suffix("").parts])


def _imports(path: Path) -> set[str]:
    """All modules that a file names, and all that might be modules."""
    found = set()
    package = _module(path).split(".")[:-1] if (ROOT / "hw") in path.parents else []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            start = package[:len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _helpers(path: Path) -> list[Path]:
    """``path``, and the helpers beside the tests that it imports."""
    files = [path]
    for file in files:
        names = re.findall(r"^from (\w+) import", file.read_text(encoding="utf-8"), re.MULTILINE)
        helpers = (ROOT / "tests" / f"{name}.py" for name in names)
        files += [helper for helper in helpers if helper.exists() and helper not in files]
    return files


def _equivalent() -> dict[tuple[str, str, str, str], str]:
    """The changes that are known to make no difference, and why."""
    entries = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())
    return {(entry["file"], entry["scope"], entry["before"], entry["after"]): entry["reason"]
            for entry in entries.get("mutant", [])}


def _summary(results: list[tuple[Mutant, str]]) -> None:
    for title, group in (("operator", lambda mutant: mutant.operator),
                         ("file", lambda mutant: mutant.file)):
        counts: dict[str, Counter] = defaultdict(Counter)
        for mutant, result in results:
            counts[group(mutant)][result] += 1
        print(f"\n{title:32}" + "".join(f"{name:>12}" for name in _OUTCOMES))
        for name in sorted(counts):
            print(f"{name:32}" + "".join(f"{counts[name][result]:12}" for result in _OUTCOMES))
    total = Counter(result for _, result in results)
    print(f"{'':32}" + "".join(f"{total[result]:12}" for result in _OUTCOMES))
    judged = len(results) - total["equivalent"]
    noticed = judged - total["survived"]
    print(f"\n{noticed} of {judged} changes were noticed ({noticed / max(judged, 1):.1%}); "
          f"{total['equivalent']} more are known to change nothing.")


if __name__ == "__main__":
    main()
