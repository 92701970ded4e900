"""Tensors that do not fit on chip: run on the functional device, and compared."""

import re
from collections import Counter
from unittest.mock import patch

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import OPERATORS, random_graph
from sw_programs import equal, fields_of
from sweeps import sweep

from weft.compiler import MisfitError, SplitSearch, compile, misfits, passes
from weft.compiler.channel_layout import lay_out_channels
from weft.compiler.planning.placement import plan_memory
from weft.compiler.planning.rows import Window
from weft.compiler.transpose import wide
from weft.errors import CompileError
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS
from weft.ir import Graph

TINY = PRESETS["tiny"]


# Windows --------------------------------------------------------------------------------------

def test_window_needs_the_rows_of_all_its_taps():
    rng = np.random.default_rng(0)
    for _ in range(300):
        kernel, stride, dilation, before, size = (int(v) for v in rng.integers(
            [1, 1, 1, 0, 1], [6, 4, 4, 9, 12]))
        window = Window(kernel=kernel, stride=stride, dilation=dilation, before=before)
        start = int(rng.integers(0, 8))
        out = range(start, start + int(rng.integers(1, 5)))
        rows, padding = window.needs(out, size)
        assert len(rows) >= 1 and rows.start >= 0 and rows.stop <= size and padding >= 0
        for y in out:
            for tap in range(kernel):
                wanted = y * stride - before + tap * dilation
                at = (y - out.start) * stride - padding + tap * dilation
                if 0 <= wanted < size:
                    assert 0 <= at < len(rows) and rows[at] == wanted
                else:
                    assert not 0 <= at < len(rows)


def test_window_that_repeats_rows_needs_each_once():
    assert Window(repeat=3).needs(range(2, 7), 9) == (range(3), 0)


# Tiles ----------------------------------------------------------------------------------------

CONFIGS = [config.replace(fip=fip) for config in PRESETS.values() for fip in (False, True)] + [
    TINY.replace(rows=6, cols=10, requant_lanes=2),
    TINY.replace(axi_data_width=256), TINY.replace(rows=2, cols=6, axi_data_width=128)]


@pytest.mark.parametrize(
    "config", sweep(CONFIGS, fast=lambda config: config.fip and config.name != "small"),
    ids=lambda c: f"{c.name}-{c.rows}x{c.cols}-{c.axi_data_width}-{c.fip}")
def test_random_graphs_in_little_memory_equal_the_reference(config):
    tiled = 0
    for seed in range(5):
        rng = np.random.default_rng([seed, config.rows, config.fip])
        graph = random_graph(rng, 1 + seed % 4, max_size=30, max_channels=40, max_kernel=4)
        size = 16 * config.rows * config.activation_banks
        while True:  # the least that it compiles for
            little = config.replace(activation_bytes=size, weight_bytes=max(
                2 * config.weight_tile_rows * config.weight_row_data_bytes, 1 << 15 + seed % 3))
            try:
                compile(graph, little)
            except CompileError:
                size += size // 2
            else:
                break
        program = equal(graph, little, rng, seed=seed, keep_tensors=seed % 2 == 0)
        tiled += len(fields_of(program, Engine.MATRIX)) > len(graph.layers)
    assert tiled >= 2


