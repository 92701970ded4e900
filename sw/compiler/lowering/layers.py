"""Layers become loads, engine commands and stores on symbolic buffers.

What a layer computes is in ``convolution`` and ``matmul`` for the matrix engine and in ``vector``
for the vector engine, ``rows`` for those beside the loads; what all share is in ``context``.
"""

from collections.abc import Hashable
from typing import Any

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.ops import Lowered
from weft.compiler.planning.channel_groups import ChannelGroupPlan
from weft.compiler.planning.head_groups import HeadGroupPlan
from weft.compiler.planning.placement import AnyGroupPlan, MemoryPlan
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Alias, Concat, Convolution, Layer, MatMul, Normalization, Softmax

from .context import LoweringContext
from .convolution import lower_convolution
from .depth_first import lower_channel_group, lower_group, lower_head_group
from .matmul import lower_matmul
from .rows import lower_normalization, lower_softmax
from .vector import lower_vector

__all__ = ["lower"]


def lower(laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan, *,
          keep_tensors: bool = False, known: dict[Hashable, Any] | None = None,
          outline: bool = False) -> Lowered:
    """Symbolic commands for a graph.

    The loads of a layer come right before the commands that need them: the queues in front of the
    engines let them run ahead, and the fetch of a command never waits behind the loads of a later
    layer.

    Parameters
    ----------
    laid_out : :class:`ChannelLayout`
        The graph, and where its channels go.
    plan : :class:`MemoryPlan`
        Where its tensors live.
    keep_tensors : :class:`bool`
        Store the output of every layer, not only the graph's outputs.
    known : :class:`dict`
        What does not depend on the plan: filled, and used again when the same graph is lowered
        with another one.

    outline : :class:`bool`
        The commands are only counted: what they touch of external memory is given in outline,
        which takes a third of the time.

    Raises
    ------
    MisfitError
        If layers exceed a field of a command, the accumulators, or the weight memory.
    """
    return LoweringContext(laid_out, config, plan, keep_tensors, {} if known is None else known,
                           outline=outline).run(_lower_layer, _lower_group)


def _lower_group(context: LoweringContext, group: AnyGroupPlan) -> None:
    match group:
        case ChannelGroupPlan():
            lower_channel_group(context, group, _lower_layer)
        case HeadGroupPlan():
            lower_head_group(context, group, _lower_layer)
        case _:
            lower_group(context, group, _lower_layer)


def _lower_layer(context: LoweringContext, index: int, layer: Layer) -> None:
    match layer:
        case Convolution():
            lower_convolution(context, index, layer)
        case MatMul():
            lower_matmul(context, index, layer)
        case Softmax():
            lower_softmax(context, index, layer)
        case Normalization():
            lower_normalization(context, index, layer)
        case Concat() | Alias():
            context.join(index, layer)
        case _:
            lower_vector(context, index, layer)
