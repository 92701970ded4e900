"""``weft explore`` on the command line."""

import json

import pytest

from weft.cli import main
from weft.digits import MODEL

DIGITS = str(MODEL)


def test_a_search_writes_its_files_and_goes_on(tmp_path, capsys):
    space = tmp_path / "space.toml"
    space.write_text("rows = [4, 8]\ncols = [4, 8]\nrequant_lanes = 2\n")
    out = tmp_path / "out"
    command = ["explore", DIGITS, "--luts", "40000", "--config", "small", "--space", str(space),
               "--workers", "1", "-o", str(out), "--trials"]
    assert main([*command, "4"]) == 0
    captured = capsys.readouterr()
    assert "Front of 4 trials" in captured.out
    assert "4 of 4 trials, " in captured.err
    first = json.loads((out / "front.json").read_text())
    assert {path.name for path in out.iterdir()} == {
        "front.json", "index.html", "study.db",
        *(f"{each['name']}.toml" for each in first["points"])}
    assert main([*command, "4"]) == 0
    assert "Going on after 4 trials" in capsys.readouterr().err
    assert json.loads((out / "front.json").read_text()) == first


@pytest.mark.parametrize("text, message", [
    ("", "Space file {path} must have values for a field or more, such as rows = [8, 16]; it has "
         "none"),
    ("rows = []", "Space file {path} must have a value or more for rows, not an empty list"),
    ("rows = [8, 128]", "Space file {path} has a value of rows outside its range: Rows must be "
                        "between 2 and 64, not 128"),
    ("weight_bytes = [512]", "Space must have a configuration that fits 40,000 LUTs, 156 "
                             "multipliers, 208 block RAMs, and none of 1 trials does; the nearest: "
                             "digits_int8.onnx: Layer "),
])
def test_a_space_that_is_none_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "space.toml"
    path.write_text(text)
    assert main(["explore", DIGITS, "-o", str(tmp_path / "out"), "--luts", "40000", "--config",
                 "small", "--workers", "1", "--trials", "1", "--space", str(path)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith(f"weft: error: {message.format(path=path)}")
    assert "Traceback" not in "".join(error)


@pytest.mark.parametrize("options, message", [
    ([], "Explore needs a board (--board NAME) or a budget (--luts N, --multipliers N, "
         "--block-rams N)"),
    (["--board", "icebreaker"], "Board must be one with an ECP5, whose resources can be "
                                "predicted, not icebreaker"),
    (["--board", "none"], "Board must be one of "),
    (["--luts", "0"], "Option --luts must be at least 1, not 0"),
    (["--luts", "9000", "--objective", "fps,speed"],
     "Objective must be one or more of fps, luts, latency, energy, with commas between, not "
     "'fps,speed'"),
    (["--luts", "9000", "--time", "soon"], "Time must be a number above 0 of s, m or h, such as "
                                           "30m, not 'soon'"),
    (["--luts", "9000", "--trials", "0"], "Trials must be at least 1, not 0"),
    (["--luts", "9000", "--seed", "-1"], "Seed must be at least 0, not -1"),
    (["--luts", "9000", "--workers", "0"], "Workers must be at least 1, not 0"),
    (["--luts", "9000", "--scheduler", "nowhere"],
     "Scheduler must be the address of a Dask scheduler such as tcp://127.0.0.1:8786, not "
     "'nowhere'"),
    (["--luts", "900", "--workers", "1", "--trials", "1"],
     "Space must have a configuration that fits 900 LUTs, 156 multipliers, 208 block RAMs, and "
     "none of 1 trials does; the nearest: "),
])
def test_bad_input_is_one_line(tmp_path, capsys, options, message):
    assert main(["explore", DIGITS, "-o", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"weft: error: {message}")