def deep(rng: np.random.Generator, *, channels: int = 16, size: int = 24) -> Graph:
    builder = GraphBuilder(rng, (channels, size, size))
    tensor = builder.conv("x", channels, kernel=(3, 3), pads=(1, 1, 1, 1))
    tensor = builder.conv(tensor, 2 * channels, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    return builder.graph(builder.conv(tensor, channels))


def test_tiles_move_each_row_once_but_for_those_that_two_share():
    config = TINY.replace(activation_bytes=8192)
    program = equal(deep(np.random.default_rng(1)), config, np.random.default_rng(2))
    words = sum(fields["lines"] * fields["units"] for fields in fields_of(program, Engine.STORE))
    assert words >= 16 * 24 * 24 // 4
    rows = [info.text for info in program.infos if info.text.startswith("output t0 rows ")]
    spans = [tuple(map(int, text.rpartition(" ")[2].split(".."))) for text in rows]
    assert [row for first, last in spans for row in range(first, last + 1)] == list(range(24))


def test_tile_buffers_are_double():
    program = compile(deep(np.random.default_rng(1)), TINY.replace(activation_bytes=8192))
    places = {fields["local_address"] for fields, info in zip(
        fields_of(program, Engine.LOAD), (i for i in program.infos if i.engine is Engine.LOAD),
        strict=True) if info.text.startswith("x rows")}
    assert len(places) == 2


def test_tensors_stay_on_chip_where_they_can():
    builder = GraphBuilder(np.random.default_rng(1), (8, 32, 32))
    big = builder.conv("x", 16, kernel=(3, 3), pads=(1, 1, 1, 1))
    small = builder.conv(big, 16, kernel=(3, 3), strides=(4, 4))
    graph = builder.graph(builder.conv(builder.conv(small, 16), 8))
    config = TINY.replace(activation_bytes=12 * 1024)
    program = equal(graph, config, np.random.default_rng(2))
    stored = {info.text.split()[1] for info in program.infos if info.engine is Engine.STORE}
    assert stored == {"t3"}  # t0 goes from layer to layer on chip, some rows at a time
    storages = plan_memory(lay_out_channels(graph, config), config).storages
    assert {name for name, storage in storages.items() if storage.external} == {"t0"}


def test_weights_that_fit_are_loaded_once_for_all_tiles():
    program = compile(deep(np.random.default_rng(1)), TINY.replace(activation_bytes=8192))
    loads = [info.text for info in program.infos if "weights" in info.text]
    assert len(loads) == len(set(loads)) == 3


def test_loop_order_follows_the_traffic():
    rng = np.random.default_rng(3)
    # Much input and few weights: they are loaded again for each tile.  Then the other way round.
    for shape, channels, weight_bytes, again in (((32, 64, 32), 32, 1024, "weights"),
                                                 ((64, 8, 8), 256, 4096, "x ")):
        builder = GraphBuilder(rng, shape)
        graph = builder.graph(builder.conv("x", channels), "x")
        config = TINY.replace(activation_bytes=2048, weight_bytes=weight_bytes)
        program = equal(graph, config, rng)
        loads = [info.text for info in program.infos if info.engine is Engine.LOAD]
        twice = {text for text in loads if loads.count(text) > 1}
        assert len(fields_of(program, Engine.MATRIX)) > 4
        assert all(again in text or "parameters" in text for text in twice), loads


def test_branches_in_little_memory_equal_the_reference():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        builder = GraphBuilder(rng, (8, 16, 16))
        trunk = builder.conv("x", 12, kernel=(3, 3), pads=(1, 1, 1, 1))
        left = builder.conv(builder.conv(trunk, 9), 30)
        right = builder.conv(trunk, 20, kernel=(5, 5))
        graph = builder.graph(left, trunk, builder.conv(right, 3), "x")
        for size in (2048, 3000, 5000, 8000):
            equal(graph, TINY.replace(activation_bytes=size), rng, seed=seed,
                  keep_tensors=bool(seed % 2))


def test_row_that_does_not_fit_is_cut_into_columns(monkeypatch):
    monkeypatch.setattr(passes, "wide", lambda _graph: False)   # nor is it transposed
    rng = np.random.default_rng(0)
    builder = GraphBuilder(rng, (8, 4, 600))
    graph = builder.graph(builder.conv("x", 4, kernel=(3, 3), pads=(1, 1, 1, 1)))
    program = equal(graph, TINY.replace(activation_bytes=4096), rng)
    assert any(" columns " in info.text for info in program.infos)


def test_window_that_does_not_fit_is_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (4, 40, 40))
    graph = builder.graph(builder.conv("x", 4, kernel=(5, 5), dilations=(6, 6)))
    config = TINY.replace(activation_bytes=2048)
    message = "Layer 'layer0' needs 2504 bytes of activation memory, 2048 are available"
    with pytest.raises(MisfitError, match=f"^{re.escape(message)}$"):
        compile(graph, config)
    assert {name: str(error) for name, error in misfits([graph], config).items()} == {"t0": message}


