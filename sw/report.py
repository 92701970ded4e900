"""What the terminal shows: progress on standard error, results as tables on standard output."""

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from weft.config import AcceleratorConfig
from weft.inspection import Inspection
from weft.ir import Where
from weft.runner import Run

if TYPE_CHECKING:  # what it imports is slow to import
    from weft.bench.measure import Measurement

__all__ = ["Progress", "bench_table", "config_table", "layer_table", "print_inspection",
           "print_run", "terminal", "verdict"]


class Progress(AbstractContextManager["Progress"]):
    """A line that says what is being done, with a spinner where there is a terminal.

    Elsewhere, in the log of a build for instance, each :meth:`stage` is a line of its own and
    :meth:`step` is silent.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
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
            print(text, file=sys.stderr, flush=True)

    def step(self, text: str) -> None:
        """A step of the current stage begins."""
        if self._status is not None:
            self._status.update(escape(text))


def terminal() -> Console:
    """Standard output; with room for the tables where it is a file and has no width."""
    console = Console()
    return console if console.is_terminal else Console(width=100)


def layer_table(run: Run) -> Table:
    """Each layer of the last frame or batch: operator, output shape, MACs, cycles, array
    utilization."""
    table = Table(title=f"{escape(run.model)} on {run.config.name} ({run.config.rows} x "
                        f"{run.config.cols} MACs per cycle)", title_justify="left")
    table.add_column("Layer")
    table.add_column("Operator")
    table.add_column("Engine")
    table.add_column("Output", justify="right")
    for name in ("MACs", "Cycles", "Utilization"):
        table.add_column(name, justify="right")

    def row(name: str, op: str, engine: str, shape: str, macs: int, cycles: int) -> None:
        share = f"{run.utilization(macs, cycles):.1%}" if macs and cycles else ""
        table.add_row(escape(name), op, engine, shape, f"{macs:,}" if macs else "",
                      f"{cycles:,}" if cycles else "", share)

    for layer in run.last.layers:
        row(layer.name, layer.op, layer.engine, "x".join(map(str, layer.shape)), layer.macs,
            layer.cycles)
    table.add_section()
    row("whole frame" if run.batch == 1 else f"batch of {run.batch}", "", "", "",
        run.batch * run.macs, run.last.cycles)
    return table


def verdict(run: Run) -> str:
    """One line on the comparison with onnxruntime."""
    return f"{run.differing} of {run.compared} output bytes differ from onnxruntime"


def print_run(run: Run, console: Console) -> None:
    """Prints the figures of a run, and where it first differs from onnxruntime."""
    console.print(layer_table(run))
    lines = [f"{len(run.cycles):,} frame{'s' if len(run.cycles) > 1 else ''} "
             f"in {run.seconds:.1f} s"]
    if sum(run.cycles):  # there is a clock
        low, high = min(run.cycles), max(run.cycles)
        each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        lines[0] += f", {each} cycles each, simulated at {run.cycles_per_second / 1000:,.0f} " \
                    f"kcycles/s"
    last = "frame" if run.batch == 1 else f"batch of {run.batch}"
    lines.append(f"memory traffic of the last {last}: {run.last.dram_read_bytes:,} bytes read, "
                 f"{run.last.dram_write_bytes:,} written")
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


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Prints where every node runs, and why not on the accelerator."""
    config = inspection.config
    table = Table(title=f"{escape(inspection.plan.name)} on {config.name} ({config.rows} x "
                        f"{config.cols} MACs per cycle)", title_justify="left")
    for name in ("Node", "Operator", "Runs on"):
        table.add_column(name)
    for name in ("Cycles, about", "Output bytes", "Weight bytes"):
        table.add_column(name, justify="right")
    for node in inspection.nodes:
        place, cost = node.placement, node.cost
        figures = ("", "", "") if cost is None else tuple(
            f"{value:,}" if value else "" for value in (cost.cycles, cost.output_bytes,
                                                        cost.constant_bytes))
        table.add_row(escape(place.name), place.op,
                      "[yellow]host[/]" if place.where is Where.HOST
                      else node.engine or "accelerator", *figures)
    console.print(table)
    for placement in inspection.fallbacks:
        console.print(f"on the host: {escape(placement.reason or placement.name)}",
                      highlight=False, soft_wrap=True)
    for placement in (node.placement for node in inspection.nodes):
        if placement.note:
            console.print(f"note: {escape(placement.name)}: {escape(placement.note)}",
                          highlight=False, soft_wrap=True)
    parts = len(inspection.plan.graphs)
    accelerated = sum(node.placement.where is Where.ACCELERATOR for node in inspection.nodes)
    console.print(f"{accelerated} of {len(inspection.nodes)} nodes on the accelerator in {parts} "
                  f"part{'s' if parts > 1 else ''}, {inspection.macs:,} MACs, about "
                  f"{inspection.cycles:,} cycles a frame", highlight=False)
