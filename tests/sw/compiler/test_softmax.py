"""Softmax of rows of channels on the functional device, and its commands."""

import numpy as np
import pytest
from graph_builder import GraphBuilder
from sw_programs import equal

from weft import compiler
from weft.compiler.misfit import MisfitError
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import load_config

TINY = load_config("tiny,products=true,softmax=true")
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=6, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=40_000,
    accumulator_pixels=64, parameter_channels=600, axi_data_width=64, products=True, softmax=True)


def alone(rng, *, length, rows, heads, inverse=256.0):
    builder = GraphBuilder(rng, (heads * length, rows, 1), unsigned=bool(rng.integers(2)))
    return builder.graph(builder.softmax(builder.input, heads=heads, inverse=inverse))


def attention(rng, *, tokens, depth, heads, channels=9):
    builder = GraphBuilder(rng, (channels, tokens, 1), unsigned=bool(rng.integers(2)))
    q, k, v = (builder.conv(builder.input, heads * depth) for _ in range(3))
    shares = builder.softmax(builder.matmul(q, k, heads=heads, transposed=True), heads=heads)
    context = builder.matmul(shares, v, heads=heads)
    return builder.graph(builder.sum(builder.conv(context, channels), builder.input))


def commands(program):
    decoded = (decode(program.command(index)) for index in range(program.count))
    return [fields for opcode, fields in decoded if opcode is Opcode.SOFTMAX]


@pytest.mark.parametrize("config", [TINY, ODD], ids=lambda config: config.name)
def test_random_rows_equal_the_reference(config):
    rng = np.random.default_rng(config.rows)
    for _ in range(20):
        graph = alone(rng, length=int(rng.choice([1, rng.integers(1, 40)])),
                      rows=int(rng.integers(1, 20)), heads=int(rng.choice([1, 1, 2, 3])),
                      inverse=float(rng.choice([256, 255, 1, 800, rng.uniform(1, 60000)])))
        equal(graph, config, rng)


@pytest.mark.parametrize("config", [TINY, ODD], ids=lambda config: config.name)
def test_attention_equals_the_reference(config):
    rng = np.random.default_rng(config.rows + 1)
    for tokens, depth, heads in ((1, 3, 1), (17, 8, 2), (33, 5, 3)):
        equal(attention(rng, tokens=tokens, depth=depth, heads=heads), config, rng)


def test_rows_that_do_not_fit_come_in_tiles():
    small = TINY.replace(activation_bytes=4 * 512)
    rng = np.random.default_rng(5)
    graph = alone(rng, length=14, rows=230, heads=2)
    found = commands(compiler.compile(graph, small))
    assert len(found) > 2 and sum(fields["pixels"] for fields in found) == 2 * 230
    equal(graph, small, rng)


def test_a_command_says_how_long_a_row_is():
    graph = alone(np.random.default_rng(6), length=10, rows=3, heads=2, inverse=300)
    for fields in commands(compiler.compile(graph, TINY)):
        assert (fields["blocks"], fields["lanes"], fields["pixels"]) == (3, 2, 3)
        assert fields["factor"] * 2 ** (fields["exponent"] - 15) == 300


def test_the_configuration_must_have_it():
    graph = alone(np.random.default_rng(7), length=4, rows=3, heads=1)
    with pytest.raises(MisfitError) as caught:
        compiler.compile(graph, load_config("tiny,products=true"))
    assert "must have softmax = true" in str(caught.value)
