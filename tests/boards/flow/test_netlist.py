import json

from weft.boards.flow.netlist import add_settings

NETLIST = {"modules": {
    "primitive": {"attributes": {"blackbox": "1"}},
    "top": {"attributes": {"top": "1"}, "cells": {}},
}}


def test_settings_go_into_the_top_module_and_nothing_else_changes(tmp_path):
    file = tmp_path / "top.json"
    file.write_text(json.dumps(NETLIST), encoding="utf-8")
    settings = {"router2/bbMargin/x": "7"}
    top = add_settings(file, settings)
    written = json.loads(file.read_text(encoding="utf-8"))
    assert top["settings"] == settings
    assert written["modules"]["top"].pop("settings") == settings
    assert written == NETLIST


def test_without_settings_the_netlist_stays_as_it_is(tmp_path):
    file = tmp_path / "top.json"
    text = json.dumps(NETLIST, indent=1)
    file.write_text(text, encoding="utf-8")
    assert add_settings(file, {}) == NETLIST["modules"]["top"]
    assert file.read_text(encoding="utf-8") == text
