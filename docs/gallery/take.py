"""Takes the pictures of the gallery anew: `python docs/gallery/take.py [CHROMIUM]`.

The terminal's are SVG, made by rich from what the commands print. Those of pages are screenshots by
Chromium, with as few colours as they need. The simulator is that of `tiny`.
"""

import os
import re
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from weft.digits import MODEL

FOLDER = Path(__file__).parent
_WEFT = Path(sys.executable).parent / "weft"
_COLUMNS = 96
_COLOURS = 48

_THEME = TerminalTheme(
    (255, 255, 255), (29, 39, 51),
    [(29, 39, 51), (179, 58, 48), (46, 125, 50), (160, 110, 10), (40, 90, 170), (140, 60, 120),
     (20, 120, 130), (90, 100, 115)])

# The page would fetch fonts from elsewhere.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)

COMMANDS = {
    "check": ["check", "digits_int8.onnx", "--config", "tiny"],
    "estimate": ["estimate", "digits_int8.onnx", "--config", "tiny"],
    "run": ["run", "digits_int8.onnx", "--config", "tiny", "--random", "3", "--verify"],
}

# Commands that write pages, and the pages.
PAGES = {
    "report.html": ["report", "digits_int8.onnx", "--config", "tiny", "--verify",
                    "-o", "report.html"],
    "explored/index.html": ["explore", "digits_int8.onnx", "--luts", "83640", "--multipliers",
                            "156", "--block-rams", "208", "-o", "explored"],
}

# For each picture the page, what is hidden of it, and the picture's size.
PARTS = {
    "report": ("report.html", "nothing", (1040, 1280)),
    "timeline": ("report.html", "main > :not(#timeline-section)", (1040, 600)),
    "roofline": ("report.html",
                 "main > :not(section:nth-of-type(3)):not(section:nth-of-type(4))", (1040, 1130)),
    "explore": ("explored/index.html", "main > section:nth-of-type(n+3)", (1040, 1370)),
}


def _terminal(name: str, folder: Path) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(_COLUMNS),
                   "TERM": "xterm-256color"}
    printed = subprocess.run([_WEFT, *COMMANDS[name]], cwd=folder,
                             env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    console = Console(record=True, width=_COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(printed.rstrip()))
    console.save_svg(str(FOLDER / f"{name}.svg"), title=f"weft {' '.join(COMMANDS[name])}",
                     theme=_THEME, code_format=_FORMAT, unique_id=f"weft-{name}")


def _screenshot(chromium: str, page: str, name: str, folder: Path, size: tuple[int, int]) -> None:
    source, picture = folder / "shown.html", folder / "shown.png"
    source.write_text(page)
    subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    "--window-size={},{}".format(*size), f"--screenshot={picture}",
                    source.as_uri()], check=True, stderr=subprocess.DEVNULL)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(_COLOURS).save(FOLDER / f"{name}.png", optimize=True)


def main(chromium: str) -> None:
    """Runs the commands on the digits network and shows what they print and write."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / MODEL.name).symlink_to(MODEL)
        for name in COMMANDS:
            _terminal(name, folder)
        for command in PAGES.values():
            subprocess.run([_WEFT, *command], cwd=folder, check=True)
        for name, (file, hidden, size) in PARTS.items():
            page = (folder / file).read_text()
            style = f"<style>{hidden} {{ display: none }} main {{ padding: 16px 24px }}</style>"
            _screenshot(chromium, page.replace("</head>", f"{style}</head>"), name, folder, size)


if __name__ == "__main__":
    main(*sys.argv[1:] or ["chromium"])
