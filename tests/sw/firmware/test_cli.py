"""`weft compile --c`."""

import re
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from models import QdqBuilder

from weft.cli import main
from weft.digits import MODEL


def test_writes_all_that_a_compiler_needs(tmp_path, capsys):
    folder = tmp_path / "made"
    assert main(["compile", str(MODEL), "--config", "tiny", "--c", str(folder)]) == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["digits_int8.c", "digits_int8.h", "weft_driver.c", "weft_driver.h",
                     "weft_hw.h"]
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"digits_int8.onnx for tiny: 4 layers, \d+ commands", lines[0])
    assert sorted(lines[1:]) == [str(folder / name) for name in names]
    if shutil.which("cc"):
        subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c",
                        "digits_int8.c"], cwd=folder, check=True)


def test_model_with_a_part_for_the_host_in_its_midst_wrong(tmp_path, capsys):
    b = QdqBuilder(np.random.default_rng(0))
    x = b.input("x", (1, 6, 12, 12))
    x = b.quantize(b.conv(x, 6, 8, name="first"))
    x = b.quantize(b.conv(x, 1, 8, (10, 10), group=8, name="wide"))
    b.output(b.quantize(b.conv(x, 8, 5, name="last")))
    onnx.save(b.build(), tmp_path / "model.onnx")
    assert main(["compile", str(tmp_path / "model.onnx"), "--config", "tiny,vector_entries=16",
                 "--c", str(tmp_path / "made")]) == 2
    assert capsys.readouterr().err == (
        "weft: error: Model of a program in C must have a single graph on the accelerator, not 2 "
        "with parts for the host between them\n")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_folder_that_cannot_be_wrong(tmp_path, capsys, name):
    (tmp_path / "file").write_text("")
    assert main(["compile", str(MODEL), "--config", "tiny", "--c", str(tmp_path / name)]) == 2
    reason = "File exists" if name == "file" else "Not a directory"
    assert capsys.readouterr().err == \
        f"weft: error: Folder {tmp_path / name} cannot be written: {reason}\n"
