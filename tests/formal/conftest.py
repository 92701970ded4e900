"""The fixtures `prove` and `refute`, and the table of what they did."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import formal


@pytest.fixture
def prove(request, tmp_path):
    """:func:`formal.prove`, which the table then shows."""
    def run(spec, *, depth=None):
        started = time.monotonic()
        formal.prove(spec, folder=tmp_path, depth=depth)
        request.node.user_properties.append(
            ("proof", (request.node.name, depth, time.monotonic() - started)))
    return run


@pytest.fixture
def refute(tmp_path):
    """Fails unless the property is broken. For designs that are: a property that cannot be broken
    says nothing."""
    def run(spec, *, depth=None):
        with pytest.raises(formal.Refuted):
            formal.prove(spec, folder=tmp_path, depth=depth)
    return run


def pytest_terminal_summary(terminalreporter):
    reports = [report for report in terminalreporter.stats.get("passed", [])
               if report.when == "call"]
    proofs = [value for report in reports for name, value in report.user_properties
              if name == "proof"]
    if proofs:
        terminalreporter.section("proofs")
    for name, depth, seconds in sorted(proofs):
        cycles = "all cycles" if depth is None else f"{depth} cycles"
        terminalreporter.line(f"{name:70} {cycles:>10} {seconds:6.1f} s")
