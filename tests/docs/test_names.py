"""Files, commands, options and modules that the documentation names exist."""

import contextlib
import importlib
import importlib.util
import io
import re
import tomllib
from functools import cache

import pytest
from places import ROOT

from weft import cli

from .pages import PAGES, code

FIGURES = sorted((ROOT / "docs" / "figures").glob("*.toml"))
TEXTS = [*PAGES, *FIGURES]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def names(pattern, lines):
    return sorted({found for line in lines for found in re.findall(pattern, line)})


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text.relative_to(ROOT)))
def test_named_files_exist(text):
    pattern = r"(?<![\w./<-])((?:hw|sw|sim|boards|tests|docs|benchmarks|\.ci)/[\w./*-]*\w)"
    missing = [name for name in names(pattern, text.read_text().splitlines())
               if not any(ROOT.glob(name))]
    assert not missing


@cache
def helps(*command):
    """What `weft COMMAND --help` prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    return output.getvalue()


@cache
def commands():
    return frozenset(re.findall(r"^    (\w+)  ", helps(), flags=re.MULTILINE))


@each_page
def test_named_commands_exist(page):
    assert {"run", "report", "config"} <= commands()
    for line in code(page):
        if (found := re.match(r"weft ([a-z]+)(.*)", line)) is None:
            continue
        command, rest = found.groups()
        assert command in commands(), line
        sub = re.match(r" (list|show)\b", rest) if command == "config" else None
        text = helps(command, *([sub[1]] if sub else []))
        for option in re.findall(r"(?<!\S)\[?(--?[a-z][a-z-]*)", rest.partition("#")[0]):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", text) or option == "--debug", line


@each_page
def test_named_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for line in code(page):
        for target in re.findall(r"^make ((?!-)[a-z-]+)", line):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), line


@each_page
def test_named_modules_can_be_run(page):
    for module in names(r"python -m (weft[\w.]*)", code(page)):
        assert importlib.util.find_spec(module) is not None, module


@each_page
def test_named_scripts_exist(page):
    for script in names(r"python ([\w/]+\.py)", code(page)):
        assert (ROOT / script).exists(), script


@each_page
def test_dotted_names_exist(page):
    for name in names(r"(?<![\w/-])(weft(?:\.\w+)+)", code(page)):
        parts = name.split(".")
        depth = max(n for n in range(1, len(parts) + 1) if _is_module(".".join(parts[:n])))
        value = importlib.import_module(".".join(parts[:depth]))
        for part in parts[depth:]:
            assert hasattr(value, part), f"{page.name}: {name}"
            value = getattr(value, part)


def _is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_blocks_of_the_block_diagram_are_folders_and_files_of_the_hardware():
    figure = tomllib.loads((ROOT / "docs" / "figures" / "accelerator.toml").read_text())
    boxes = figure["boxes"].values()
    assert {box["text"] for box in boxes if box["text"].startswith("hw/")} == {
        f"hw/{folder}" for folder in ("bus", "control", "matrix", "memory", "requantize",
                                      "sequential", "transfer", "vector")}
    for box in boxes:
        if box["kind"] in ("bus", "control", "matrix", "vector"):
            for name in box["text"].split(", "):
                assert (ROOT / "hw" / box["kind"] / f"{name}.py").exists(), name


def test_figure_of_packages_shows_all_of_them():
    figure = tomllib.loads((ROOT / "docs" / "figures" / "packages.toml").read_text())
    folders = {path.parent.name for path in (ROOT / "sw").glob("*/__init__.py")}
    shown = {box["text"].strip(",") for box in figure["boxes"].values()}
    shown |= {note.strip(",") for box in figure["boxes"].values() for note in box.get("notes", ())}
    assert folders | {"boards", "sim"} <= shown
    assert {path.parent.name for path in (ROOT / "hw").glob("*/__init__.py")} <= shown
