import pytest
from places import ROOT

from .pages import load_script


@pytest.fixture
def broken_links():
    return load_script(ROOT / "docs" / "check_links.py").broken_links


def test_links_to_files_and_places_are_checked(broken_links, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="sub/b.html#there">b</a><a href="#here">a</a>'
        '<a href="https://example.org/nowhere">far</a><img src="c.png"><a href="#lost">lost</a>'
        '<a href="sub/b.html#gone">gone</a>')
    (tmp_path / "sub" / "b.html").write_text('<p id="there"><a href="../a.html#here">a</a></p>')
    assert broken_links(tmp_path) == ["a.html: no file for c.png", "a.html: no place for #lost",
                                      "a.html: no place for sub/b.html#gone"]
