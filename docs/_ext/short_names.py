"""Docstrings name a class as the code does, without its module: finds the one that is meant."""

from typing import Any

from docutils import nodes
from sphinx.util.nodes import make_refnode


def setup(app: Any) -> dict[str, Any]:
    app.connect("missing-reference", _find)
    return {"parallel_read_safe": True}


def _find(app: Any, env: Any, node: Any, content: nodes.TextElement) -> nodes.reference | None:
    if node.get("refdomain") != "py":
        return None
    objects = env.get_domain("py").objects
    suffix = "." + node["reftarget"].rpartition("weft.")[2]
    found = [name for name in objects if name.endswith(suffix) and name.startswith("weft.")]
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content,
                        found[0])
