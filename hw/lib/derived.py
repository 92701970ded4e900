"""Figures of a class that follow from others."""

from collections.abc import Callable
from typing import Any

__all__ = ["derived"]


class derived:
    """Makes an attribute of a class, and of its instances, from a function of the class.

    It is worked out whenever it is asked for: who changes what it follows from, as a test does,
    changes it as well.
    """

    def __init__(self, function: Callable[[Any], int]):
        self._function = function

    def __get__(self, instance: object, owner: type) -> int:
        return self._function(owner)
