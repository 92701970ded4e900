"""Packed inputs and concatenations: run on the functional device, and compared."""

import re
from dataclasses import replace

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import operator_graph, random_image
from sw_programs import equal
from sweeps import sweep

from weft import reference
from weft.compiler import compile
from weft.compiler.channel_layout import Home, lay_out_channels
from weft.compiler.channel_maps import gathered
from weft.compiler.first_layer import pack
from weft.compiler.planning.skip import runs
from weft.errors import CompileError
from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS
from weft.ir import Pads, Selection
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
    return len({re.sub(r" \d+/\d+| columns .*| rows .*", "", info.text) + f" of {info.layer}"
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


# Views and selections -------------------------------------------------------------------------

@pytest.mark.parametrize("operator", ["shuffled", "regrouped", "pieces"])
@pytest.mark.parametrize("seed", range(12))
def test_views_equal_the_reference(operator, seed):
    rng = np.random.default_rng([seed, 5])
    config = list(PRESETS.values())[seed % 4].replace(fip=bool(seed % 3))
    graph = operator_graph(rng, operator)
    for keep_tensors in (False, True):
        equal(graph, config, rng, keep_tensors=keep_tensors)


@pytest.mark.parametrize("operator, seed", sweep(
    ("shuffled", "regrouped", "pieces"), range(6), fast=lambda operator, seed: seed < 2))
def test_views_in_little_memory_equal_the_reference(operator, seed):
    rng = np.random.default_rng([seed, 6])
    graph = operator_graph(rng, operator)
    sizes = [TINY.replace(activation_bytes=size, weight_bytes=1 << 16)
             for size in range(256, 8192, 256)]
    least = next(config for config in sizes if compiles(graph, config))
    for config in (least, least.replace(activation_bytes=least.activation_bytes + 128)):
        equal(graph, config, rng, keep_tensors=True)


def compiles(graph, config) -> bool:
    try:
        return bool(compile(graph, config, keep_tensors=True))
    except CompileError:
        return False


def test_views_cost_no_command():
    rng = np.random.default_rng(7)
    builder = GraphBuilder(rng, (3, 4, 6))
    a = builder.conv("x", 10)
    turned = builder.alias(a, range(9, -1, -1), (8, 3))
    joined = builder.concat(turned, builder.alias(builder.conv("x", 7, like=a), None, (8, 3)))
    graph = builder.graph(builder.conv(builder.lookup(joined), 5, kernel=(3, 3)), turned)
    laid_out = lay_out_channels(graph, TINY)
    assert laid_out.graph is not None and len(laid_out.graph.layers) == len(graph.layers)
    assert laid_out.homes["t0"] == laid_out.homes["t1"] == Home("t4", 0)
    assert laid_out.channels["t0"] == ChannelMap((10,))
    assert laid_out.channels["t1"] == ChannelMap((10,), tuple(range(9, -1, -1)))
    program = equal(graph, TINY, rng)
    assert matrix_commands(program) == 3
    assert program.layers[1].engine is None
    assert [info.engine for info in program.infos if info.layer == 1] == [Engine.STORE]


def test_order_that_an_elementwise_layer_cannot_have_is_copied():
    rng = np.random.default_rng(8)
    builder = GraphBuilder(rng, (3, 4, 5))
    a = builder.conv("x", 11)
    turned = builder.alias(a, rng.permutation(11))
    graph = builder.graph(builder.sum(a, turned), builder.sum(a, builder.alias(a, None, (4, 5))))
    assert matrix_commands(equal(graph, TINY, rng, keep_tensors=True)) == 2


def test_alias_of_a_graph_input():
    rng = np.random.default_rng(9)
    builder = GraphBuilder(rng, (6, 4, 5))
    turned = builder.alias("x", rng.permutation(6), (5, 4))
    graph = builder.graph(builder.conv(builder.lookup(turned), 4, kernel=(2, 3)), turned)
    for config in (TINY, TINY.replace(activation_bytes=256)):
        equal(graph, config, rng)


@pytest.mark.parametrize("lanes, segments, order", [
    ([0, 1, 2], (3,), None),
    ([2, 1, 0], (3,), (2, 1, 0)),
    # Two words of three lanes each in place of one that reads four words.
    ([0, 1, 2, 16, 17, 18], (3, 3), None),
    ([0, 16, 1, 17, 2, 18], (3, 3), (0, 2, 4, 1, 3, 5)),
    # No lane to spare.
    ([0, 1, 2, 16, 17, 18, 19, 20], (8,), None)])
def test_selected_channels_lie_as_their_sources_do(lanes, segments, order):
    assert gathered(np.array(lanes), 4) == ChannelMap(segments, order)


def test_selection_reads_only_the_words_that_it_takes_from():
    builder = GraphBuilder(np.random.default_rng(0), (64, 3, 3))
    dealt = np.arange(64).reshape(2, -1).T.reshape(-1)
    graph = builder.graph(builder.lookup(builder.select("x", dealt[:32])))
    laid_out = lay_out_channels(graph, PRESETS["base"])
    assert [(len(run.columns), run.blocks) for run in runs(
        PRESETS["base"], laid_out, laid_out.graph.layers[0])] == [(1, range(1)), (1, range(2, 3))]


def divided(rng, config=TINY):
    """A tensor in two pieces, as in a C2f block: both are joined again, one is worked on."""
    word = config.word_lanes
    builder = GraphBuilder(rng, (5, 6, 7))
    whole = builder.conv("x", 2 * word)
    pieces = [builder.select(whole, range(word)), builder.select(whole, range(word, 2 * word))]
    worked = builder.conv(pieces[1], word, kernel=(3, 3), pads=(1, 1, 1, 1), like=whole)
    return builder, whole, pieces, worked


def test_pieces_that_are_joined_again_are_not_copied():
    rng = np.random.default_rng(11)
    builder, whole, pieces, worked = divided(rng)
    graph = builder.graph(builder.conv(builder.concat(*pieces, worked), 6))
    laid_out = lay_out_channels(graph, TINY)
    assert [layer.inputs for layer in laid_out.graph.layers] == [
        ("x",), (whole,), (whole, worked), ("t4",)]
    work = laid_out.graph.layers[1]
    assert [run.blocks for run in runs(TINY, laid_out, work)] == [range(1, 2)]
    program = equal(graph, TINY, rng)
    assert matrix_commands(program) == 3
    assert program.layers[1].commands == program.layers[2].commands == ()
    assert program.layers[3].macs == graph.layers[3].weights.size * 42
    equal(graph, TINY, rng, keep_tensors=True)


def test_pieces_of_whole_words_are_read_where_they_are():
    """Gates of a recurrent cell, the last of them in the middle of a word."""
    rng = np.random.default_rng(16)
    word = TINY.word_lanes
    builder = GraphBuilder(rng, (5, 6, 7))
    whole = builder.conv("x", 3 * word + 1)
    middle = builder.select(whole, range(word, 2 * word))
    last = builder.select(whole, range(2 * word, 3 * word + 1))
    part = builder.select(last, range(word, word + 1))
    graph = builder.graph(builder.product(builder.lookup(middle), middle),
                          builder.lookup(last), builder.lookup(part))
    laid_out = lay_out_channels(graph, TINY)
    assert [laid_out.homes[name] for name in (middle, last, part)] == [
        Home(whole, 1), Home(whole, 2), Home(whole, 3)]
    for keep_tensors in (False, True):
        assert matrix_commands(equal(graph, TINY, rng, keep_tensors=keep_tensors)) == 1


@pytest.mark.parametrize("channels", [range(1, 5), range(3), (0, 2, 1, 3)])
def test_pieces_of_parts_of_words_are_copied(channels):
    rng = np.random.default_rng(17)
    assert TINY.word_lanes == 4
    builder = GraphBuilder(rng, (5, 6, 7))
    graph = builder.graph(builder.lookup(builder.select(builder.conv("x", 8), channels)))
    assert matrix_commands(equal(graph, TINY, rng)) == 2


def test_pieces_that_leave_the_accelerator_or_are_joined_with_others_are_copied():
    rng = np.random.default_rng(18)
    word = TINY.word_lanes
    builder = GraphBuilder(rng, (5, 6, 7))
    whole = builder.conv("x", 2 * word)
    piece = builder.select(whole, range(word))
    graph = builder.graph(builder.lookup(piece), piece)
    assert matrix_commands(equal(graph, TINY, rng)) == 2
    renamed = builder.alias(builder.select(whole, range(word, 2 * word)))
    joined = builder.concat(renamed, builder.conv("x", word, like=whole))
    graph = builder.graph(builder.lookup(joined), builder.lookup(whole))
    assert matrix_commands(equal(graph, TINY, rng)) == 3


def test_pieces_in_another_order_or_of_a_tensor_that_is_joined_elsewhere_are_copied():
    rng = np.random.default_rng(12)
    builder, whole, pieces, worked = divided(rng)
    turned = builder.concat(*reversed(pieces))
    first = builder.concat(worked, whole)
    graph = builder.graph(builder.conv(turned, 3), builder.conv(first, 4),
                          builder.conv(builder.concat(*pieces), 5))
    for keep_tensors in (False, True):
        assert matrix_commands(equal(graph, TINY, rng, keep_tensors=keep_tensors)) > 5


def test_selection_of_few_channels_for_many_is_copied():
    """Three convolutions with large kernels would read two words in place of one."""
    rng = np.random.default_rng(13)
    word = TINY.word_lanes
    builder = GraphBuilder(rng, (2 * word, 6, 7))
    few = builder.select("x", [0, word])
    graph = builder.graph(*(builder.conv(few, 3, kernel=(3, 3)) for _ in range(3)))
    assert matrix_commands(equal(graph, TINY, rng)) == 4
    graph = builder.graph(*(builder.conv(few, 3, kernel=(3, 3)) for _ in range(3)), few)
    equal(graph, TINY, rng)


def test_zeros_that_only_a_convolution_reads_are_not_made():
    rng = np.random.default_rng(14)
    builder = GraphBuilder(rng, (6, 5, 5))
    wide = builder.select("x", [-1, 5, 0, -1, 2])
    graph = builder.graph(builder.conv(wide, 3, kernel=(3, 3), pads=(1, 0, 2, 1)))
    assert matrix_commands(equal(graph, TINY, rng)) == 1
    equal(graph, TINY, rng, keep_tensors=True)


@pytest.mark.parametrize("change", [{"pads": Pads(1, 1, 1, 1)}, {"clamp": (-3, 50)}])
def test_selection_that_does_more_is_made(change):
    rng = np.random.default_rng(15)
    builder = GraphBuilder(rng, (6, 5, 5))
    more = 2 if "pads" in change else 0
    chosen = Selection.of(np.arange(6), 6, name="s", op="Pad", input="x", output="s")
    builder.add(replace(chosen, **change), (6, 5 + more, 5 + more), like="x")
    joined = builder.concat("s")
    graph = builder.graph(builder.conv("s", 3, kernel=(2, 2)), builder.conv(joined, 2))
    assert matrix_commands(equal(graph, TINY, rng)) == 3


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", range(3))
def test_convolution_in_groups_reads_only_its_words(name, seed):
    rng = np.random.default_rng([seed, 10])
    config = PRESETS[name].replace(fip=bool(seed % 2), cols=(PRESETS[name].cols, 6, 12)[seed],
                                   requant_lanes=2)
    builder = GraphBuilder(rng, (96, 5, 6))
    y = builder.conv("x", 96, kernel=(3, 2))
    graph = builder.graph(builder.conv(y, 7))
    layer, last = graph.layers
    group = np.arange(96) // 12
    layer = replace(layer, groups=8, weights=layer.weights * (group[:, None] == group)[
        :, :, None, None].astype(np.int8))
    layer.weights[20:30] = 0        # reads nothing
    graph = replace(graph, layers=(layer, last))
    found = runs(config, lay_out_channels(graph, config), layer)
    assert [column for run in found for column in run.columns] == list(range(-(-96 // config.cols)))
    assert sum(len(run.columns) * len(run.blocks) for run in found) < \
        -(-96 // config.cols) * -(-96 // config.rows)
    equal(graph, config.replace(weight_bytes=1 << 18), rng, seed=seed)