# Cuts -----------------------------------------------------------------------------------------

def cut_graph(rng: np.random.Generator, operator: str) -> Graph:
    """A graph around one operator, of a size that may be more than little memory holds: flat, high
    and wide ones, and many channels."""
    shape = [int(rng.integers(1, limit)) for limit in (60, 20, 60)]
    for axis in (1, 2):
        if rng.random() < 0.2:
            shape[axis] = 1
    builder = GraphBuilder(rng, (shape[0], shape[1], shape[2]), unsigned=bool(rng.integers(2)))
    if operator == "conv":
        return builder.graph(builder.random_conv(builder.input, max_kernel=5))
    return builder.graph(OPERATORS[operator](rng, builder))


def little_memory(rng: np.random.Generator) -> AcceleratorConfig:
    """A configuration with hardly any memory."""
    config = (*PRESETS.values(), TINY.replace(rows=6, cols=10, requant_lanes=2),
              TINY.replace(axi_data_width=128))[int(rng.integers(len(PRESETS) + 2))]
    least = 16 * config.word_data_bytes * config.activation_banks
    weights = max(2 * config.weight_tile_rows * config.weight_row_data_bytes,
                  int(1024 * 2 ** (5 * rng.random())))
    return config.replace(activation_bytes=int(least * 2 ** (4 * rng.random())),
                          weight_bytes=weights)


def check_verdict(operator: str, seeds: range) -> Counter[str]:
    """Whether a graph fits is told as it is, and what fits is computed; how graphs were cut."""
    cuts: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        graph, config = cut_graph(rng, operator), little_memory(rng)
        found = misfits([graph], config)
        if found:
            with pytest.raises(MisfitError):
                compile(graph, config)
            cuts["misfit"] += 1
            continue
        with patch.object(passes, "wide", wide if seed % 2 else lambda _graph: False):
            program = equal(graph, config, rng, seed=seed, keep_tensors=seed % 3 == 0,
                            search=SplitSearch(effort=100))
        texts = " ".join(info.text for info in program.infos)
        cuts.update(cut for cut in ("rows", "columns", "blocks") if f" {cut} " in texts)
    return cuts


CUT_OPERATORS = ("conv", *OPERATORS)


@pytest.mark.parametrize("operator", CUT_OPERATORS)
def test_graphs_fit_little_memory_if_the_compiler_says_so(operator):
    check_verdict(operator, range(4))


@pytest.mark.slow
@pytest.mark.parametrize("operator", CUT_OPERATORS)
def test_many_graphs_fit_little_memory_if_the_compiler_says_so(operator):
    cuts = check_verdict(operator, range(100, 200))
    assert cuts["rows"] > 10 and (operator == "gate" or cuts["columns"] > 2)
    assert operator == "conv" or cuts["blocks"] > 5


# Warm streams ---------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [64 * 1024, 8192])
def test_warm_stream_loads_no_constants_and_gives_the_same(size):
    rng = np.random.default_rng(5)
    program = equal(deep(rng), TINY.replace(activation_bytes=size), rng, warm=2)
    assert not any("weights" in info.text or "parameters" in info.text
                   for info in program.warm_infos)
    assert len(program.warm_infos) == program.count - 6


def test_there_is_no_warm_stream_if_constants_do_not_stay():
    program = compile(deep(np.random.default_rng(5)), TINY.replace(weight_bytes=4096))
    assert not program.warm_commands and not program.warm_infos


# Order ----------------------------------------------------------------------------------------

