"""The rooms of the house: which package may import which, and how long a function may be."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from places import ROOT

PACKAGES = {"sw": "weft", "hw": "weft.hw", "sim": "weft.sim", "boards": "weft.boards"}

def stated_order() -> tuple[str, ...]:
    """The order of docs/packages.md: each package imports only those before it."""
    page = (ROOT / "docs" / "packages.md").read_text(encoding="utf-8")

    def names(heading: str) -> list[str]:
        paragraph = page.split(f"## {heading}\n\n")[1].split("\n\n")[0]
        return re.findall(r"`(\w+)`", paragraph)

    inside = [f"weft.hw.{name}" for name in names("Inside hw")]
    return tuple(module for name in names("All packages")
                 for module in (inside if name == "hw" else [f"weft.{name}"]))


ORDER = stated_order()

LINES = 80
"""Of a function or method, without its docstring."""


def module_name(path: Path) -> str:
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGES[folder], *rest]).removesuffix(".__init__")


SOURCES = {module_name(path): path
           for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))}


def imports(module: str) -> Iterator[str]:
    """What a module imports of Weft, be it only when it is asked to, or for its annotations."""
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in SOURCES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[:len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            for name in node.names:
                if f"{base}.{name.name}" in SOURCES:
                    yield f"{base}.{name.name}"
                elif base in SOURCES:
                    yield base


def room(module: str) -> str | None:
    """The entry of the order to which a module belongs. Programs, and the package itself, stand
    above all; an empty package of packages is of none."""
    if module.endswith("__main__") or module == "weft":
        return None
    return next((entry for entry in ORDER if f"{module}.".startswith(f"{entry}.")), None)


def test_every_module_has_a_room():
    homeless = {module for module in SOURCES if room(module) is None}
    programs = {module for module in homeless if module.endswith("__main__")}
    assert homeless - programs == {"weft", "weft.hw"}
    assert not SOURCES["weft.hw"].read_text().strip()


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module):
    home = room(module)
    if home is None:
        return
    for target in imports(module):
        floor = room(target)
        if floor is None:
            # Nobody imports a program, or the package, which imports the session.
            assert target == "weft.hw" or module == "weft.sim.build", f"imports {target}"
        else:
            assert ORDER.index(floor) <= ORDER.index(home), f"{module} imports {target}"


def test_no_module_imports_itself_in_the_end():
    # What a package hands on from its own modules is no circle: they do not import the package.
    graph = {module: set(imports(module)) - {module} for module in SOURCES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nobody_imports_what_is_private_to_another_folder():
    found = []
    for module, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found += [f"{module}: {node.module}.{name.name}" for name in node.names
                          if name.name.startswith("_") and node.module.startswith("weft")]
    assert not found


def test_functions_are_short():
    found = []
    for module, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0]
                words = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
                length = node.end_lineno - node.lineno + 1 - words
                if length > LINES:
                    found.append(f"{module}.{node.name}: {length}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_folder_of_sources_is_a_package(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path
