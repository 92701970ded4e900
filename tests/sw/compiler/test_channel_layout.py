"""Packed inputs and concatenations: run on the functional device, and compared."""

import re
from dataclasses import replace

import numpy as np
import pytest
from graphs import GraphBuilder, random_image
from sw_programs import equal

from weft import reference
from weft.compiler import compile
from weft.compiler.channel_layout import lay_out_channels
from weft.compiler.first_layer import pack
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import PRESETS
from weft.ir.layout import ChannelMap

TINY = PRESETS["tiny"]


# Packing --------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(40))
def test_packed_graph_is_the_same_function(seed):
    rng = np.random.default_rng(seed)
    config = list(PRESETS.values())[seed % 4]
    height, width = (int(v) for v in rng.integers(1, 20, 2))
    builder = GraphBuilder(rng, (int(rng.integers(1, 6)), height, width))
    graph = builder.graph(builder.random_conv("x"))
    packed = pack(graph, config)
    image = random_image(rng, graph)
    inputs = {name: packed.packings[name].apply(values) if name in packed.packings else values
              for name, values in image.items()}
    assert np.array_equal(reference.run(packed.graph, inputs)["t0"],
                          reference.run(graph, image)["t0"])
    equal(graph, config.replace(activation_bytes=1 << 20, weight_bytes=1 << 20), rng, seed=seed)


def stem(config=PRESETS["base"]):
    builder = GraphBuilder(np.random.default_rng(0), (3, 32, 32))
    return builder.graph(builder.conv("x", 16, kernel=(3, 3), pads=(1, 1, 1, 1)))


def test_first_layer_of_an_image_has_a_third_of_the_steps():
    packed = pack(stem(), PRESETS["base"])
    layer, = packed.graph.layers
    assert layer.weights.shape == (16, 9, 3, 1)
    assert packed.graph.tensors["x"].shape == (9, 32, 32)
    assert (layer.pads, layer.strides) == ((1, 0, 1, 0), (1, 1))
    program = compile(stem(), PRESETS["base"])
    assert program.layers[0].macs == 27 * 16 * 1024
    assert program.graph.tensors["x"].shape == (3, 32, 32)


def test_few_taps_are_packed_whole():
    builder = GraphBuilder(np.random.default_rng(0), (1, 40, 10))
    graph = builder.graph(builder.conv("x", 16, kernel=(4, 4), strides=(2, 2)))
    layer, = pack(graph, PRESETS["base"]).graph.layers
    assert layer.weights.shape == (16, 16, 1, 1)


def test_input_that_others_read_is_not_packed():
    builder = GraphBuilder(np.random.default_rng(0), (3, 8, 8))
    first = builder.conv("x", 4, kernel=(3, 3))
    for graph in (builder.graph(first, "x"), builder.graph(first, builder.conv("x", 2))):
        assert not pack(graph, PRESETS["base"]).packings


def test_layer_whose_lanes_are_full_is_not_packed():
    builder = GraphBuilder(np.random.default_rng(0), (16, 8, 8))
    assert not pack(builder.graph(builder.conv("x", 4, kernel=(3, 3))),
                    PRESETS["base"]).packings


# Concatenations -------------------------------------------------------------------------------

def matrix_commands(program) -> int:
    """MATRIX commands, where those of one layer count as one."""
    return len({re.sub(r" \d+/\d+| rows .*", "", info.text) + f" of {info.layer}"
                for info in program.infos if info.engine is Engine.MATRIX})


