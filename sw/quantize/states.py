"""States of a network that is calibrated: what it makes of one frame, the next one reads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.reference.golden import GoldenSession

from .frames import Frames

if TYPE_CHECKING:
    from .source import FloatModel

__all__ = ["StateFrames"]


class StateFrames(Sequence[Mapping[str, np.ndarray]]):
    """Frames of one sequence, with the states that the float model makes of those before, from
    zero on.

    Parameters
    ----------
    source : :class:`weft.quantize.source.FloatModel`
    frames : :data:`Frames`
        Without states.
    """

    def __init__(self, source: "FloatModel", frames: Frames):
        self._frames = frames
        self._states = list(_states(source, frames))

    @classmethod
    def of(cls, source: "FloatModel", frames: Frames) -> Frames:
        """The frames, with states if the model has any and they have not."""
        return frames if not source.states or isinstance(frames, cls) else cls(source, frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, position: Any) -> Any:
        return {**self._frames[position], **self._states[position]}


def _states(source: "FloatModel", frames: Frames) -> Iterator[dict[str, np.ndarray]]:
    session = GoldenSession(source.model)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
              for value in source.model.graph.input}
    state = {name: np.zeros(shapes[name], np.float32) for name in source.states.values()}
    for position in range(len(frames)):
        yield state
        made = session.run({**frames[position], **state})
        state = {name: made[output] for output, name in source.states.items()}
