"""The wheel that a user installs: what is in it, and that it works where no source is at hand."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from places import ROOT

pytestmark = pytest.mark.slow

FOLDERS = {"weft": "sw", "weft/hw": "hw", "weft/sim": "sim", "weft/boards": "boards"}


def run(*command, folder, **environment):
    """Runs a command in ``folder``, without what could lead it to the sources; gives its output."""
    inherited = {name: value for name, value in os.environ.items()
                 if not name.startswith(("PYTHON", "MYPY", "WEFT_")) and name != "VIRTUAL_ENV"}
    done = subprocess.run([str(part) for part in command], cwd=folder, text=True,
                          capture_output=True, check=False, env=inherited | environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(*arguments, folder):
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments,
               folder=folder)


def make_environment(folder):
    """An environment without packages; gives its interpreter."""
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


def sources():
    """The files of the package, by their path in the wheel."""
    return {f"{package}/{path.relative_to(ROOT / folder).as_posix()}": path
            for package, folder in FOLDERS.items() for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: what an earlier build left in the clone would go into the wheel, too."""
    clone = tmp_path_factory.mktemp("clone")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, clone / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, clone, folder=folder)
    [path] = folder.iterdir()
    return path


def test_wheel_has_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()
                 if ".dist-info/" not in name}
    assert {Path(name).suffix for name in files} >= {".py", ".typed", ".onnx", ".html", ".css",
                                                     ".js", ".cpp", ".h"}
    assert files == {name: path.read_bytes() for name, path in sources().items()}


def test_mypy_sees_the_types_of_the_installed_package(wheel, tmp_path):
    python = make_environment(tmp_path / "environment")
    pip("--python", python, "install", "--quiet", "--no-deps", wheel, folder=tmp_path)
    code = "from weft.errors.distribution import version\nreveal_type(version())"
    shown = run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull,
                "--python-executable", python, "-c", code, folder=tmp_path)
    # Some versions of mypy say `builtins.str`.
    assert re.match(r'<string>:2: note: Revealed type is "(builtins\.)?str"\nSuccess: ', shown)


def test_installed_wheel_runs_the_digits_network_on_the_simulated_hardware(wheel, tmp_path):
    python = make_environment(tmp_path / "environment")
    pip("--python", python, "install", "--quiet", "--no-compile", f"{wheel}[toolchain,digits]",
        folder=tmp_path)

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    # A simulator from the user's cache might have been built from the sources in the clone.
    cache = {"WEFT_CACHE": str(tmp_path / "cache"), "WEFT_OPTIMIZE": "1"}
    home, model = run(python, "-c", "import weft, weft.digits; print(weft.__file__); "
                                    "print(weft.digits.MODEL)", folder=folder).splitlines()
    assert Path(home).is_relative_to(tmp_path) and Path(model).is_relative_to(tmp_path)

    weft = python.with_name("weft")
    name, version = wheel.name.split("-")[:2]
    assert name == "weft_npu"
    assert run(weft, "--version", folder=folder).startswith(f"weft {version}, Python ")
    assert "conv2" in run(weft, "check", model, folder=folder)
    shown = run(python, "-m", "weft.digits", "--config", "tiny", "--frames", "4", folder=folder,
                **cache)
    assert "\n0 of 160 output bytes differ from onnxruntime\n" in shown
    assert "accuracy: 100.00% (4 of 4 held-out images)" in shown
    run(weft, "report", model, "--config", "tiny", "-o", "page.html", folder=folder, **cache)
    assert (folder / "page.html").read_text().endswith("</html>\n")
