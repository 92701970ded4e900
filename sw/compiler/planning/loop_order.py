"""How the vector engine goes through a plane, and what that takes.

A command has two loops over positions, and a window that may slide along the inner one. Which axis
is the inner one is a matter of cycles.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from weft.compiler.timing.engines import sweep_cycles, window_words
from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import WINDOW_GROUPS
from weft.hw.isa.vector_rules import kernel_shapes
from weft.ir import Add, Depthwise, Graph, Layer, Lookup, Multiply, Pool, PoolKind, Resize

__all__ = ["Axis", "Walk", "ROW_BY_ROW", "best_walk", "window_axes", "window_walk",
           "layer_cycles", "requantizes"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a plane, as a window moves along it.

    Parameters
    ----------
    size : :class:`int`
        Input positions.
    pitch, out_pitch : :class:`int`
        Words from one position to the next, of input and output.
    out : :class:`int`
        Output positions.
    kernel, stride, dilation, pad : :class:`int`
        Of the window; ``pad`` is in front.
    start, out_start : :class:`int`
        Words in front of the first position.
    """

    size: int
    pitch: int
    out: int
    out_pitch: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0
    start: int = 0
    out_start: int = 0

    def part(self, positions: range) -> "Axis":
        """Some of the output positions as an axis of their own."""
        first = positions.start * self.stride - self.pad
        skip = max(first, 0)
        return replace(self, size=self.size - skip, pad=skip - first, out=len(positions),
                       start=self.start + skip * self.pitch,
                       out_start=self.out_start + positions.start * self.out_pitch)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """How a command goes through a plane.

    Attributes
    ----------
    transposed : :class:`bool`
        The outer loop goes along rows, from column to column.
    slide : :class:`bool`
        The window keeps its words.
    cycles : :class:`int`
        For a channel block.
    """

    transposed: bool = False
    slide: bool = False
    cycles: int = 0

    def order(self, vertical: Axis, horizontal: Axis) -> tuple[Axis, Axis]:
        """Outer and inner axis."""
        return (horizontal, vertical) if self.transposed else (vertical, horizontal)


ROW_BY_ROW = Walk()
"""Of a plane without windows."""


def best_walk(config: AcceleratorConfig, vertical: Axis, horizontal: Axis, *,
              scaled: bool) -> Walk:
    """The walk of the fewest cycles.

    A position takes a cycle for every word it reads. A sliding window reads all words at the first
    inner position, less those in front of the first group that are padding, and then only those of
    each group of taps that are new.

    Parameters
    ----------
    scaled : :class:`bool`
        Results are requantized, which takes ``vector_groups`` cycles each.
    """
    def walks() -> Iterator[Walk]:
        for transposed in (False, True):
            outer, inner = Walk(transposed=transposed).order(vertical, horizontal)
            groups = -(-inner.kernel // config.vector_taps)
            for slide in (False, True):
                if slide and (inner.dilation != 1 or outer.kernel * groups > WINDOW_GROUPS):
                    continue
                words = window_words(config, (outer.kernel, inner.kernel), stride=inner.stride,
                                     pad=inner.pad, slide=slide)
                yield Walk(transposed=transposed, slide=slide, cycles=sweep_cycles(
                    config, outer.out, inner.out, words, scaled=scaled))

    return min(walks(), key=lambda walk: walk.cycles)


def window_axes(graph: Graph, layer: Depthwise | Pool) -> tuple[Axis, Axis]:
    """Vertical and horizontal axis of a whole plane."""
    _, in_h, in_w = graph.tensors[layer.input].shape
    _, out_h, out_w = graph.tensors[layer.output].shape
    kernel = layer.kernel if isinstance(layer, Pool) else layer.weights.shape[1:]
    return (Axis(size=in_h, pitch=in_w, out=out_h, out_pitch=out_w, kernel=kernel[0],
                 stride=layer.strides[0], dilation=layer.dilations[0], pad=layer.pads[0]),
            Axis(size=in_w, pitch=1, out=out_w, out_pitch=1, kernel=kernel[1],
                 stride=layer.strides[1], dilation=layer.dilations[1], pad=layer.pads[1]))


def requantizes(layer: Layer) -> bool:
    """Whether the vector engine requantizes the results of a layer."""
    return not (isinstance(layer, Lookup | Resize)
                or (isinstance(layer, Pool) and layer.kind is PoolKind.MAX))


def window_walk(config: AcceleratorConfig, graph: Graph, layer: Depthwise | Pool,
                rows: range | None = None) -> Walk:
    """The best walk for a tile of ``rows``, or for the whole plane. All tiles share the walk of
    the first, because weights are packed for it."""
    vertical, horizontal = window_axes(graph, layer)
    if rows is not None:
        vertical = replace(vertical, out=len(rows))
    return best_walk(config, vertical, horizontal, scaled=requantizes(layer))


def layer_cycles(config: AcceleratorConfig, graph: Graph, layer: Layer, blocks: int) -> int:
    """Cycles of a layer on the vector engine, if it need not wait; beside what each command takes
    before and after (:func:`~weft.compiler.timing.vector.vector_overhead`).

    Parameters
    ----------
    blocks : :class:`int`
        Channel blocks of its output.
    """
    _, height, width = graph.tensors[layer.output].shape
    match layer:
        case Depthwise() | Pool():
            return blocks * window_walk(config, graph, layer).cycles
        case Add():
            operands = kernel_shapes(config)[VectorOp.ADD]
        case Multiply():
            operands = kernel_shapes(config)[VectorOp.MULTIPLY]
        case _:
            operands = 1, 1
    words = window_words(config, operands, stride=1, pad=0, slide=False)
    return sweep_cycles(config, blocks * height, width, words,
                        scaled=requantizes(layer))
