import pytest

from weft.errors import InputError
from weft.output import check_writable, replacing


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
