import json
from dataclasses import replace

from weft.boards.ecp5.family import ECP5
from weft.boards.flow.netlist import finish_netlist

NETLIST = {"modules": {
    "primitive": {"attributes": {"blackbox": "1"}},
    "top": {"attributes": {"top": "1"}, "cells": {}},
}}


def test_settings_go_into_the_top_module_and_nothing_else_changes(tmp_path):
    file = tmp_path / "top.json"
    file.write_text(json.dumps(NETLIST), encoding="utf-8")
    settings = {"router2/bbMargin/x": "7"}
    top = finish_netlist(file, ECP5, settings)
    written = json.loads(file.read_text(encoding="utf-8"))
    assert top["settings"] == settings
    assert written["modules"]["top"].pop("settings") == settings
    assert written == NETLIST


def test_without_settings_the_netlist_stays_as_it_is(tmp_path):
    file = tmp_path / "top.json"
    text = json.dumps(NETLIST)
    file.write_text(text, encoding="utf-8")
    assert finish_netlist(file, ECP5, {}) == NETLIST["modules"]["top"]
    assert file.read_text(encoding="utf-8") == text


def test_what_a_family_changes_is_what_is_placed(tmp_path):
    file = tmp_path / "top.json"
    file.write_text(json.dumps(NETLIST), encoding="utf-8")
    family = replace(ECP5, rework=lambda top: top["cells"].update(added={"type": "LUT4"}))
    top = finish_netlist(file, family, {})
    assert top["cells"] == {"added": {"type": "LUT4"}}
    assert json.loads(file.read_text(encoding="utf-8"))["modules"]["top"] == top
