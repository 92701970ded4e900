import os
import re
import subprocess
import sys
from pathlib import Path

from places import ROOT

COMMANDS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(),
                      flags=re.MULTILINE | re.DOTALL)


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
    assert int(re.search(r"(\d+) of 450 held-out digits are recognized", output)[1]) > 400
    assert "<canvas" in (tmp_path / "report.html").read_text()
