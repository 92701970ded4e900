"""The page of ``weft explore``: one HTML file that needs nothing else, in the looks of that of
``weft report``."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from .contents import contents
from .source import Shown

__all__ = ["exploration_page"]


def exploration_page(result: Shown) -> str:
    """The result as HTML with styles, figures and scripts inside."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("weft.explore.page", "."),
                             PackageLoader("weft.report.page", ".")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True)
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    return environment.get_template("explore.html").render(contents(result))
