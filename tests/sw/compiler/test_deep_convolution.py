"""Convolutions that are cut by input channels: run on the functional device and the RTL."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from graph_builder import GraphBuilder
from pysim_device import PysimDevice
from sw_programs import equal, fields_of

from weft.boards.registry import BOARDS
from weft.compiler import SplitSearch, compile, misfits
from weft.compiler.assembly.check import ProgramError, check
from weft.errors import CompileError
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import PRESETS
from weft.ir import Graph

TINY = PRESETS["tiny"].replace(accumulator_pixels=16)
CONFIGS = {
    "tiny": TINY,
    "plain": TINY.replace(fip=False),
    "odd": TINY.replace(rows=6, cols=10, requant_lanes=2),      # three column tiles share words
    "narrow": TINY.replace(rows=8, cols=4, requant_lanes=2),    # a word has those of two
    "wide": PRESETS["wide"].replace(accumulator_pixels=32),
    "port": TINY.replace(axi_data_width=128),                   # columns cannot be cut
}
QUICK = SplitSearch(effort=100)


def deep(rng: np.random.Generator, config: AcceleratorConfig,
         most: int = 9) -> tuple[Graph, AcceleratorConfig]:
    """A convolution, and a weight memory that lacks room for a column tile of it."""
    blocks = int(rng.integers(2, most))
    channels = blocks * config.rows - int(rng.integers(config.rows))
    height, width = (int(v) for v in rng.integers(3, 11, 2))
    kernel = tuple(int(v) for v in rng.integers(1, 4, 2))
    pads = tuple(int(rng.integers(size)) for size in 2 * kernel)
    builder = GraphBuilder(rng, (channels, height, width), unsigned=bool(rng.integers(2)))
    graph = builder.graph(builder.conv(
        builder.input, int(rng.integers(1, 3 * config.cols + 1)), kernel=kernel, pads=pads,
        strides=tuple(int(v) for v in rng.integers(1, 3, 2))))
    tiles = max(2, kernel[0] * kernel[1] * int(rng.integers(1, blocks)))
    rows = tiles * config.weight_tile_rows
    words = int(rng.choice([64, 160, 600]))
    return graph, config.replace(
        weight_bytes=rows * config.weight_row_data_bytes,
        activation_bytes=words * config.activation_banks * config.word_data_bytes)


def random_deep(name: str, seeds: range) -> tuple[int, int]:
    """Computes random ones; how many were, and in how many the input was cut, too."""
    found = loaded = 0
    for seed in seeds:
        rng = np.random.default_rng([seed, len(name)])
        graph, config = deep(rng, CONFIGS[name])
        if misfits([graph], config):    # there is no room for a window of a single channel block
            continue
        program = equal(graph, config, rng, seed=seed, search=QUICK)
        found += any(fields["keep"] for fields in fields_of(program, Engine.MATRIX))
        loaded += any(re.match(r"x .*blocks", info.text) for info in program.infos)
    return found, loaded


@pytest.mark.parametrize("name", CONFIGS)
def test_random_deep_convolutions_equal_the_reference(name):
    found, _ = random_deep(name, range(4))
    assert found >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_many_random_deep_convolutions_equal_the_reference(name):
    found, loaded = random_deep(name, range(100, 140))
    assert found >= 25 and loaded >= 3


@pytest.mark.parametrize("name, stall", [
    ("tiny", 0.3), pytest.param("odd", 0.0, marks=pytest.mark.slow)])
def test_deep_convolutions_equal_the_reference_on_the_rtl(name, stall):
    config = CONFIGS[name]
    rng = np.random.default_rng(4)
    builder = GraphBuilder(rng, (3 * config.rows, 3, 5))
    first = builder.conv(builder.input, 2 * config.cols + 1, kernel=(2, 1), pads=(1, 0, 0, 0))
    graph = builder.graph(builder.conv(first, config.cols))
    program = equal(graph, config.replace(
        weight_bytes=2 * config.weight_tile_rows * config.weight_row_data_bytes), rng,
        make=partial(PysimDevice, stall_probability=stall), search=QUICK)
    assert {1, 0} == {fields["keep"] for fields in fields_of(program, Engine.MATRIX)}


def test_no_other_command_comes_between_those_of_a_sum():
    rng = np.random.default_rng(0)
    builder = GraphBuilder(rng, (32, 6, 6))
    branches = [builder.conv(builder.max_pool(builder.input), 12, kernel=(1, 1))
                for _ in range(3)]
    thin = [builder.conv(builder.conv(builder.input, 4), 4) for _ in range(3)]
    config = TINY.replace(weight_bytes=12 * TINY.weight_tile_rows * TINY.weight_row_data_bytes // 3)
    program = equal(builder.graph(*branches, *thin), config, rng)
    texts = [info.layer for info in program.infos if info.engine is Engine.MATRIX]
    fields = fields_of(program, Engine.MATRIX)
    assert any(one["keep"] for one in fields) and len(set(texts)) == 9
    for at, one in enumerate(fields[1:], 1):
        assert bool(one["accumulate"]) == bool(fields[at - 1]["keep"])
        assert not one["accumulate"] or texts[at] == texts[at - 1]


def test_weights_of_a_column_tile_that_fit_are_loaded_once():
    """Only the input is too large for the chip."""
    rng = np.random.default_rng(1)
    builder = GraphBuilder(rng, (600, 3, 8))
    graph = builder.graph(builder.conv(builder.input, 8, kernel=(3, 3), pads=(1, 1, 1, 1)))
    config = TINY.replace(activation_bytes=4096, weight_bytes=1 << 16)
    program = equal(graph, config, rng, search=QUICK)
    loads = [info.text for info in program.infos if info.engine is Engine.LOAD]
    assert any(fields["keep"] for fields in fields_of(program, Engine.MATRIX))
    weights = [text for text in loads if "weights" in text]
    inputs = [text for text in loads if text.startswith("x ")]
    assert len(set(inputs)) < len(inputs)
    assert len(set(weights)) == len(weights) == 2   # one for each column tile


def test_a_sequential_accelerator_has_no_accumulators_to_keep():
    config = BOARDS["icebreaker"].config
    builder = GraphBuilder(np.random.default_rng(0), (64, 3, 3))
    graph = builder.graph(builder.conv(builder.input, 4, kernel=(3, 3)))
    little = config.replace(weight_bytes=1024)
    with pytest.raises(CompileError, match=r"^Layer 'layer0' needs \d+ bytes of weight memory"):
        compile(graph, little)


@pytest.mark.parametrize("changes, message", [
    ({"keep": 0}, "goes on with sums that no command has kept"),
    ({"out_pixels": 1}, "must go on with the 1 sums that command"),
    ({"col_tiles": 2}, "must have a single column tile and a single pixel tile"),
    ({"out_slot": 2}, "begins at part 2 of a word of 2"),
])
def test_check_finds_sums_that_are_lost(changes, message):
    rng = np.random.default_rng(4)
    builder = GraphBuilder(rng, (24, 2, 3))
    program = compile(builder.graph(builder.conv(builder.input, 4)), TINY.replace(
        weight_bytes=2 * TINY.weight_tile_rows * TINY.weight_row_data_bytes))
    index = next(index for index, info in enumerate(program.infos)
                 if info.engine is Engine.MATRIX)
    fields = fields_of(program, Engine.MATRIX)[0]
    assert fields["keep"]
    raw = encode(Opcode.MATRIX, **fields | changes)
    commands = bytearray(program.commands)
    commands[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES] = raw
    with pytest.raises(ProgramError, match=re.escape(message)):
        check(replace(program, commands=bytes(commands)))
