"""An IP-XACT component (IEEE 1685-2009) around the accelerator's Verilog, as Vivado reads it."""

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

from amaranth.hdl import Value
from amaranth.lib.wiring import Out

from weft.errors.distribution import version

from .accelerator import Accelerator
from .isa.config import AcceleratorConfig
from .isa.registers import CONFIG_BASE, COUNTER_BASE, Counter, Register, config_words

__all__ = ["SPIRIT", "to_ip_xact"]


SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
"""Namespace of IEEE 1685-2009."""

_XILINX = "http://www.xilinx.com"
_FAMILIES = ("artix7", "kintex7", "spartan7", "virtex7", "zynq", "artixuplus", "kintexu",
             "kintexuplus", "virtexu", "virtexuplus", "zynquplus")

_CONTROL, _MEMORY = "s_axi", "m_axi"
_CONTROL_BYTES = 4096
_REGISTER_BITS = 32


def to_ip_xact(component: Accelerator, config: AcceleratorConfig, *, top: str, verilog: str) -> str:
    """The text of ``component.xml``: bus interfaces AXI4-Lite ``s_axi`` and AXI4 ``m_axi``, clock,
    reset, interrupt, the register map, ports and files.

    Parameters
    ----------
    component : :class:`~weft.hw.accelerator.Accelerator`
    config : :class:`AcceleratorConfig`
        What it was made from.
    top : :class:`str`
        Name of its module.
    verilog : :class:`str`
        Name of the file with it, beside ``component.xml``.
    """
    ET.register_namespace("spirit", SPIRIT)
    ET.register_namespace("xilinx", _XILINX)
    ports = _ports(component)
    root = _element("component", *_name("weft", "npu", top, version().partition("+")[0]),
                    _bus_interfaces(ports, config),
                    _element("addressSpaces", _element(
                        "addressSpace", _text("name", _MEMORY),
                        _text("range", 1 << config.axi_addr_width),
                        _text("width", config.axi_data_width))),
                    _element("memoryMaps", _element(
                        "memoryMap", _text("name", _CONTROL), _registers(config))),
                    _model(ports, top),
                    _element("fileSets", _element(
                        "fileSet", _text("name", "verilog"), _element(
                            "file", _text("name", verilog), _text("fileType", "verilogSource")))),
                    _text("description", f"Weft neural-network accelerator, {config.rate_text}"),
                    _element("parameters", _parameter("Component_Name", top)),
                    _element("vendorExtensions", _vivado()))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _ports(component: Accelerator) -> dict[str, tuple[str, int]]:
    """Direction and width of the Verilog's ports, by name."""
    ports = {"clk": ("in", 1), "rst": ("in", 1)}
    for path, member, value in component.signature.flatten(component):
        ports["_".join(map(str, path))] = (
            "out" if member.flow == Out else "in", len(Value.cast(value)))
    return ports


def _element(tag: str, *children: ET.Element) -> ET.Element:
    made = ET.Element(f"{{{SPIRIT}}}{tag}")
    made.extend(children)
    return made


def _text(tag: str, value: object, **attributes: str) -> ET.Element:
    made = ET.Element(f"{{{SPIRIT}}}{tag}",
                      {f"{{{SPIRIT}}}{name}": text for name, text in attributes.items()})
    made.text = str(value)
    return made


def _reference(tag: str, **attributes: str) -> ET.Element:
    return ET.Element(f"{{{SPIRIT}}}{tag}",
                      {f"{{{SPIRIT}}}{name}": text for name, text in attributes.items()})


def _name(vendor: str, library: str, name: str, number: str) -> list[ET.Element]:
    return [_text("vendor", vendor), _text("library", library), _text("name", name),
            _text("version", number)]


def _parameter(name: str, value: object) -> ET.Element:
    return _element("parameter", _text("name", name), _text("value", value))


