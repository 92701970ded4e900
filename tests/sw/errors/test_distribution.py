import re
import tomllib
from importlib.metadata import PackageNotFoundError, version

import pytest
from places import ROOT

import weft
from weft.errors import distribution
from weft.errors.distribution import install_command, installed_versions

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = PROJECT["name"]


def test_command_names_the_installed_distribution():
    assert version(NAME) and NAME != "weft"
    assert install_command("toolchain") == f"pip install '{NAME}[toolchain]'"


@pytest.mark.parametrize("installed, name", [
    ({}, "."), ({"weft": ["here"]}, "here"), ({"weft": ["weft", "here"]}, "here"),
    ({"weft": ["weft"]}, "weft"), ({"other": ["there"]}, ".")])
def test_name_is_that_of_what_provides_the_import(monkeypatch, installed, name):
    monkeypatch.setattr(distribution, "packages_distributions", lambda: installed)
    assert install_command("fpga") == f"pip install '{name}[fpga]'"


def test_version_is_that_of_the_distribution():
    assert weft.__version__ == version(NAME) == PROJECT["version"]


def test_version_of_a_clone_that_is_not_installed_says_so(monkeypatch):
    monkeypatch.setattr(distribution, "packages_distributions", dict)
    assert weft.__version__ == "0+source"
    assert installed_versions(["toolchain"]) == {}


def test_versions_are_those_of_what_the_distribution_asks_for(monkeypatch):
    monkeypatch.setattr(distribution, "packages_distributions", lambda: {"weft": ["here"]})
    monkeypatch.setattr(distribution.metadata, "requires", lambda name: {
        "here": ["a.b-c>=1,<2", "d", 'e~=2.1; extra == "tool"', "f; extra == 'other'",
                 'g[x]>1; python_version > "3" and extra == "tool"']}[name])

    def installed(name):
        if name == "e":
            raise PackageNotFoundError(name)
        return f"version of {name}"

    monkeypatch.setattr(distribution.metadata, "version", installed)
    assert installed_versions(["tool", "none"]) == {
        "": {"a.b-c": "version of a.b-c", "d": "version of d"},
        "tool": {"e": None, "g": "version of g"}, "none": {}}


def test_no_message_and_no_page_spells_the_distribution():
    # `weft[extra]` would install a stranger's package.
    files = [*(path for folder in ("sw", "hw", "sim", "boards")
               for path in (ROOT / folder).rglob("*.py")), *(ROOT / "docs").glob("*.md")]
    assert len(files) > 100
    spelt = re.compile(r"\bweft(-npu)?\[|pip install '?weft|version\(\"weft")
    assert not [str(path) for path in files if spelt.search(path.read_text(encoding="utf-8"))]
