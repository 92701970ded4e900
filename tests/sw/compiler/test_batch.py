import json
import re

import numpy as np
import onnx
import pytest
from graph_builder import GraphBuilder
from graphs import OPERATORS, operator_graph, random_graph, random_image
from sw_programs import run

from weft import cli, compiler, reference
from weft.compiler import Program
from weft.compiler.channel_layout import lay_out_channels
from weft.compiler.lowering.sharing import Sharing
from weft.compiler.ops import Buffer, Space
from weft.compiler.planning.frames import find_joints
from weft.digits import MODEL
from weft.errors import InputError
from weft.hw.isa.commands import Engine, Memory
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS
from weft.reference.golden import GoldenSession
from weft.runtime.session import InferenceSession

TINY = PRESETS["tiny"]


def chain(*channels: int, size: int = 3):
    builder = GraphBuilder(np.random.default_rng(0), (channels[0], size, size))
    tensor = builder.input
    for count in channels[1:]:
        tensor = builder.conv(tensor, count)
    return builder.graph(tensor)


def loads(program: Program, *memories: Memory) -> int:
    """Commands that fill the given memories; those of constants, if none are given."""
    wanted = memories or tuple(memory for memory in Memory if memory is not Memory.ACTIVATION)
    return sum(Memory(decode(program.command(index))[1]["memory"]) in wanted
               for index, info in enumerate(program.infos) if info.engine is Engine.LOAD)


def words(program: Program, memory: Memory = Memory.ACTIVATION) -> int:
    """Units of a memory that are loaded."""
    commands = (decode(program.command(index))[1] for index, info in enumerate(program.infos)
                if info.engine is Engine.LOAD)
    return sum(fields["lines"] * fields["units"] for fields in commands
               if fields["memory"] == memory)


def of_frame(names, count: int, frame: int):
    """The names that belong to a frame, out of those of all ``count`` frames."""
    names = list(names)
    size = len(names) // count
    return names[frame * size:(frame + 1) * size]


def equal(graph, config, rng, frames: int, *, keep_tensors: bool = False,
          warm: int = 0) -> Program:
    """Compiles a batch, and makes sure that every frame of it equals the reference."""
    batched = compiler.batch(graph, frames)
    program = compiler.compile(batched, config, keep_tensors=keep_tensors)
    images = [random_image(rng, graph) for _ in range(frames)]
    inputs = [edge.tensor for edge in batched.inputs]
    found = run(program, {
        name: image[edge.tensor] for frame, image in enumerate(images)
        for name, edge in zip(of_frame(inputs, frames, frame), graph.inputs, strict=True)},
        warm=warm)
    outputs = [edge.tensor for edge in batched.outputs]
    for frame, image in enumerate(images):
        expected = reference.run(graph, image)
        for name, edge in zip(of_frame(outputs, frames, frame), graph.outputs, strict=True):
            assert np.array_equal(found[name], expected[edge.tensor]), (frame, name)
        if keep_tensors:
            for copy, layer in zip(batched.layers[frame::frames], graph.layers, strict=True):
                assert np.array_equal(found[copy.output], expected[layer.output]), copy
    return program


# The graph -------------------------------------------------------------------------------------

