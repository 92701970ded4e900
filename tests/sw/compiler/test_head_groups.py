"""Attention head by head: the two products and the softmax between them take turns."""

from unittest.mock import patch

import numpy as np
import pytest
from graph_builder import GraphBuilder
from sw_programs import equal

from weft import compiler
from weft.compiler import passes
from weft.compiler.channel_layout import ChannelLayout, lay_out_channels
from weft.compiler.planning.groups import GroupFinder
from weft.compiler.planning.placement import MemoryPlan, plan_memory
from weft.hw.isa.commands import Engine, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import load_config
from weft.ir import Graph, Softmax

TINY = load_config("tiny,products=true,softmax=true")
UNITS = TINY.replace(row_units=4)
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=6, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=40_000,
    accumulator_pixels=64, parameter_channels=600, axi_data_width=64, products=True, softmax=True,
    row_units=2)


def attention(rng: np.random.Generator, *, tokens: int, queries: int | None = None, depth: int = 8,
              heads: int = 2, channels: int = 9) -> Graph:
    """Attention to ``tokens`` of as many queries or some others, and what is around it."""
    builder = GraphBuilder(rng, (channels, tokens, 1), unsigned=bool(rng.integers(2)))
    k, v = (builder.conv(builder.input, heads * depth) for _ in range(2))
    q = builder.conv(builder.input, heads * depth)
    if queries is not None:
        q = builder.max_pool(q, kernel=(tokens - queries + 1, 1), strides=(1, 1))
    scores = builder.matmul(q, k, heads=heads, transposed=True)
    context = builder.matmul(builder.softmax(scores, heads=heads), v, heads=heads)
    return builder.graph(builder.conv(context, channels))


def all_by_heads(laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan, *,
                 keep_tensors: bool = False) -> list[MemoryPlan]:
    """In place of ``plan_groups``: all that can be computed by heads is."""
    found = list(GroupFinder(laid_out, config).head_groups(set(laid_out.graph.tensors)))
    assert found
    return [plan_memory(laid_out, config, keep_tensors=keep_tensors, groups=found)]


def turns(program: compiler.Program) -> list[str]:
    """What the softmaxes and the products work on, in the order of the stream."""
    decoded = [decode(program.command(index))[0] for index in range(program.count)]
    return [info.text for info, opcode in zip(program.infos, decoded, strict=True)
            if opcode is Opcode.SOFTMAX]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("config", [TINY, UNITS, ODD],
                         ids=lambda config: f"{config.name}{config.row_units}")
def test_attention_by_heads_equals_the_reference(config, seed):
    rng = np.random.default_rng([seed, config.rows, config.row_units])
    tokens = int(rng.integers(17, 60))
    config = config.replace(
        axi_data_width=32 << seed % 3,
        activation_bytes=config.rows * int(rng.choice([640, 1024, 4096])))
    graph = attention(rng, tokens=tokens, depth=int(rng.integers(1, 20)),
                      heads=int(rng.integers(1, 4)), channels=int(rng.integers(1, 12)),
                      queries=int(rng.integers(9, tokens)) if seed % 2 else None)
    with (patch.object(passes, "plan_groups", all_by_heads),
          patch.object(passes, "_faster", return_value=True)):
        program = equal(graph, config, rng, seed=seed, keep_tensors=seed in (3, 4))
    for index, opcode in enumerate(decode(program.command(index))[0]
                                   for index in range(program.count)):
        if opcode is Opcode.SOFTMAX:
            fields = decode(program.command(index))[1]
            assert fields["in_base"] == fields["out_base"]


def test_scores_that_do_not_fit_stay_on_chip_head_by_head():
    rng = np.random.default_rng(2)
    config = UNITS.replace(activation_bytes=8 * 1024)
    graph = attention(rng, tokens=64, depth=8, heads=3)
    assert config.activation_bytes < 3 * 64 * 64
    program = equal(graph, config, rng)
    assert len(turns(program)) > 3
    softmax = next(layer for layer in graph.layers if isinstance(layer, Softmax))
    for info in program.infos:
        if info.engine in (Engine.LOAD, Engine.STORE):
            assert not {softmax.input, softmax.output} & set(info.text.split())


def test_other_readers_of_the_scores_keep_them_whole():
    rng = np.random.default_rng(3)
    builder = GraphBuilder(rng, (8, 12, 1))
    q, k, v = (builder.conv(builder.input, 8) for _ in range(3))
    scores = builder.matmul(q, k, heads=1, transposed=True)
    shares = builder.softmax(scores, heads=1)
    context = builder.matmul(shares, v, heads=1)
    last = builder.conv(builder.sum(scores, shares), 8)
    laid_out = lay_out_channels(builder.graph(builder.sum(last, context)), TINY)
    assert not list(GroupFinder(laid_out, TINY).head_groups(set(laid_out.graph.tensors)))