def _bus_interfaces(ports: Iterable[str], config: AcceleratorConfig) -> ET.Element:
    def bus(prefix: str) -> dict[str, str]:
        return {port.removeprefix(f"{prefix}_").upper(): port for port in ports
                if port.startswith(f"{prefix}_")}

    return _element(
        "busInterfaces",
        _bus_interface(
            _CONTROL, "interface", "aximm", bus(_CONTROL),
            {"PROTOCOL": "AXI4LITE", "DATA_WIDTH": _REGISTER_BITS,
             "ADDR_WIDTH": (_CONTROL_BYTES - 1).bit_length()},
            _element("slave", _reference("memoryMapRef", memoryMapRef=_CONTROL))),
        _bus_interface(
            _MEMORY, "interface", "aximm", bus(_MEMORY),
            {"PROTOCOL": "AXI4", "DATA_WIDTH": config.axi_data_width,
             "ADDR_WIDTH": config.axi_addr_width, "MAX_BURST_LENGTH": config.axi_burst_beats,
             "SUPPORTS_NARROW_BURST": 0},
            _element("master", _reference("addressSpaceRef", addressSpaceRef=_MEMORY))),
        _bus_interface("clk", "signal", "clock", {"CLK": "clk"},
                       {"ASSOCIATED_BUSIF": f"{_CONTROL}:{_MEMORY}", "ASSOCIATED_RESET": "rst"},
                       _element("slave")),
        _bus_interface("rst", "signal", "reset", {"RST": "rst"}, {"POLARITY": "ACTIVE_HIGH"},
                       _element("slave")),
        _bus_interface("irq", "signal", "interrupt", {"INTERRUPT": "irq"},
                       {"SENSITIVITY": "LEVEL_HIGH"}, _element("master")))


def _bus_interface(name: str, library: str, kind: str, ports: Mapping[str, str],
                   parameters: Mapping[str, object], mode: ET.Element) -> ET.Element:
    """An interface of a bus that Vivado's library defines, with its logical ports."""
    def defined(tag: str, what: str) -> ET.Element:
        return _reference(tag, vendor="xilinx.com", library=library, name=what, version="1.0")

    return _element(
        "busInterface", _text("name", name), defined("busType", kind),
        defined("abstractionType", f"{kind}_rtl"), mode,
        _element("portMaps", *(_element(
            "portMap", _element("logicalPort", _text("name", logical)),
            _element("physicalPort", _text("name", port))) for logical, port in ports.items())),
        _element("parameters", *(_parameter(key, value) for key, value in parameters.items())))


def _registers(config: AcceleratorConfig) -> ET.Element:
    def register(name: str, address: int, count: int = 1) -> ET.Element:
        dimension = [_text("dim", count)] if count > 1 else []
        return _element("register", _text("name", name), *dimension,
                        _text("addressOffset", f"0x{address:X}"), _text("size", _REGISTER_BITS))

    return _element(
        "addressBlock", _text("name", "registers"), _text("baseAddress", "0x0"),
        _text("range", _CONTROL_BYTES), _text("width", _REGISTER_BITS), _text("usage", "register"),
        *(register(each.name, each) for each in Register),
        register("COUNTER", COUNTER_BASE, len(Counter)),
        register("CONFIG", CONFIG_BASE, len(config_words(config))))


def _model(ports: Mapping[str, tuple[str, int]], top: str) -> ET.Element:
    def port(name: str, direction: str, width: int) -> ET.Element:
        vector = [_element("vector", _text("left", width - 1), _text("right", 0))] \
            if width > 1 else []
        return _element("port", _text("name", name),
                        _element("wire", _text("direction", direction), *vector))

    views = [_element("view", _text("name", f"xilinx_{use}"),
                      _text("envIdentifier", f"verilogSource:vivado.xilinx.com:{identifier}"),
                      _text("language", "verilog"), _text("modelName", top),
                      _element("fileSetRef", _text("localName", "verilog")))
             for use, identifier in (("anylanguagesynthesis", "synthesis"),
                                     ("anylanguagebehavioralsimulation", "simulation"))]
    return _element("model", _element("views", *views),
                    _element("ports", *(port(name, *about) for name, about in ports.items())))


def _vivado() -> ET.Element:
    """What Vivado asks for, and no other tool: the device families that it may offer it for."""
    extensions = ET.Element(f"{{{_XILINX}}}coreExtensions")
    families = ET.SubElement(extensions, f"{{{_XILINX}}}supportedFamilies")
    for name in _FAMILIES:
        family = ET.SubElement(families, f"{{{_XILINX}}}family",
                               {f"{{{_XILINX}}}lifeCycle": "Production"})
        family.text = name
    taxonomies = ET.SubElement(extensions, f"{{{_XILINX}}}taxonomies")
    ET.SubElement(taxonomies, f"{{{_XILINX}}}taxonomy").text = "/UserIP"
    ET.SubElement(extensions, f"{{{_XILINX}}}displayName").text = "Weft accelerator"
    return extensions