def test_copies_share_arrays_and_names_of_their_own_keep_them_apart():
    graph = chain(3, 5, 7)
    batched = compiler.batch(graph, 3)
    assert batched.frames == 3
    assert [layer.name for layer in batched.layers] == ["layer0"] * 3 + ["layer1"] * 3
    assert all(layer.weights is batched.layers[index // 3 * 3].weights
               for index, layer in enumerate(batched.layers))
    assert [edge.tensor for edge in batched.inputs] == ["x", "x frame 1", "x frame 2"]
    assert len(batched.tensors) == 9
    assert all(name == tensor.name for name, tensor in batched.tensors.items())


def test_no_name_of_a_model_can_clash():
    builder = GraphBuilder(np.random.default_rng(0), (3, 2, 2))
    other = builder.add_input("x frame 1", (3, 2, 2))
    graph = builder.graph(builder.conv(builder.input, 3), builder.conv(other, 4))
    assert len(compiler.batch(graph, 3).tensors) == 3 * len(graph.tensors)
    equal(graph, TINY, np.random.default_rng(1), 2)


def test_batch_of_one_is_the_graph_itself():
    graph = chain(3, 5)
    assert compiler.batch(graph, 1) is graph


def test_batch_of_a_batch_is_a_mistake():
    with pytest.raises(ValueError, match=re.escape("Graph 'random' must be of one frame, not 2")):
        compiler.batch(compiler.batch(chain(3, 5), 2), 2)


@pytest.mark.parametrize("frames", [0, -1, 1.5, "2", True, None])
def test_batch_that_is_no_number_of_frames_is_refused(frames):
    message = f"Batch must be an integer of at least 1, not {frames!r}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        compiler.batch(chain(3, 5), frames)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        InferenceSession(chain(3, 5), config=TINY, device="functional", batch=frames)


# Results ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("frames", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_all_frames_of_random_graphs_equal_the_reference(seed, frames):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, layers=3, max_size=12, max_kernel=4, words=1500)
    equal(graph, TINY, rng, frames, keep_tensors=bool(seed % 2))


@pytest.mark.parametrize("operator", OPERATORS)
def test_all_frames_of_every_operator_equal_the_reference(operator):
    rng = np.random.default_rng(5)
    for frames in (2, 3):
        equal(operator_graph(rng, operator), TINY, rng, frames)


def test_frames_that_do_not_fit_on_chip_together_are_tiled():
    rng = np.random.default_rng(2)
    builder = GraphBuilder(rng, (16, 24, 24))
    tensor = builder.conv(builder.input, 48, kernel=(3, 3), pads=(1, 1, 1, 1))
    graph = builder.graph(builder.conv(builder.depthwise(tensor), 40))
    small = TINY.replace(activation_bytes=16384)
    program = equal(graph, small, rng, 3)
    assert loads(program, Memory.ACTIVATION) > 3


def test_memories_of_any_size_hold_what_is_shared():
    rng = np.random.default_rng(3)
    for weight_bytes in (4096, 8192, 16384):
        config = TINY.replace(weight_bytes=weight_bytes, activation_bytes=8192)
        for channels in (30, 50, 64):
            equal(chain(channels, channels, 2 * channels, 16, size=7), config, rng, 3)


def test_warm_batches_load_no_constants():
    rng = np.random.default_rng(4)
    program = equal(chain(8, 8, 8), TINY, rng, 2, warm=2)
    assert len(program.warm_infos) == program.count - 4


# Loads -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("frames", [2, 3])
def test_constants_are_loaded_once_for_all_frames(frames):
    rng = np.random.default_rng(6)
    builder = GraphBuilder(rng, (3, 9, 9))
    trunk = builder.conv(builder.input, 20, kernel=(3, 3))  # whose windows the host packs
    branch = builder.lookup(builder.depthwise(trunk, pads=(1, 1, 1, 1)))
    graph = builder.graph(builder.average_pool(builder.sum(trunk, branch)))
    alone = compiler.compile(graph, TINY)
    assert alone.inputs[0].packing is not None
    program = equal(graph, TINY, rng, frames)
    assert loads(program) == loads(alone)
    assert words(program) == frames * words(alone)
    assert sum(len(raw) for _, raw in program.image[2:]) == \
        sum(len(raw) for _, raw in alone.image[2:])  # each constant once


def test_constants_of_more_than_a_memory_are_loaded_by_each_frame():
    rng = np.random.default_rng(7)
    fits = TINY.weight_depth * TINY.weight_row_data_bytes
    side = int(np.sqrt(fits)) // 16 * 16
    for channels, times in ((side, 1), (side + 32, 2)):
        program = equal(chain(channels, channels, size=2), TINY, rng, 2)
        alone = compiler.compile(chain(channels, channels, size=2), TINY)
        assert words(program, Memory.WEIGHT) == times * words(alone, Memory.WEIGHT)


def test_nothing_that_was_kept_is_used_once_another_layer_loads():
    def buffer(space):
        return Buffer(name="", space=space, size=4, layer="")

    sharing, space = Sharing(TINY), Space.WEIGHT
    depth = space.depth(TINY)
    first, second = buffer(space), buffer(space)
    assert sharing.find(0, space, b"0 1/2") is None
    sharing.keep(space, b"0 1/2", first, depth // 2)
    assert sharing.find(0, space, b"0 2/2") is None
    sharing.keep(space, b"0 2/2", second, depth // 2)
    assert sharing.find(0, Space.TABLE, b"0 1/2") is None  # another memory
    assert sharing.find(1, space, b"0 1/2") is first
    assert sharing.find(1, space, b"0 2/2") is second
    assert sharing.find(2, space, b"0 1/3") is None
    assert sharing.find(2, space, b"0 1/2") is None
    sharing.keep(space, b"0 1/2", first, depth // 2 + 1)
    assert sharing.find(3, space, b"0 1/2") is None


def test_constants_of_layers_with_one_name_stay_apart():
    rng = np.random.default_rng(8)
    builder = GraphBuilder(rng, (5, 4, 4))
    left = builder.conv(builder.input, 7)
    right = builder.conv(builder.input, 18, like=left)
    # Each is copied once, by two layers that the compiler calls after the concatenation.
    graph = builder.graph(builder.conv(builder.concat(left, left, right, right), 6))
    for frames in (1, 2):
        equal(graph, TINY, rng, frames)


# All frames at once ----------------------------------------------------------------------------

def matrix_commands(program: Program) -> int:
    return sum(info.engine is Engine.MATRIX for info in program.infos)


@pytest.mark.parametrize("frames", [2, 5, 19])
@pytest.mark.parametrize("keep_tensors", [False, True])
def test_layers_of_one_pixel_are_computed_for_all_frames_at_once(frames, keep_tensors):
    rng = np.random.default_rng(9)
    graph = chain(20, 30, 7, 40, size=1)
    alone = compiler.compile(graph, TINY)
    program = equal(graph, TINY, rng, frames, keep_tensors=keep_tensors)
    assert matrix_commands(program) == matrix_commands(alone)
    assert words(program) == frames * words(alone)


@pytest.mark.parametrize("frames", [2, 3])
def test_what_is_around_layers_of_one_pixel_may_be_anything(frames):
    """Pooling, a branch, functions of one value, a sum and a window stay frame by frame."""
    rng = np.random.default_rng(10)
    builder = GraphBuilder(rng, (12, 5, 4))
    trunk = builder.conv(builder.input, 18, kernel=(3, 3), pads=(1, 1, 1, 1))
    pooled = builder.global_average(trunk)
    inner = builder.lookup(builder.conv(pooled, 10))
    gate = builder.conv(inner, 18)
    wide = builder.conv(builder.sum(gate, pooled), 70)
    graph = builder.graph(builder.conv(wide, 9), builder.conv(trunk, 6, kernel=(5, 4)))
    program = equal(graph, TINY, rng, frames, keep_tensors=frames == 2)
    laid_out = lay_out_channels(program.graph, TINY)
    layers = find_joints(laid_out, TINY).layers
    assert [laid_out.graph.layers[index].name for index in layers] == \
        [layer.name for layer in graph.layers if layer.name in (
            "layer2", "layer4", "layer6", "layer7")]


def test_planes_of_all_frames_that_do_not_fit_are_left_apart():
    rng = np.random.default_rng(11)
    graph = chain(60, 60, 60, size=1)
    for size in (2048, 1024, 512, 256):
        equal(graph, TINY.replace(activation_bytes=size), rng, 12)


@pytest.mark.parametrize("seed", range(4))
def test_random_layers_of_one_pixel_equal_the_reference(seed):
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(rng, (int(rng.integers(1, 40)), 1, 1))
    tensor, seen = builder.input, [builder.input]
    for _ in range(6):
        kind = int(rng.integers(4))
        same = [name for name in seen if builder.shape(name) == builder.shape(tensor)]
        if kind == 0:
            tensor = builder.lookup(tensor)
        elif kind == 1:
            tensor = builder.sum(tensor, same[int(rng.integers(len(same)))])
        else:
            tensor = builder.conv(tensor, int(rng.integers(1, 40)))
        seen.append(tensor)
    equal(builder.graph(tensor), TINY, rng, 2 + seed, keep_tensors=bool(seed % 2))


def test_gates_that_are_pieces_of_a_product_leave_it_to_all_frames():
    """As in a GRU: pieces of two products are added up, one of them times a third piece."""
    builder = GraphBuilder(np.random.default_rng(12), (16, 1, 1))
    state = builder.add_input("h", (16, 1, 1))
    parts = [[builder.select(product, range(start, start + 16)) for start in (0, 16, 32)]
             for product in (builder.conv(builder.input, 48), builder.conv(state, 48))]
    update, reset = (builder.lookup(builder.sum(*pair)) for pair in list(zip(*parts))[:2])
    new = builder.lookup(builder.sum(parts[0][2], builder.product(reset, parts[1][2])))
    graph = builder.graph(builder.sum(new, builder.product(update, state)))
    alone = compiler.compile(graph, TINY)
    program = equal(graph, TINY, np.random.default_rng(13), 4)
    assert matrix_commands(program) == matrix_commands(alone) == 2


@pytest.mark.parametrize("seed", range(24))
def test_random_pieces_of_one_pixel_equal_the_reference(seed):
    """Convolutions of tensors that are divided, joined, and came from outside."""
    rng = np.random.default_rng([seed, 14])
    builder = GraphBuilder(rng, (4 * int(rng.integers(1, 9)), 1, 1))
    seen = [builder.input, builder.add_input("b", builder.shape(builder.input),
                                             like=builder.input)]
    for _ in range(8):
        tensor = seen[int(rng.integers(max(0, len(seen) - 4), len(seen)))]
        count = builder.shape(tensor)[0]
        kind = int(rng.integers(5))
        if kind == 0 and count > 4:
            first = 4 * int(rng.integers(count // 4))
            seen.append(builder.select(tensor, range(first, min(count, first + 4 * int(
                rng.integers(1, 4))))))
        elif kind == 1 and count < 50:
            like = builder.conv(seen[int(rng.integers(len(seen)))], 4 * int(rng.integers(1, 6)),
                                like=tensor)
            seen.append(builder.concat(*rng.permutation([tensor, like]).tolist()))
        elif kind == 2:
            seen.append(builder.product(tensor, builder.lookup(tensor)))
        else:
            seen.append(builder.conv(tensor, 4 * int(rng.integers(1, 12))))
    last = seen[-3:] if seed % 2 else seen[-1:]
    graph = builder.graph(*(name for name in last if name not in ("x", "b")))
    equal(graph, TINY, rng, 2 + seed % 3, keep_tensors=bool(seed % 5 == 0))


# Sessions --------------------------------------------------------------------------------------

def open_functional(graph, **options) -> InferenceSession:
    return InferenceSession(graph, config=TINY, device="functional", **options)


def branchy():
    builder = GraphBuilder(np.random.default_rng(0), (5, 6, 7))
    trunk = builder.conv("x", 9, kernel=(3, 3), pads=(1, 1, 1, 1))
    left = builder.conv(builder.conv(trunk, 4), 6, kernel=(6, 7))
    return builder.graph(left, builder.conv(trunk, 3))


def frames_of(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-128, 128, (count, 5, 6, 7)).astype(np.int8)


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_session_runs_any_number_of_frames_in_batches(count):
    images = frames_of(count)
    with open_functional(branchy()) as single, open_functional(branchy(), batch=3) as session:
        for wanted, got in zip(single.run(None, {"x": images}), session.run(None, {"x": images}),
                               strict=True):
            assert np.array_equal(wanted, got)


def test_batch_tells_outputs_and_tensors_by_frame_and_figures_as_a_whole():
    images = frames_of(2)
    feeds = [{"x": images[index:index + 1]} for index in range(2)]
    with open_functional(branchy()) as single, open_functional(branchy(), batch=3) as session:
        result = session.run_batch(feeds, tensors=True)
        alone = [single.run_frame(feed, tensors=True) for feed in feeds]
        assert session.run_batch(feeds).warm
    assert len(result.outputs) == len(result.tensors) == 2
    for frame, wanted in enumerate(alone):
        for values, found in zip(wanted.outputs, result.outputs[frame], strict=True):
            assert np.array_equal(values, found)
        assert set(result.tensors[frame]) == set(wanted.tensors)
        for name, values in wanted.tensors.items():
            assert np.array_equal(values, result.tensors[frame][name])
    assert [layer.name for layer in result.layers] == [layer.name for layer in alone[0].layers]
    assert [layer.macs for layer in result.layers] == [3 * layer.macs for layer in alone[0].layers]
    assert result.dram_read_bytes < 3 * alone[0].dram_read_bytes


def test_model_with_host_parts_runs_in_batches():
    rng = np.random.default_rng(9)
    model = onnx.load(MODEL)
    with InferenceSession(MODEL, config=TINY, device="functional", batch=2) as session:
        info, = session.get_inputs()
        images = rng.random((3, *info.shape[1:])).astype(np.float32)
        got, = session.run(None, {info.name: images})
        name = session.get_outputs()[0].name
    golden = GoldenSession(model)
    for index in range(3):
        wanted = golden.run({info.name: images[index:index + 1]})[name]
        assert np.array_equal(got[index:index + 1], wanted)


def test_single_frames_and_wrong_numbers_of_frames_are_refused():
    feed = {"x": frames_of(1)}
    with open_functional(branchy(), batch=2) as session:
        with pytest.raises(InputError, match=r"^Session must have a batch of 1 to run single "
                                             r"frames, not 2$"):
            session.run_frame(feed)
        for count in (0, 3):
            with pytest.raises(InputError, match=f"^Batch must hold 1 to 2 frames, not {count}$"):
                session.run_batch([feed] * count)
        with pytest.raises(InputError, match=r"^Inputs must hold one frame, not 2$"):
            session.run_batch([{"x": frames_of(2)}])


# Command line ----------------------------------------------------------------------------------

def test_command_line_runs_and_verifies_batches(tmp_path, capsys):
    report = tmp_path / "run.json"
    assert cli.main(["run", str(MODEL), "--device", "functional", "--config", "tiny", "--batch",
                     "2", "--random", "3", "--verify", "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "batch of 2" in out and "memory traffic of the last batch of 2" in out
    figures = json.loads(report.read_text())
    assert (figures["frames"], figures["batch"], figures["mismatches"]) == (3, 2, 0)
    assert sum(layer["macs"] for layer in figures["layers"]) == 2 * figures["macs"]


def test_command_line_refuses_a_batch_of_none(capsys):
    assert cli.main(["run", str(MODEL), "--device", "functional", "--batch", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == \
        "weft: error: Batch must be an integer of at least 1, not 0"
