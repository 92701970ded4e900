"""In which order the vector engine visits the positions of a plane, and how many cycles that takes.

A command has two loops over positions, and a window that may slide along the inner one. The axis
that takes fewer cycles becomes the inner loop.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from weft.compiler.timing.engines import element_steps, sweep_cycles, window_steps
from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_KERNELS, WINDOW_GROUPS
from weft.hw.isa.vector_rules import LINE_STRIDES, line_columns
from weft.ir import (
    Add,
    Affine,
    ChannelSum,
    Depthwise,
    Graph,
    Interleave,
    Layer,
    Lookup,
    Multiply,
    Pool,
    PoolKind,
    Resize,
)

__all__ = ["Axis", "LoopOrder", "ROW_BY_ROW", "best_loop_order", "window_axes",
           "window_loop_order", "layer_cycles", "requantizes"]


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
class LoopOrder:
    """The two loops of a command over a plane.

    Attributes
    ----------
    transposed : :class:`bool`
        The outer loop is over columns, the inner one over rows.
    slide : :class:`bool`
        The window keeps its words from one inner position to the next.
    lines : :class:`bool`
        And its rows from one outer position to the next.
    cycles : :class:`int`
        For a channel block.
    """

    transposed: bool = False
    slide: bool = False
    lines: bool = False
    cycles: int = 0

    def nest(self, vertical: Axis, horizontal: Axis) -> tuple[Axis, Axis]:
        """Outer and inner axis."""
        return (horizontal, vertical) if self.transposed else (vertical, horizontal)


ROW_BY_ROW = LoopOrder()
"""For layers without a window."""


def _keeps_lines(config: AcceleratorConfig, outer: Axis, inner: Axis) -> bool:
    """Whether a command over a plane, or any part of it, can keep rows."""
    return (outer.kernel == inner.kernel and outer.kernel in LINE_KERNELS
            and outer.dilation == inner.dilation == 1 and inner.stride in LINE_STRIDES
            and _columns(inner) <= config.vector_lines)


def _columns(inner: Axis) -> int:
    """Lines of a channel block, at most."""
    return line_columns(inner.out, kernel=inner.kernel, stride=inner.stride)


def best_loop_order(config: AcceleratorConfig, vertical: Axis, horizontal: Axis, *,
                    scaled: bool, rows: int | None = None, blocks: int = 0) -> LoopOrder:
    """The loop order of the fewest cycles.

    A position takes a cycle for every word it reads. A sliding window reads all words at the first
    inner position, less those in front of the first group that are padding, and then only those of
    each group of taps that are new. With lines it reads every word once, and
    multiplies at least once for each group of kernel rows.

    Parameters
    ----------
    vertical, horizontal : :class:`Axis`
        Of the whole plane.
    rows : :class:`int`
        In place of all, the output rows of a command.
    blocks : :class:`int`
        Channel blocks of such a command. If there are lines for the columns of all of them, it
        need not read again what the one before it has read.
    scaled : :class:`bool`
        Results are requantized, which takes ``vector_groups`` cycles each.
    """
    part = vertical if rows is None else replace(vertical, out=rows)

    def orders() -> Iterator[LoopOrder]:
        for transposed in (False, True):
            order = LoopOrder(transposed=transposed)
            outer, inner = order.nest(vertical, horizontal)
            yield order
            groups = -(-inner.kernel // config.vector_taps)
            if inner.dilation == 1 and outer.kernel * groups <= WINDOW_GROUPS:
                yield replace(order, slide=True)
            if _keeps_lines(config, outer, inner):
                yield replace(order, slide=True, lines=True)

    def timed(order: LoopOrder) -> LoopOrder:
        outer, inner = order.nest(part, horizontal)
        resumes = rows is not None and rows < vertical.out and not order.transposed \
            and 0 < blocks * _columns(inner) <= config.vector_lines
        steps = window_steps(
            config, (outer.kernel, inner.kernel), strides=(outer.stride, inner.stride),
            pads=(outer.pad, inner.pad), slide=order.slide, lines=order.lines, resumes=resumes)
        return replace(order, cycles=sweep_cycles(config, 1, (outer.out, inner.out), steps,
                                                  scaled=scaled))

    return min(map(timed, orders()), key=lambda order: order.cycles)


def window_axes(graph: Graph, layer: Depthwise | Pool) -> tuple[Axis, Axis]:
    """Vertical and horizontal axis of a whole plane."""
    _, in_h, in_w = graph.tensors[layer.input].shape
    _, out_h, out_w = graph.tensors[layer.output].shape
    kernel = layer.kernel if isinstance(layer, Pool) else layer.weights.shape[1:]
    vertical = Axis(size=in_h, pitch=in_w, out=out_h, out_pitch=out_w, kernel=kernel[0],
                    stride=layer.strides[0], dilation=layer.dilations[0], pad=layer.pads.top)
    horizontal = Axis(size=in_w, pitch=1, out=out_w, out_pitch=1, kernel=kernel[1],
                      stride=layer.strides[1], dilation=layer.dilations[1], pad=layer.pads.left)
    return vertical.part(range(out_h)), horizontal.part(range(out_w))


def requantizes(layer: Layer) -> bool:
    """Whether the vector engine requantizes the results of a layer."""
    return not (isinstance(layer, Lookup | Resize | Interleave)
                or (isinstance(layer, Pool) and layer.kind is PoolKind.MAX))


def window_loop_order(config: AcceleratorConfig, graph: Graph, layer: Depthwise | Pool,
                      rows: range | None = None, *, blocks: int = 0) -> LoopOrder:
    """The best loop order for a tile of ``rows`` and so many channel blocks, or for the whole
    plane. All tiles share that of the first, because weights are packed for it."""
    return best_loop_order(config, *window_axes(graph, layer), scaled=requantizes(layer),
                           rows=None if rows is None else len(rows), blocks=blocks)


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
            return blocks * window_loop_order(config, graph, layer).cycles
        case Add() | Affine() | ChannelSum():
            op = VectorOp.ADD
        case Multiply():
            op = VectorOp.MULTIPLY
        case _:
            op = VectorOp.LOOKUP
    return sweep_cycles(config, blocks, (height, width), element_steps(config, op),
                        scaled=requantizes(layer))
