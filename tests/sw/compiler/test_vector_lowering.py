import re
from dataclasses import replace

import numpy as np
import pytest
from configs import LINES
from graph_builder import GraphBuilder
from graphs import operator_graph, random_image
from sw_programs import run_frames

from weft import reference
from weft.compiler import Program, compile
from weft.compiler.planning.loop_order import Axis, best_loop_order, layer_cycles
from weft.errors import CompileError
from weft.hw.isa.commands import Engine, Opcode, Rounding, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS
from weft.ir import Graph, Pool, PoolKind
from weft.reference.exact import exactness

TINY = PRESETS["tiny"]
ODD = TINY.replace(rows=6, cols=10, requant_lanes=2)
CONFIGS = [*PRESETS.values(), ODD, TINY.replace(vector_taps=2), ODD.replace(vector_taps=4),
           TINY.replace(vector_taps=1), LINES, ODD.replace(vector_taps=10, vector_lines=16)]


def check(graph: Graph, config: AcceleratorConfig, rng, *, seed: int = 0) -> Program:
    """Two different frames, every tensor against the reference."""
    program = compile(graph, config, keep_tensors=True)
    images = [random_image(rng, graph) for _ in range(2)]
    for image, values in zip(images, run_frames(program, images, seed=seed),
                             strict=True):
        expected = reference.run(graph, image)
        for layer in graph.layers:
            assert np.array_equal(values[layer.output], expected[layer.output]), layer
    return program


def vectors(program: Program) -> list[dict[str, int]]:
    """Fields of all VECTOR commands."""
    decoded = (decode(program.command(index)) for index in range(program.count))
    return [fields for opcode, fields in decoded if opcode is Opcode.VECTOR]


def random_shape(rng, channels: int = 40, size: int = 12) -> tuple[int, int, int]:
    return (int(rng.integers(1, channels + 1)), int(rng.integers(1, size + 1)),
            int(rng.integers(1, size + 1)))


def ids(config: AcceleratorConfig) -> str:
    return f"{config.name}-{config.rows}x{config.cols}-{config.vector_taps}"


# Equality with the reference ------------------------------------------------------------------

