"""What a walk over the operators has found so far: layers, and where every tensor is."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from weft.errors import ModelError
from weft.frontend.placing import Placer, Quantized
from weft.frontend.views import View
from weft.ir import Layer, Pads

from .file import File, Operator, Tensor, label
from .inputs import data
from .rules import Rule

__all__ = ["Builder", "Constant", "Host", "Padded", "Value", "image_order", "stage_of"]


@dataclass(frozen=True)
class Host:
    """A tensor that is not int8, made by the host in a stage."""

    stage: int = 0


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor known now."""

    tensor: Tensor


@dataclass(frozen=True, eq=False)
class Padded:
    """A tensor that is ``inner`` with its zero point around it: the convolutions that read it pad
    it themselves."""

    inner: Quantized
    pads: Pads


Value = Host | Constant | Padded | Quantized


def stage_of(value: Value) -> int:
    """The stage that makes a value, see :class:`weft.frontend.placing.Placer`."""
    match value:
        case Host() | Quantized():
            return value.stage
        case Padded():
            return value.inner.stage
    return 0


def image_order(shape: tuple[int, ...]) -> View:
    """[C, H, W] of [1, H, W, C]."""
    return View(shape).reshape(shape[1:]).transpose((2, 0, 1))


class Builder(Placer[Operator]):
    """Collects layers: handlers of operators ask it what is known, and tell it what they made.

    Parameters
    ----------
    file : :class:`File`
    rule : :class:`Rule`
    forbidden : :class:`dict`
        Layers not to make, by their output tensor, with the reason.

    Attributes
    ----------
    values : :class:`dict`
        By the name of a tensor.
    operators : :class:`list`
        What the outputs need, in execution order.
    refusals : :class:`dict`
        Why an operator was left to the host, by its first output.
    """

    def __init__(self, file: File, rule: Rule, forbidden: Mapping[str, ModelError] | None = None):
        super().__init__(forbidden)
        self.file, self.rule = file, rule
        self.values: dict[str, Value] = {
            tensor.name: Constant(tensor) for tensor in file.tensors if tensor.data is not None}
        for tensor in file.inputs:
            self.values[tensor.name] = self.on_host(tensor, 0)
        self.refusals: dict[str, ModelError] = {}
        self.operators = _needed(file)
        self.readers: dict[str, list[Operator | None]] = defaultdict(list)
        for tensor in file.outputs:
            self.readers[tensor.name].append(None)
        for operator in self.operators:
            for each in operator.inputs:
                if each is not None:
                    self.readers[each.name].append(operator)

    def name(self, node: Operator) -> str:
        return node.name

    def usual_order(self, shape: tuple[int, ...]) -> View:
        """Channels, which are last in the file, first."""
        view = View(shape)
        if len(shape) == 4 and shape[0] == 1:
            return image_order(shape)
        if len(shape) in (2, 3) and shape[0] == 1:
            rows = shape[1] if len(shape) == 3 else 1
            return view.reshape((rows, shape[-1])).transpose((1, 0)).reshape((shape[-1], rows, 1))
        return view.reshape((int(np.prod(shape)), 1, 1))

    def reordering(self, node: Operator, quantized: Quantized) -> None:
        self.refusals.setdefault(quantized.name, ModelError(
            f"{label(node)} reads '{quantized.name}' in an order that it does not have on the "
            f"accelerator"))

    # What handlers ask ------------------------------------------------------------------------

    @staticmethod
    def on_host(tensor: Tensor, stage: int) -> Host | Quantized:
        """A tensor that the host makes; one of int8 can go to the accelerator."""
        if tensor.dtype != np.int8 or tensor.quantization is None \
                or tensor.quantization.scale.size != 1:
            return Host(stage)
        return Quantized(name=tensor.name, shape=tensor.shape, scale=tensor.scale,
                         zero_point=tensor.zero_point, unsigned=False, stage=stage)

    def activation(self, operator: Operator, index: int = 0) -> Quantized:
        """An input that is an int8 activation, its padding made."""
        tensor = data(operator, index)
        value = self.values[tensor.name]
        if isinstance(value, Padded):
            value = self.on_host(tensor, stage_of(value) + stage_of(value) % 2)
        if not isinstance(value, Quantized):
            raise ModelError(f"{label(operator)} must read an int8 activation with one scale")
        return value

    def target(self, operator: Operator) -> Quantized:
        """The output of an operator, wherever it will be made."""
        target = self.on_host(operator.outputs[0], 0)
        if not isinstance(target, Quantized):
            raise ModelError(f"{label(operator)} must make an int8 activation with one scale")
        return target

    def add(self, operator: Operator, layer: Layer, stage: int, layout: View) -> Quantized:
        """The layer that makes the output of an operator, in the order ``layout``."""
        target = self.target(operator)
        if prod(target.shape) != prod(layout.shape):
            raise ModelError(f"{label(operator)} must make {prod(layout.shape)} values, not "
                             f"{list(target.shape)}")
        return self._add_layer(layer, stage, target, layout)

    def renamed(self, operator: Operator, source: Quantized, view: View) -> Quantized:
        """The output of an operator that is ``view`` of ``source``."""
        result = replace(source, name=operator.outputs[0].name, shape=view.shape, placed={})
        if source.accelerated:
            result.layout = source.layout.through(view.inverse(source.shape))
        return result


def _needed(file: File) -> list[Operator]:
    seen = {tensor.name for tensor in file.outputs}
    operators = []
    for operator in reversed(file.operators):
        if any(each.name in seen for each in operator.outputs):
            operators.append(operator)
            seen.update(each.name for each in operator.inputs if each is not None)
    return operators[::-1]
