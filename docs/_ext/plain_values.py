"""Constants, properties and attributes as they are written.

Numpy's style would take what is before a colon for a type: `"Weights of a PE: 2 with FIP, else 1."`
And a value that is longer than a line says less than its docstring.
"""

from typing import Any

from sphinx import addnodes

_KINDS = ("attribute", "data", "property")
_NAPOLEON = 500      # priority of its handler
_LONGEST = 60

_written: dict[str, list[str]] = {}


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _keep, priority=_NAPOLEON - 1)
    app.connect("autodoc-process-docstring", _restore, priority=_NAPOLEON + 1)
    app.connect("object-description-transform", _drop_long_value)
    return {"parallel_read_safe": True}


def _keep(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    if what in _KINDS:
        _written[name] = list(lines)


def _restore(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    if what in _KINDS:
        lines[:] = _written.pop(name)


def _drop_long_value(app: Any, domain: str, kind: str, content: Any) -> None:
    if domain != "py" or kind not in ("attribute", "data"):
        return
    for signature in content.parent.findall(addnodes.desc_signature):
        for part in list(signature.findall(addnodes.desc_annotation)):
            text = part.astext()
            if text.lstrip().startswith("=") and len(text) > _LONGEST:
                part.parent.remove(part)
