"""``weft bench``: the cycles of a suite of networks, against those recorded."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from weft.errors.guard import EXIT_MISMATCH
from weft.files.output import check_outputs, write_text

from .options import Commands, add_scheduler_option

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "bench", help="measure the cycles of a suite of networks",
        description="Measures a suite of networks on several configurations, and compares the "
                    "cycles with recorded ones.")
    parser.add_argument("--network", action="append", metavar="NAME",
                        help="measure only this network; can be given several times")
    parser.add_argument("--config", action="append", metavar="NAME",
                        help="measure only on this configuration of the suite; can be given "
                             "several times")
    parser.add_argument("--all", action="store_true", help="measure what takes many minutes, too")
    parser.add_argument("--models", type=Path, metavar="DIR",
                        help="folder with the networks that are not part of Weft")
    parser.add_argument("--jobs", type=int, default=2, metavar="N",
                        help="cases measured at a time (default: 2)")
    add_scheduler_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write them as a page")
    purpose = parser.add_mutually_exclusive_group()
    purpose.add_argument("--check", action="store_true",
                         help="fail if a frame takes over 1 %% more cycles than recorded")
    purpose.add_argument("--record", action="store_true", help="record the measurements")
    parser.add_argument("--baseline", type=Path, default=Path("benchmarks/baseline.json"),
                        metavar="FILE", help="recorded measurements (default: "
                                             "benchmarks/baseline.json)")
    parser.add_argument("--scalesim", nargs="?", const=sys.executable, metavar="PYTHON",
                        help="run the layers of config base on SCALE-Sim too, with a Python that "
                             "has it (default: this one)")
    parser.set_defaults(program=_bench)


def _bench(options: argparse.Namespace) -> int:
    from weft.bench import baseline, scale_sim
    from weft.bench.document import benchmark_page
    from weft.bench.run import measure_all
    from weft.bench.suite import select
    from weft.cluster import cluster
    from weft.report.terminal import Progress, bench_table, terminal

    record: Path = options.baseline
    comparisons_file = record.with_name(scale_sim.SCALE_SIM.name)
    check_outputs({"--json": options.json, "--markdown": options.markdown,
                   "--baseline": record if options.record else None,
                   "the comparison with SCALE-Sim": comparisons_file if options.record else None},
                  {"--baseline": None if options.record else record})
    recorded = baseline.load(record) if options.check or (options.record and record.exists()) \
        else []
    cases = select(networks=options.network, configs=options.config, models=options.models,
                   slow=options.all)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        workers = None if options.scheduler is None else stack.enter_context(
            cluster(scheduler=options.scheduler))
        measured = measure_all(cases, models=options.models, jobs=options.jobs, cluster=workers,
                               progress=progress.stage)
        comparisons = [] if options.scalesim is None else [
            each for measurement in measured if measurement.config == "base"
            for each in scale_sim.compare_layers(measurement, python=options.scalesim,
                                                 progress=progress.stage)]
    terminal().print(bench_table(measured))
    if options.json is not None:
        baseline.save(measured, options.json)
    if options.markdown is not None:
        write_text(options.markdown, benchmark_page(measured, comparisons))

    changes = baseline.compare(recorded, measured)
    grown = [change for change in changes if change.share > baseline.TOLERANCE]
    for change in changes:
        if change not in grown or options.record:
            print(change)
    if options.record:
        fresh = {(each.network, each.config) for each in measured}
        kept = [each for each in recorded if (each.network, each.config) not in fresh]
        baseline.save([*kept, *measured], record)
        print(f"{record}: {len(measured)} recorded, {len(kept)} left as they were")
        if comparisons:
            networks = {each.network for each in comparisons}
            scale_sim.save([*(each for each in scale_sim.load(comparisons_file)
                              if each.network not in networks), *comparisons], comparisons_file)
        return 0
    for change in grown:
        print(f"weft: error: {change}; at most {baseline.TOLERANCE:+.0%} is allowed: mend it, or "
              f"accept it with weft bench --record", file=sys.stderr)
    return EXIT_MISMATCH if grown else 0
