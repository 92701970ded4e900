import re
import tomllib
from importlib.metadata import version

import pytest
from places import ROOT

from weft.errors import distribution
from weft.errors.distribution import install_command

NAME = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]


def test_command_names_the_installed_distribution():
    assert version(NAME) and NAME != "weft"
    assert install_command("toolchain") == f"pip install '{NAME}[toolchain]'"


@pytest.mark.parametrize("installed, name", [
    ({}, "."), ({"weft": ["here"]}, "here"), ({"weft": ["weft", "here"]}, "here"),
    ({"weft": ["weft"]}, "weft"), ({"other": ["there"]}, ".")])
def test_name_is_that_of_what_provides_the_import(monkeypatch, installed, name):
    monkeypatch.setattr(distribution, "packages_distributions", lambda: installed)
    assert install_command("fpga") == f"pip install '{name}[fpga]'"


def test_no_message_and_no_page_spells_the_distribution():
    # `weft[extra]` would install a stranger's package.
    files = [*(path for folder in ("sw", "hw", "sim", "boards")
               for path in (ROOT / folder).rglob("*.py")), *(ROOT / "docs").glob("*.md")]
    assert len(files) > 100
    spelt = re.compile(r"\bweft(-npu)?\[|pip install '?weft|version\(\"weft")
    assert not [str(path) for path in files if spelt.search(path.read_text(encoding="utf-8"))]
