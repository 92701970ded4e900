"""How a model is divided between accelerator and host, and what is asked of its format.

The front end of a format implements the protocols here: :class:`HostProgram` for what the host
computes, :class:`Model` for what is known of the whole, :class:`Golden` for values to compare with.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from weft.errors import ModelError, WeftError
from weft.errors.text import printable

from .graph import Graph

__all__ = ["Golden", "HostExecutor", "HostPart", "HostProgram", "Misfits", "Model", "Partition",
           "Placement", "TensorInfo", "Where"]


Misfits = Callable[[Sequence[Graph]], Mapping[str, WeftError]]
"""Layers of the graphs of a model that an accelerator cannot compute, by their output tensor, with
the reason. A front end leaves them to the host; it knows nothing else of the accelerator."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An input or output of a model.

    Parameters
    ----------
    name : :class:`str`
    shape : :class:`tuple`
        Of one frame, batch dimension included.
    dtype : :class:`numpy.dtype`
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class HostExecutor(Protocol):
    """A part of a model, ready to run on the host."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Its outputs by name, for exactly its inputs by name, of one frame.

        Raises
        ------
        ModelError
            If it cannot be computed.
        """
        ...


class HostProgram(Protocol):
    """A part of a model as its front end has cut it out, in whatever form."""

    def load(self) -> HostExecutor:
        """Prepares it to run.

        Raises
        ------
        ModelError
            If the host lacks what it takes.
        """
        ...


class Golden(Protocol):
    """An implementation of a model that the accelerator is compared with.

    Attributes
    ----------
    name : :class:`str`
        For messages: ``<name> gives 3``.
    caveats : :class:`tuple` of :class:`str`
        Why its values may not be exact for this model on this machine, so that a difference need
        not be the accelerator's.
    """

    @property
    def name(self) -> str: ...

    @property
    def caveats(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's outputs, and the tensors that were asked for, by name, in the model's shapes
        and types, for the model's inputs by name, of one frame."""
        ...


class Model(Protocol):
    """What is known of a whole model, in whatever format it came.

    Attributes
    ----------
    inputs, outputs : :class:`tuple` of :class:`TensorInfo`
    states : mapping
        Outputs that are inputs of the next frame, if the model itself says so.
    tensors : collection of :class:`str`
        Names of the tensors whose values :meth:`golden` can give.
    """

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def states(self) -> Mapping[str, str]: ...

    @property
    def tensors(self) -> Collection[str]: ...

    def quantization(self, name: str) -> tuple[float, int] | None:
        """Scale and zero point of an input or output of 8 bits, if they are known."""
        ...

    def golden(self, tensors: Iterable[str] = ()) -> Golden:
        """Another implementation of the model, that gives the values of ``tensors`` too."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class HostPart:
    """A part of a model that the host runs.

    Parameters
    ----------
    program : :class:`HostProgram`
    inputs, outputs : :class:`tuple` of :class:`str`
        Tensors of the model.
    """

    program: HostProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Where(StrEnum):
    """Who runs a node."""
    ACCELERATOR = "accelerator"
    HOST        = "host"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a node of the model runs, and why not on the accelerator.

    Parameters
    ----------
    name : :class:`str`
        Name of the model's node; of its output, if it has none.
    op : :class:`str`
        Its operator in the file.
    where : :class:`Where`
    segment : :class:`int`
        Index in :attr:`Partition.segments`.
    reason : :class:`str`
        Why the host runs it; empty on the accelerator.
    cure : :class:`str`
        What to change so that it need not, if that is known.
    layer : :class:`str`
        The layer of the segment's graph that does its work; empty on the host.
    note : :class:`str`
        What else there is to know, as that the golden implementation computes it in float32.
    macs : :class:`int`
        Multiply-accumulates that the host does for it; 0 on the accelerator, whose layers know
        their own.
    """

    name: str
    op: str
    where: Where
    segment: int
    reason: str = ""
    cure: str = ""
    layer: str = ""
    note: str = ""
    macs: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """How a model runs: segments one after the other, each on the accelerator or on the host.

    The model's tensors go from segment to segment by name, beginning with its inputs: a host part
    reads and makes those it names, an accelerated graph those of its edges. The model's outputs
    are among them in the end.

    Parameters
    ----------
    name : :class:`str`
    model : :class:`Model`
        The whole model.
    segments : :class:`tuple` of :class:`Graph` and :class:`HostPart`
        In execution order.
    placements : :class:`tuple` of :class:`Placement`
        One for each node that computes something from the inputs, in the order of the file.
    refusal : :class:`ModelError`
        Why no segment is a graph; :py:`None` if one is.
    """

    name: str
    model: Model
    segments: tuple[Graph | HostPart, ...]
    placements: tuple[Placement, ...] = ()
    refusal: ModelError | None = None

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The segments that run on the accelerator."""
        return tuple(segment for segment in self.segments if isinstance(segment, Graph))

    @property
    def warning(self) -> str:
        """That the host runs all of the model, why, and what to change; empty if it does not."""
        if self.refusal is None:
            return ""
        cure = f"; {self.refusal.cure}" if self.refusal.cure else ""
        return (f"0 of {len(self.placements)} nodes of {printable(self.name)} on the accelerator, "
                f"the host runs all of it: {self.refusal}{cure}")

    def accelerated(self) -> tuple[Graph, ...]:
        """As :attr:`graphs`, for those who can do nothing without one.

        Raises
        ------
        ModelError
            If there is none, with the reason.
        """
        if self.refusal is not None:
            raise self.refusal
        return self.graphs
