"""The hash of what a board is built from, by which a host knows what it talks to."""

import ast
import hashlib
import inspect
from functools import cache
from importlib.metadata import version
from pathlib import Path

import weft.hw
from weft.boards.board import Board

__all__ = ["design_hash"]


def design_hash(board: Board) -> int:
    """32 bits that tell the design of ``board`` from any other: of its configuration, its memory,
    the code of Weft's hardware, and the version of Amaranth. Comments and docstrings do not count,
    or each would move the clock that is reached; neither do clock and baud rate, which a host
    meets anyway, and the primitives of the FPGA, which compute the same."""
    here = Path(__file__).parent
    folders = [Path(weft.hw.__file__).parent, here]
    if board.memory.chip is not None:
        folders.append(here.parent / "sdram")
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    text = "\n".join((board.config.to_json(), repr(board.memory), version("amaranth"),
                      *map(_code, (*files, Path(inspect.getfile(type(board.memory)))))))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@cache
def _code(path: Path) -> str:
    """Lines of a source file that do something."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) \
                and isinstance(node.value.value, str):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
