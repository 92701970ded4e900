"""What the page is made of."""

from collections.abc import Sequence
from typing import Any, Protocol

from weft.explore.points import Point
from weft.explore.search import Trial
from weft.explore.trial import Outcome

__all__ = ["Shown"]


class Shown(Protocol):
    """The members of :class:`weft.explore.Result` that are shown."""

    @property
    def about(self) -> dict[str, Any]: ...

    @property
    def objectives(self) -> tuple[str, ...]: ...

    @property
    def trials(self) -> Sequence[Trial]: ...

    @property
    def points(self) -> Sequence[Point]: ...

    @property
    def base(self) -> Outcome: ...
