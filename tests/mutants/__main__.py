"""Changes the logic of hw/ at random places and tells which changes no unit test notices."""

import argparse
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
from trial import ROOT, measure, outcome

_FOLDER = ROOT / "build" / "mutants"


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=150, help="changes to try (default: 150)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--file", default="", help="only files whose path contains this")
    parser.add_argument("--again", action="store_true",
                        help="try once more those of the last run that survived")
    options = parser.parse_args()

    population = [mutant for path in sorted((ROOT / "hw").rglob("*.py"))
                  if options.file in str(path) and b"Module" in (source := path.read_bytes())
                  for mutant in mutants(path.relative_to(ROOT).as_posix(), source)]
    record = _FOLDER / f"survivors-{options.seed}.json"
    if options.again:
        keys = {tuple(key) for key in json.loads(record.read_text())}
        chosen = [mutant for mutant in population if mutant.key in keys]
    else:
        chosen = _sample(population, options.count, options.seed)

    baseline = _baseline()
    results = [(mutant, *_try(mutant, baseline, f"{number:3}/{len(chosen)}"))
               for number, mutant in enumerate(chosen, 1)]
    record.write_text(json.dumps([mutant.key for mutant, result, _ in results
                                  if result == "survived"]))
    _summary(results)


def _sample(population: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """Changes in ``count`` different lines, each of which is as likely as any other."""
    lines = defaultdict(list)
    for mutant in population:
        lines[mutant.file, mutant.line].append(mutant)
    rng = random.Random(seed)
    return [rng.choice(lines[line]) for line in rng.sample(sorted(lines), min(count, len(lines)))]


def _baseline() -> dict[str, Any]:
    """Of every test, what it takes and the lines that run for it. Measured anew where a test or
    the hardware has changed since."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    stored = _FOLDER / "baseline.json"
    old = json.loads(stored.read_text()) if stored.exists() else {}
    hardware = sorted((ROOT / "hw").rglob("*.py"))
    new = {}
    for path in sorted((ROOT / "tests" / "hw").rglob("test_*.py")):
        name   = path.relative_to(ROOT).as_posix()
        files  = [*hardware, *_helpers(path)]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        if old.get(name, {}).get("digest") == digest:
            new[name] = old[name]
            continue
        begin = time.monotonic()
        new[name] = {"digest": digest, "tests": measure(name, _FOLDER / f"{path.stem}.log")}
        print(f"{name}: {len(new[name]['tests'])} tests, {time.monotonic() - begin:.0f} s",
              flush=True)
        stored.write_text(json.dumps({**old, **new}))
    return {test: value for file in new.values() for test, value in file["tests"].items()}


def _helpers(path: Path) -> list[Path]:
    """``path``, and the helpers beside the tests that it imports."""
    files = [path]
    for file in files:
        names = re.findall(r"^from (\w+) import", file.read_text(encoding="utf-8"), re.MULTILINE)
        helpers = (ROOT / "tests" / f"{name}.py" for name in names)
        files += [helper for helper in helpers if helper.exists() and helper not in files]
    return files


def _reach(mutant: Mutant, baseline: dict[str, Any]) -> dict[str, float]:
    """The tests that may notice a change, with their seconds: those that run its lines. What runs
    on import, such as a constant, matters to all that run some of the file."""
    span = set(range(mutant.first, mutant.last + 1))
    reach = {test: value["seconds"] for test, value in baseline.items()
             if span & set(value["lines"].get(mutant.file, ()))}
    return reach or {test: value["seconds"] for test, value in baseline.items()
                     if mutant.file in value["lines"]}


def _try(mutant: Mutant, baseline: dict[str, Any], number: str) -> tuple[str, str]:
    begin = time.monotonic()
    if mutant.key in _EQUIVALENT:
        result, cause = "equivalent", _EQUIVALENT[mutant.key]
    else:
        result, cause = outcome(mutant, _reach(mutant, baseline), _FOLDER / "trial.log")
    print(f"{number} {result:10} {time.monotonic() - begin:5.1f} s  {mutant.file}:{mutant.line} "
          f"[{mutant.operator}]\n    - {mutant.before}\n    + {mutant.after}\n    {cause}",
          flush=True)
    return result, cause


def _summary(results: list[tuple[Mutant, str, str]]) -> None:
    for title, group in (("operator", lambda mutant: mutant.operator),
                         ("file", lambda mutant: mutant.file)):
        counts: dict[str, Counter] = defaultdict(Counter)
        for mutant, result, _ in results:
            counts[group(mutant)][result] += 1
        print(f"\n{title:32}" + "".join(f"{name:>12}" for name in _OUTCOMES))
        for name in sorted(counts):
            print(f"{name:32}" + "".join(f"{counts[name][result]:12}" for result in _OUTCOMES))
    total = Counter(result for _, result, _ in results)
    print(f"{'':32}" + "".join(f"{total[result]:12}" for result in _OUTCOMES))
    judged = len(results) - total["equivalent"]
    print(f"\n{judged - total['survived']} of {judged} changes were noticed "
          f"({(judged - total['survived']) / max(judged, 1):.1%}), and {total['equivalent']} are "
          f"known to change nothing.")


_OUTCOMES = ("killed", "broken", "hung", "survived", "equivalent")


def _equivalent() -> dict[tuple[str, str, str, str], str]:
    entries = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())
    return {(entry["file"], entry["scope"], entry["before"], entry["after"]): entry["reason"]
            for entry in entries.get("mutant", [])}


_EQUIVALENT = _equivalent()

if __name__ == "__main__":
    main()
