"""Layer normalization of rows of channels on the functional device, and its commands."""

import re
from dataclasses import replace

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import random_image
from sw_programs import equal, run

from weft import compiler, reference
from weft.compiler.misfit import MisfitError
from weft.compiler.verify import verify
from weft.hw.isa.commands import Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import RowConstant
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS, load_config

TINY = load_config("tiny,products=true,softmax=true,normalize_channels=96")
PLAIN = AcceleratorConfig(
    name="plain", rows=6, cols=6, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=40_000,
    accumulator_pixels=64, parameter_channels=600, axi_data_width=64, products=True, softmax=True,
    normalize_channels=96)
BASE = load_config("base,products=true,normalize_channels=96")
CONFIGS = pytest.mark.parametrize("config", [TINY, PLAIN, BASE], ids=lambda config: config.name)


def alone(rng, *, length, rows, columns=1, **constants):
    builder = GraphBuilder(rng, (length, rows, columns), unsigned=bool(rng.integers(2)))
    return builder.graph(builder.normalization(builder.input, **constants))


def block(rng, *, tokens, depth, heads, softmax=True):
    """A layer of a transformer, normalized before and between."""
    builder = GraphBuilder(rng, (heads * depth, tokens, 1), unsigned=bool(rng.integers(2)))
    x = builder.normalization(builder.input)
    q, k, v = (builder.conv(x, heads * depth) for _ in range(3))
    scores = builder.matmul(q, k, heads=heads, transposed=True)
    scores = builder.softmax(scores, heads=heads) if softmax else builder.lookup(scores)
    seen = builder.conv(builder.matmul(scores, v, heads=heads), heads * depth)
    x = builder.sum(seen, builder.input)
    hidden = builder.lookup(builder.conv(builder.normalization(x), 2 * heads * depth))
    return builder.graph(builder.sum(builder.conv(hidden, heads * depth), x))


def commands(program, opcode=Opcode.NORMALIZE):
    decoded = (decode(program.command(index)) for index in range(program.count))
    return [fields for each, fields in decoded if each is opcode]


def row_constants(program):
    return [fields for fields in commands(program, Opcode.LOAD)
            if Memory(fields["memory"]) is Memory.ROW_CONSTANT]


@CONFIGS
def test_random_rows_equal_the_reference(config):
    rng = np.random.default_rng(config.rows)
    for _ in range(20):
        graph = alone(rng, length=8 * int(rng.choice([1, 12, rng.integers(1, 13)])),
                      rows=int(rng.integers(1, 20)), columns=int(rng.choice([1, 1, 2, 5])),
                      epsilon=float(rng.choice([1e-5, 1e-12, 0.3])),
                      scale=float(np.exp(rng.uniform(-8, 1))))
        equal(graph, config, rng)


@CONFIGS
def test_a_transformer_equals_the_reference(config):
    rng = np.random.default_rng(config.rows + 1)
    for tokens, depth, heads in ((1, 8, 1), (17, 8, 2), (33, 16, 3)):
        equal(block(rng, tokens=tokens, depth=depth, heads=heads, softmax=config.softmax), config,
              rng)


def test_rows_that_do_not_fit_come_in_tiles():
    small = TINY.replace(activation_bytes=4 * 512)
    rng = np.random.default_rng(5)
    graph = alone(rng, length=16, rows=230)
    found = commands(compiler.compile(graph, small))
    assert len(found) > 2 and sum(fields["pixels"] for fields in found) == 230
    equal(graph, small, rng)


def test_frames_of_a_batch_share_the_constants_of_a_layer():
    rng = np.random.default_rng(6)
    graph = block(rng, tokens=5, depth=8, heads=2)
    program = compiler.compile(compiler.batch(graph, 3), TINY)
    assert len(row_constants(program)) == 3
    image = random_image(rng, graph)
    expected = reference.run(graph, image)[graph.outputs[0].tensor]
    found = run(program, {edge.tensor: image["x"] for edge in program.graph.inputs})
    assert len(found) == 3
    for values in found.values():
        assert np.array_equal(values, expected)


