"""The page of ``weft report``: one HTML file that needs nothing else.

``contents`` collects what there is to show, ``roofline`` works some of it out,
``page.html`` with ``style.css`` and ``timeline.js`` says how it looks.
"""

from jinja2 import Environment, PackageLoader, StrictUndefined

from weft.ir import Partition
from weft.runtime.advice import Advice
from weft.runtime.runner import Run

from .contents import contents

__all__ = ["report_page"]


def report_page(run: Run, plan: Partition, advice: Advice | None = None) -> str:
    """The report of a run on a device with a clock: HTML with styles, figures and scripts inside.

    Parameters
    ----------
    run : :class:`weft.runtime.runner.Run`
        Its last frame, or batch, is what most of the page shows.
    plan : :class:`weft.ir.Partition`
        Of the model.
    advice : :class:`weft.runtime.advice.Advice`
        What would make it faster.
    """
    environment = Environment(loader=PackageLoader("weft.report.page", "."), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              keep_trailing_newline=True)
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    return environment.get_template("page.html").render(contents(run, plan, advice))
