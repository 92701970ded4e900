"""The pages of the documentation, as text."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

from places import ROOT

__all__ = ["PAGES", "code", "load_script"]

PAGES = tuple(sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"),
                      *(ROOT / "docs").rglob("*.rst")]))


@cache
def code(page: Path) -> tuple[str, ...]:
    """Lines of code of a page: fenced or indented, and code within a line; and its headings, which
    name commands on the page of the command line."""
    lines: list[str] = []
    fenced = False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip())
        else:
            lines += re.findall(r"`+([^`]+)`+", line)
            lines += line[3:].split(", ") if line.startswith("## ") else []
    return tuple(lines)


def load_script(path: Path) -> ModuleType:
    """A script of the documentation as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
