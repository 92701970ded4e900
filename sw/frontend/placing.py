"""Where a model's tensors lie on the accelerator, in which order, and who makes them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from weft.errors import ModelError
from weft.errors.text import printable
from weft.ir import Alias, Layer, Tensor

from .views import View

__all__ = ["Entry", "Placer", "Quantized"]


Node = TypeVar("Node")


@dataclass(eq=False)
class Quantized:
    """A quantized activation of a model.

    Parameters
    ----------
    name : :class:`str`
        Of the model's tensor.
    shape : :class:`tuple`
        In the model.
    scale : :class:`float`
    zero_point : :class:`int`
        In the int8 domain.
    unsigned : :class:`bool`
    stage : :class:`int`
        Where its values are made.
    tensor : :class:`str` or :py:`None`
        Tensor on the accelerator that holds the values; :py:`None` for one that the host makes.
    layout : :class:`View`, [C, H, W]
        What that tensor sees of this one.
    placed : :class:`dict`
        Tensors on the accelerator, with their layouts, that the host fills with these values
        because layers asked for them.
    sole : :class:`bool`
        Whether no other node reads the tensor on the accelerator.
    parts : :class:`int`
        As of a :class:`weft.ir.Tensor`.
    values : int8 or :py:`None`
        All of them, in the shape of the model and the int8 domain, if they are known.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    unsigned: bool
    stage: int = 0
    tensor: str | None = None
    layout: View = field(default_factory=lambda: View(()))
    placed: dict[str, View] = field(default_factory=dict)
    sole: bool = True
    parts: int = 1
    values: np.ndarray | None = None

    @property
    def accelerated(self) -> bool:
        return self.tensor is not None

    def same_quantization(self, other: "Quantized") -> bool:
        return (self.scale, self.zero_point, self.unsigned) == \
            (other.scale, other.zero_point, other.unsigned)


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor on the accelerator that the host fills: with which values, in which order."""

    source: Quantized
    layout: View


class Placer(ABC, Generic[Node]):
    """Collects layers and the tensors between them, and brings tensors into the order that a layer
    wants. ``Node`` is what the format has in the place of a node.

    Work is divided into stages: 0 is the host, before anything runs on the accelerator, 1 the
    accelerator, 2 the host again, and so on.

    Parameters
    ----------
    forbidden : :class:`dict`
        Layers not to make, by their output tensor, with the reason.

    Attributes
    ----------
    tensors, layers, stages : :class:`dict`
        Of the accelerator, by tensor name: quantization and shape; the layer that makes it; the
        stage of that layer.
    made : :class:`dict`
        The model's tensor that a layer makes, by tensor name.
    entries : :class:`dict` of :class:`Entry`
        By tensor name.
    constants : :class:`dict`
        Tensors whose values are known, int8 [C, H, W] by name.
    """

    def __init__(self, forbidden: Mapping[str, ModelError] | None = None):
        self.tensors: dict[str, Tensor] = {}
        self.layers: dict[str, Layer] = {}
        self.stages: dict[str, int] = {}
        self.made: dict[str, Quantized] = {}
        self.entries: dict[str, Entry] = {}
        self.constants: dict[str, np.ndarray] = {}
        self._forbidden = forbidden or {}

    @abstractmethod
    def name(self, node: Node) -> str:
        """How a layer that comes from ``node`` is called."""

    @abstractmethod
    def usual_order(self, shape: tuple[int, ...]) -> View:
        """[C, H, W] of a tensor that no layer has asked for in an order of its own."""

    @abstractmethod
    def reordering(self, node: Node, quantized: Quantized) -> None:
        """Told that ``node`` reads a tensor of the accelerator that only the host can bring into
        the order that it wants."""

    def place(self, node: Node, quantized: Quantized, want: View) -> tuple[str, int]:
        """Tensor on the accelerator that holds ``quantized`` in the order ``want``, [C, H, W], and
        the stage that makes it."""
        stage = quantized.stage
        if quantized.tensor is not None and quantized.layout.same(want):
            return quantized.tensor, stage
        if quantized.tensor is not None:
            channels = quantized.layout.channels(want, quantized.shape)
            if channels is not None:
                return self._alias(node, quantized, want, channels), stage
            stage += 1      # the host brings it into the other order
            self.reordering(node, quantized)
        return self._reserve(quantized, want)[0], stage

    def _reserve(self, quantized: Quantized, want: View) -> tuple[str, int]:
        """A tensor that the host fills, or one of known values, and their stage."""
        for other, layout in quantized.placed.items():
            if layout.same(want):
                return other, quantized.stage
        # Two layers may want one input in two orders: the host packs it twice.
        count = len(quantized.placed) + quantized.accelerated
        name = self._free(quantized, count) if count else quantized.name
        self._add_tensor(name, quantized, want)
        quantized.placed[name] = want
        if quantized.values is None:
            self.entries[name] = Entry(quantized, want)
        else:
            self.constants[name] = np.ascontiguousarray(quantized.values.reshape(-1)[want.array()])
        return name, quantized.stage

    def _alias(self, node: Node, quantized: Quantized, want: View, channels: np.ndarray) -> str:
        """The tensor of an accelerated ``quantized`` with its channels in another order, or planes
        of another shape."""
        assert quantized.tensor is not None
        for other, made in self.made.items():
            if made.name == quantized.name and made.layout.same(want):
                return other
        name = self._free(quantized, len(quantized.placed) + 1)
        in_order = np.array_equal(channels, np.arange(len(channels)))
        layer = Alias(name=f"{self.name(node)}/{'shape' if in_order else 'order'}",
                      op="Reshape" if in_order else "Transpose", input=quantized.tensor,
                      output=name, order=None if in_order else channels)
        self._add_layer(layer, quantized.stage, quantized, want)
        quantized.placed[name] = want
        return name

    def _free(self, quantized: Quantized, count: int) -> str:
        """The name of another tensor with the same values; a step on the way may have one of its
        kind."""
        while f"{quantized.name}@{count}" in self.tensors:
            count += 1
        return f"{quantized.name}@{count}"

    def anywhere(self, quantized: Quantized, otherwise: View | None = None) \
            -> tuple[str, int, View]:
        """Tensor on the accelerator that holds ``quantized`` in the order it is in, or in the order
        ``otherwise`` if it is not there yet; with the stage that makes it, and that order."""
        if quantized.tensor is not None:
            return quantized.tensor, quantized.stage, quantized.layout
        for name, layout in quantized.placed.items():
            return name, quantized.stage, layout
        order = otherwise or self.usual_order(quantized.shape)
        name, stage = self._reserve(quantized, order)
        return name, stage, order

    def _add_tensor(self, name: str, quantized: Quantized, layout: View) -> None:
        channels, height, width = layout.shape
        if min(channels, height, width) < 1:
            raise ModelError(f"Tensor '{printable(quantized.name)}' must have sizes of at least 1 "
                             f"on the accelerator, not {'x'.join(map(str, quantized.shape))}")
        self.tensors[name] = Tensor(
            name=name, shape=(channels * quantized.parts, height, width), scale=quantized.scale,
            zero_point=quantized.zero_point, unsigned=quantized.unsigned, order=layout.flat(),
            model_shape=quantized.shape, parts=quantized.parts)

    def add_constant(self, name: str, quantized: Quantized, values: np.ndarray) -> None:
        """A tensor of known int8 values, [C, H, W], in the quantization of ``quantized``."""
        self._add_tensor(name, replace(quantized, name=name, shape=(1, *values.shape)),
                         View(values.shape))
        self.constants[name] = values

    # Layers -----------------------------------------------------------------------------------

    def allow(self, name: str) -> None:
        """Refuses a layer that is not to be made, by its output tensor."""
        if name in self._forbidden:
            raise self._forbidden[name]

    def _add_layer(self, layer: Layer, stage: int, quantized: Quantized, layout: View) -> Quantized:
        name = layer.output
        self.allow(name)
        result = replace(quantized, tensor=name, layout=layout, stage=stage | 1, placed={},
                         values=None)
        self._add_tensor(name, result, layout)
        self.layers[name], self.stages[name], self.made[name] = layer, stage | 1, result
        return result

    def add_step(self, layer: Layer, stage: int, target: Quantized,
                 shape: tuple[int, int, int]) -> None:
        """A layer on the way to ``target``, in its quantization, that makes no tensor of the
        model; only layers of the same stage may read it."""
        own = replace(target, name=layer.output, shape=(1, *shape))
        self._add_layer(layer, stage, own, View(shape))
