import os
import subprocess
import sys
from pathlib import Path

import pytest

from weft.errors import InputError
from weft.files.output import check_outputs, check_writable, replacing, write_text


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as temporary:
        assert temporary.parent.parent == tmp_path and temporary.name == path.name
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_file_stays_as_it_was_after_an_exception(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_written_is_nothing_moved(tmp_path):
    with replacing(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_wrong(tmp_path):
    path = tmp_path / "none" / "a.txt"
    with pytest.raises(InputError, match=rf"^Output {path} cannot be written: there is no folder "
                                         rf"{path.parent}$"):
        check_writable(path)


def test_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link, second = tmp_path / "folder" / "real.txt", tmp_path / "a", tmp_path / "b"
    link.symlink_to(target)
    second.symlink_to(link)
    for text in ("made", "replaced"):       # a link that leads to no file yet makes it
        write_text(second, text)
        assert link.is_symlink() and second.is_symlink()
        assert target.read_text() == text and not target.is_symlink()
    assert sorted(tmp_path.rglob("*")) == [link, second, tmp_path / "folder", target]


def test_replaced_file_keeps_its_mode_and_its_other_names(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / "other.txt"
    path.write_text("old")
    path.chmod(0o640)
    other.hardlink_to(path)
    write_text(path, "new")
    assert path.read_text() == "new" and other.read_text() == "old"
    assert path.stat().st_mode & 0o777 == 0o640


def test_device_is_written_to_and_stays(tmp_path):
    link = tmp_path / "null.json"
    link.symlink_to("/dev/null")
    for path in (Path("/dev/null"), link):
        check_writable(path)
        write_text(path, "text")
    assert Path("/dev/null").is_char_device() and link.is_symlink()
    assert list(tmp_path.iterdir()) == [link]


def test_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text(path, "text")
    assert os.read(reader, 100) == b"text" and path.is_fifo()
    os.close(reader)


def test_full_device_is_named():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with pytest.raises(InputError, match=r"^Output /dev/full cannot be written: No space left on "
                                         r"device$"):
        write_text(Path("/dev/full"), "text")


@pytest.mark.parametrize("redirection", ["> {}", "| cat > {}", ">> {}"])
def test_standard_output_is_written_in_order_under_any_name(tmp_path, redirection):
    path = tmp_path / "out.txt"
    program = ("from pathlib import Path; from weft.files.output import write_text\n"
               "print('first')\nwrite_text(Path('{}'), 'second\\n')\nprint('third')")
    names = ["/dev/stdout", "/dev/fd/1"] + ([] if "cat" in redirection else [str(path)])
    for name in names:
        path.unlink(missing_ok=True)
        subprocess.run(["sh", "-c", f'"$0" -c "$1" {redirection.format(path)}', sys.executable,
                        program.format(name)], check=True)
        assert path.read_text() == "first\nsecond\nthird\n"


def test_link_to_itself_and_link_into_nowhere_wrong(tmp_path):
    loop, lost = tmp_path / "loop", tmp_path / "lost"
    loop.symlink_to(loop)
    lost.symlink_to(tmp_path / "none" / "a.txt")
    with pytest.raises(InputError, match=f"^Output {loop} cannot be written: "):
        check_writable(loop)
    with pytest.raises(InputError, match=f"^Output {lost} cannot be written: there is no folder "
                                         f"{tmp_path / 'none'}$"):
        check_writable(lost)


def test_input_is_no_output_under_any_name(tmp_path, monkeypatch):
    model = tmp_path / "m.onnx"
    model.write_text("model")
    (tmp_path / "link").symlink_to(model)
    (tmp_path / "hard").hardlink_to(model)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in (str(model), "m.onnx", "./m.onnx", "folder/../m.onnx", "link", "hard"):
        with pytest.raises(InputError, match=f"^Output {Path(name)} of --json must be a file of "
                                             f"its own, not that of the model$"):
            check_outputs({"--json": Path(name)}, {"the model": model, "--inputs": None})


def test_two_outputs_are_two_files(tmp_path):
    path, link = tmp_path / "a", tmp_path / "link"
    link.symlink_to(path)       # which does not exist
    for second in (path, link, tmp_path / "." / "a"):
        with pytest.raises(InputError, match=f"^Output {second} of --output must be a file of its "
                                             f"own, not that of --json$"):
            check_outputs({"--json": path, "--trace": None, "--output": second}, {})
    check_outputs({"--json": Path("/dev/null"), "--output": Path("/dev/null")}, {})
    check_outputs({"--json": path, "--output": tmp_path / "b"}, {"--config": "base"})