@pytest.mark.parametrize("config", CONFIGS, ids=ids)
def test_random_layers_equal_the_reference(config):
    for seed in range(4):
        rng = np.random.default_rng([seed, config.rows, config.vector_taps])
        builder = GraphBuilder(rng, random_shape(rng), unsigned=bool(seed % 2))
        x = builder.input
        outputs = [builder.depthwise(x, **builder.random_window(x), clamp=builder.random_clamp())
                   for _ in range(2)]
        outputs.append(builder.max_pool(x, **builder.random_window(x),
                                        clamp=builder.random_clamp()))
        other = builder.add_input("y", builder.shape(x))
        outputs += [builder.sum(x, other, clamp=builder.random_clamp()),
                    builder.product(other, x, clamp=builder.random_clamp()),
                    builder.lookup(other), builder.affine(x, clamp=builder.random_clamp()),
                    builder.global_average(x)]
        small = builder.lookup(outputs[-1])
        factors = (1 + seed % 2, 1 + seed // 2)
        outputs.append(builder.interleave(
            [builder.max_pool(x, kernel=(1, 1)) for _ in range(factors[0] * factors[1])],
            factors, less=(factors[0] - 1, factors[1] // 2)))
        outputs += [builder.product(small, x), builder.enlarge(small, (3, 2)),
                    builder.enlarge(other, (1 + seed % 3, 2))]
        check(builder.graph(*outputs, small), config, rng, seed=seed)


@pytest.mark.parametrize("config", CONFIGS, ids=ids)
@pytest.mark.parametrize("by_channel", [False, True])
def test_functions_are_looked_up_on_the_way_of_results(config, by_channel):
    for seed in range(8):   # until all sums and products are exact
        rng = np.random.default_rng([seed, config.rows, config.vector_taps, by_channel])
        builder = GraphBuilder(rng, (25, 9, 8))
        x, y = builder.input, builder.add_input("y", (25, 9, 8))
        layers = [builder.depthwise(x, **builder.random_window(x), clamp=builder.random_clamp()),
                  builder.max_pool(x, kernel=(3, 2), clamp=builder.random_clamp()),
                  builder.average_pool(x, kernel=(7, 1), like=x), builder.sum(x, y),
                  builder.product(x, y), builder.affine(y, clamp=builder.random_clamp())]
        graph = builder.graph(*(builder.lookup(name, by_channel=by_channel) for name in layers))
        proofs = [exactness(graph, layer) for layer in graph.layers]
        if all(proof is None or proof.exact for proof in proofs):
            break
    else:
        pytest.fail("no exact graph")
    check(graph, config, rng)
    program, image = compile(graph, config), random_image(rng, graph)
    values, = run_frames(program, [image])
    expected = reference.run(graph, image)
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name])
    found = vectors(program)
    assert {fields["op"] for fields in found} == {
        VectorOp.CONV.value, VectorOp.MAX.value, VectorOp.ADD.value, VectorOp.MULTIPLY.value}
    assert all(fields["table"] and fields["table_step"] == by_channel for fields in found)


def test_a_table_for_each_channel_takes_several_commands_where_few_fit():
    config = TINY.replace(vector_tables=2)
    rng = np.random.default_rng(5)
    builder = GraphBuilder(rng, (23, 5, 6))
    graph = builder.graph(builder.lookup(builder.input, by_channel=True))
    program = check(graph, config, rng)
    assert sum(info.engine is Engine.VECTOR for info in program.infos) == 6


def test_a_tensor_in_between_that_somebody_reads_is_made():
    rng = np.random.default_rng(6)
    builder = GraphBuilder(rng, (9, 5, 6))
    middle = builder.depthwise(builder.input)
    check(builder.graph(builder.lookup(middle), middle), TINY, rng)
    graph = builder.graph(builder.lookup(middle))
    image = random_image(rng, graph)
    values, = run_frames(compile(graph, TINY, keep_tensors=True), [image])
    expected = reference.run(graph, image)
    assert {middle, *(edge.tensor for edge in graph.outputs)} <= values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("config", CONFIGS[:5], ids=ids)
def test_averages_equal_the_reference_where_that_is_proven(config):
    proven = 0
    for seed in range(8):
        rng = np.random.default_rng([seed, config.rows])
        builder = GraphBuilder(rng, random_shape(rng, size=9), unsigned=bool(seed % 2))
        window = builder.random_window(builder.input, max_kernel=4, dilate=False)
        pads = window["pads"]
        output = builder.average_pool(
            builder.input, **window, count_pads=pads if seed % 3 == 0 else (0, 0, 0, 0),
            clamp=builder.random_clamp())
        graph = builder.graph(output)
        image = random_image(rng, graph)
        values, = run_frames(compile(graph, config), [image])
        expected = reference.run(graph, image)[output]
        proof = exactness(graph, graph.layers[0])
        assert proof.checked
        difference = np.abs(values[output].astype(int) - expected)
        assert difference.max() <= (0 if proof.exact else 1)
        proven += proof.exact
    assert proven >= 4


@pytest.mark.parametrize("config", CONFIGS[:5], ids=ids)
def test_interpolations_equal_the_reference_where_that_is_proven(config):
    proven = 0
    for seed in range(8):
        rng = np.random.default_rng([seed, config.rows, 2])
        graph = operator_graph(rng, "interpolated", unsigned=bool(seed % 2))
        image = random_image(rng, graph)
        output = graph.layers[-1].output
        values, = run_frames(compile(graph, config), [image])
        proof = exactness(graph, graph.layers[-1])
        difference = np.abs(values[output].astype(int) - reference.run(graph, image)[output])
        assert difference.max() <= (0 if proof.exact else 1)
        proven += proof.exact
    assert proven >= 4


def test_interpolation_in_tiles_equals_the_reference():
    rng = np.random.default_rng(5)
    builder = GraphBuilder(rng, (6, 12, 10))
    weights = ((1, 2, 1), (1, 2, 2, 2, 1))
    output = builder.interpolate(builder.enlarge(builder.input, (2, 4)), weights=weights,
                                 pads=(1, 2, 1, 2))
    program = check(builder.graph(output), TINY.replace(activation_bytes=4 * 1100), rng)
    assert any(" rows " in info.text for info in program.infos)


def test_weights_that_do_not_fit_wrong():
    builder = GraphBuilder(np.random.default_rng(5), (6, 12, 10))
    with pytest.raises(ValueError, match=r"^Layer 'layer0' must have weights for a kernel of "
                                         r"\(2, 2\), not \(1, 2\)$"):
        Pool(name="layer0", op="", input=builder.input, output="y", kind=PoolKind.AVERAGE,
             kernel=(2, 2), weights=((1,), (1, 1)))
    with pytest.raises(ValueError, match=r"^Layer 'layer0' must be an average without"):
        Pool(name="layer0", op="", input=builder.input, output="y", kind=PoolKind.MAX,
             kernel=(1, 2), weights=((1,), (1, 1)))


@pytest.mark.parametrize("divisor", [3, 5, 7])
def test_averages_without_ties_equal_the_reference(divisor):
    rng = np.random.default_rng(divisor)
    builder = GraphBuilder(rng, (9, divisor, 6))
    output = builder.average_pool(builder.input, kernel=(divisor, 1), like=builder.input)
    graph = builder.graph(output)
    assert exactness(graph, graph.layers[0]).exact
    check(graph, TINY, rng)


@pytest.mark.parametrize("config", [TINY, ODD, PRESETS["base"]], ids=ids)
def test_networks_with_branches_equal_the_reference(config):
    for seed in range(4):
        rng = np.random.default_rng([seed, config.rows, 1])
        builder = GraphBuilder(rng, (3, 10, 9))
        trunk = builder.conv(builder.input, 22, kernel=(3, 3), pads=(1, 1, 1, 1))
        # A separable convolution with a short cut, squeeze and excite, and a pyramid.
        x = builder.conv(builder.depthwise(trunk, pads=(1, 1, 1, 1), clamp=(0, 127)), 22)
        trunk = builder.sum(x, trunk)
        gate = builder.lookup(builder.conv(builder.global_average(trunk), 22))
        trunk = builder.product(trunk, gate)
        small = builder.max_pool(trunk, kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 1))
        large = builder.enlarge(small, (2, 2))
        cut = builder.depthwise(large, kernel=(1, 2))
        tail = builder.concat(trunk, builder.conv(cut, 5, like=trunk))
        tail = builder.depthwise(tail, kernel=(5, 3), strides=(2, 1), pads=(2, 1, 2, 1))
        tail = builder.conv(builder.lookup(tail), 4)
        check(builder.graph(tail, large), config, rng, seed=seed)


def test_sum_of_a_tensor_with_itself_equals_the_reference():
    rng = np.random.default_rng(3)
    builder = GraphBuilder(rng, (9, 4, 4))
    check(builder.graph(builder.sum("x", "x"), builder.product("x", "x")), TINY, rng)


@pytest.mark.parametrize("seed", range(4))
def test_layers_in_tiles_equal_the_reference(seed):
    rng = np.random.default_rng(seed)
    config = TINY.replace(activation_bytes=4 * 700)
    builder = GraphBuilder(rng, (6, 20, 16))
    x, y = builder.input, builder.add_input("y", (6, 20, 16))
    outputs = [builder.depthwise(x, kernel=(5, 3), strides=(2, 1), pads=(2, 1, 1, 1)),
               builder.max_pool(x, kernel=(3, 2), dilations=(2, 1), pads=(2, 0, 1, 1)),
               builder.sum(x, y), builder.lookup(y), builder.product(y, x)]
    big = builder.enlarge(outputs[0], (3, 2))
    gate = builder.add_input("gate", (6, 1, 1))
    outputs += [big, builder.product(gate, big), builder.average_pool(
        x, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), count_pads=(1, 1, 1, 1))]
    program = check(builder.graph(*outputs), config, rng, seed=seed)
    assert any(" rows " in info.text for info in program.infos)


