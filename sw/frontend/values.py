"""What the front end knows of an ONNX tensor while it walks the nodes."""

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx

from weft.errors import ModelError

__all__ = ["Clip", "Constant", "Dequantized", "Geometry", "Host", "Opaque", "Pending", "Quantized",
           "QuantizedConstant", "Value", "View"]


@dataclass(frozen=True, eq=False)
class View:
    """Elements of another tensor in a new shape and order: what a chain of reshapes and transposes
    does, without naming its steps.

    Parameters
    ----------
    shape : :class:`tuple`
    indices : int64 array of that shape, or :py:`None`
        Flat index into the other tensor of each element; :py:`None` for 0, 1, 2...
    """

    shape: tuple[int, ...]
    indices: np.ndarray | None = None

    @classmethod
    def of(cls, indices: np.ndarray) -> "View":
        """A view with these indices; in the short form where they are just counting."""
        if np.array_equal(indices.reshape(-1), np.arange(indices.size)):
            return cls(indices.shape)
        return cls(indices.shape, indices)

    def array(self) -> np.ndarray:
        """The indices, whether stored or not."""
        if self.indices is None:
            return np.arange(prod(self.shape)).reshape(self.shape)
        return self.indices

    def flat(self) -> np.ndarray | None:
        """The indices in one dimension, or :py:`None` for 0, 1, 2..."""
        return None if self.indices is None else self.indices.reshape(-1)

    def reshape(self, shape: tuple[int, ...]) -> "View":
        return View(shape, None if self.indices is None else self.indices.reshape(shape))

    def transpose(self, axes: tuple[int, ...]) -> "View":
        return View.of(self.array().transpose(axes))

    def inverse(self, shape: tuple[int, ...]) -> "View":
        """The view, in ``shape``, through which the other tensor sees this one."""
        if self.indices is None:
            return View(shape)
        inverse = np.empty(self.indices.size, np.int64)
        inverse[self.indices.reshape(-1)] = np.arange(self.indices.size)
        return View(shape, inverse.reshape(shape))

    def through(self, other: "View") -> "View":
        """This view of ``other``, as a view of what ``other`` looks at."""
        if other.indices is None:
            return self
        return View.of(other.indices.reshape(-1)[self.array()])

    def same(self, other: "View") -> bool:
        """Whether shapes and elements agree."""
        return self.shape == other.shape and (
            (self.indices is None and other.indices is None)
            or np.array_equal(self.array(), other.array()))


@dataclass(frozen=True)
class Clip:
    """Bounds on a real value, from Relu and Clip nodes; ``node`` names the last of them."""

    low: float = -np.inf
    high: float = np.inf
    node: str = ""

    def within(self, low: float, high: float, node: str) -> "Clip":
        """These bounds, then ``min(max(x, low), high)``."""
        def apply(x: float) -> float:
            return min(max(x, low), high)
        return Clip(apply(self.low), apply(self.high), node)

    @property
    def active(self) -> bool:
        return bool(self.node)


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor known now, of any type."""

    array: np.ndarray


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """A dequantized constant: ``(values - zero_point) * scale``.

    ``scale`` and ``zero_point`` have the shape of ``values``, mostly as broadcast views.
    """

    values: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray

    def reshape(self, shape: tuple[int, ...]) -> "QuantizedConstant":
        return QuantizedConstant(self.values.reshape(shape), self.scale.reshape(shape),
                                 self.zero_point.reshape(shape))

    def transpose(self, axes: tuple[int, ...]) -> "QuantizedConstant":
        return QuantizedConstant(self.values.transpose(axes), self.scale.transpose(axes),
                                 self.zero_point.transpose(axes))


@dataclass(frozen=True)
class Host:
    """Computed by the host from the graph's inputs alone."""


@dataclass(eq=False)
class Quantized:
    """A quantized activation in the ONNX graph.

    Parameters
    ----------
    name : :class:`str`
        Of the ONNX tensor.
    shape : :class:`tuple`
        In the ONNX graph.
    scale : :class:`float`
    zero_point : :class:`int`
        In the int8 domain.
    unsigned : :class:`bool`
    tensor : :class:`str` or :py:`None`
        Tensor on the accelerator that holds the values; :py:`None` for one that the host makes.
    layout : :class:`View`, [C, H, W]
        What that tensor sees of this one.
    placed : :class:`dict`
        For one that the host makes: tensors on the accelerator, with their layouts, that the
        layers which read it asked for.
    sole : :class:`bool`
        Whether no other node reads the tensor on the accelerator.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    unsigned: bool
    tensor: str | None = None
    layout: View = field(default_factory=lambda: View(()))
    placed: dict[str, View] = field(default_factory=dict)
    sole: bool = True

    @property
    def accelerated(self) -> bool:
        return self.tensor is not None

    def same_quantization(self, other: "Quantized") -> bool:
        return (self.scale, self.zero_point, self.unsigned) == \
            (other.scale, other.zero_point, other.unsigned)


@dataclass(frozen=True, eq=False)
class Dequantized:
    """Real values of a quantized activation, seen through reshapes and transposes, and clipped.

    ``exclusive`` tells that no other node sees the quantized tensor.
    """

    source: Quantized
    view: View
    clip: Clip = Clip()
    exclusive: bool = True


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Window of a convolution, as in :class:`weft.ir.Convolution`."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False)
class Pending:
    """Real-valued result of a layer that still lacks its output quantization.

    Parameters
    ----------
    node : :class:`onnx.NodeProto`
        The layer's node.
    input : :class:`str`
        Tensor on the accelerator.
    source : :class:`Quantized`
        The quantization of that tensor.
    weights : int8 [N, C, kernel_h, kernel_w]
    weight_scale : float32 [N]
    bias : int32 [N]
    has_bias : :class:`bool`
    geometry : :class:`Geometry`
    shape : (N, out_h, out_w)
        Of the accelerator's output tensor.
    view : :class:`View`
        What the ONNX tensor sees of that output.
    channel_axis : :class:`int` or :py:`None`
        Axis of the output channels in the ONNX tensor while no view has moved it.
    clip : :class:`Clip`
    """

    node: onnx.NodeProto
    input: str
    source: Quantized
    weights: np.ndarray
    weight_scale: np.ndarray
    bias: np.ndarray
    has_bias: bool
    geometry: Geometry
    shape: tuple[int, int, int]
    view: View
    channel_axis: int | None
    clip: Clip = Clip()


@dataclass(frozen=True, eq=False)
class Opaque:
    """Depends on the accelerator's results through something it cannot do.

    Harmless on the way to the graph's outputs, where the host computes it; ``reason`` is raised
    when a layer needs it. ``layer`` tells that it is a layer itself, which is never left to the
    host silently when it is quantized.
    """

    reason: ModelError
    layer: bool = False


Value = (Constant | QuantizedConstant | Host | Quantized | Dequantized | Pending | Opaque)
