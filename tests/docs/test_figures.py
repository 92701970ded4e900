import pytest
from places import ROOT

from .pages import load_script

FIGURES = sorted((ROOT / "docs" / "figures").glob("*.toml"))


@pytest.mark.parametrize("source", FIGURES, ids=lambda source: source.stem)
def test_figure_is_drawn_from_its_source(source):
    drawn = load_script(ROOT / "docs" / "figures" / "draw.py").draw(source.read_text())
    assert source.with_suffix(".svg").read_text() == drawn, "run python docs/figures/draw.py"


def test_every_figure_has_a_source():
    assert [path.stem for path in sorted((ROOT / "docs" / "figures").glob("*.svg"))] == \
        [path.stem for path in FIGURES]
