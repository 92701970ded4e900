"""The graph between front end and compiler: quantized tensors and the layers that make them.

Everything is for one frame and in the int8 domain of the hardware: a model's uint8 tensor is an
int8 one with its values and its zero point moved by 128. Tensors are channel-first, [C, H, W];
vectors are [C, 1, 1].
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Any, NamedTuple, Self

import numpy as np

from weft.errors import ModelError
from weft.errors.text import printable
from weft.hw.isa.commands import Rounding

__all__ = ["NO_PADS", "Pads", "Tensor", "Layer", "Function", "Convolution", "Selection", "Sums",
           "Depthwise", "PoolKind", "Pool", "Add", "Multiply", "MatMul", "Lookup", "Affine",
           "Concat", "Alias", "Resize", "Interleave", "Edge", "Graph"]


class Pads(NamedTuple):
    """Rows and columns of padding around a plane."""
    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


NO_PADS = Pads()


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A quantized tensor of one frame.

    Parameters
    ----------
    name : :class:`str`
        Name of the model's tensor that holds these values.
    shape : (C, H, W)
    scale : :class:`float`
        A float32 value.
    zero_point : :class:`int`
        In the int8 domain.
    unsigned : :class:`bool`
        Whether the model's tensor is uint8, so that its values are 128 larger than ours.
    order : int64 array or :py:`None`
        Order of the model's values, as flat indices: ``ours.flat = model.flat[order]``.
        :py:`None` where both flat orders agree.
    model_shape : :class:`tuple` or :py:`None`
        Shape of the model's tensor, batch dimension (1) included; (1, C, H, W) if not given.
    parts : :class:`int`
        Channels that make one of the model's, which is int32: see :class:`Sums`; 1 for any other
        tensor. ``order`` is that of the int32 values, [C / parts, H, W].
    """

    name: str
    shape: tuple[int, int, int]
    scale: float
    zero_point: int
    unsigned: bool = False
    order: np.ndarray | None = field(default=None, compare=False)
    model_shape: tuple[int, ...] | None = field(default=None, compare=False)
    parts: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the model's tensor."""
        return np.dtype(np.int32 if self.parts > 1 else np.uint8 if self.unsigned else np.int8)

    def in_model_type(self, values: np.ndarray) -> np.ndarray:
        """Values of the model's type, [C / parts, H, W], from int8 [C, H, W]."""
        if self.parts > 1:
            return _joined(values, self.parts)
        return values.view(np.uint8) ^ np.uint8(128) if self.unsigned else values

    def to_model(self, values: np.ndarray) -> np.ndarray:
        """The model's tensor from int8 [C, H, W] values."""
        flat = self.in_model_type(values).reshape(-1)
        if self.order is not None:
            ordered = np.empty_like(flat)
            ordered[self.order] = flat
            flat = ordered
        return flat.reshape(self.model_shape or (1, self.shape[0] // self.parts, *self.shape[1:]))


def _joined(values: np.ndarray, parts: int) -> np.ndarray:
    """int32 [C, H, W] of their bytes, each less 128, int8 [parts * C, H, W], the lowest first."""
    octets = (values.view(np.uint8) ^ np.uint8(128)).reshape(parts, -1, *values.shape[1:])
    joined = octets[-1].view(np.int8).astype(np.int32)  # with the sign
    for octet in octets[-2::-1]:
        joined = joined << 8 | octet
    return joined


@dataclass(frozen=True, kw_only=True, eq=False)
class Function:
    """A function of one value, which the clamped results of a layer go through on their way.

    Parameters
    ----------
    before : :class:`Tensor`
        What these results mean; it is made nowhere.
    table : int8 [256] or [C, 256]
        As of a :class:`Lookup`.
    """

    before: Tensor
    table: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """What all layers have.

    Parameters
    ----------
    name : :class:`str`
        Name of the model's node.
    op : :class:`str`
        Its operator, such as Conv, Gemm or AveragePool.
    output : :class:`str`
        Name of the tensor it makes.
    function : :class:`Function` or :py:`None`
        What the results go through. The compiler makes it of a :class:`Lookup` behind the layer;
        not all layers can have one.
    """

    name: str
    op: str
    output: str
    function: Function | None = None

    def result(self, output: Tensor) -> Tensor:
        """What the layer's results are rounded to, with its output tensor given."""
        return output if self.function is None else self.function.before

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads."""
        raise TypeError(f"{type(self).__name__} does not say what it reads")

    def macs(self, output: Tensor) -> int:
        """Multiplications that the model asks for, with its output tensor given."""
        return 0


def _need_constants(layer: "Convolution | Depthwise") -> None:
    fixed_point = layer.rounding in (Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE)
    if fixed_point != (layer.fixed_point is not None):
        raise ValueError(f"Layer {layer.name!r} must have a fixed-point multiplier and "
                         f"shift if that is its rule, and only then")


def _need_rule(layer: "Pool | Add | Multiply") -> None:
    if layer.rounding is Rounding.FIXED_POINT_ONCE:
        raise ValueError(f"Layer {layer.name!r} must be rounded as float32 or fixed-point: only "
                         f"convolutions have {layer.rounding.name}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Layer):
    """A convolution with requantization and clamp; a fully connected layer is one whose kernel
    covers its whole input.

    Parameters
    ----------
    input : :class:`str`
        Tensor name.
    weights : int8 [N, C, kernel_h, kernel_w]
    bias : int32 [N]
        As in the model: nothing folded in.
    multiplier : float32 [N]
        ``fl32(fl32(sx * sw) / sy)``.
    strides, dilations : (h, w)
    pads : :class:`Pads`
    clamp : (low, high)
        Bounds of the output in the int8 domain, -128..127.
    groups : :class:`int`
        Groups of the model's convolution. The weights are dense whatever it is, with zeros between
        channels of different groups: only ``1 / groups`` of the products are the model's work.
    weight_scale : float32 [N] or [1], or :py:`None`
        Where it is known: only another rule of rounding asks for it.
    rounding : :class:`Rounding`
        How sums become int8 values.
    fixed_point : (int32 [N], int32 [N]) or :py:`None`
        Multiplier and shift of the fixed-point rules, which have no use for ``multiplier``: see
        :func:`weft.reference.fixed_point_multiplier`.
    real_sums : :class:`bool`
        Whether the model's framework adds up real values, rounded to float32, in an order that is
        not known: its result is not quite a function of the exact sum.
    """

    input: str
    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    strides: tuple[int, int] = (1, 1)
    pads: Pads = NO_PADS
    dilations: tuple[int, int] = (1, 1)
    clamp: tuple[int, int] = (-128, 127)
    groups: int = 1
    weight_scale: np.ndarray | None = None
    rounding: Rounding = Rounding.FLOAT32
    fixed_point: tuple[np.ndarray, np.ndarray] | None = None
    real_sums: bool = False

    def __post_init__(self) -> None:
        _need_constants(self)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the windows."""
        _, _, height, width = self.weights.shape
        return height, width

    def macs(self, output: Tensor) -> int:
        return self.weights.size // self.groups * prod(output.shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection(Convolution):
    """Some channels of a tensor, in any order, and channels of zeros: a convolution whose weights
    are rows of the identity, or zero, and no work of the model's."""

    @classmethod
    def of(cls, channels: np.ndarray, count: int, *, name: str, op: str, input: str, output: str,
           clamp: tuple[int, int] = (-128, 127)) -> Self:
        """The layer that takes ``channels`` of an input of ``count``, -1 for one of zeros; both
        tensors must have one scale and zero point."""
        rows = np.eye(count, dtype=np.int8)[channels] * (channels >= 0)[:, None]
        return cls(name=name, op=op, input=input, output=output, clamp=clamp,
                   weights=rows[:, :, None, None].astype(np.int8),
                   bias=np.zeros(len(channels), np.int32),
                   multiplier=np.ones(len(channels), np.float32),
                   weight_scale=np.ones(1, np.float32))

    @property
    def channels(self) -> np.ndarray:
        """int64 [N]: for each channel that of the input, -1 for one of zeros."""
        rows = self.weights[:, :, 0, 0]
        return np.where(rows.any(axis=1), rows.argmax(axis=1), -1)

    def macs(self, output: Tensor) -> int:
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums(Convolution):
    """The int32 sums of a convolution as they are: channel ``k * N + n`` of the output holds byte
    ``k`` of the sums of filter ``n``, less 128, the lowest byte first.

    Parameters
    ----------
    parts : :class:`int`
        Bytes of each sum that are needed, with its sign; each takes the sums once more.
    asked : :class:`bool`
        Whether the model asks for these products, and not only the way in which they are made.
    """

    parts: int
    asked: bool = True

    @classmethod
    def of(cls, weights: np.ndarray, parts: int, *, name: str, op: str, input: str, output: str,
           strides: tuple[int, int] = (1, 1), pads: Pads = NO_PADS,
           dilations: tuple[int, int] = (1, 1), groups: int = 1, asked: bool = True) -> Self:
        """The layer of ``weights``, int8 [N, C, kernel_h, kernel_w], as in :class:`Convolution`."""
        which = np.repeat(np.arange(parts, dtype=np.uint32), len(weights))
        return cls(name=name, op=op, input=input, output=output, parts=parts,
                   weights=np.tile(weights, (parts, 1, 1, 1)),
                   bias=np.zeros(len(which), np.int32),
                   multiplier=(np.float32(1).view(np.uint32) + which).view(np.float32),
                   strides=strides, pads=pads, dilations=dilations, groups=groups, asked=asked,
                   rounding=Rounding.BYTE)

    def macs(self, output: Tensor) -> int:
        return super().macs(output) // self.parts if self.asked else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Depthwise(Layer):
    """A depthwise convolution: output channel ``c`` is made of input channel ``c`` alone.

    Parameters
    ----------
    weights : int8 [C, kernel_h, kernel_w]
    bias, multiplier, strides, pads, dilations, clamp, rounding, fixed_point, real_sums
        As in :class:`Convolution`.
    """

    input: str
    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    strides: tuple[int, int] = (1, 1)
    pads: Pads = NO_PADS
    dilations: tuple[int, int] = (1, 1)
    clamp: tuple[int, int] = (-128, 127)
    rounding: Rounding = Rounding.FLOAT32
    fixed_point: tuple[np.ndarray, np.ndarray] | None = None
    real_sums: bool = False

    def __post_init__(self) -> None:
        _need_constants(self)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def macs(self, output: Tensor) -> int:
        return self.weights.size * prod(output.shape[1:])


class PoolKind(StrEnum):
    """What a pooling window yields."""
    MAX     = "max"
    AVERAGE = "average"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool(Layer):
    """Max or average pooling; a global one is one whose kernel covers its whole input.

    Parameters
    ----------
    kind : :class:`PoolKind`
    kernel, strides, dilations : (h, w)
    pads : :class:`Pads`
        With what ``ceil_mode`` adds after the input.
    count_pads : :class:`Pads`
        The part of the padding that counts in the divisor of an average: ``pads`` with
        ``count_include_pad``, else zeros.
    multiplier : :class:`float` or :py:`None`
        For an average whose exact sum is requantized as that of a convolution is, a float32 value:
        ``fl32(sx / fl32(sy * count))``, the rule of QLinearGlobalAveragePool. :py:`None` for the
        rule of QLinearAveragePool, which works in float32.
    late_zero : :class:`bool`
        Whether the zero point of an average in float32 is added after rounding, as by a
        QuantizeLinear, and not before, as by QLinearAveragePool.
    weights : two :class:`tuple` of :class:`int`, or :py:`None`
        For an average whose taps have weights, the products of one of the row and one of the
        column: a linear interpolation (see :mod:`weft.reference.interpolation`). The divisor is the
        weight inside the input. It has neither ``multiplier``, ``late_zero`` nor ``count_pads``.
    clamp : (low, high)
        Bounds of the output in the int8 domain.
    rounding : :class:`Rounding`
        ``FIXED_POINT`` for an average of integers, halves rounded away from zero: the rule of
        AVERAGE_POOL_2D of TFLite, whose output has the input's scale and zero point. It has neither
        ``multiplier``, ``late_zero`` nor ``count_pads``.
    """

    input: str
    kind: PoolKind
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = NO_PADS
    dilations: tuple[int, int] = (1, 1)
    count_pads: Pads = NO_PADS
    clamp: tuple[int, int] = (-128, 127)
    multiplier: float | None = None
    late_zero: bool = False
    weights: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    rounding: Rounding = Rounding.FLOAT32

    def __post_init__(self) -> None:
        _need_rule(self)
        if (self.rounding is Rounding.FIXED_POINT or self.weights is not None) and (
                self.kind is not PoolKind.AVERAGE or self.multiplier is not None
                or self.late_zero or self.count_pads != NO_PADS):
            raise ValueError(f"Layer {self.name!r} must be an average without multiplier, late "
                             f"zero point or padding that counts to be rounded in fixed point, or "
                             f"to have weights")
        if self.weights is not None and tuple(map(len, self.weights)) != self.kernel:
            raise ValueError(f"Layer {self.name!r} must have weights for a kernel of "
                             f"{self.kernel}, not {tuple(map(len, self.weights))}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    @property
    def taps(self) -> np.ndarray:
        """Weights of an average: int8 [kernel_h, kernel_w]."""
        rows, columns = self.weights or tuple((1,) * size for size in self.kernel)
        return np.multiply.outer(np.array(rows, np.int8), np.array(columns, np.int8))


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Layer):
    """Element-wise sum, or difference, of two tensors: of one shape, or one is [C, 1, 1] and holds
    one term for each channel of the other.

    Parameters
    ----------
    rounding : :class:`Rounding`
        ``FLOAT32`` for the rule of QLinearAdd, ``FIXED_POINT`` for that of ADD of TFLite.
    subtract : :class:`bool`
        The difference ``a - b``, by the rule of SUB of TFLite. There ``a`` has the shape of the
        result.
    """

    a: str
    b: str
    clamp: tuple[int, int] = (-128, 127)
    rounding: Rounding = Rounding.FLOAT32
    subtract: bool = False

    def __post_init__(self) -> None:
        _need_rule(self)
        if self.subtract and self.rounding is not Rounding.FIXED_POINT:
            raise ValueError(f"Layer {self.name!r} must be rounded in fixed point to subtract, not "
                             f"as {self.rounding.name}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


@dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Layer):
    """Element-wise product of two tensors: of one shape, or ``b`` is [C, 1, 1] and holds one factor
    for each channel of ``a``.

    Parameters
    ----------
    rounding : :class:`Rounding`
        ``FLOAT32`` for the rule of QLinearMul, ``FIXED_POINT`` for that of MUL of TFLite.
    """

    a: str
    b: str
    clamp: tuple[int, int] = (-128, 127)
    rounding: Rounding = Rounding.FLOAT32

    def __post_init__(self) -> None:
        _need_rule(self)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


@dataclass(frozen=True, kw_only=True, eq=False)
class MatMul(Layer):
    """Matrix products of two tensors, one for each of ``heads``: runs of channels, of each tensor
    as many as there are heads, all of one length.

    With the pixels of a plane counted through, and ``h`` for a head, it is ``output[h, n, m] =
    sum over k of a[h, k, m] * b[h, n, k]``; ``transposed``, of ``a[h, k, m] * b[h, k, n]``.

    Parameters
    ----------
    a, b : :class:`str`
        Tensor names; those of ``b`` have one row or one column.
    transposed : :class:`bool`
        Whether the pixels of ``b`` become channels of the output, and not its channels.
    depth : :class:`int`
        Terms of a sum: channels of a head of ``a``.
    multiplier : :class:`float`
        A float32 value, ``fl32(fl32(sa * sb) / sy)``, as QLinearMatMul has it.
    """

    a: str
    b: str
    depth: int
    multiplier: float
    transposed: bool = False
    heads: int = 1
    clamp: tuple[int, int] = (-128, 127)

    # As of a convolution.
    kernel = strides = dilations = (1, 1)
    rounding = Rounding.FLOAT32

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def macs(self, output: Tensor) -> int:
        return self.depth * prod(output.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup(Layer):
    """Any function of one value, or of one value and its channel: an activation, or a change of
    scale.

    Parameters
    ----------
    table : int8 [256] or [C, 256]
        Result for input value ``v``, int8, at index ``v + 128``; of each channel, if they differ.
    """

    input: str
    table: np.ndarray

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(Layer):
    """A linear function of each value, another one for each channel:
    ``clamp(RNE(fl32(fl32(value * factor + bias) * scale)))``.

    Parameters
    ----------
    factor : int32 [C]
        Of less than 2^24 in magnitude.
    bias : int32 [C]
        No sum may leave int32.
    scale : float32 [C]
        Positive.
    """

    input: str
    factor: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    clamp: tuple[int, int] = (-128, 127)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Layer):
    """Tensors one behind the other along the channels; all have the output's scale and zero point
    (the front end puts a :class:`Lookup` before those that had not)."""

    sources: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources


@dataclass(frozen=True, kw_only=True, eq=False)
class Alias(Layer):
    """The values of a tensor under another name: channels in another order, and planes of another
    height and width, whose pixels are the same from the first to the last.

    Parameters
    ----------
    order : int64 [C] or :py:`None`
        For each channel that of the input; :py:`None` for 0, 1, 2...
    """

    input: str
    order: np.ndarray | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resize(Layer):
    """Nearest-neighbour enlargement: each value is repeated ``factors`` (h, w) times."""

    input: str
    factors: tuple[int, int]

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Interleave(Layer):
    """Planes dealt out in turn, ``factors`` (h, w) of them: ``output[c, y * h + i, x * w + j] =
    sources[i * w + j][c, y, x]``. All have one shape, scale and zero point; rows and columns
    for which the output has no room are dropped."""

    sources: tuple[str, ...]
    factors: tuple[int, int]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources


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
    """

    name: str
    tensors: dict[str, Tensor]
    layers: tuple[Layer, ...]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    frames: int = 1

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
