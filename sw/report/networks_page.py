"""The page of networks: ``python -m weft.report.networks_page > docs/networks.md`` makes it out of
what ``weft survey --record`` recorded, with titles and sources of ``benchmarks/networks.toml``."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from weft.bench.markdown import escape, number, table

from .survey import SURVEY, SurveyedNetwork, load_survey

__all__ = ["networks_page", "read_titles"]


_TITLES = SURVEY.with_suffix(".toml")

_INTRODUCTION = """\
# Networks

What becomes of networks that were not made for this accelerator: int8, with random input, every
byte of their outputs compared. Cycles are those of the first frame, which loads all constants, all
accelerated parts together: on the simulated Verilog, with a memory that answers after 32 cycles and
moves a beat per cycle in each direction. Utilization is `MACs / (cycles * rows * cols)`.
`weft survey` measures your own networks likewise ([cli.md](cli.md)). This page is made by

    weft survey --record benchmarks/networks.json MODEL...
    python -m weft.report.networks_page > docs/networks.md"""

_HOST = """\
## What stays on the host

But for quantizing the input and dequantizing the output, and for rearranging and softmax before the
first and behind the last accelerated node."""


def networks_page(networks: Iterable[SurveyedNetwork],
                  titles: Mapping[str, Mapping[str, str]]) -> str:
    """The record as Markdown.

    Parameters
    ----------
    networks : list of :class:`SurveyedNetwork`
    titles : :class:`dict`
        For each network that has them, ``title`` and ``source``.
    """
    networks = list(networks)

    def title(each: SurveyedNetwork) -> str:
        return escape(titles.get(each.network, {}).get("title", each.network))

    def row(each: SurveyedNetwork) -> tuple[str, ...]:
        start = title(each), escape(titles.get(each.network, {}).get("source", "")), each.config
        if each.refused:
            return *start, *[""] * 6, f"refused: {escape(each.refused)}"
        return (*start, f"{each.accelerated} of {each.nodes}", number(each.macs),
                f"{each.share:.1%}", str(each.parts),
                number(each.cycles) if each.cycles else "",
                f"{each.utilization:.1%}" if each.cycles else "",
                f"{each.differing:,} of {each.compared:,} ({escape(each.golden)})")

    parts = [_INTRODUCTION, table(
        {"network": "<", "source": "<", "config": "<", "nodes": ">", "MACs": ">",
         "accelerated": ">", "parts": ">", "cycles": ">", "utilization": ">",
         "differing bytes": ">"}, map(row, networks))]
    rows = [(title(each), each.config, str(host.count), host.op, escape(host.reason))
            for each in networks for host in each.host]
    if rows:
        parts += [_HOST, table({"network": "<", "config": "<", "nodes": ">", "operator": "<",
                                "why, of the first": "<"}, rows)]
    return "\n\n".join(parts) + "\n"


def read_titles(path: Path = _TITLES) -> dict[str, dict[str, str]]:
    """Titles and sources, by the name of the network's file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    print(networks_page(load_survey(), read_titles()), end="")
