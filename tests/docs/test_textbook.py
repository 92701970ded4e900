"""The tutorial of textbook networks, where PyTorch is installed (`make torch-test`)."""

import re
import subprocess
import sys

import pytest
from places import ROOT

pytest.importorskip("torch", reason="needs PyTorch: make torch-test")


def test_textbook_networks_lose_little_and_the_device_nothing():
    script = ROOT / "docs" / "tutorial" / "textbook.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    rows = re.findall(r"^(.{20}) +([\d.]+)% +([\d.]+)% +([\d.]+)% +- +(\d+)$", done.stdout,
                      re.MULTILINE)
    assert [row[0].split()[0] for row in rows] == ["MLP", "CNN", "ConvNet"]
    for _name, exact, int8, device, differing in rows:
        assert float(exact) > 93 and abs(float(exact) - float(int8)) <= 1
        assert device == int8 and differing == "0"
