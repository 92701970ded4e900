"""What the front end knows of an ONNX tensor while it walks the nodes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from weft.frontend.placing import Quantized
from weft.frontend.views import View
from weft.ir import NO_PADS, Layer, Pads

__all__ = ["Clip", "Constant", "Dequantized", "Filter", "Host", "Padded", "Pending", "Quantized",
           "QuantizedConstant", "Raw", "Value", "View", "stage_of"]


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

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def reshape(self, shape: tuple[int, ...]) -> "QuantizedConstant":
        return QuantizedConstant(self.values.reshape(shape), self.scale.reshape(shape),
                                 self.zero_point.reshape(shape))

    def transpose(self, axes: tuple[int, ...]) -> "QuantizedConstant":
        return QuantizedConstant(self.values.transpose(axes), self.scale.transpose(axes),
                                 self.zero_point.transpose(axes))


@dataclass(frozen=True)
class Host:
    """Computed by the host, in a ``stage`` (see :func:`stage_of`)."""

    stage: int = 0


@dataclass(frozen=True, eq=False)
class Dequantized:
    """Real values of a quantized activation: seen through reshapes and transposes, then padded with
    zeros, or changed one by one.

    Parameters
    ----------
    source : :class:`Quantized`
    view : :class:`View`
    pads : :class:`weft.ir.Pads`
    clip : :class:`Clip`
    nodes : :class:`tuple` of :class:`onnx.NodeProto`
        What changes each value: a function of that value alone.
    bounded : :class:`bool`
        Whether those nodes do no more than ``clip`` says.
    exclusive : :class:`bool`
        Whether no other node sees the quantized tensor.
    """

    source: Quantized
    view: View
    pads: Pads = NO_PADS
    clip: Clip = Clip()
    nodes: tuple[onnx.NodeProto, ...] = ()
    bounded: bool = True
    exclusive: bool = True


@dataclass(frozen=True, eq=False)
class Padded:
    """A quantized activation that is ``inner``, its padding not yet made: the layers that read it
    pad it themselves."""

    target: Quantized
    inner: Dequantized


@dataclass(frozen=True, eq=False)
class Filter:
    """What a constant added to the result of a convolution needs to know of it.

    Parameters
    ----------
    source : :class:`Quantized`
        The input.
    weight_scale : float32 [N]
    bias : int32 [N]
    has_bias : :class:`bool`
    channel_axis : :class:`int` or :py:`None`
        Axis of the output channels in the ONNX tensor while no view has moved it.
    """

    source: Quantized
    weight_scale: np.ndarray
    bias: np.ndarray
    has_bias: bool
    channel_axis: int | None


Make = Callable[[str, Quantized, "Pending"], Layer]
"""Makes a layer of a given name from its output quantization; may refuse with a ModelError."""


@dataclass(frozen=True, eq=False)
class Pending:
    """Real-valued result of a layer that still lacks its output quantization.

    Parameters
    ----------
    node : :class:`onnx.NodeProto`
        The layer's node.
    stage : :class:`int`
        Where its inputs are made.
    shape : (N, out_h, out_w)
        Of the accelerator's output tensor.
    view : :class:`View`
        What the ONNX tensor sees of that output.
    make : :data:`Make`
    clip : :class:`Clip`
    filter : :class:`Filter` or :py:`None`
        For a convolution.
    """

    node: onnx.NodeProto
    stage: int
    shape: tuple[int, int, int]
    view: View
    make: Make
    clip: Clip = Clip()
    filter: Filter | None = None


@dataclass(frozen=True, eq=False)
class Raw:
    """int32 sums that the accelerator makes, and the host alone reads."""

    sums: Quantized


Value = Constant | QuantizedConstant | Host | Quantized | Dequantized | Padded | Pending | Raw


def stage_of(value: Value) -> int:
    """The stage that makes a value: 0 is the host, before anything runs on the accelerator, 1 the
    accelerator, 2 the host again, and so on."""
    match value:
        case Host() | Quantized() | Pending():
            return value.stage
        case Dequantized():
            return value.source.stage
        case Raw():
            return value.sums.stage
        case Padded():
            return value.inner.source.stage
    return 0
