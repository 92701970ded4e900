"""States of a network, kept from one frame to the next: an output that is an input again."""

from collections.abc import Mapping, Sequence

import numpy as np

from weft.errors import InputError
from weft.errors.text import printable
from weft.ir import Partition, TensorInfo

__all__ = ["States", "check_states"]


class States:
    """The states of some streams that run side by side.

    Parameters
    ----------
    plan : :class:`weft.ir.Partition`
    pairs : mapping of :class:`str`
        For each state the output that makes it and the input that reads it in the next frame.
    streams : :class:`int`
        Each has states of its own.

    Attributes
    ----------
    pairs : :class:`dict`
    inputs : :class:`frozenset` of :class:`str`
        Inputs that are states.

    Raises
    ------
    InputError
        If there is no such output or input, one input has two outputs, or both do not agree in
        shape, type or quantization.
    """

    def __init__(self, plan: Partition, pairs: Mapping[str, str], streams: int):
        self.pairs = dict(pairs)
        self.inputs = frozenset(self.pairs.values())
        check_states(self.pairs, plan.model.outputs, plan.model.inputs)
        inputs = {info.name: info for info in plan.model.inputs}
        self._zero = {source: _zero(plan, output, inputs[source])
                      for output, source in self.pairs.items()}
        self._values: list[dict[str, np.ndarray]] = [{} for _ in range(streams)]
        self.reset()

    def reset(self, initial: Mapping[str, np.ndarray] | None = None,
              stream: int | None = None) -> None:
        """Sets the states of a stream, or of all: by input name, and real zero where not given.

        Raises
        ------
        InputError
            If there is no such stream or state, or a value has another shape or type.
        """
        values = dict(self._zero)
        for name, value in (initial or {}).items():
            zero = values.get(name)
            if zero is None:
                raise InputError(f"State must be one of {', '.join(values) or 'none'}, not {name}")
            if not isinstance(value, np.ndarray):
                raise InputError(f"State '{name}' must be an array, not {type(value).__name__}")
            if (value.dtype, value.shape) != (zero.dtype, zero.shape):
                raise InputError(f"State '{name}' must be {zero.dtype} {list(zero.shape)}, "
                                 f"not {value.dtype} {list(value.shape)}")
            values[name] = value.copy()
        for number in range(len(self._values)) if stream is None else (self._check(stream),):
            self._values[number] = dict(values)

    def of(self, stream: int) -> dict[str, np.ndarray]:
        """The states of a stream, by input name."""
        return dict(self._values[self._check(stream)])

    def keep(self, stream: int, values: Mapping[str, np.ndarray]) -> None:
        """Takes the states out of what a frame of a stream has made, by output name."""
        self._values[stream] = {source: values[output].copy()
                                for output, source in self.pairs.items()}

    def _check(self, stream: int) -> int:
        if not 0 <= stream < len(self._values):
            raise InputError(f"Stream must be from 0 to {len(self._values) - 1}, not {stream}")
        return stream


def check_states(pairs: Mapping[str, str], outputs: Sequence[TensorInfo],
                 inputs: Sequence[TensorInfo]) -> None:
    """Looks at the outputs and inputs of a model that are states.

    Raises
    ------
    InputError
        If there is no such output or input, one input has two outputs, or both do not agree in
        shape or type.
    """
    made, read = ({info.name: info for info in infos} for infos in (outputs, inputs))
    for output, source in pairs.items():
        for what, name, known in (("output", output, made), ("input", source, read)):
            if name not in known:
                raise InputError(f"State must be an {what} of the model, "
                                 f"{', '.join(known) or 'which has none'}, not {name}")
        others = [name for name, each in pairs.items() if each == source]
        if len(others) > 1:
            raise InputError(f"State '{source}' must come of one output, not of "
                             f"{' and '.join(map(repr, others))}")
        for attribute, show in (("shape", lambda shape: str(list(shape))), ("dtype", str)):
            values = [show(getattr(info, attribute)) for info in (made[output], read[source])]
            if values[0] != values[1]:
                raise _different(output, source, values)


def _different(output: str, source: str, values: Sequence[str]) -> InputError:
    return InputError(f"State '{printable(output)}' is {values[0]}, its input "
                      f"'{printable(source)}' is {values[1]}: they must be the same")


def _zero(plan: Partition, output: str, info: TensorInfo) -> np.ndarray:
    """What stands for real zero at the input ``info``, whose values ``output`` makes."""
    zero = np.zeros(info.shape, info.dtype)
    if info.dtype.itemsize > 1 or info.dtype.kind not in "iu":
        return zero
    meant = []
    for name in (output, info.name):
        found = plan.model.quantization(name)
        if found is None:
            raise InputError(f"State '{printable(name)}' of {info.dtype} must be made by a "
                             f"quantizer, or read by one: its zero point is not known")
        meant.append(found)
    if meant[0] != meant[1]:
        raise _different(output, info.name, [f"of scale {scale:g} and zero point {zero_point}"
                                             for scale, zero_point in meant])
    return zero + np.array(meant[0][1], info.dtype)