def test_operands_on_chip_and_outside_equal_the_reference():
    rng = np.random.default_rng(1)
    builder = GraphBuilder(rng, (6, 20, 16))
    total = builder.sum("x", builder.add_input("y", (6, 20, 16)))
    graph = builder.graph(builder.product(builder.depthwise(total, pads=(1, 1, 1, 1)), total))
    program = check(graph, TINY.replace(activation_bytes=4 * 1100), rng)
    # A channel block at a time, because the operands' steps between them differ.
    assert {fields["blocks"] for fields in vectors(program)
            if fields["op"] == VectorOp.ADD.value} == {1}


def test_channels_whose_constants_do_not_fit_together_equal_the_reference():
    rng = np.random.default_rng(5)
    builder = GraphBuilder(rng, (50, 5, 6))
    output = builder.depthwise(builder.input, pads=(1, 1, 1, 1))
    config = TINY.replace(vector_entries=16, parameter_channels=24)
    program = check(builder.graph(output), config, rng)
    assert len(vectors(program)) > 4


# Commands -------------------------------------------------------------------------------------

def one(builder: GraphBuilder, output: str, config: AcceleratorConfig = TINY) -> dict[str, int]:
    fields, = vectors(compile(builder.graph(output), config))
    return fields


def test_layers_belong_to_the_vector_engine():
    builder = GraphBuilder(np.random.default_rng(0), (8, 6, 6))
    info, = compile(builder.graph(builder.depthwise("x")), TINY).layers
    assert info.engine is Engine.VECTOR and info.macs == 8 * 9 * 16


