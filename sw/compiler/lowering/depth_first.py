"""A group of layers, depth first: each has its turn in every tile.

Engines overlap all the same: a command waits for nothing but what it reads and overwrites, so the
matrix engine may be tiles ahead of the vector engine, as far as the lines have room.
"""

from collections.abc import Callable

from weft.compiler.planning.channel_groups import ChannelGroupPlan
from weft.compiler.planning.depth_first import GroupPlan
from weft.compiler.planning.head_groups import HeadGroupPlan
from weft.ir import Layer

from .context import LoweringContext
from .vector import lower_move

__all__ = ["lower_channel_group", "lower_group", "lower_head_group"]


def lower_group(context: LoweringContext, group: GroupPlan,
                lower: Callable[[LoweringContext, int, Layer], None]) -> None:
    """Commands of a group, each layer lowered with ``lower`` for the rows of its turn."""
    lines = context.begin_group(group)
    layers = {index: context.graph.layers[index] for index in group.layers}
    readers = {name: index for index in reversed(group.layers) for name in layers[index].inputs}
    made = {layer.output for layer in layers.values()}
    last = layers[group.layers[-1]].output

    def advance(index: int, name: str, tile: int) -> None:
        move = lines[name].advance(tile)
        if move is not None:
            lower_move(context, index, *move)

    try:
        for tile in range(len(group.flows[last].new)):
            for name in lines:
                if name not in made:
                    advance(readers[name], name, tile)
                    if group.flows[name].new[tile]:
                        context.load_line(readers[name], lines[name].new())
            for index, layer in layers.items():
                if layer.output in lines:
                    advance(index, layer.output, tile)
                rows = group.flows[layer.output].new[tile]
                if rows:
                    context.take_turn(index, rows)
                    lower(context, index, layer)
    finally:
        context.end_group()


def lower_channel_group(context: LoweringContext, group: ChannelGroupPlan,
                        lower: Callable[[LoweringContext, int, Layer], None]) -> None:
    """Commands of a group by channels, each layer lowered with ``lower`` for the chunk of its
    turn."""
    graph = context.graph
    context.begin_channels(group)
    try:
        for chunk in group.chunks:
            for index in group.layers:
                layer = graph.layers[index]
                context.take_turn(index, range(graph.tensors[layer.output].shape[1]), chunk)
                lower(context, index, layer)
    finally:
        context.end_group()


def lower_head_group(context: LoweringContext, group: HeadGroupPlan,
                     lower: Callable[[LoweringContext, int, Layer], None]) -> None:
    """Commands of a group by heads, each layer lowered with ``lower`` for the rows and the head of
    its turn."""
    context.begin_heads(group)
    try:
        for head in range(group.heads):
            for rows in group.tiles:
                for index in group.layers:
                    context.take_turn(index, rows, range(head, head + 1))
                    lower(context, index, context.graph.layers[index])
    finally:
        context.end_group()
