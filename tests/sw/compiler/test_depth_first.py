"""Layers that are computed depth first: their rows against brute force, and what they compute
against the reference."""

from unittest.mock import patch

import numpy as np
import pytest
from graph_builder import GraphBuilder
from sw_programs import equal

from weft.compiler import passes
from weft.compiler.channel_layout import ChannelLayout, lay_out_channels
from weft.compiler.planning.groups import Group, GroupFinder
from weft.compiler.planning.placement import MemoryPlan, plan_memory
from weft.compiler.planning.row_flow import Line, row_flows, shortest_line
from weft.compiler.planning.rows import needed, window
from weft.errors import CompileError
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS
from weft.ir import Graph, Layer

TINY = PRESETS["tiny"]


def random_chain(rng: np.random.Generator, *, size: int = 40, layers: int = 5,
                 channels: int = 12) -> Graph:
    """Layers of all kinds one after the other, and here and there a sum with an earlier tensor."""
    height, width = (int(v) for v in rng.integers(size // 2, size + 1, 2))
    builder = GraphBuilder(rng, (int(rng.integers(1, channels + 1)), height, width))
    tensor, seen = builder.input, [builder.input]
    for _ in range(layers):
        kind = int(rng.integers(8))
        count = int(rng.integers(1, channels + 1))
        if kind <= 1:
            tensor = builder.random_conv(tensor, channels=count, max_kernel=4)
        elif kind == 2:
            tensor = builder.conv(tensor, count)
        elif kind == 3:
            tensor = builder.depthwise(tensor, **builder.random_window(tensor, max_kernel=4))
        elif kind == 4:
            tensor = builder.max_pool(tensor, **builder.random_window(tensor, max_kernel=3))
        elif kind == 5:
            tensor = builder.lookup(tensor, by_channel=bool(count % 2))
        elif kind == 6 and max(builder.shape(tensor)[1:]) < size:
            tensor = builder.enlarge(tensor, (2, 1))
        else:
            same = [name for name in seen if builder.shape(name) == builder.shape(tensor)]
            tensor = builder.sum(tensor, same[int(rng.integers(len(same)))])
        seen.append(tensor)
    return builder.graph(tensor)


# Rows -----------------------------------------------------------------------------------------

def check_rows(layers: list[Layer], heights: dict[str, int], tiles: list[range],
               whole: set[str]) -> None:
    """Plays a group with nothing but row numbers."""
    last = layers[-1].output
    flows = row_flows(layers, heights, tiles, {}, whole)
    lines: dict[str, Line] = {}
    for name, flow in flows.items():
        lines[name] = shortest_line(flow)
        for rows in range(lines[name].rows, heights[name] + 1):
            assert Line.of(flow, rows) is not None
    content = {name: [-1] * line.rows for name, line in lines.items()}
    made = {layer.output for layer in layers}

    def advance(name: str, tile: int) -> None:
        line, buffer = lines[name], content[name]
        kept = line.flow.kept(tile)
        if line.moved[tile]:
            old = line.places[tile - 1] + kept.start - line.flow.held[tile - 1].start
            moved = buffer[old:old + len(kept)]
            assert old >= len(kept) and moved == list(kept)
            buffer[:len(kept)] = moved
        new = line.flow.new[tile]
        at = line.places[tile] + len(kept)
        buffer[at:at + len(new)] = new
        assert len(buffer) == line.rows

    for tile in range(len(tiles)):
        for name in flows:
            if name not in made:
                advance(name, tile)
        for layer in layers:
            out = flows[layer.output].new[tile]
            for name in layer.inputs if out else ():
                line = lines[name]
                wanted, _ = needed(window(layer, 0), out, heights[name])
                at = line.places[tile] + wanted.start - line.flow.held[tile].start
                assert content[name][at:at + len(wanted)] == list(wanted)
            advance(layer.output, tile)
    for name, flow in flows.items():
        rows = [row for new in flow.new for row in new]
        assert rows == list(range(len(rows)))
        if name == last or name in whole:
            assert len(rows) == heights[name]


def test_rows_of_random_chains_are_there_when_they_are_needed():
    rng = np.random.default_rng(1)
    for seed in range(60):
        graph = random_chain(rng, layers=1 + seed % 6)
        # What is left out of a group's last output needs nothing.
        used, layers = {graph.outputs[0].tensor}, []
        for layer in reversed(graph.layers):
            if layer.output in used:
                layers.insert(0, layer)
                used.update(layer.inputs)
        heights = {name: tensor.shape[1] for name, tensor in graph.tensors.items()}
        size = heights[layers[-1].output]
        height = int(rng.integers(1, size + 1))
        tiles = [range(row, min(row + height, size)) for row in range(0, size, height)]
        whole = {layer.output for layer in layers if rng.random() < 0.5}
        check_rows(layers, heights, tiles, whole)


# Groups ---------------------------------------------------------------------------------------

def test_groups_keep_inside_what_nobody_else_reads():
    builder = GraphBuilder(np.random.default_rng(0), (4, 8, 8))
    first = builder.conv("x", 4)
    second = builder.depthwise(first, pads=(1, 1, 1, 1))
    third = builder.conv(second, 4, like=first)
    graph = builder.graph(builder.sum(first, third), third)
    groups = GroupFinder(lay_out_channels(graph, TINY), TINY).groups({"t0", "t1", "t2"})
    found = {group.layers: group for group in groups}
    # t2 is an output; t0 is read by layer 3, too.
    assert set(found) == {range(1, 3)}
    assert found[range(1, 3)] == Group(layers=range(1, 3), inner=("t1",), inputs=("t0",),
                                       output="t2")


def test_constants_of_a_group_fit_together():
    builder = GraphBuilder(np.random.default_rng(0), (16, 8, 8))
    graph = builder.graph(builder.conv(builder.conv("x", 16), 16))
    for weight_bytes, count in ((512, 1), (496, 0)):
        config = TINY.replace(weight_bytes=weight_bytes, fip=False)
        assert len(list(GroupFinder(lay_out_channels(graph, config), config)
                        .groups({"t0"}))) == count


# Programs -------------------------------------------------------------------------------------

def plan_some_groups(rng: np.random.Generator):
    """In place of ``plan_groups``: as many groups as there is room for, chosen blindly."""
    def plan(laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan, *,
             keep_tensors: bool = False) -> list[MemoryPlan]:
        finder, tensors = GroupFinder(laid_out, config), set(laid_out.graph.tensors)
        found = [*finder.groups(tensors, most_sides=int(rng.integers(3))),
                 *finder.channel_groups(tensors)]
        taken: list[Group] = []
        result: list[MemoryPlan] = []
        for at in rng.permutation(len(found)):
            group = found[at]
            if any(set(group.layers) & set(other.layers) for other in taken):
                continue
            groups = sorted([*taken, group], key=lambda group: group.layers.start)
            try:
                result = [plan_memory(laid_out, config, keep_tensors=keep_tensors, groups=groups)]
            except CompileError:
                continue
            taken = groups
        return result
    return plan


def equal_in_groups(graph: Graph, config: AcceleratorConfig, rng: np.random.Generator,
                    **options):
    """Compiles with groups whatever they cost, runs, compares; the program."""
    with (patch.object(passes, "plan_groups", plan_some_groups(rng)),
          patch.object(passes, "_faster", return_value=True)):
        return equal(graph, config, rng, **options)


CONFIGS = [TINY, PRESETS["small"], PRESETS["wide"],
           TINY.replace(rows=6, cols=10, requant_lanes=2, axi_data_width=256),
           TINY.replace(axi_data_width=128, vector_taps=1)]


@pytest.mark.parametrize("config", CONFIGS,
                         ids=lambda c: f"{c.name}-{c.rows}x{c.cols}-{c.axi_data_width}")
def test_random_chains_equal_the_reference(config):
    grouped = 0
    for seed in range(6):
        rng = np.random.default_rng([seed, config.rows])
        graph = random_chain(rng, layers=2 + seed, size=28, channels=3 * config.rows)
        words = [tensor.shape[1] * tensor.shape[2] * -(-tensor.shape[0] // config.rows)
                 for tensor in graph.tensors.values()]
        size = max(words) * config.word_data_bytes
        while True:
            little = config.replace(activation_bytes=size + -size % (
                config.activation_banks * config.word_data_bytes))
            try:
                program = equal_in_groups(graph, little, rng, seed=seed,
                                          keep_tensors=seed % 3 == 0)
            except CompileError:
                size += size // 2
            else:
                break
        grouped += any("keep rows" in info.text for info in program.infos)
    assert grouped >= 1


def test_rows_are_not_moved_without_a_vector_engine():
    rng = np.random.default_rng(3)
    builder = GraphBuilder(rng, (8, 24, 24))
    graph = builder.graph(builder.conv(builder.conv(builder.conv(
        "x", 8), 8, kernel=(3, 3), pads=(1, 1, 1, 1)), 8))
    program = equal_in_groups(graph, TINY.replace(vector_taps=0, activation_bytes=4096), rng)
    assert not any(info.engine is Engine.VECTOR for info in program.infos)


def inverted_residual(rng: np.random.Generator, size: int = 24) -> Graph:
    builder = GraphBuilder(rng, (8, size, size))
    tensor = builder.conv("x", 8, kernel=(3, 3), pads=(1, 1, 1, 1))
    wide = builder.depthwise(builder.conv(tensor, 48), pads=(1, 1, 1, 1))
    return builder.graph(builder.sum(tensor, builder.conv(wide, 8)))


def test_planes_between_layers_of_a_group_stay_on_chip():
    rng = np.random.default_rng(1)
    graph = inverted_residual(rng)
    program = equal(graph, TINY.replace(activation_bytes=16 * 1024), rng)
    moved = [info.text for info in program.infos if info.engine in (Engine.LOAD, Engine.STORE)]
    assert not any(text.split()[0] in ("t1", "t2") or text.startswith(("output t1", "output t2"))
                   for text in moved)
    assert any("rows" in text for text in moved)


# Side outputs ---------------------------------------------------------------------------------

def halved(rng: np.random.Generator, height: int) -> Graph:
    """A plane that two layers read, which halve it, and a sum of what becomes of theirs."""
    builder = GraphBuilder(rng, (3, height, int(rng.integers(6, 14))))
    plane = builder.conv("x", int(rng.integers(9, 20)), kernel=(3, 3), pads=(1, 1, 1, 1))
    pooled = builder.max_pool(plane, kernel=(2, 2), strides=(2, 2))
    filtered = builder.depthwise(plane, kernel=(2, 2), strides=(2, 2))
    return builder.graph(builder.sum(builder.conv(pooled, 8), builder.conv(filtered, 8)))


@pytest.mark.parametrize("seed", range(6))
def test_side_outputs_are_stored_row_by_row(seed):
    rng = np.random.default_rng(seed)
    graph = halved(rng, int(rng.integers(12, 30)))
    pooled = graph.layers[1].output

    def with_sides(laid_out, config, plan, *, keep_tensors=False):
        found = list(GroupFinder(laid_out, config).groups({graph.layers[0].output}, most_sides=1))
        assert not any(group.side_outputs for group in GroupFinder(laid_out, config).groups(
            {graph.layers[0].output}))
        group, = (group for group in found if group.layers == range(3))
        assert group.side_outputs == (pooled,)
        assert group.output not in group.inner and pooled not in group.inner
        return [plan_memory(laid_out, config, keep_tensors=keep_tensors, groups=[group])]

    with (patch.object(passes, "plan_groups", with_sides),
          patch.object(passes, "_faster", return_value=True)):
        program = equal(graph, TINY.replace(axi_data_width=32 << seed % 3), rng,
                        keep_tensors=seed == 5)
    stored = [info.text for info in program.infos
              if info.engine is Engine.STORE and info.text.startswith(f"output {pooled} rows")]
    assert len(stored) > 1
    assert any(info.engine is Engine.LOAD and info.text.startswith(pooled)
               for info in program.infos)


def test_rows_of_what_no_layer_reads_come_in_step():
    builder = GraphBuilder(np.random.default_rng(0), (8, 13, 8))
    plane = builder.conv("x", 8)
    side = builder.max_pool(plane, kernel=(2, 2), strides=(2, 2))
    graph = builder.graph(side, builder.conv(plane, 8))
    tiles = [range(row, min(row + 3, 13)) for row in range(0, 13, 3)]
    flows = row_flows(graph.layers, {name: tensor.shape[1] for name, tensor in
                                     graph.tensors.items()}, tiles, {}, {side})
    # Six rows for the thirteen of the last layer.
    assert [rows.stop for rows in flows[side].new] == [2, 3, 5, 6, 6]
    assert [rows.stop for rows in flows[plane].new] == [4, 6, 10, 12, 13]


# By channels ----------------------------------------------------------------------------------

def all_by_channels(laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan, *,
                    keep_tensors: bool = False) -> list[MemoryPlan]:
    """In place of ``plan_groups``: all that can be computed by channels is."""
    found = list(GroupFinder(laid_out, config).channel_groups(set(laid_out.graph.tensors)))
    assert found
    return [plan_memory(laid_out, config, keep_tensors=keep_tensors, groups=found)]


@pytest.mark.parametrize("seed", range(8))
def test_convolutions_and_their_depthwise_ones_by_channels_equal_the_reference(seed):
    rng = np.random.default_rng(seed)
    config = TINY.replace(axi_data_width=32 << seed % 3, vector_taps=1 + seed % 4,
                          activation_bytes=64 * 1024 if seed % 2 else 6 * 1024)
    channels, height, width = (int(v) for v in rng.integers((1, 3, 3), (20, 9, 9)))
    builder = GraphBuilder(rng, (channels, height, width))
    wide = builder.random_conv("x", channels=int(rng.integers(9, 60)), max_kernel=3)
    filtered = builder.depthwise(wide, **builder.random_window(wide, max_kernel=4))
    again = builder.conv(filtered, int(rng.integers(9, 60)))
    last = builder.depthwise(again, **builder.random_window(again, max_kernel=3))
    graph = builder.graph(last if seed % 3 else builder.lookup(last))
    with (patch.object(passes, "plan_groups", all_by_channels),
          patch.object(passes, "_faster", return_value=True)):
        program = equal(graph, config, rng, seed=seed, keep_tensors=seed in (3, 4))
    for engine in (Engine.MATRIX, Engine.VECTOR):
        assert any(" 2/" in info.text for info in program.infos if info.engine is engine)


def test_many_channels_of_small_planes_go_by_channels():
    rng = np.random.default_rng(1)
    builder = GraphBuilder(rng, (16, 12, 12))
    wide = builder.depthwise(builder.conv("x", 96), pads=(1, 1, 1, 1))
    graph = builder.graph(builder.product(wide, builder.global_average(wide)))
    program = equal(graph, TINY.replace(activation_bytes=20 * 1024), rng)
    loads = [info.text for info in program.infos if info.engine is Engine.LOAD]
    # Both planes are 13.5 KiB; neither leaves the chip.
    assert not any(text.split()[0] in ("t0", "t1") for text in loads)
