"""Several frames as one graph, so that they share the loads of constants."""

from collections.abc import Iterable
from dataclasses import replace
from math import prod
from typing import Any

from weft.errors import InputError
from weft.errors.limits import check_arrays
from weft.hw.isa.limits import MAX_COMMANDS
from weft.ir import Concat, Edge, Graph, Interleave, Layer

__all__ = ["batch", "check_batch"]


def check_batch(frames: int) -> int:
    """``frames``, if it is a number of frames for a batch.

    Raises
    ------
    InputError
        If it is not an integer of at least 1.
    """
    if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
        raise InputError(f"Batch must be an integer of at least 1, not {frames!r}")
    return frames


def batch(graph: Graph, frames: int) -> Graph:
    """A graph that computes ``frames`` frames, all of them layer by layer.

    Every tensor, layer and edge is there once for each frame, a constant once for all. Layers come
    copy by copy: the first one of all frames, then the second one of all frames; copies have the
    same name, and the very same arrays. Edges come frame by frame. Frame 0 has the tensors of
    ``graph``, the others have their own.

    Parameters
    ----------
    graph : :class:`Graph`
        Of one frame.
    frames : :class:`int`
        At least 1.

    Raises
    ------
    InputError
        If ``frames`` is not an integer of at least 1, or more than there are commands or memory
        for.
    """
    if check_batch(frames) == 1:
        return graph
    most = MAX_COMMANDS // len(graph.layers)
    if frames > most:
        raise InputError(f"Batch must be at most {most} for a model of {len(graph.layers)} layers, "
                         f"not {frames}: a stream can have {MAX_COMMANDS} commands")
    check_arrays(frames * sum(prod(tensor.shape) for tensor in graph.tensors.values()),
                 f"Tensors of a batch of {frames}", InputError)
    if graph.frames != 1:
        raise ValueError(f"Graph {graph.name!r} must be of one frame, not {graph.frames}")
    separator = " frame "
    while any(separator in name for name in graph.tensors):
        separator += " "

    def own(name: str, frame: int) -> str:
        return f"{name}{separator}{frame}" if frame and name not in graph.constants else name

    def copy(layer: Layer, frame: int) -> Layer:
        names: dict[str, Any] = {name: own(getattr(layer, name), frame)
                                 for name in ("input", "a", "b", "output") if hasattr(layer, name)}
        if isinstance(layer, Concat | Interleave):
            names["sources"] = tuple(own(name, frame) for name in layer.sources)
        return replace(layer, **names)

    def edges(side: Iterable[Edge]) -> tuple[Edge, ...]:
        return tuple(replace(edge, tensor=own(edge.tensor, frame))
                     for frame in range(frames) for edge in side)

    return replace(
        graph, frames=frames,
        tensors={own(name, frame): tensor if name in graph.constants else
                 replace(tensor, name=own(tensor.name, frame))
                 for frame in range(frames) for name, tensor in graph.tensors.items()},
        layers=tuple(copy(layer, frame) for layer in graph.layers for frame in range(frames)),
        inputs=edges(graph.inputs), outputs=edges(graph.outputs))
