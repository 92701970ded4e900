"""Verilog from a component, with flat port names: ``m_axi_araddr``, not ``m_axi__araddr``."""

from amaranth.back import verilog
from amaranth.hdl import Value
from amaranth.lib import wiring

__all__ = ["to_verilog"]


def to_verilog(component: wiring.Component, *, name: str) -> str:
    """Verilog text of ``component`` as module ``name``.

    The ports are those of the signature, paths joined by one underscore, and ``clk`` and ``rst``.
    """
    ports = {"_".join(map(str, path)): (Value.cast(value), None)
             for path, _member, value in component.signature.flatten(component)}
    return verilog.convert(component, name=name, ports=ports, emit_src=False,
                           strip_internal_attrs=True)