def test_layers_on_chip_are_tiled_so_that_the_next_one_can_begin():
    builder = GraphBuilder(np.random.default_rng(0), (8, 16, 16))
    first = builder.conv("x", 8, kernel=(3, 3), pads=(1, 1, 1, 1))
    graph = builder.graph(builder.conv(first, 8, kernel=(3, 3), pads=(1, 1, 1, 1)))
    program = equal(graph, TINY, np.random.default_rng(1))
    def rows(start: str, engine: Engine) -> list[range]:
        """Rows of the commands of an engine whose text begins like that."""
        spans = [info.text.rpartition(" ")[2].split("..") for info in program.infos
                 if info.engine is engine and info.text.startswith(start)]
        return [range(int(first), int(last) + 1) for first, last in spans]

    for start, engine in (("input x", Engine.LOAD), ("layer0", Engine.MATRIX),
                          ("layer1", Engine.MATRIX)):
        parts = rows(start, engine)
        assert len(parts) >= 4 and [row for part in parts for row in part] == list(range(16))
    # Each command waits only for those that it needs.
    infos = [info for info in program.infos if info.engine is Engine.MATRIX]
    begun = next(index for index, info in enumerate(infos) if info.layer == 1)
    written = {word for info in infos[:begun] for _, start, stop in info.writes
               for word in range(start, stop)}
    (_, start, stop), *_ = infos[begun].reads
    assert set(range(start, stop)) < written


def test_pieces_of_layers_of_different_engines_run_side_by_side():
    builder = GraphBuilder(np.random.default_rng(0), (16, 12, 12))
    tensor = builder.conv("x", 16)
    for _ in range(2):
        tensor = builder.conv(builder.depthwise(tensor, kernel=(3, 3), pads=(1, 1, 1, 1)), 16)
    program = equal(builder.graph(tensor), TINY, np.random.default_rng(1))
    engines = {Engine.MATRIX: {0, 2, 4}, Engine.VECTOR: {1, 3}}
    for engine, layers in engines.items():
        found = [info.layer for info in program.infos if info.engine is engine]
        assert found == sorted(found) and set(found) == layers
        assert all(found.count(layer) > 2 for layer in layers)
    order = [info.layer for info in program.infos
             if info.engine in engines and info.layer is not None]
    # Every layer begins before the one that it reads has ended.
    last = {layer: at for at, layer in enumerate(order)}
    assert all(order.index(layer + 1) < last[layer] for layer in range(4))


def test_layers_take_turns_on_an_engine_that_waits_for_loads():
    builder = GraphBuilder(np.random.default_rng(0), (8, 40, 20))
    first = builder.max_pool("x", kernel=(1, 1), strides=(2, 2))  # uses a quarter of what is loaded
    graph = builder.graph(builder.max_pool(first))
    program = equal(graph, TINY, np.random.default_rng(1))
    layers = [info.layer for info in program.infos if info.engine is Engine.VECTOR]
    assert layers != sorted(layers)


def test_commands_are_fetched_in_the_order_in_which_engines_can_start():
    builder = GraphBuilder(np.random.default_rng(0), (8, 16, 16))
    tensor = builder.conv("x", 16, kernel=(3, 3), pads=(1, 1, 1, 1))
    deep = builder.depthwise(tensor, kernel=(3, 3), pads=(1, 1, 1, 1))
    graph = builder.graph(builder.conv(deep, 16))
    program = equal(graph, TINY, np.random.default_rng(1))
    engines = [info.engine for info in program.infos if info.engine in (Engine.MATRIX,
                                                                        Engine.VECTOR)]
    first = engines.index(Engine.VECTOR)
    # The depthwise layer begins before the convolution ends, and ends after the next one began.
    assert engines[first:].count(Engine.MATRIX) > 4
    for engine in (Engine.MATRIX, Engine.VECTOR):
        layers = [info.layer for info in program.infos if info.engine is engine]
        assert layers == sorted(layers)


def test_one_row_with_padding_is_tiled():
    rng = np.random.default_rng(0)
    builder = GraphBuilder(rng, (40, 1, 30))
    graph = builder.graph(builder.conv("x", 30, kernel=(2, 3), pads=(1, 1, 1, 1)))
    equal(graph, TINY.replace(activation_bytes=2000), rng)
