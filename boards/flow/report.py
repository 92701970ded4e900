"""Shows builds and estimates on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from weft.boards.board import Board
from weft.boards.family import Capacity

from .bitstream import Build
from .resources import Resources

__all__ = ["print_build", "print_resources"]


_FIELDS = {"luts": "LUTs", "ffs": "Flip-flops", "multipliers": "Multipliers",
           "block_rams": "Block RAMs", "large_rams": "Large RAMs"}


def _capacity_table(board: Board, used: Capacity, available: Capacity) -> Table:
    config = board.config
    table = Table(title=f"{escape(config.name)} ({config.rate_text}) on {board.title}",
                  title_justify="left")
    table.add_column("Resource")
    for name in ("Used", "Available", "Share"):
        table.add_column(name, justify="right")
    for field, label in _FIELDS.items():
        number, limit = getattr(used, field), getattr(available, field)
        if limit:
            table.add_row(label, f"{number:,}", f"{limit:,}", f"{number / limit:.0%}")
    return table


def print_resources(estimate: Resources, console: Console) -> None:
    """Prints what each component of a configuration is expected to take."""
    table = Table(title="Estimate, each component with all that is in it", title_justify="left")
    table.add_column("Component")
    for label in _FIELDS.values():
        table.add_column(label, justify="right")
    for name, used in estimate.components.items():
        if used == Capacity(luts=0, ffs=0, multipliers=0, block_rams=0, large_rams=0):
            continue
        *above, last = name.split(".")
        numbers = (getattr(used, field) for field in _FIELDS)
        table.add_row("  " * len(above) + last, *(f"{n:,}" if n else "" for n in numbers))
    console.print(table)
    console.print(_capacity_table(estimate.board, estimate.total, estimate.available))
    console.print("it fits" if estimate.fits else "it does not fit",
                  style="bold green" if estimate.fits else "bold red", highlight=False)


def print_build(build: Build, console: Console) -> None:
    """Prints what was used, which clock was reached and what limits it, and the time per step."""
    board = build.board
    console.print(_capacity_table(board, build.used, build.available))

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
    for domain, (reached, needed) in build.usb_mhz.items():
        console.print(f"clock of {domain}: {reached:.1f} MHz reached, {needed:.1f} MHz needed",
                      highlight=False)
    verdict = (f"clock: {build.clock_mhz:.1f} MHz reached, {build.asked_mhz:.1f} MHz asked for")
    console.print(verdict, style="bold green" if build.met else "bold red", highlight=False)
