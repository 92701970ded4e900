"""Markdown tables of commands, registers and configuration, made from their definitions.

``python -m weft.hw.isa.document`` prints the page kept as ``docs/interface.md``.
"""

import inspect
from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import Any

from amaranth.lib import data

from . import registers
from .commands import COMMAND_BYTES, COMMANDS, ENGINES, Engine, Header, Memory, Rounding, VectorOp
from .constants import ChannelParameters, Exponential, FixedPointParameters, RowConstant
from .presets import PRESETS

__all__ = ["comments", "interface_page"]


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def comments(definition: Any) -> dict[str, str]:
    """The comment beside each field or member, so that it is written only once."""
    found = {}
    for line in inspect.getsource(definition).splitlines():
        code, mark, comment = line.partition("#")
        name = code.replace(":", " ").replace("=", " ").split()
        if mark and name:
            found[name[0]] = comment.strip()
    return found


def _text(definition: Any) -> str:
    return inspect.cleandoc(definition.__doc__).replace("``", "`").replace(":class:", "")


def _fields(layout: Any) -> str:
    notes = comments(layout)
    rows = []
    for name, field in data.Layout.cast(layout):
        if name.startswith("_"):
            continue
        if field.shape is Header:
            rows += [(f"{part.offset}..{part.offset + part.width - 1}", f"`{name}`", part.width, "",
                      comments(Header).get(name, ""))
                     for name, part in data.Layout.cast(Header) if not name.startswith("_")]
            continue
        last = field.offset + field.width - 1
        kind = "signed" if getattr(field.shape, "signed", False) else ""
        rows.append((f"{field.offset}..{last}", f"`{name}`", field.width, kind,
                     notes.get(name, "")))
    return _table(("bits", "field", "width", "", "meaning"), rows)


def _members(enumeration: type[IntEnum] | type[IntFlag], *, base: str = "") -> str:
    notes = comments(enumeration)
    return _table(("value", "name", "meaning"), (
        (f"{base}{member.value:#x}" if base == "" else f"{base}{4 * member.value:#x}",
         member.name, notes.get(member.name or "", "")) for member in enumeration))


def interface_page() -> str:
    """The whole page."""
    parts = [
        "# Commands, registers, configuration",
        "Made by `python -m weft.hw.isa.document` from the definitions that the hardware, the "
        "compiler and the simulators share; a test keeps it up to date.",
        "## Commands",
        f"A command takes {COMMAND_BYTES} bytes, little-endian. Unlisted bits are ignored.",
        "Bits of the wait and post masks: "
        + ", ".join(f"{engine.value} {engine.name.lower()}" for engine in Engine) + ".",
    ]
    for opcode, layout in COMMANDS.items():
        parts += [f"### {opcode.name} ({opcode.value:#04x}, {ENGINES[opcode].name.lower()} engine)",
                  _text(layout), _fields(layout)]
    parts += ["### Memories of a LOAD", _text(Memory), _table(("value", "memory"), (
        (memory.value, memory.name) for memory in Memory))]
    parts += ["### Operations of a VECTOR", _text(VectorOp), _members(VectorOp)]
    parts += ["### Rules of rounding", _text(Rounding), _members(Rounding)]
    parts += ["### Channel parameters", _text(ChannelParameters), _fields(ChannelParameters)]
    parts += ["### Channel parameters of fixed-point rounding", _text(FixedPointParameters),
              _fields(FixedPointParameters)]
    parts += ["### Tables of the memory ROW_CONSTANT", _text(RowConstant), _members(RowConstant)]
    parts += ["### Exponentials of a SOFTMAX", _text(Exponential), _fields(Exponential)]

    parts += ["## Registers", _text(registers)]
    for enumeration in (registers.Register, registers.Control, registers.Status, registers.Error):
        parts += [f"### {enumeration.__name__}", _text(enumeration), _members(enumeration)]
    parts += ["### Counter", _text(registers.Counter),
              f"Counter *n* is at {registers.COUNTER_BASE:#x} + 4 *n*.",
              _members(registers.Counter)]
    words = registers.config_words(PRESETS["base"])
    parts += ["### Configuration ROM",
              f"Word *n* is at {registers.CONFIG_BASE:#x} + 4 *n*. Those of parts that an "
              f"accelerator lacks are zero.",
              _table(("n", "value", "in `base`"), (
                  (n, f"`{name}`", words.get(name, 0))
                  for n, name in enumerate(registers.CONFIG_NAMES)))]

    parts += ["## Presets", _table(("field", *PRESETS), (
        (f"`{field}`", *(config.to_dict()[field] for config in PRESETS.values()))
        for field in PRESETS["base"].to_dict() if field != "name"))]
    derived = ("multipliers", "psum_width", "word_bytes", "activation_depth", "weight_row_bytes",
               "weight_depth", "parameter_entry_bytes", "parameter_depth", "vector_entry_bytes")
    parts += ["Derived from them:", _table(("value", *PRESETS), (
        (f"`{name}`", *(getattr(config, name) for config in PRESETS.values()))
        for name in derived))]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(interface_page(), end="")
