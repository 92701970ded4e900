"""Checks the links of built pages: `python docs/check_links.py build/docs`.

Every link and picture must lead to a file that is there, and every fragment to an element of that
page. Links to other hosts are not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken_links"]


class _Page(HTMLParser):
    """Ids and links of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        self.links += [values[name] for name in ("href", "src") if name in values]


def broken_links(folder: Path) -> list[str]:
    """What is wrong with the links of the pages in ``folder``; a line for each."""
    pages = {path.resolve(): _Page(path) for path in sorted(folder.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.relative_to(folder.resolve())}: no file for {link}")
            elif parts.fragment and target in pages \
                    and unquote(parts.fragment) not in pages[target].ids:
                broken.append(f"{path.relative_to(folder.resolve())}: no place for {link}")
    return broken


def main(folder: str) -> int:
    """Names every broken link; returns the exit code."""
    broken = broken_links(Path(folder))
    for line in broken:
        print(f"weft: error: {line}", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
