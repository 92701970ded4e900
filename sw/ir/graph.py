"""The graph between front end and compiler: the layers of a model, and what comes in and goes out.

Everything is for one frame and in the int8 domain of the hardware.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from weft.errors import ModelError
from weft.errors.text import printable

from .layer import Layer
from .tensor import Tensor

__all__ = ["Edge", "Graph"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Edge:
    """A tensor that crosses between host and accelerator.

    Parameters
    ----------
    name : :class:`str`
        Quantized tensor of the model.
    shape : :class:`tuple`
        Its shape there, batch dimension (1) included.
    tensor : :class:`str`
        The tensor on the accelerator.
    gather : int64 array or :py:`None`
        Reshapes and transposes on the way, as flat indices: for an input
        ``accelerator.flat = model.flat[gather]``, for an output ``model.flat =
        accelerator.flat[gather]``. :py:`None` where both flat orders agree.
    """

    name: str
    shape: tuple[int, ...]
    tensor: str
    gather: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """What the accelerator computes in one go: layers between tensors that the host exchanges.

    Parameters
    ----------
    name : :class:`str`
        For messages and reports.
    tensors : :class:`dict`
        By name.
    layers : :class:`tuple`
        In execution order.
    inputs, outputs : :class:`tuple` of :class:`Edge`
    frames : :class:`int`
        Frames that it computes; see :func:`weft.compiler.batch`, which makes those of several.
    constants : :class:`dict`
        Tensors whose values are known, int8 [C, H, W] by name: no layer makes them, and the host
        writes them once, with the weights.
    """

    name: str
    tensors: dict[str, Tensor]
    layers: tuple[Layer, ...]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    frames: int = 1
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def given(self) -> frozenset[str]:
        """Names of the tensors that no layer makes: inputs and constants."""
        return frozenset((*(edge.tensor for edge in self.inputs), *self.constants))

    def enter(self, edge: Edge, values: np.ndarray) -> np.ndarray:
        """The int8 [C, H, W] values on the accelerator of an input edge's tensor of the model."""
        flat = values.reshape(-1)
        if flat.size != prod(edge.shape):
            raise ModelError(f"Tensor '{printable(edge.name)}' must have the shape that the model "
                             f"states, {'x'.join(map(str, edge.shape))}, "
                             f"not {'x'.join(map(str, values.shape))}")
        if flat.dtype == np.uint8:
            flat = (flat ^ np.uint8(128)).view(np.int8)
        if edge.gather is not None:
            flat = flat[edge.gather]
        return np.ascontiguousarray(flat.reshape(self.tensors[edge.tensor].shape))

    def leave(self, edge: Edge, values: np.ndarray) -> np.ndarray:
        """The model's tensor of an output edge from its int8 [C, H, W] values."""
        flat = self.tensors[edge.tensor].in_model_type(values).reshape(-1)
        if edge.gather is not None:
            flat = flat[edge.gather]
        return flat.reshape(edge.shape)
