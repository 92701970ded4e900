"""Amaranth's components are made by a `__new__` that takes anything: show what `__init__` takes."""

import inspect
from typing import Any

from sphinx.util.inspect import stringify_signature


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-signature", _of_constructor)
    return {"parallel_read_safe": True}


def _of_constructor(app: Any, what: str, name: str, found: Any, options: Any, signature: str | None,
                    result: str | None) -> tuple[str, str | None] | None:
    if what != "class" or "src_loc_at" not in (signature or ""):
        return None
    if "__init__" not in vars(found):
        return "", result
    constructor = inspect.signature(found.__init__)
    parameters = [each for each in constructor.parameters.values() if each.name != "self"]
    return stringify_signature(constructor.replace(parameters=parameters),
                               unqualified_typehints=True), result
