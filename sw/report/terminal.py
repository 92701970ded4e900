"""What the terminal shows: progress on standard error, results as tables on standard output."""

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table
from rich.text import Text

from weft.errors.text import printable
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import cycle_counters
from weft.ir import Where
from weft.runtime.advice import Advice
from weft.runtime.device.choice import is_simulated
from weft.runtime.estimate import BoundLayer, Estimate, FrameEstimate
from weft.runtime.runner import Run

from .inspection import Inspection

if TYPE_CHECKING:  # what it imports is slow to import
    from weft.bench.measure import Measurement

    from .survey import SurveyedNetwork

__all__ = ["Progress", "bench_table", "config_table", "engine_table", "error_console", "escape",
           "estimate_table", "layer_table", "print_estimate", "print_inspection", "print_run",
           "print_survey", "short_name", "terminal", "verdict"]


_NAME = 24  # characters of a layer's name that a table of 110 columns has room for
_ESTIMATED_NAME = 16  # and one with limits


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError   # for the program to end as it does elsewhere


def escape(text: str) -> str:
    """Text of others in a table or line: no markup, and nothing that a terminal acts upon."""
    return escape_markup(printable(text))


class Progress(AbstractContextManager["Progress"]):
    """A line that says what is being done, with a spinner where there is a terminal.

    Elsewhere, in the log of a build for instance, each :meth:`stage` is a line of its own and
    :meth:`step` is silent.
    """

    def __init__(self) -> None:
        self._console = error_console()
        self._status = self._console.status("") if self._console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def stage(self, text: str) -> None:
        """Something that takes a while begins."""
        if self._status is not None:
            self._status.update(escape(text))
        else:
            print(printable(text), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Something to know, on a line that stays."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def step(self, text: str) -> None:
        """A step of the current stage begins."""
        if self._status is not None:
            self._status.update(escape(text))


def short_name(name: str, length: int = 30) -> str:
    """The end of a long name, which says more than its beginning."""
    return name if len(name) <= length else f"…{name[1 - length:]}"


def error_console() -> Console:
    """Standard error."""
    return _Terminal(stderr=True)


def terminal() -> Console:
    """Standard output; with room for the tables where it is a file and has no width."""
    console = _Terminal()
    return console if console.is_terminal else _Terminal(width=110)


def layer_table(run: Run) -> Table:
    """Each layer of the last frame or batch: operator, output shape, MACs, cycles, utilization of
    its engine."""
    table = Table(title=f"{escape(run.model)} on {run.config.name} "
                        f"({run.config.rate_text})", title_justify="left")
    table.add_column("Layer", no_wrap=True)
    table.add_column("Operator")
    table.add_column("Engine")
    table.add_column("Output", justify="right")
    for name in ("MACs", "Cycles", "Utilization"):
        table.add_column(name, justify="right")

    def row(name: str, op: str, engine: str, shape: str, macs: int, cycles: int,
            utilization: float) -> None:
        table.add_row(escape(short_name(name, _NAME)), escape(op), engine, shape,
                      f"{macs:,}" if macs else "",
                      f"{cycles:,}" if cycles else "", f"{utilization:.1%}" if utilization else "")

    for layer in run.last.layers:
        row(layer.name, layer.op, layer.engine, "x".join(map(str, layer.shape)), layer.macs,
            layer.cycles, layer.utilization(run.config))
    table.add_section()
    macs = run.batch * run.macs
    row("whole frame" if run.batch == 1 else f"batch of {run.batch}", "", "", "", macs,
        run.last.cycles, run.utilization(macs, run.last.cycles))
    return table


def engine_table(run: Run) -> Table:
    """Where the cycles of the last frame or batch went: the share of each engine's cycles in
    which it was busy, or stalled for each of the causes that it knows."""
    counters = {engine: cycle_counters(engine) for engine in Engine}
    # Causes that all engines share come first and last.
    names = list(dict.fromkeys(name for engine in Engine for name in counters[engine]))
    common = [name for name in names if all(name in known for known in counters.values())]
    table = Table(title="Where the cycles went", title_justify="left")
    table.add_column("Engine is")
    for engine in Engine:
        table.add_column(engine.name.lower(), justify="right")
    for name in (common[0], *(name for name in names if name not in common), *common[1:]):
        table.add_row(name, *(
            f"{run.last.counters[known[name].name.lower()] / run.last.cycles:.1%}"
            if name in known else "" for known in counters.values()))
    return table


def verdict(run: Run) -> str:
    """One line on the comparison with the golden implementation."""
    return f"{run.differing} of {run.compared} output bytes differ from {run.golden}"


def print_run(run: Run, console: Console) -> None:
    """Prints the figures of a run, and where it first differs from its golden implementation."""
    if run.last.layers:
        console.print(layer_table(run))
    if run.last.cycles and run.config.counters:
        console.print(engine_table(run))
    lines = [f"{len(run.cycles):,} frame{'s' if len(run.cycles) > 1 else ''} "
             f"in {run.seconds:.1f} s"]
    if sum(run.cycles):  # there is a clock
        low, high = min(run.cycles), max(run.cycles)
        each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        lines[0] += f", {each} cycles each"
        if is_simulated(run.device):
            lines[0] += f", simulated at {run.cycles_per_second / 1000:,.0f} kcycles/s"
    last = "frame" if run.batch == 1 else f"batch of {run.batch}"
    if run.config.counters and run.last.layers:
        lines.append(f"memory traffic of the last {last}: {run.last.dram_read_bytes:,} bytes "
                     f"read, {run.last.dram_write_bytes:,} written")
    for line in lines:
        console.print(line, highlight=False)
    if not run.verified:
        return
    for caveat in run.caveats:
        console.print(f"note: {escape(caveat)}", highlight=False)
    if run.first is not None:
        frame, mismatch = run.first
        console.print(f"first difference: frame {frame}, {escape(str(mismatch))}",
                      highlight=False, soft_wrap=True)
    console.print(verdict(run), style="bold green" if not run.differing else "bold red",
                  highlight=False)


def estimate_table(estimate: Estimate) -> Table:
    """Each layer of a further frame or batch: shape, MACs, cycles, utilization, what bounds it,
    what it takes at least, of which resource, and the share of that speed that it reaches."""
    config = estimate.config
    table = Table(title=f"{escape(estimate.model)} on {config.name} "
                        f"({config.rate_text})", title_justify="left")
    for name in ("Layer", "Operator"):
        table.add_column(name)
    for name in ("Output", "MACs", "Cycles", "Used"):
        table.add_column(name, justify="right")
    table.add_column("Bound by")
    for name in ("Limit", "Reached"):
        table.add_column(name, justify="right", no_wrap=True)

    def row(name: str, op: str, shape: str, macs: int, cycles: int,
            utilization: float, bound: str, part: BoundLayer | FrameEstimate) -> None:
        limits = part.limits
        table.add_row(escape(short_name(name, _ESTIMATED_NAME)), escape(op), shape,
                      f"{macs:,}" if macs else "",
                      f"{cycles:,}" if cycles else "", f"{utilization:.1%}" if utilization else "",
                      bound, f"{limits.cycles:,} {limits.resource}" if limits.cycles else "",
                      f"{part.reached:.0%}" if part.reached else "")

    for layer in estimate.further.layers:
        result = layer.result
        row(result.name, result.op, "x".join(map(str, result.shape)), result.macs,
            result.cycles, result.utilization(config), layer.bound, layer)
    table.add_section()
    macs = estimate.batch * estimate.macs
    noun = "frame" if estimate.batch == 1 else f"batch of {estimate.batch}"

    def whole(name: str, frame: FrameEstimate) -> None:
        row(name, "", "", macs, frame.cycles, estimate.utilization(macs, frame.cycles), "",
            frame)

    if estimate.warm:
        whole(f"first {noun}", estimate.first)
    whole(f"each further {noun}" if estimate.warm else f"each {noun}", estimate.further)
    return table


def print_estimate(estimate: Estimate, advice: Advice, console: Console) -> None:
    """Prints what a network is estimated to take, and what would help."""
    console.print(estimate_table(estimate))
    frame = estimate.further
    for engine, use in frame.engines.items():
        if not use.busy:
            continue
        waits = ", ".join(f"{cause.phrase} {cycles / frame.cycles:.1%}" for cause, cycles in sorted(
            use.waits.items(), key=lambda item: -item[1]) if cycles >= frame.cycles / 1000)
        console.print(f"{engine.name.lower()} engine: at work {use.busy / frame.cycles:.1%} of the "
                      f"time{', waits for ' if waits else ''}{waits}", highlight=False,
                      soft_wrap=True)
    noun = "frame" if estimate.batch == 1 else f"batch of {estimate.batch}"
    console.print(f"memory traffic of a {noun}: {frame.dram_read_bytes:,} bytes read, "
                  f"{frame.dram_write_bytes:,} written", highlight=False)
    console.print("The commands were played in virtual time, not simulated: a frame takes these "
                  "cycles, mostly to within 3 %.", highlight=False, soft_wrap=True)
    console.print(f"{advice} (compiled and played again)", highlight=False, soft_wrap=True)


def bench_table(measurements: Iterable["Measurement"]) -> Table:
    """Frames of the benchmark suite."""
    table = Table()
    table.add_column("Network")
    table.add_column("Config")
    for name in ("Cold cycles", "Warm cycles", "Utilization", "MACs/mult./cycle", "kcycles/s"):
        table.add_column(name, justify="right")
    for each in measurements:
        warm = "" if each.cycles_warm is None else f"{each.cycles_warm:,}"
        table.add_row(each.network, each.config, f"{each.cycles_cold:,}", warm,
                      f"{each.utilization:.1%}", f"{each.macs_per_multiplier:.2f}",
                      f"{each.sim_cycles_per_second / 1000:,.0f}")
    return table


def print_survey(networks: Iterable["SurveyedNetwork"], console: Console) -> None:
    """Prints how networks run, and why some do not."""
    table = Table()
    table.add_column("Network")
    for name in ("Nodes", "MACs", "Accelerated", "Parts", "Cycles", "Utilization",
                 "Bytes differ"):
        table.add_column(name, justify="right")
    surveyed = list(networks)
    for each in surveyed:
        if each.refused:
            table.add_row(escape(each.network), "[yellow]refused[/]")
            continue
        table.add_row(escape(each.network), f"{each.accelerated} of {each.nodes}",
                      f"{each.macs:,}", f"{each.share:.1%}", str(each.parts),
                      f"{each.cycles:,}" if each.cycles else "",
                      f"{each.utilization:.1%}" if each.cycles else "",
                      f"[red]{each.differing:,}[/]" if each.differing else "0")
    console.print(table)
    for each in surveyed:
        if each.refused or each.warning:
            console.print(escape(each.warning or f"{each.network}: {each.refused}"),
                          highlight=False, soft_wrap=True)


def config_table(configs: Iterable[AcceleratorConfig]) -> Table:
    """The configurations side by side."""
    table = Table()
    for name in ("Name", "Rows x cols", "FIP", "MACs/cycle", "Multipliers", "Activations",
                 "Weights", "AXI bits"):
        table.add_column(name, justify="left" if name == "Name" else "right")
    for config in configs:
        table.add_row(
            config.name, f"{config.rows} x {config.cols}", "yes" if config.fip else "no",
            str(config.rows * config.cols), str(config.multipliers),
            f"{config.activation_bytes // 1024} KiB", f"{config.weight_bytes // 1024} KiB",
            str(config.axi_data_width))
    return table


def _accelerated_macs(inspection: Inspection) -> str:
    if not inspection.host_macs:
        return f"{inspection.macs:,} MACs"
    total = inspection.macs + inspection.host_macs
    return f"{inspection.macs:,} of {total:,} MACs ({inspection.accelerated_share:.1%})"


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Prints where every node runs, and why not on the accelerator; but for quantizers that are
    part of a layer there, of which a model has more than of all else."""
    config = inspection.config
    table = Table(title=f"{escape(inspection.plan.name)} on {config.name} "
                        f"({config.rate_text})", title_justify="left")
    for name in ("Node", "Operator", "Runs on"):
        table.add_column(name)
    for name in ("Cycles", "Output bytes", "Weight bytes"):
        table.add_column(name, justify="right")
    for node in inspection.nodes:
        if node.is_quantizer_of_layer:
            continue
        place, cost = node.placement, node.cost
        figures = ("", "", "") if cost is None else tuple(
            f"{value:,}" if value else "" for value in (cost.cycles, cost.output_bytes,
                                                        cost.constant_bytes))
        where = (Text("host", "yellow") if place.where is Where.HOST
                 else Text(node.engine or "accelerator"))
        # Text is not searched for markup, which takes a third of the time of a long table.
        table.add_row(Text(place.name), Text(place.op), where, *map(Text, figures))
    console.print(table)
    for placement in inspection.fallbacks:
        cure = f" ({placement.cure})" if placement.cure else ""
        console.print(f"on the host: {escape(placement.reason or placement.name)}{escape(cure)}",
                      highlight=False, soft_wrap=True)
    for placement in (node.placement for node in inspection.nodes):
        if placement.note:
            console.print(f"note: {escape(placement.name)}: {escape(placement.note)}",
                          highlight=False, soft_wrap=True)
    for number, crossing in enumerate(inspection.crossings.values(), 1):
        console.print(f"part {number} reads {crossing.read_bytes:,} bytes from the host in "
                      f"{crossing.read_cycles:,} cycles, and writes {crossing.write_bytes:,} bytes "
                      f"in {crossing.write_cycles:,}", highlight=False, soft_wrap=True)
    if inspection.plan.warning:
        console.print(f"[yellow]warning:[/] {escape(inspection.plan.warning)}", highlight=False,
                      soft_wrap=True)
        return
    parts = len(inspection.plan.graphs)
    accelerated = sum(node.placement.where is Where.ACCELERATOR for node in inspection.nodes)
    left_out = sum(node.is_quantizer_of_layer for node in inspection.nodes)
    console.print(f"{accelerated} of {len(inspection.nodes)} nodes on the accelerator in {parts} "
                  f"part{'s' if parts > 1 else ''}"
                  f"{f' ({left_out} quantizers of its layers are not listed)' if left_out else ''}"
                  f", {_accelerated_macs(inspection)}, "
                  f"{inspection.cycles:,} cycles of the engines one after the other; weft estimate "
                  f"tells what a frame takes", highlight=False, soft_wrap=True)
