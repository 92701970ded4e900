"""The graph between front end and compiler: quantized tensors and the layers that make them.

Everything is for one frame and in the int8 domain of the hardware: an ONNX uint8 tensor is an int8
one with its values and its zero point moved by 128. Tensors are channel-first, [C, H, W]; vectors
are [C, 1, 1].
"""

from dataclasses import dataclass, field

import numpy as np
import onnx

__all__ = ["Tensor", "Convolution", "Edge", "Graph"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A quantized tensor of one frame.

    Parameters
    ----------
    name : :class:`str`
        Name of the ONNX tensor that holds these values (the output of a QuantizeLinear).
    shape : (C, H, W)
    scale : :class:`float`
        A float32 value.
    zero_point : :class:`int`
        In the int8 domain.
    unsigned : :class:`bool`
        Whether the ONNX tensor is uint8, so that its values are 128 larger than ours.
    order : int64 array or :py:`None`
        Order of the ONNX tensor's values, as flat indices: ``ours.flat = onnx.flat[order]``.
        :py:`None` where both flat orders agree.
    """

    name: str
    shape: tuple[int, int, int]
    scale: float
    zero_point: int
    unsigned: bool = False
    order: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """A convolution with requantization and clamp; a fully connected layer is one whose kernel
    covers its whole input.

    Parameters
    ----------
    name : :class:`str`
        Name of the ONNX node.
    op : :class:`str`
        Its operator: Conv, Gemm or MatMul.
    input, output : :class:`str`
        Tensor names.
    weights : int8 [N, C, kernel_h, kernel_w]
    bias : int32 [N]
        As in the model: nothing folded in.
    multiplier : float32 [N]
        ``fl32(fl32(sx * sw) / sy)``.
    strides, dilations : (h, w)
    pads : (top, left, bottom, right)
    clamp : (low, high)
        Bounds of the output in the int8 domain, -128..127.
    """

    name: str
    op: str
    input: str
    output: str
    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    clamp: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, kw_only=True, eq=False)
class Edge:
    """A tensor that crosses between host and accelerator.

    Parameters
    ----------
    onnx_name : :class:`str`
        Quantized tensor in the ONNX graph.
    onnx_shape : :class:`tuple`
        Its shape there, batch dimension (1) included.
    tensor : :class:`str`
        The tensor on the accelerator.
    gather : int64 array or :py:`None`
        Reshapes and transposes on the way, as flat indices: for an input
        ``accelerator.flat = onnx.flat[gather]``, for an output ``onnx.flat =
        accelerator.flat[gather]``. :py:`None` where both flat orders agree.
    """

    onnx_name: str
    onnx_shape: tuple[int, ...]
    tensor: str
    gather: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """An accelerated graph, with the host's parts on both sides of it.

    Parameters
    ----------
    name : :class:`str`
        For messages and reports.
    tensors : :class:`dict`
        By name.
    layers : :class:`tuple`
        In execution order.
    inputs, outputs : :class:`tuple` of :class:`Edge`
    model : :class:`onnx.ModelProto`
        The whole model, as loaded, with shapes inferred.
    prefix : :class:`onnx.ModelProto` or :py:`None`
        From the graph's inputs to the ``inputs`` edges: runs on the host. An edge that is a graph
        input itself is not among its outputs.
    suffix : :class:`onnx.ModelProto` or :py:`None`
        From the ``outputs`` edges, and graph inputs where a path goes round the accelerator, to
        the graph's outputs: runs on the host. A graph output that is an edge itself is not among
        its outputs.
    """

    name: str
    tensors: dict[str, Tensor]
    layers: tuple[Convolution, ...]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    model: onnx.ModelProto
    prefix: onnx.ModelProto | None = field(default=None)
    suffix: onnx.ModelProto | None = field(default=None)

    def enter(self, edge: Edge, values: np.ndarray) -> np.ndarray:
        """The int8 [C, H, W] values on the accelerator of an input edge's ONNX tensor."""
        flat = values.reshape(-1)
        if flat.dtype == np.uint8:
            flat = (flat ^ np.uint8(128)).view(np.int8)
        if edge.gather is not None:
            flat = flat[edge.gather]
        return np.ascontiguousarray(flat.reshape(self.tensors[edge.tensor].shape))

    def leave(self, edge: Edge, values: np.ndarray) -> np.ndarray:
        """The ONNX tensor of an output edge from its int8 [C, H, W] values."""
        flat = values.reshape(-1)
        if edge.gather is not None:
            flat = flat[edge.gather]
        if self.tensors[edge.tensor].unsigned:
            flat = flat.view(np.uint8) ^ np.uint8(128)
        return flat.reshape(edge.onnx_shape)
