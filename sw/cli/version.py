"""``weft --version``: the versions that a report of a mistake should have."""

import argparse
import platform
from collections.abc import Sequence
from typing import Any

__all__ = ["add_version_option"]


_TOOLS = ("toolchain", "fpga", "usb")
"""The extras with the simulator, with synthesis, placement and routing, and with USB."""


def add_version_option(parser: argparse.ArgumentParser) -> None:
    """The option that prints versions, and ends the program."""
    parser.add_argument("--version", nargs=0, action=_Version,
                        help="show the versions of Weft, Python, packages and tools")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: str | Sequence[Any] | None, option_string: str | None = None) -> None:
        from weft.errors.distribution import installed_versions, version

        print(f"weft {version()}, Python {platform.python_version()}, "
              f"{platform.system()} {platform.machine()}")
        for extra, packages in installed_versions(_TOOLS).items():
            listed = ", ".join(f"{name} {found or '-'}" for name, found in packages.items())
            print(f"{extra or 'packages'}: {listed}")
        parser.exit()
