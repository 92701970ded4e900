import os
import re
import subprocess
import sys
from pathlib import Path

from places import ROOT

from weft.digits import MODEL

COMMANDS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(),
                      flags=re.MULTILINE | re.DOTALL)


def test_examples_in_python_work(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").symlink_to(MODEL)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "howto" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    names["session"].close()
    assert len(blocks) == 5
    assert names["outputs"][0].shape == (1, 10)
    assert names["config"].multipliers == 52


def test_commands_of_the_tutorial_work(tmp_path):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    output = ""
    for command in COMMANDS:
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)
        assert done.returncode == 0, f"{command}{done.stderr}"
        output += done.stdout
    assert len(COMMANDS) == 9
    assert output.count("0 of 1640 output bytes differ from onnxruntime") == 2
    exact, int8 = (int(re.search(rf"^{name}: (\d+) of 450$", output, re.MULTILINE)[1])
                   for name in ("float32", "int8"))
    assert exact > 400 and abs(exact - int8) <= 2      # half a point
    assert "<canvas" in (tmp_path / "report.html").read_text()
