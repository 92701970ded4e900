"""``weft verilog``: the accelerator as Verilog, and as a component for other tools."""

import argparse
import json
from pathlib import Path

from weft.errors import InputError
from weft.files.output import check_outputs, write_text
from weft.hw.isa.presets import PRESETS, load_config

from .options import Commands

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser("verilog", help="write the accelerator as Verilog",
                                 description="Writes the accelerator as Verilog, and a JSON file "
                                             "with the configuration it was made from; or an "
                                             "IP-XACT component.")
    parser.add_argument("--config", required=True, metavar="NAME|FILE.toml",
                        help=f"configuration: {', '.join(PRESETS)}, or a file")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", type=Path, metavar="DIR",
                       help="folder to write to, created if need be")
    where.add_argument("--ip", type=Path, metavar="DIR",
                       help="the same, with component.xml (IP-XACT, IEEE 1685-2009), for the IP "
                            "catalog of Vivado")
    parser.set_defaults(program=_verilog)


def _verilog(options: argparse.Namespace) -> int:
    from weft.hw.accelerator import Accelerator
    from weft.hw.ip_xact import to_ip_xact
    from weft.hw.verilog import to_verilog

    config = load_config(options.config)
    folder: Path = options.ip or options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Folder {folder} cannot be created: {error.strerror}") from None
    top = f"weft_{config.name}"
    verilog, description, ip = (folder / name for name in (f"{top}.v", f"{top}.json",
                                                           "component.xml"))
    check_outputs({"the Verilog": verilog, "its configuration": description,
                   "the component": ip if options.ip else None}, {"--config": options.config})
    component = Accelerator(config)
    write_text(verilog, to_verilog(component, name=top))
    # What goes with the Verilog, for tools that would otherwise have to guess it.
    write_text(description, json.dumps({"top": top, "verilog": verilog.name,
                                        "config": config.to_dict()}, indent=2) + "\n")
    print(f"{verilog}: module {top}, {config.rate_text}")
    print(f"{description}: its configuration")
    if options.ip:
        write_text(ip, to_ip_xact(component, config, top=top, verilog=verilog.name))
        print(f"{ip}: IP-XACT component")
    return 0
