"""A whole TFLite model and parts of it, for those that know no TFLite."""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from weft.errors import InputError
from weft.ir import Golden, TensorInfo

from . import kernels
from .file import File, Operator, Tensor
from .rules import Rule

__all__ = ["TfliteModel", "TfliteProgram"]


def _describe(tensors: Iterable[Tensor]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype)
                 for tensor in tensors)


@dataclass(frozen=True, eq=False)
class TfliteModel:
    """A :class:`weft.ir.Model` whose golden values are those of LiteRT's reference kernels, if it
    is installed, else of the kernels here.

    Parameters
    ----------
    file : :class:`File`
    rule : :class:`Rule`
        With another than TFLite's, LiteRT is no yardstick.
    """

    file: File
    rule: Rule

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return _describe(self.file.inputs)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return _describe(self.file.outputs)

    @property
    def states(self) -> dict[str, str]:
        """None: the format has no place for them."""
        return {}

    @cached_property
    def tensors(self) -> frozenset[str]:
        """What its operators make."""
        return frozenset(tensor.name for operator in self.file.operators
                         for tensor in operator.outputs)

    def quantization(self, name: str) -> tuple[float, int] | None:
        """As the file states it."""
        return next(((tensor.scale, tensor.zero_point)
                     for tensor in (*self.file.inputs, *self.file.outputs)
                     if tensor.name == name and tensor.quantization is not None), None)

    def golden(self, tensors: Iterable[str] = ()) -> Golden:
        """The model in LiteRT, or in numpy.

        Raises
        ------
        ModelError
            If LiteRT cannot load it.
        """
        wanted = (*(info.name for info in self.outputs), *tensors)
        if self.rule is not Rule.TFLITE:
            return NumpyGolden(self, wanted, ("LiteRT does not follow this rule: compared with "
                                              "Weft's own kernels",))
        if importlib.util.find_spec("ai_edge_litert") is None:
            return NumpyGolden(self, wanted, ("LiteRT is not installed: compared with Weft's own "
                                              "kernels (pip install ai-edge-litert for others)",))
        from .litert import LiteRtGolden

        return LiteRtGolden(self.file, wanted)


class NumpyGolden:
    """A :class:`weft.ir.Golden` of a whole model, in numpy.

    Parameters
    ----------
    model : :class:`TfliteModel`
    wanted : names
    caveats : :class:`tuple` of :class:`str`
    """

    name = "Weft's kernels"

    def __init__(self, model: TfliteModel, wanted: Iterable[str], caveats: tuple[str, ...] = ()):
        self._inputs = [info.name for info in model.inputs]
        self._program = TfliteProgram(model.file.operators, model.rule,
                                      tuple(dict.fromkeys(wanted)))
        self.caveats = caveats

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if set(inputs) != set(self._inputs):
            raise InputError(f"Inputs must be {', '.join(self._inputs)}, "
                             f"not {', '.join(sorted(inputs)) or 'none'}")
        return self._program.run(inputs)


@dataclass(frozen=True, eq=False)
class TfliteProgram:
    """A :class:`weft.ir.HostProgram`, which is its own executor: some operators in numpy.

    Parameters
    ----------
    operators : :class:`tuple` of :class:`Operator`
        In execution order.
    rule : :class:`Rule`
    outputs : :class:`tuple` of :class:`str`
    """

    operators: tuple[Operator, ...]
    rule: Rule
    outputs: tuple[str, ...]

    def load(self) -> "TfliteProgram":
        return self

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Its outputs by name, for its inputs by name.

        Raises
        ------
        ModelError
            If an operator cannot be computed.
        """
        values = dict(inputs)

        def value(tensor: Tensor | None) -> np.ndarray | None:
            if tensor is None:
                return None
            return values[tensor.name] if tensor.data is None else tensor.data

        for operator in self.operators:
            values[operator.outputs[0].name] = kernels.run(
                operator, self.rule, [value(tensor) for tensor in operator.inputs])
        return {name: values[name] for name in self.outputs}
