"""The log of a self-test, for others to read."""

import platform

from weft.errors.distribution import installed_versions, version

from .steps import Report

__all__ = ["log_text"]


def log_text(report: Report) -> str:
    """All that was found, and with what, as plain text."""
    board = report.board
    lines = [
        f"weft selftest {board.name}: {'PASS' if report.passed else 'FAIL'}",
        "",
        f"weft {version()}, Python {platform.python_version()}, {platform.platform()}",
        *(f"{extra or 'packages'}: " + ", ".join(f"{name} {found or '-'}"
                                                 for name, found in packages.items())
          for extra, packages in installed_versions(("toolchain", "fpga")).items()),
        f"board: {board.title}, at {report.device}, {board.baud:,} baud",
        f"clock: {report.clock_mhz:g} MHz",
        f"design: {report.design:08x}",
        f"configuration: {board.config.to_json()}",
        "",
        *(f"{'ok  ' if step.passed else 'FAIL'} {step.name:<16}{step.seconds:8.2f} s  {step.text}"
          for step in report.steps),
    ]
    if report.cycles:
        lines += ["", f"digits: {report.cycles:,} cycles, {report.frames:,.0f} frames per second "
                      f"of the accelerator, {report.line_frames:,.1f} over the line",
                  *(f"  {name} {value:,}" for name, value in report.counters.items() if value)]
    return "\n".join(lines) + "\n"
