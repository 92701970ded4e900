"""Parameters of a test of which a part is quick enough for ``make test``."""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest

__all__ = ["sweep"]


def sweep(*axes: Iterable[Any], fast: Callable[..., Any]) -> list[Any]:
    """Every combination of the values of ``axes``; those that ``fast`` does not hold for are
    ``slow``."""
    return [pytest.param(*case, marks=() if fast(*case) else pytest.mark.slow)
            for case in product(*axes)]
