"""The interface page is the one its definitions make."""

from pathlib import Path

from weft.hw.document import interface_page

PAGE = Path(__file__).parents[2] / "docs" / "interface.md"


def test_interface_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == interface_page(), \
        "run python -m weft.hw.document > docs/interface.md"
