"""The interface page is the one its definitions make."""


from places import ROOT

from weft.hw.isa.document import interface_page

PAGE = ROOT / "docs" / "interface.md"


def test_interface_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == interface_page(), \
        "run python -m weft.hw.isa.document > docs/interface.md"