@pytest.mark.parametrize("seed", range(8))
def test_concatenation_costs_no_command(seed):
    rng = np.random.default_rng(seed)
    config = list(PRESETS.values())[seed % 4].replace(fip=bool(seed // 4))
    builder = GraphBuilder(rng, (5, 6, 7))
    a = builder.conv("x", 10)
    b = builder.conv("x", 3, kernel=(3, 3), pads=(1, 1, 1, 1), like=a)
    joined = builder.concat(a, b, builder.conv(b, 9, like=a))
    graph = builder.graph(builder.conv(joined, 11, kernel=(2, 2)), a)
    program = equal(graph, config, rng, seed=seed)
    assert matrix_commands(program) == 4
    assert program.layers[3].commands == () and program.layers[3].engine is None
    equal(graph, config, rng, seed=seed, keep_tensors=True)


def dense(rng, layers: int = 4):
    builder = GraphBuilder(rng, (6, 9, 9))
    joined = builder.conv("x", 5)
    for _ in range(layers):
        new = builder.conv(joined, 3, kernel=(3, 3), pads=(1, 1, 1, 1), like=joined)
        joined = builder.concat(joined, new)
    return builder.graph(builder.conv(joined, 7), joined)


def test_concatenations_of_concatenations_lie_in_one_buffer():
    rng = np.random.default_rng(0)
    graph = dense(rng)
    laid_out = lay_out_channels(graph, TINY)
    assert {home.root for name, home in laid_out.homes.items()} == {"x", "t8", "t9"}
    assert laid_out.channels["t8"] == ChannelMap((5, 3, 3, 3, 3))
    program = equal(graph, TINY, rng)
    assert matrix_commands(program) == 6
    equal(graph, TINY, rng, keep_tensors=True)


@pytest.mark.parametrize("size", [1024, 1500, 3000])
def test_concatenations_in_little_memory_equal_the_reference(size):
    rng = np.random.default_rng(size)
    graph = dense(rng)
    for keep_tensors in (False, True):
        equal(graph, TINY.replace(activation_bytes=size), rng, keep_tensors=keep_tensors)


def test_full_words_side_by_side_are_an_ordinary_tensor():
    builder = GraphBuilder(np.random.default_rng(0), (4, 3, 3))
    a = builder.conv("x", 8)
    graph = builder.graph(builder.concat(a, builder.conv("x", 5, like=a)))
    assert lay_out_channels(graph, TINY).channels["t2"] == ChannelMap((13,))


def test_graph_inputs_can_be_concatenated():
    rng = np.random.default_rng(1)
    builder = GraphBuilder(rng, (3, 4, 5))
    builder.add_input("y", (6, 4, 5), like="x")
    joined = builder.concat("x", builder.conv("y", 2, like="x"), "y")
    graph = builder.graph(builder.conv(joined, 7, kernel=(3, 3)), joined, "y")
    for config in (TINY, TINY.replace(activation_bytes=256)):
        equal(graph, config, rng)
        equal(graph, config, rng, keep_tensors=True)


def test_source_that_is_used_twice_is_copied():
    rng = np.random.default_rng(2)
    builder = GraphBuilder(rng, (3, 4, 5))
    a = builder.conv("x", 6)
    first, second = builder.concat(a, a), builder.concat(builder.conv("x", 3, like=a), a)
    graph = builder.graph(builder.conv(first, 7), second)
    program = equal(graph, TINY, rng, keep_tensors=True)
    assert [len(info.commands) > 1 for info in program.layers] == [True, True, True, True, True]
    assert matrix_commands(program) == 5


def test_inconsistent_concatenation_is_refused():
    builder = GraphBuilder(np.random.default_rng(0), (4, 2, 2))
    joined = builder.concat(builder.conv("x", 3), builder.conv("x", 2))
    graph = builder.graph(joined)
    graph.tensors["t2"] = replace(graph.tensors["t2"], shape=(6, 2, 2))
    with pytest.raises(ValueError, match=r"^Layer 'layer2' must have an output of the shapes of "
                                         r"its inputs, one behind the other, not \(6, 2, 2\) of "
                                         r"\(3, 2, 2\), \(2, 2, 2\)$"):
        compile(graph, TINY)


# All kinds of layers --------------------------------------------------------------------------

def mixed(rng, *, like_mobilenet: bool):
    """A network with every kind of layer, branches and concatenations."""
    builder = GraphBuilder(rng, (3, 14, 13))
    stem = builder.conv("x", 10, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    one = builder.depthwise(stem, kernel=(3, 3), pads=(1, 1, 1, 1))
    two = builder.conv(stem, 7, kernel=(3, 3), pads=(1, 1, 1, 1), like=one)
    joined = builder.concat(one, two)
    wide = builder.depthwise(joined, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    pooled = builder.max_pool(joined, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    added = builder.sum(wide, pooled)
    if like_mobilenet:
        gate = builder.conv(builder.global_average(added), 17)
        added = builder.product(added, gate)
    large = builder.enlarge(builder.lookup(added), (2, 2))
    end = builder.conv(large, 9)
    return builder.graph(builder.sum(end, builder.conv(large, 9)), joined)


@pytest.mark.parametrize("size", [1500, 3000, 8000])
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_mixed_networks_in_any_memory_equal_the_reference(name, size):
    rng = np.random.default_rng(size)
    config = PRESETS[name].replace(activation_bytes=size * PRESETS[name].rows // 4)
    for kind in (False, True):
        for keep_tensors in (False, True):
            equal(mixed(rng, like_mobilenet=kind), config, rng, keep_tensors=keep_tensors)


def test_tensor_of_another_map_is_copied_for_an_elementwise_layer():
    rng = np.random.default_rng(3)
    builder = GraphBuilder(rng, (3, 4, 5))
    a, b = builder.conv("x", 5), builder.conv("x", 6)
    c, d = builder.conv("x", 6, like=a), builder.conv("x", 5, like=b)
    joined = [builder.concat(a, c), builder.concat(b, d)]
    graph = builder.graph(builder.sum(*joined), *joined)
    program = equal(graph, TINY, rng, keep_tensors=True)
    assert matrix_commands(program) == 5


def test_convolution_takes_the_map_of_what_it_is_added_to():
    rng = np.random.default_rng(4)
    builder = GraphBuilder(rng, (3, 4, 5))
    a = builder.conv("x", 5)
    joined = builder.concat(a, builder.conv("x", 6, like=a))
    graph = builder.graph(builder.sum(builder.conv("x", 11), joined))
    assert matrix_commands(equal(graph, TINY, rng)) == 3
