"""The tutorial of textbook networks, where PyTorch is installed (`make torch-test`)."""

import re
import subprocess
import sys

import pytest
from places import ROOT

pytest.importorskip("torch", reason="needs PyTorch: make torch-test")


def table_of(script):
    """Rows of the table that a script prints: name, float, int8, device, differing bytes."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "tutorial" / script],
                          capture_output=True, text=True, check=True)
    return re.findall(r"^(.{20}) +([\d.]+)% +([\d.]+)% +([\d.]+)% +- +(\d+)$", done.stdout,
                      re.MULTILINE)


def test_textbook_networks_lose_little_and_the_device_nothing():
    rows = table_of("textbook.py")
    assert [row[0].split()[0] for row in rows] == ["MLP", "CNN", "ConvNet"]
    for _name, exact, int8, device, differing in rows:
        assert float(exact) > 93 and abs(float(exact) - float(int8)) <= 1
        assert device == int8 and differing == "0"


def test_recurrent_networks_lose_little_and_the_device_nothing():
    rows = table_of("rows.py")
    assert [row[0].strip() for row in rows] == ["LSTM", "GRU"]
    for _name, exact, int8, device, differing in rows:
        assert float(exact) > 95 and float(exact) - float(int8) <= 2
        assert device == int8 and differing == "0"
