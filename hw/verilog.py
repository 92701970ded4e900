"""Verilog from a component, with flat port names: ``m_axi_araddr``, not ``m_axi__araddr``."""

import re

from amaranth.back import verilog
from amaranth.hdl import Value
from amaranth.lib import wiring

from weft.hw.lib.checks import checking, watched

__all__ = ["broken_rule", "to_verilog"]


# A check as Yosys writes it, and as a simulator stops at it: with the rule on the same line.
_WRITTEN = re.compile(r'if \(!(.+)\)\n\s*\$write\("(.*)"\);\n\s*assert \(\1\);')
_STOPS   = r"if (!\1) $stop;  // rule: \2"


def to_verilog(component: wiring.Component, *, name: str, checks: bool = False) -> str:
    """Verilog text of ``component`` as module ``name``.

    The ports are those of the signature, paths joined by one underscore, and ``clk`` and ``rst``.
    With ``checks`` it has those of :mod:`weft.hw.lib.checks`, for simulation: it executes ``$stop``
    where one fails, and :func:`broken_rule` tells which one that is.
    """
    ports = {"_".join(map(str, path)): (Value.cast(value), None)
             for path, _member, value in component.signature.flatten(component)}
    with checking(checks):
        text = verilog.convert(watched(component), name=name, ports=ports, emit_src=False,
                               strip_internal_attrs=True)
    return _WRITTEN.sub(_STOPS, text)


def broken_rule(text: str, line: int) -> str:
    """Which rule is checked in a line, counted from 1, of Verilog with checks, and where:
    ``"RULE (MODULE)"``."""
    lines = text.splitlines()
    module = next(found[1] for found in map(re.compile(r"module \\?(\S+?) ?\(").match,
                                            reversed(lines[:line])) if found)
    return f"{lines[line - 1].partition('// rule: ')[2]} ({module})"
