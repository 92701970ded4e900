"""Draws the figures: `python docs/figures/draw.py` makes an SVG of every TOML file beside it.

A figure has a `title`, a `size` and boxes::

    [boxes]
    load = { at = [10, 20], size = [120, 50], text = "load", notes = ["second line"], kind = "bus" }

    [[arrows]]
    from = "load.right"         # side of a box, or load.right:0.25, a quarter down that side
    to = "store.left"
    label = "words"
    via = [[300, 45]]           # corners, if the arrow is not straight or bent once in the middle

A box of kind `group` is a frame whose text is at the top, and is drawn behind the others.
"""

import sys
import tomllib
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "draw"]

FOLDER = Path(__file__).parent

Point = tuple[float, float]

# Fill and line of a box, by kind.
_COLOURS = {
    "group":      ("#f6f7f9", "#c3c9d2"),
    "outside":    ("#ffffff", "#5f6b7a"),
    "plain":      ("#ffffff", "#8a94a3"),
    "isa":        ("#eceff4", "#8a94a3"),
    "control":    ("#e3ecfb", "#4a78c2"),
    "bus":        ("#e6e4f6", "#6d5fb3"),
    "transfer":   ("#dff1f0", "#2f8f89"),
    "memory":     ("#fdf0d5", "#c08a1e"),
    "matrix":     ("#e2f2e1", "#3f8f46"),
    "requantize": ("#fbe4e1", "#c2554a"),
    "vector":     ("#f6e3f1", "#a84d8d"),
    "software":   ("#e3ecfb", "#4a78c2"),
    "idle":       ("#f6f7f9", "#c3c9d2"),
}
_INK, _QUIET = "#1d2733", "#4b5665"
_LINE = 15  # height of a line of text
_STYLE = f"""\
text {{ font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: {_INK}; }}
.title {{ font-weight: 600; font-size: 13px; }}
.note {{ fill: {_QUIET}; font-size: 11px; }}
.label {{ fill: {_QUIET}; font-size: 11px; stroke: #ffffff; stroke-width: 4px;
  paint-order: stroke; }}
path {{ fill: none; stroke: {_QUIET}; stroke-width: 1.4; }}"""


def draw(source: str) -> str:
    """The SVG of a figure, from the text of its TOML file."""
    figure = tomllib.loads(source)
    width, height = figure["size"]
    boxes = sorted(figure["boxes"].values(), key=lambda box: box.get("kind") != "group")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        f'<title>{escape(figure["title"])}</title>',
        f"<style>\n{_STYLE}\n</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse">'
        f'<path d="M0 0 8 4 0 8z" style="fill: {_QUIET}; stroke: none" /></marker>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff" />',
    ]
    parts += [_box(box) for box in boxes]
    parts += [_arrow(arrow, figure["boxes"]) for arrow in figure.get("arrows", [])]
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _box(box: dict[str, Any]) -> str:
    (x, y), (width, height) = box["at"], box["size"]
    kind, notes = box.get("kind", "plain"), box.get("notes", [])
    fill, line = _COLOURS[kind]
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}" '
             f'stroke="{line}" />']
    if kind == "group":
        parts.append(_text(x + 10, y + 18, box["text"], "title", "start"))
    else:
        lines = [(box["text"], "title")] if box.get("text") else []
        lines += [(note, "note") for note in notes]
        top = y + height / 2 - _LINE * len(lines) / 2 + 11.5
        parts += [_text(x + width / 2, top + _LINE * index, text, style)
                  for index, (text, style) in enumerate(lines)]
    return "\n".join(parts)


def _anchor(place: str, boxes: dict[str, Any]) -> tuple[Point, bool]:
    """A place on a side of a box, and whether an arrow leaves it sideways."""
    name, _, side = place.partition(".")
    side, _, share = side.partition(":")
    (x, y), (width, height) = boxes[name]["at"], boxes[name]["size"]
    along = float(share or 0.5)
    return {"left": (x, y + height * along), "right": (x + width, y + height * along),
            "top": (x + width * along, y), "bottom": (x + width * along, y + height)}[side], \
        side in ("left", "right")


def _arrow(arrow: dict[str, Any], boxes: dict[str, Any]) -> str:
    (start, sideways), (end, ends_sideways) = (_anchor(arrow[key], boxes) for key in ("from", "to"))
    corners = [tuple(point) for point in arrow.get("via", [])]
    if not corners and min(abs(start[0] - end[0]), abs(start[1] - end[1])) > 0.5:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        if sideways != ends_sideways:
            corners = [(end[0], start[1]) if sideways else (start[0], end[1])]
        elif sideways:
            corners = [(middle[0], start[1]), (middle[0], end[1])]
        else:
            corners = [(start[0], middle[1]), (end[0], middle[1])]
    points: list[Any] = [start, *corners, end]
    path = " ".join(f"{x:g} {y:g}" for x, y in points)
    both = ' marker-start="url(#tip)"' if arrow.get("both") else ""
    parts = [f'<path d="M{path}" marker-end="url(#tip)"{both} />']
    if "label" in arrow:
        # In the middle of the longest stretch, or where the figure says.
        a, b = max(pairwise(points),
                   key=lambda pair: abs(pair[0][0] - pair[1][0]) + abs(pair[0][1] - pair[1][1]))
        x, y = arrow.get("label_at", ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + 4))
        parts.append(_text(x, y, arrow["label"], "label"))
    return "\n".join(parts)


def main() -> int:
    """Writes the SVG of every figure."""
    for source in sorted(FOLDER.glob("*.toml")):
        source.with_suffix(".svg").write_text(draw(source.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
