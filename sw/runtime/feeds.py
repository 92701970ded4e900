"""What goes into a model: its inputs, and the frames that they are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from weft.errors import InputError
from weft.ir import TensorInfo

__all__ = ["NodeArg", "count_frames", "split_frames"]


@dataclass(frozen=True, kw_only=True)
class NodeArg:
    """An input or output of a model, as onnxruntime describes it.

    Attributes
    ----------
    name : :class:`str`
    shape : :class:`list` of :class:`int`
        Of one frame, batch dimension included.
    type : :class:`str`
        Such as ``tensor(float)``.
    """

    name: str
    shape: list[int]
    type: str
    dtype: np.dtype[Any] = field(repr=False)

    @classmethod
    def of(cls, info: TensorInfo) -> Self:
        """Of what is known of the model."""
        kind = {"float32": "float", "float64": "double"}.get(info.dtype.name, info.dtype.name)
        return cls(name=info.name, shape=list(info.shape), type=f"tensor({kind})",
                   dtype=info.dtype)


def count_frames(inputs: Sequence[NodeArg], feeds: Mapping[str, np.ndarray]) -> int:
    """The number of frames in arrays by input name, whose names, shapes and types are checked.

    Raises
    ------
    InputError
        If one of them is wrong.
    """
    names = [info.name for info in inputs]
    if set(feeds) != set(names):
        raise InputError(f"Inputs must be {', '.join(names)}, "
                         f"not {', '.join(feeds) or 'none'}")
    counts = {}
    for info in inputs:
        values, batched = feeds[info.name], info.shape[:1] == [1]
        if not isinstance(values, np.ndarray):
            raise InputError(f"Input '{info.name}' must be an array, "
                             f"not {type(values).__name__}")
        if values.dtype != info.dtype:
            raise InputError(f"Input '{info.name}' must be {info.dtype}, not {values.dtype}")
        sizes = ["frames", *map(str, info.shape[1:])] if batched else map(str, info.shape)
        if list(values.shape[batched:]) != info.shape[batched:]:
            raise InputError(f"Input '{info.name}' must have shape [{', '.join(sizes)}], "
                             f"not {list(values.shape)}")
        counts[info.name] = len(values) if batched else 1
    if len(set(counts.values())) > 1:
        text = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise InputError(f"Inputs must hold the same number of frames, not {text}")
    frames = next(iter(counts.values()), 1)
    if frames < 1:
        raise InputError("Inputs must hold at least one frame, not 0")
    return frames


def split_frames(feeds: Mapping[str, np.ndarray], frames: int) -> list[dict[str, np.ndarray]]:
    """Feeds of one frame each, out of arrays with ``frames`` of them."""
    return [{name: values[index:index + 1] if frames > 1 else values
             for name, values in feeds.items()} for index in range(frames)]