def test_window_slides_where_that_saves_reads():
    builder = GraphBuilder(np.random.default_rng(0), (8, 6, 6))
    program = compile(builder.graph(builder.depthwise("x")), TINY)
    assert all(fields["slide"] == 1 for fields in vectors(program))
    builder = GraphBuilder(np.random.default_rng(0), (8, 6, 6))
    program = compile(builder.graph(builder.max_pool("x", strides=(2, 2))), TINY)
    assert all(fields["slide"] == 0 for fields in vectors(program))


def test_window_slides_along_columns_where_that_is_cheaper():
    builder = GraphBuilder(np.random.default_rng(0), (4, 30, 4))
    program = compile(builder.graph(builder.depthwise("x", kernel=(3, 1))), TINY)
    commands = vectors(program)
    assert sum(fields["out_outer"] * fields["out_inner"] for fields in commands) == 28 * 4
    for fields in commands:
        assert (fields["kernel_outer"], fields["kernel_inner"]) == (1, 3)
        assert (fields["in_outer"], fields["in_inner"]) == (4, fields["out_inner"] + 2)
        assert fields["in_inner_step"] == 4


def test_cycles_of_a_walk():
    def axis(kernel: int, stride: int = 1, out: int = 10, pad: int = 0) -> Axis:
        return Axis(size=32, pitch=1, out=out, out_pitch=1, kernel=kernel, stride=stride, pad=pad)

    three = PRESETS["base"].replace(vector_taps=3, vector_lines=0)
    assert best_loop_order(three, axis(3), axis(3), scaled=True).cycles == 10 * (9 + 9 * 3)
    assert best_loop_order(three, axis(3), axis(3, pad=1), scaled=True).cycles == 10 * (6 + 9 * 3)
    assert best_loop_order(three, axis(3, 2), axis(3, 2), scaled=True).cycles == 10 * (9 + 9 * 6)
    assert best_loop_order(three, axis(1), axis(1), scaled=True).cycles == 100 * three.vector_groups
    assert best_loop_order(three, axis(1), axis(1), scaled=False).cycles == 100
    assert best_loop_order(three, axis(8, out=1), axis(8, out=1), scaled=True).cycles == 64
    # 4 x 4 groups of taps instead of 10 x 2.
    loop_order = best_loop_order(three, axis(10), axis(4), scaled=True)
    assert loop_order.transposed and loop_order.slide and loop_order.cycles == 10 * (40 + 9 * 16)


def test_cycles_of_a_walk_that_keeps_rows():
    def axis(kernel: int, stride: int = 1, pad: int = 0, out: int = 10) -> Axis:
        return Axis(size=32, pitch=1, out=out, out_pitch=1, kernel=kernel, stride=stride, pad=pad)

    ten = PRESETS["base"]
    # All rows of the first window, and then one for each row of positions.
    assert best_loop_order(ten, axis(3), axis(3), scaled=True).cycles == 12 * (3 + 9)
    assert best_loop_order(ten, axis(3, pad=1), axis(3, pad=1), scaled=True).cycles == 11 * (2 + 9)
    assert best_loop_order(ten, axis(3, 2), axis(3, 2), scaled=True).cycles == 21 * (3 + 9 * 2)
    # Three groups of rows.
    assert best_loop_order(ten, axis(5), axis(5), scaled=True).cycles == 14 * (5 + 9 * 3)
    assert best_loop_order(ten, axis(5, 2), axis(5, 2), scaled=True).cycles == 23 * (5 + 9 * 3)
    # Results are not faster than they are requantized.
    four = ten.replace(requant_lanes=4)
    assert best_loop_order(four, axis(3), axis(3), scaled=False).cycles == 12 * (3 + 9)
    assert best_loop_order(four, axis(3), axis(3), scaled=True).cycles \
        == 9 + 9 * 4 + 9 * (4 + 9 * 4)
    # Not all can be kept: other sizes, strides, dilations, and rows that are too long.
    assert best_loop_order(ten, axis(3), axis(3, 3), scaled=False).transposed
    for wrong in (axis(4), axis(3, 3), axis(3, out=511), replace(axis(3), dilation=2)):
        assert not best_loop_order(ten, wrong, wrong, scaled=False).lines


