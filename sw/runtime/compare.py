"""Comparison of a run with onnxruntime, layer by layer, byte by byte."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weft.errors.text import printable
from weft.ir import Plan
from weft.reference.golden import GoldenSession, cpu_is_exact

__all__ = ["Check", "Mismatch", "Verifier"]


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A tensor that is not what onnxruntime computes.

    Parameters
    ----------
    layer : :class:`str`
        Name of the layer that made it, or ``output NAME`` for an output of the graph.
    tensor : :class:`str`
        Its name in the ONNX graph.
    index : :class:`tuple`
        The first element that differs, in ONNX shape.
    expected, got
        That element, as onnxruntime and as the accelerator computed it.
    count, total : :class:`int`
        Bytes that differ, and bytes of the tensor.
    """

    layer: str
    tensor: str
    index: tuple[int, ...]
    expected: float
    got: float
    count: int
    total: int

    def __str__(self) -> str:
        return printable(f"{self.layer}: element {list(self.index)} of tensor '{self.tensor}' is "
                         f"{self.got}, onnxruntime gives {self.expected} "
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
    """Compares the outputs of a model, and those of its layers, with onnxruntime's.

    Parameters
    ----------
    plan : :class:`weft.ir.Plan`
    layers : :class:`bool`
        Compare the output of every layer too.

    Attributes
    ----------
    caveats : :class:`tuple` of :class:`str`
        Reasons why onnxruntime itself may not be exact for this model on this machine, so that
        a difference need not be the accelerator's.
    """

    def __init__(self, plan: Plan, *, layers: bool = True):
        # Not every layer's output is a tensor of the model: a change of scale before a Concat has
        # none of its own.
        known = {name for node in plan.model.graph.node for name in node.output}
        self._layers = {graph.tensors[layer.output].name: layer.name for graph in plan.graphs
                        for layer in graph.layers if layer.output in known} if layers else {}
        self._outputs = tuple(value.name for value in plan.model.graph.output)
        self._golden = GoldenSession(plan.model, tensors=self._layers)
        exactness = cpu_is_exact()
        self.caveats = (() if exactness else (exactness.reason,)) + tuple(
            f"onnxruntime computes {layer} in float32" for layer in self._golden.float_layers)

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
            Every layer's output by ONNX tensor name, in ONNX shape and type; not looked at if
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
            mismatch = _compare(layer, tensor, expected, got)
            if mismatch is not None:
                mismatches.append(mismatch)
        return Check(mismatches=tuple(mismatches), total=total)


def _compare(layer: str, tensor: str, expected: np.ndarray, got: np.ndarray) -> Mismatch | None:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ValueError(f"Tensor '{tensor}' must be {expected.dtype} {list(expected.shape)}, "
                         f"not {got.dtype} {list(got.shape)}")
    # As bytes, so that no value is let off: neither a NaN nor a zero of the other sign.
    differ = (_bytes(expected) != _bytes(got)).reshape(-1, expected.itemsize)
    if not differ.any():
        return None
    first = int(np.argmax(differ.any(axis=1)))
    return Mismatch(layer=layer, tensor=tensor,
                    index=tuple(int(i) for i in np.unravel_index(first, expected.shape)),
                    expected=expected.flat[first].item(), got=got.flat[first].item(),
                    count=int(np.count_nonzero(differ)), total=expected.nbytes)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.uint8)
