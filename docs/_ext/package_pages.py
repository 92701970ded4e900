"""Pages about packages: a line `.. package:: weft.hw.matrix` in a page of reStructuredText becomes
a section for each module of the package, made from its docstrings. `.. package:: weft.hw.isa except
config` leaves a module out.

A name is described where it is defined, and not again where a package hands it on.
"""

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

_LINE = re.compile(r"^\.\. package:: (\S+)(?: except (\S+))?$", re.MULTILINE)


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _expand)
    return {"parallel_read_safe": True}


def _expand(app: Any, page: str, source: list[str]) -> None:
    source[0] = _LINE.sub(lambda match: _sections(match[1], match[2]), source[0])


def _sections(name: str, without: str | None) -> str:
    """The text of all modules of a package, or of a single module."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"Package {name} was not found")
    origin = Path(spec.origin)
    modules = {name: origin}
    if origin.name == "__init__.py":
        modules |= {f"{name}.{path.stem}": path for path in sorted(origin.parent.glob("*.py"))
                    if path.stem != without and not path.stem.startswith("__")}
    return "\n".join(_section(module, path) for module, path in modules.items())


def _section(module: str, path: Path) -> str:
    tree = ast.parse(path.read_text())
    members = _public(tree)
    if not members and not ast.get_docstring(tree):
        return ""
    lines = [module, "-" * len(module), "", f".. automodule:: {module}"]
    if members:
        lines.append(f"   :members: {', '.join(members)}")
    return "\n".join([*lines, ""])


def _public(tree: ast.Module) -> list[str]:
    """Names in `__all__` that the module itself defines."""
    exported: list[str] = []
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            defined |= names
            if "__all__" in names and node.value is not None:
                exported = ast.literal_eval(node.value)
    return [name for name in exported if name in defined]