def test_cycles_of_a_layer():
    builder = GraphBuilder(np.random.default_rng(0), (16, 10, 10))
    for output in (builder.depthwise("x"), builder.max_pool("x", strides=(2, 2)),
                   builder.sum("x", "x"), builder.product("x", "x"), builder.lookup("x")):
        assert output
    graph = builder.graph(output)
    cycles = [layer_cycles(PRESETS["base"], graph, layer, 1) for layer in graph.layers]
    assert cycles == [10 * (3 + 7), 25 * 4, 100, 100, 100]
    # Without a second port, the words of two operands come one after the other.
    one_port = PRESETS["base"].replace(vector_lines=0)
    assert [layer_cycles(one_port, graph, layer, 1) for layer in graph.layers][2:] \
        == [200, 200, 100]


def test_one_command_for_each_kind_of_window_of_an_average():
    builder = GraphBuilder(np.random.default_rng(0), (4, 6, 6))
    output = builder.average_pool("x", kernel=(3, 3), pads=(1, 1, 1, 1))
    assert len(vectors(compile(builder.graph(output), TINY))) == 9
    builder = GraphBuilder(np.random.default_rng(0), (4, 6, 6))
    output = builder.average_pool("x", kernel=(3, 3))
    assert len(vectors(compile(builder.graph(output), TINY))) == 1


def test_small_factor_of_a_product_is_broadcast():
    builder = GraphBuilder(np.random.default_rng(0), (8, 6, 5))
    gate = builder.add_input("gate", (8, 1, 1))
    commands = vectors(compile(builder.graph(builder.product(gate, "x")), TINY))
    assert all(fields["broadcast"] == 1 and fields["op"] == VectorOp.MULTIPLY.value
               for fields in commands)
    assert sum(fields["blocks"] * fields["out_outer"] * fields["out_inner"]
               for fields in commands) == 60


# Errors ---------------------------------------------------------------------------------------

def fails(graph: Graph, config: AcceleratorConfig, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        compile(graph, config)


def test_kernel_larger_than_the_weight_memory_is_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (4, 9, 9))
    fails(builder.graph(builder.depthwise("x", kernel=(5, 5))), TINY.replace(vector_entries=9),
          CompileError, "Layer 'layer0' needs 120 bytes of vector weight memory for 4 channels, "
                        "108 are available")


def test_sum_beyond_int32_is_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (1, 2, 2))
    graph = builder.graph(builder.depthwise("x", kernel=(1, 1)))
    layer, = graph.layers
    layer.weights[...] = 1
    layer.bias[...] = (1 << 31) - 1 + graph.tensors["x"].zero_point - 126
    fails(graph, TINY, CompileError, "Layer 'layer0' may reach 2147483648 in its int32 sum with "
                                     "bias, which holds -2147483648 to 2147483647")


def test_average_of_padding_alone_is_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (1, 2, 2))
    output = builder.average_pool("x", kernel=(1, 1), pads=(1, 0, 0, 0))
    fails(builder.graph(output), TINY, CompileError,
          "Layer 'layer0' averages a window that is all padding")


def test_sum_of_different_shapes_is_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (4, 2, 2))
    output = builder.sum("x", builder.add_input("y", (4, 1, 2)))
    fails(builder.graph(output), TINY, ValueError,
          "Layer 'layer0' must combine tensors of one shape, or one of them [C, 1, 1], not "
          "(4, 2, 2) and (4, 1, 2)")


def test_difference_with_the_small_one_first_is_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (4, 2, 2))
    graph = builder.graph(builder.sum(builder.add_input("y", (4, 1, 1)), "x"))
    layer, = graph.layers
    layer = replace(layer, rounding=Rounding.FIXED_POINT, subtract=True)
    fails(replace(graph, layers=(layer,)), TINY.replace(fixed_point=True), ValueError,
          "Layer 'layer0' must subtract from a tensor of shape (4, 2, 2), not (4, 1, 1)")