@pytest.mark.parametrize("channels", [96, 4096])
def test_all_constants_of_rows_begin_at_the_first_entry(channels):
    """However many would fit one behind the other."""
    rng = np.random.default_rng(7)
    config = TINY.replace(normalize_channels=channels)
    graph = block(rng, tokens=9, depth=8, heads=2)
    program = compiler.compile(graph, config)
    loads = row_constants(program)
    assert {fields["local_address"] for fields in loads} == {0}
    sizes = [fields["units"] * fields["lines"] for fields in loads]
    assert sorted(set(sizes)) == [256, RowConstant.CHANNELS + 2 * 16] and len(sizes) == 3
    equal(graph, config, rng)


def test_constants_that_no_other_layer_replaces_stay_for_the_next_frame():
    rng = np.random.default_rng(8)
    program = compiler.compile(alone(rng, length=16, rows=3), TINY)
    assert len(program.warm_infos) == program.count - 1


def test_fields_of_a_command():
    rng = np.random.default_rng(9)
    for length, lanes, blocks in ((8, 2, 2), (24, 6, 4), (40, 4, 7)):
        graph = alone(rng, length=length, rows=3, columns=2, epsilon=2.0 ** -20, scale=0.3)
        source, target = (graph.tensors[name] for name in (graph.layers[0].input,
                                                           graph.layers[0].output))
        fields, = commands(compiler.compile(graph, PLAIN))
        assert (fields["pixels"], fields["blocks"], fields["lanes"]) == (6, blocks, lanes)
        assert fields["length"] * 2 ** (fields["length_exponent"] - 15) == length
        rate = fields["rate"] * 2.0 ** (fields["rate_exponent"] - 15)
        assert 0 <= 1 / target.scale - rate < rate * 2 ** -15
        assert min(fields["length"], fields["rate"]) >= 1 << 15
        assert 1 <= source.scale / 2.0 ** (fields["sum_exponent"] - 127) < 2
        assert fields["epsilon"] == 107 << 23 and fields["out_zero"] == target.zero_point


@pytest.mark.parametrize("change, error", [
    ({"scale": np.ones(7, np.float32)}, "must have 16 scales and shifts of float32, not float32 "
                                        "(7,)"),
    ({"shift": np.ones(16)}, "must have 16 scales and shifts of float32, not float64 (16,)"),
    ({"epsilon": 0.0}, "has an epsilon of 0; one from 2**-60 to 2**40 is supported"),
    ({"shift": np.full(16, 1e-20, np.float32)}, "has values in its bias that are not 0 and not "
                                                "from 2**-60 to 2**40"),
])
def test_wrong_layers_are_told(change, error):
    graph = alone(np.random.default_rng(10), length=16, rows=3)
    layer, = graph.layers
    text = re.escape(f"Layer {layer.name!r} {error}")
    with pytest.raises(ValueError, match=f"^{text}$"):
        verify(replace(graph, layers=(replace(layer, **change),)))


@pytest.mark.parametrize("config, name, cure", [
    ("tiny", "tiny", "tiny,products=true,normalize_channels=24"),
    ("tiny,products=true,softmax=true", "custom",
     "...,products=true,softmax=true,normalize_channels=24"),
    ("tiny,products=true,normalize_channels=16", "custom",
     "...,products=true,normalize_channels=24"),
])
def test_the_configuration_must_have_channels_enough(config, name, cure):
    graph = alone(np.random.default_rng(11), length=24, rows=3)
    with pytest.raises(MisfitError) as caught:
        compiler.compile(graph, load_config(config))
    assert str(caught.value) == (
        f"Layer 'layer0' (LayerNormalization) normalizes rows of 24 channels: the configuration "
        f"{name!r} must have normalize_channels of at least 24")
    assert caught.value.cure == f"use --config {cure}"


def test_one_cure_for_all_of_a_transformer():
    graph = block(np.random.default_rng(12), tokens=5, depth=8, heads=3)
    with pytest.raises(MisfitError) as caught:
        compiler.compile(graph, PRESETS["base"])
    assert {error.cure for error in caught.value.layers.values()} == {
        "use --config base,products=true,softmax=true,normalize_channels=32"}
    assert len(caught.value.layers) == 5


def test_channels_that_no_configuration_has_are_without_a_cure():
    """4096 is no multiple of 24."""
    graph = alone(np.random.default_rng(13), length=4096, rows=1)
    with pytest.raises(MisfitError) as caught:
        compiler.compile(graph, PLAIN)
    assert not caught.value.cure or "normalize" not in caught.value.cure
