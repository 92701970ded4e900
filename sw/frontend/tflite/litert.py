"""Golden values: what LiteRT's reference kernels compute."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from weft.errors import InputError, ModelError

from .file import File

__all__ = ["LiteRtGolden"]


class LiteRtGolden:
    """A :class:`weft.ir.Golden`: a model in LiteRT's interpreter, with reference kernels.

    Parameters
    ----------
    file : :class:`File`
    wanted : names
        Of the tensors to return.

    Raises
    ------
    ModelError
        If LiteRT cannot load it.
    """

    name = "LiteRT's reference kernels"
    caveats: tuple[str, ...] = ()

    def __init__(self, file: File, wanted: Iterable[str]):
        numbers = {tensor.name: index for index, tensor in enumerate(file.tensors)}
        self._inputs = {tensor.name: numbers[tensor.name] for tensor in file.inputs}
        self._wanted = {name: numbers[name] for name in wanted}
        self._shapes = {name: file.tensors[number].shape for name, number in self._wanted.items()}
        try:
            with _quiet():
                self._interpreter = Interpreter(
                    model_content=file.content, num_threads=1,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                    experimental_preserve_all_tensors=True)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ModelError(f"LiteRT cannot load {file.name}: {first}") from error

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Chosen tensors by name, for inputs by name."""
        if set(inputs) != set(self._inputs):
            raise InputError(f"Inputs must be {', '.join(self._inputs)}, "
                             f"not {', '.join(sorted(inputs)) or 'none'}")
        for name, number in self._inputs.items():
            self._interpreter.set_tensor(number, np.ascontiguousarray(inputs[name]))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ModelError(f"LiteRT cannot run the model: {error}") from error
        return {name: self._interpreter.get_tensor(number).reshape(self._shapes[name])
                for name, number in self._wanted.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what LiteRT's C++ writes to standard error about delegates."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:     # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
