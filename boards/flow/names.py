"""Names in a netlist: how they are changed for Yosys, and what in the source they belong to."""

import re
from collections.abc import Iterable
from pathlib import Path

from weft.boards.families import FAMILIES

__all__ = ["place_in_source", "rename", "source_line"]


# Yosys names a cell after a wire it drives, and appends the kind of cell and its pins:
# `core.load.count_TRELLIS_FF_Q_3_DI_LUT4_Z` belongs to `core.load.count`.
_CELL = re.compile(f"_({'|'.join(kind for family in FAMILIES for kind in family.suffixes)})")
_PACKAGE = Path(__file__).resolve().parents[2]
_RENAMED = str.maketrans("[]", "<>")
_AS_WRITTEN = str.maketrans("<>", "[]")


def rename(design: str) -> str:
    """``design``, in RTLIL, with ``<3>`` in names for ``[3]``.

    Yosys' ABC9 sees a design's bits as "name[index]", and fails if a wire has such a name already.
    Amaranth gives elements of arrays such names.
    """
    return re.sub(r"\\\S+", lambda name: name[0].translate(_RENAMED), design)


def place_in_source(name: str) -> tuple[str, str]:
    """The component, as its path in the hierarchy, and the signal that a cell or net of the
    netlist belongs to."""
    if name.startswith("$"):
        return "", name
    # A memory is cut into blocks: `core.matrix.weights.0.1`, with pins `_DO`, `_DOB`.
    name = re.sub(r"(\.\d+)+(_D[A-Z]*.*)?$", "", _CELL.split(name, maxsplit=1)[0])
    # Amaranth tells namesakes apart by `$N`.
    component, _, signal = re.sub(r"\$\d+", "", name).rpartition(".")
    return component, signal.translate(_AS_WRITTEN)


def source_line(sources: Iterable[str]) -> str | None:
    """The first of ``sources``, as ``PATH:LINE``, that is Weft's own, relative to its root."""
    for source in sources:
        path, _, line = source.rpartition(":")
        for part in ("hw", "boards"):
            _, found, name = path.rpartition(f"/weft/{part}/")
            if not found:
                _, found, name = path.rpartition(f"{_PACKAGE}/{part}/")
            if found:
                return f"{part}/{name}:{line}"
    return None
