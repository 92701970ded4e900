"""Graphs of a few layers for the compiler, and what the commands of their programs say."""

import numpy as np
from graph_builder import GraphBuilder

from weft.compiler import Program
from weft.hw.isa.commands import Engine
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS

TINY = PRESETS["tiny"]


def chain(layers: int, *, channels: int = 4, size: int = 3, seed: int = 0):
    builder = GraphBuilder(np.random.default_rng(seed), (channels, size, size))
    tensor = builder.input
    for _ in range(layers):
        tensor = builder.conv(tensor, channels)
    return builder.graph(tensor)


def branchy(seed: int = 0):
    builder = GraphBuilder(np.random.default_rng(seed), (8, 8, 8))
    trunk = builder.conv(builder.input, 12, kernel=(3, 3), pads=(1, 1, 1, 1))
    left = builder.conv(builder.conv(trunk, 9), 70)
    right = builder.conv(builder.conv(trunk, 20, kernel=(5, 5)), 3)
    return builder.graph(left, trunk, right)


def field(program: Program, index: int, name: str) -> int:
    return decode(program.command(index))[1][name]


def tokens(program: Program) -> list[tuple[int, int]]:
    """(producer, consumer) of every token, as indices of commands."""
    given: dict[tuple[int, int], list[int]] = {}
    pairs = []
    for index, info in enumerate(program.infos):
        me = info.engine.value
        for engine in Engine:
            if field(program, index, "wait") >> engine.value & 1:
                pairs.append((given[engine.value, me].pop(0), index))
        for engine in Engine:
            if field(program, index, "post") >> engine.value & 1:
                given.setdefault((me, engine.value), []).append(index)
    assert not any(given.values())
    return pairs


def build(shape, channels, **options):
    builder = GraphBuilder(np.random.default_rng(0), shape)
    return builder.graph(builder.conv(builder.input, channels, **options))
