import sys

import pytest

from weft.cli import main


@pytest.fixture
def bitstream(tmp_path):
    path = tmp_path / "a.bit"
    path.write_text("bits")
    return path


def test_prints_the_command_without_openfpgaloader(bitstream, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert main(["program", "--board", "ulx3s-85f", str(bitstream)]) == 0
    assert capsys.readouterr().out == (
        f"openFPGALoader was not found (Debian, Ubuntu: apt install openfpgaloader). The command "
        f"is:\nopenFPGALoader --board ulx3s {bitstream}\n")


@pytest.mark.parametrize("options, arguments", [
    ([], ["--board", "ulx3s"]), (["--flash"], ["--board", "ulx3s", "--write-flash"])])
def test_runs_openfpgaloader(options, arguments, bitstream, tmp_path, monkeypatch, capsys):
    loader = tmp_path / "openFPGALoader"
    loader.write_text(f"#!{sys.executable}\nimport sys\n"
                      f"open({str(tmp_path / 'said')!r}, 'w').write(' '.join(sys.argv[1:]))\n")
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["program", "--board", "ulx3s-85f", *options, str(bitstream)]) == 0
    assert (tmp_path / "said").read_text() == " ".join([*arguments, str(bitstream)])
    assert capsys.readouterr().out == f"ULX3S with LFE5U-85F runs {bitstream}\n"


def test_every_board_has_a_name_for_the_loader(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    for board, suffix, loader in (("ulx3s-25f", ".bit", "ulx3s"),
                                  ("icebreaker", ".bin", "ice40_generic")):
        path = tmp_path / f"a{suffix}"
        path.write_text("bits")
        assert main(["program", "--board", board, str(path)]) == 0
        assert capsys.readouterr().out.endswith(f"openFPGALoader --board {loader} {path}\n")


def test_failing_loader(bitstream, tmp_path, monkeypatch, capsys):
    loader = tmp_path / "openFPGALoader"
    loader.write_text("#!/bin/sh\nexit 3\n")
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["program", "--board", "ulx3s-85f", str(bitstream)]) == 2
    assert capsys.readouterr().err == (
        f"weft: error: openFPGALoader --board ulx3s {bitstream} failed with exit code 3: is the "
        f"board connected, and may you use its USB port?\n")


def test_bitstream_wrong(tmp_path, capsys):
    assert main(["program", "--board", "ulx3s-85f", str(tmp_path / "no.bit")]) == 2
    assert capsys.readouterr().err == (f"weft: error: Bitstream {tmp_path / 'no.bit'} cannot be "
                                       f"read: there is no such file\n")
    assert main(["program", "--board", "ulx3s-85f", "a.bin"]) == 2
    assert capsys.readouterr().err == ("weft: error: Bitstream for ulx3s-85f must be a .bit file, "
                                       "not a.bin\n")
