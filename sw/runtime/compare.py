"""Comparison of a run with a golden implementation, layer by layer, byte by byte."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weft.errors.text import printable
from weft.ir import Partition

__all__ = ["Check", "Mismatch", "Verifier"]


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A tensor that is not what the golden implementation computes.

    Parameters
    ----------
    layer : :class:`str`
        Name of the layer that made it, or ``output NAME`` for an output of the graph.
    tensor : :class:`str`
        Its name in the model.
    index : :class:`tuple`
        The first element that differs, in the model's shape.
    expected, got
        That element, as the golden implementation and as the accelerator computed it.
    count, total : :class:`int`
        Bytes that differ, and bytes of the tensor.
    golden : :class:`str`
        What computed the expected value.
    """

    layer: str
    tensor: str
    index: tuple[int, ...]
    expected: float
    got: float
    count: int
    total: int
    golden: str

    def __str__(self) -> str:
        return printable(f"{self.layer}: element {list(self.index)} of tensor '{self.tensor}' is "
                         f"{self.got}, {self.golden} gives {self.expected} "
                         f"({self.count} of {self.total} bytes differ)")


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the comparison of one frame found: ``mismatches`` in execution order, after comparing
    ``total`` bytes."""

    mismatches: tuple[Mismatch, ...]
    total: int

    @property
    def count(self) -> int:
        """Bytes that differ."""
        return sum(mismatch.count for mismatch in self.mismatches)


class Verifier:
    """Compares the outputs of a model, and those of its layers, with those of
    its golden implementation.

    Parameters
    ----------
    partition : :class:`weft.ir.Partition`
    layers : :class:`bool`
        Compare the output of every layer too.

    Attributes
    ----------
    golden : :class:`str`
        What the outputs are compared with.
    caveats : :class:`tuple` of :class:`str`
        See :class:`weft.ir.Golden`.
    """

    def __init__(self, partition: Partition, *, layers: bool = True):
        # Not every layer's output is a tensor of the model: a change of scale before a Concat has
        # none of its own.
        model = partition.model
        self._layers = {graph.tensors[layer.output].name: layer.name for graph in partition.graphs
                        for layer in graph.layers if layer.output in model.tensors} \
            if layers else {}
        self._outputs = tuple(info.name for info in model.outputs)
        self._golden = model.golden(self._layers)
        self.golden = self._golden.name
        self.caveats = self._golden.caveats

    def check(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[np.ndarray],
              tensors: Mapping[str, np.ndarray]) -> Check:
        """Compares one frame.

        Parameters
        ----------
        feeds : :class:`dict`
            The graph's inputs by name.
        outputs : sequence
            The graph's outputs.
        tensors : :class:`dict`
            Every layer's output by the model's tensor name, in its shape and type; not looked at if
            layers are not compared.
        """
        golden = self._golden.run(feeds)
        mismatches, total = [], 0
        pairs = [(layer, tensor, tensors[tensor]) for tensor, layer in self._layers.items()]
        pairs += [(f"output {name}", name, value)
                  for name, value in zip(self._outputs, outputs, strict=True)]
        for layer, tensor, got in pairs:
            expected = golden[tensor]
            total += expected.nbytes
            mismatch = _compare(layer, tensor, expected, got, self.golden)
            if mismatch is not None:
                mismatches.append(mismatch)
        return Check(mismatches=tuple(mismatches), total=total)


def _compare(layer: str, tensor: str, expected: np.ndarray, got: np.ndarray,
             golden: str) -> Mismatch | None:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ValueError(f"Tensor '{tensor}' must be {expected.dtype} {list(expected.shape)}, "
                         f"not {got.dtype} {list(got.shape)}")
    # As bytes: equal NaNs are equal, and zeros of different sign are not.
    differ = (_bytes(expected) != _bytes(got)).reshape(-1, expected.itemsize)
    if not differ.any():
        return None
    first = int(np.argmax(differ.any(axis=1)))
    return Mismatch(layer=layer, tensor=tensor,
                    index=tuple(int(i) for i in np.unravel_index(first, expected.shape)),
                    expected=expected.flat[first].item(), got=got.flat[first].item(),
                    count=int(np.count_nonzero(differ)), total=expected.nbytes, golden=golden)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.uint8)
