"""Random command streams on RTL and model: ``python -m fuzz.programs``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fuzz.programs.batch import BATCH, CONFIGS, draw, load, save
from fuzz.programs.run import Difference, compare
from fuzz.programs.shrink import shrink

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fuzz.programs", description="Random command streams on RTL and model.")
    parser.add_argument("--config", choices=CONFIGS, action="append", default=[])
    parser.add_argument("--count", type=int, default=200, help="streams for each configuration")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz-programs"))
    parser.add_argument("--repeat", type=Path, help="the file of a failure, to be run again")
    options = parser.parse_args(arguments)
    if options.repeat:
        try:
            compare(load(options.repeat))
        except Difference as error:
            print(error)
            return 1
        return 0
    failures = 0
    for config in options.config or CONFIGS:
        begin = time.monotonic()
        done = stopped = commands = 0
        while done < options.count:
            batch = draw(config, f"{options.seed}.{done // BATCH}")
            try:
                stopped += compare(batch)
            except Difference as error:
                failures += 1
                print(f"{config} seed {batch.seed}: {error}", flush=True)
                smaller, error = shrink(batch, error)
                print(f"shrunk to {save(smaller, error, options.out)}: {error}", flush=True)
            commands += sum(map(len, batch.streams))
            done += len(batch.streams)
        print(f"{config}: {done} streams of {commands} commands, {stopped} of them stopped by "
              f"an error, {failures} failures so far, {time.monotonic() - begin:.0f} s",
              flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
