"""The C header of registers and commands, made from their definitions."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from amaranth.lib import data

from weft.hw.isa import registers
from weft.hw.isa.commands import COMMAND_BYTES, COMMANDS, Opcode
from weft.hw.isa.document import comments
from weft.hw.isa.limits import PAGE_BYTES

__all__ = ["hardware_header"]


def hardware_header() -> str:
    """The text of ``weft_hw.h``: constants only, as ``#define``."""
    parts: list[Iterable[str]] = [
        ["/* Registers and commands of a Weft accelerator, made from their definitions. */",
         "", "#ifndef WEFT_HW_H", "#define WEFT_HW_H"],
        _section("What the registers ID and VERSION hold.", [
            ("WEFT_DEVICE_ID", f"0x{registers.DEVICE_ID:08x}u", ""),
            ("WEFT_DEVICE_VERSION", f"{registers.VERSION}u", "")]),
        _section("Registers, byte addresses.", _members(registers.Register, "WEFT")),
        _section("Bits of CONTROL.", _members(registers.Control, "WEFT_CONTROL")),
        _section("Bits of STATUS.", _members(registers.Status, "WEFT_STATUS")),
        _section("Values of ERROR.", _members(registers.Error, "WEFT_ERROR")),
        _errors(),
        _section("Performance counters: number n is at WEFT_COUNTER_BASE + 4 * n.", [
            ("WEFT_COUNTER_BASE", f"0x{registers.COUNTER_BASE:02x}", ""),
            *_members(registers.Counter, "WEFT_COUNTER")]),
        _section("Configuration ROM: word n is at WEFT_CONFIG_BASE + 4 * n.", [
            ("WEFT_CONFIG_BASE", f"0x{registers.CONFIG_BASE:02x}", ""),
            ("WEFT_CONFIG_WORDS", f"{len(registers.CONFIG_NAMES)}u", ""),
            *((f"WEFT_CONFIG_{name.upper()}", str(number), "")
              for number, name in enumerate(registers.CONFIG_NAMES))]),
        _section("Commands: bytes of one, and to what the memory of a program is aligned.", [
            ("WEFT_COMMAND_BYTES", f"{COMMAND_BYTES}u", ""),
            ("WEFT_ALIGNMENT", f"{PAGE_BYTES}u", "")]),
        _section("Opcodes.", _members(Opcode, "WEFT_OPCODE")),
        *(_section(f"{opcode.name}: first bit and width of each field.", _fields(opcode))
          for opcode in COMMANDS),
        ["", "#endif"],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _members(enumeration: type[Enum], prefix: str) -> Iterator[tuple[str, str, str]]:
    notes = comments(enumeration)
    for member in enumeration:
        yield f"{prefix}_{member.name}", f"0x{member.value:02x}", notes.get(member.name, "")


def _errors() -> list[str]:
    """A list of all errors with their texts, for a macro of the reader's."""
    notes = comments(registers.Error)
    named = [error for error in registers.Error if error is not registers.Error.NONE]
    return ["", "#define WEFT_ERRORS(each) \\",
            *(f'    each({error.name}, "{notes[error.name]}")'
              + (" \\" if error is not named[-1] else "") for error in named)]


def _fields(opcode: Opcode) -> Iterator[tuple[str, str, str]]:
    layout: Any = COMMANDS[opcode]
    notes = comments(layout)
    for name, field in data.Layout.cast(layout):
        if name.startswith("_") or name == "header":
            continue
        prefix = f"WEFT_{opcode.name}_{name.upper()}"
        yield f"{prefix}_BIT", str(field.offset), notes.get(name, "")
        yield f"{prefix}_WIDTH", str(field.width), ""


def _section(title: str, lines: Iterable[tuple[str, str, str]]) -> list[str]:
    def line(name: str, value: str, note: str) -> str:
        text = f"#define {name:<32} {value}"
        return f"{text:<44} /* {note} */" if note else text

    return ["", f"/* {title} */", *(line(*each) for each in lines)]
