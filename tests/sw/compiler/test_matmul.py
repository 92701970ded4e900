"""Products of two tensors: compiled, on the functional device, against the reference."""

import re
from dataclasses import replace

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import random_image
from sw_programs import run_frames

from weft import reference
from weft.compiler import compile
from weft.errors import CompileError
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import load_config

TINY = load_config("tiny,products=true")
SIX = AcceleratorConfig(
    name="six", rows=6, cols=6, requant_lanes=3, activation_bytes=6 * 8192, weight_bytes=36 * 400,
    accumulator_pixels=64, parameter_channels=600, axi_data_width=64, products=True)
CONFIGS = [TINY, TINY.replace(fip=False), SIX, SIX.replace(fip=False),
           TINY.replace(accumulator_width=24, activation_banks=1)]


def check(graph, config, rng, *, seed=0, keep=True):
    """Three different frames, every tensor against the reference."""
    program = compile(graph, config, keep_tensors=keep)
    images = [random_image(rng, graph) for _ in range(3)]
    names = [layer.output for layer in graph.layers] if keep else [
        edge.tensor for edge in graph.outputs]
    for image, values in zip(images, run_frames(program, images, seed=seed, warm=True),
                             strict=True):
        expected = reference.run(graph, image)
        for name in names:
            np.testing.assert_array_equal(values[name], expected[name], name)
    return program


def product_graph(rng, *, pixels, depth, channels, heads=1, transposed=False, width=1):
    """One product of two inputs: ``a`` of ``pixels`` rows."""
    builder = GraphBuilder(rng, (heads * depth, pixels, width), unsigned=bool(rng.integers(2)))
    shape = (heads * depth, channels, 1) if transposed else (heads * channels, depth, 1)
    if rng.random() < 0.5:
        shape = (shape[0], 1, shape[1])
    b = builder.add_input("b", shape)
    low = int(rng.integers(-128, 0)) if rng.random() < 0.3 else -128
    return builder.graph(builder.matmul(builder.input, b, heads=heads, transposed=transposed,
                                        clamp=(low, 127)))


def turns(program):
    decoded = [decode(program.command(index)) for index in range(program.count)]
    return [fields for opcode, fields in decoded if opcode is Opcode.TURN]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.rows}-{c.fip}-{c.accumulator_width}")
def test_random_products_equal_the_reference(config, seed):
    rng = np.random.default_rng([seed, config.rows, config.fip])
    size = 5 * config.rows
    graph = product_graph(
        rng, pixels=int(rng.integers(1, 40)), depth=int(rng.choice([1, rng.integers(1, size)])),
        channels=int(rng.choice([1, rng.integers(1, size)])), heads=int(rng.choice([1, 1, 2, 3])),
        transposed=bool(seed % 2), width=int(rng.choice([1, 1, 3])))
    program = check(graph, config, rng, seed=seed, keep=False)
    assert turns(program)


@pytest.mark.parametrize("config", CONFIGS[:4], ids=lambda c: f"{c.rows}-{c.fip}")
def test_a_head_of_attention_between_convolutions(config):
    rng = np.random.default_rng(config.rows)
    for heads, tokens, depth in ((1, 7, 5), (3, 9, config.rows), (2, 13, config.rows + 1)):
        builder = GraphBuilder(rng, (11, tokens, 1))
        q, k, v = (builder.conv(builder.input, heads * depth) for _ in range(3))
        scores = builder.lookup(builder.matmul(q, k, heads=heads, transposed=True))
        context = builder.matmul(scores, v, heads=heads)
        output = builder.sum(builder.conv(context, 11), builder.conv(builder.input, 11))
        graph = builder.graph(output)
        check(graph, config, rng, keep=False)
        program = check(graph, config, rng)
        assert len(turns(program)) >= 2 * heads
        # What stays on chip is loaded once; what is turned is turned in every frame.
        assert program.warm_commands
        kinds = [decode(program.warm_commands[at:at + 64])[0]
                 for at in range(0, len(program.warm_commands), 64)]
        assert kinds.count(Opcode.TURN) == len(turns(program))


def test_a_tensor_times_itself():
    rng = np.random.default_rng(5)
    builder = GraphBuilder(rng, (6, 9, 1))
    square = builder.matmul(builder.input, builder.input, transposed=True)
    check(builder.graph(builder.matmul(square, builder.input)), TINY, rng)


def test_what_does_not_fit_the_weight_memory_is_made_in_parts():
    rng = np.random.default_rng(6)
    config = TINY.replace(weight_bytes=512, parameter_channels=16)
    for transposed in (False, True):
        graph = product_graph(rng, pixels=20, depth=10, channels=47, heads=2,
                              transposed=transposed)
        program = check(graph, config, rng, keep=False)
        assert len(turns(program)) > 2


@pytest.mark.parametrize("transposed", [False, True])
def test_operands_in_external_memory_are_multiplied_in_tiles_of_rows(transposed):
    rng = np.random.default_rng(7)
    config = TINY.replace(activation_bytes=4 * 512, activation_banks=2)
    for heads in (1, 2):
        graph = product_graph(rng, pixels=250, depth=6, channels=14, heads=heads,
                              transposed=transposed)
        program = check(graph, config, rng, keep=False)
        chunks = len(turns(program))
        matrices = sum(decode(program.command(index))[0] is Opcode.MATRIX
                       for index in range(program.count))
        assert matrices > chunks


def test_a_batch_of_frames():
    rng = np.random.default_rng(8)
    from weft.compiler import batch
    builder = GraphBuilder(rng, (8, 7, 1))
    graph = batch(builder.graph(builder.matmul(
        builder.conv(builder.input, 8), builder.conv(builder.input, 8), heads=2,
        transposed=True)), 3)
    check(graph, TINY, rng, keep=False)


@pytest.mark.parametrize("config, change, message", [
    (load_config("tiny"), {}, "Layer 'layer0' (MatMul) multiplies two activations: the "
     "configuration 'tiny' must have products = true"),
    (TINY.replace(weight_bytes=64), {"depth": 30}, "Layer 'layer0' needs 128 bytes of weight "
     "memory for 4 output channels, 64 are available"),
    (TINY.replace(accumulator_width=20), {"depth": 60}, "Layer 'layer0' may reach")])
def test_what_cannot_be_multiplied_is_refused(config, change, message):
    graph = product_graph(np.random.default_rng(1), **{"pixels": 5, "depth": 6, "channels": 7}
                          | change)
    with pytest.raises(CompileError, match=re.escape(message)):
        compile(graph, config)


def test_heads_must_be_the_same_for_all_who_read_a_tensor():
    builder = GraphBuilder(np.random.default_rng(1), (12, 6, 1))
    x = builder.input
    graph = builder.graph(builder.matmul(x, x, heads=2, transposed=True),
                          builder.matmul(x, x, heads=4, transposed=True))
    with pytest.raises(CompileError, match=r"^Layer 'layer1' divides a tensor into other heads "):
        compile(graph, TINY)


def test_shapes_are_verified():
    graph = product_graph(np.random.default_rng(1), pixels=5, depth=6, channels=7)
    layer, = graph.layers
    with pytest.raises(ValueError, match=r"^Layer 'layer0' must multiply 1 heads of 5 channels"):
        compile(replace(graph, layers=(replace(layer, depth=5),)), TINY)
