"""Shows a build on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from weft.boards.build import Build

__all__ = ["print_build"]


def print_build(build: Build, console: Console) -> None:
    """Prints what was used, which clock was reached and what limits it, and the time per step."""
    board, config = build.board, build.board.config
    table = Table(title=f"{escape(config.name)} ({config.rows} x {config.cols} MACs per cycle) on "
                        f"{board.title}", title_justify="left")
    table.add_column("Resource")
    for name in ("Used", "Available", "Share"):
        table.add_column(name, justify="right")
    for label, field in (("LUTs", "luts"), ("Flip-flops", "ffs"), ("Multipliers", "multipliers"),
                         ("Block RAMs", "block_rams")):
        used, available = getattr(build.used, field), getattr(build.available, field)
        table.add_row(label, f"{used:,}", f"{available:,}", f"{used / available:.0%}")
    console.print(table)

    path = build.path
    table = Table(title=f"Critical path: {path.logic_ns:.2f} ns logic, {path.routing_ns:.2f} ns "
                        f"wires", title_justify="left")
    for name in ("Component", "Signal", "Defined in"):
        table.add_column(name)
    for name in ("Logic, ns", "Wires, ns"):
        table.add_column(name, justify="right")
    for step in path.steps:
        table.add_row(escape(step.component), escape(step.signal), step.source or "",
                      f"{step.logic_ns:.2f}", f"{step.routing_ns:.2f}")
    console.print(table)

    if len(build.routes) > 1:
        seeds = ", ".join(f"{route.clock_mhz:.1f} MHz (seed {route.seed})"
                          for route in build.routes)
        console.print(f"seeds: {seeds}", highlight=False)
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in build.seconds.items())
    console.print(f"time: {steps}", highlight=False)
    if build.bitstream is not None:
        console.print(f"bitstream: {escape(str(build.bitstream))}", highlight=False,
                      soft_wrap=True)
    verdict = (f"clock: {build.clock_mhz:.1f} MHz reached, {build.asked_mhz:.1f} MHz asked for")
    console.print(verdict, style="bold green" if build.met else "bold red", highlight=False)
