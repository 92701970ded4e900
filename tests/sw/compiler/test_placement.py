"""Addresses of buffers, and places that are used again as late as possible."""

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import OPERATORS, operator_graph
from sw_programs import equal

from weft import compiler
from weft.compiler import passes
from weft.compiler.planning.placement import _Life, _place, _spread
from weft.compiler.timing.player import play
from weft.hw.isa.presets import PRESETS

TINY = PRESETS["tiny"]


def overlaps(lives, placed, depth):
    """Whether two buffers share a place at a time, or one is outside."""
    spans = [(life, placed[life.key], placed[life.key] + life.words) for life in lives]
    return any(stop > depth for _, _, stop in spans) or any(
        one.meets(other) and start < end and first < stop
        for number, (one, start, stop) in enumerate(spans)
        for other, first, end in spans[:number])


def test_buffers_are_moved_apart_and_never_overlap():
    rng = np.random.default_rng(0)
    moved = 0
    for _ in range(60):
        lives = []
        for number in range(int(rng.integers(2, 30))):
            first = int(rng.integers(0, 20))
            lives.append(_Life(str(number), int(rng.integers(1, 40)), first,
                               first + int(rng.integers(0, 5))))
        placed, failed = _place(lives, 400)
        assert failed is None and not overlaps(lives, placed, 400)
        spread = _spread(lives, placed, 400)
        assert not overlaps(lives, spread, 400)
        moved += spread != placed
    assert moved > 50


def test_a_chain_uses_no_place_again_at_once():
    chain = [_Life(str(number), 10, number, number + 1) for number in range(12)]
    placed, _ = _place(chain, 100)
    spread = _spread(chain, placed, 100)
    assert len(set(placed.values())) == 2 and len(set(spread.values())) > 4
    for number, life in enumerate(chain):
        for other in chain[number + 1:number + 5]:
            assert spread[life.key] != spread[other.key]
    # Where there is little room, as far apart as it goes.
    assert len(set(_spread(chain, placed, 35).values())) == 3


@pytest.mark.parametrize("operator", OPERATORS)
def test_programs_with_buffers_apart_equal_the_reference(monkeypatch, operator):
    monkeypatch.setattr(passes, "_WORTH", np.inf)
    for seed in range(2):
        rng = np.random.default_rng([seed, len(operator)])
        config = TINY.replace(activation_bytes=(64 << 10, 8 << 10)[seed])
        equal(operator_graph(rng, operator), config, rng)


def test_buffers_move_apart_only_where_that_is_faster(monkeypatch):
    b = GraphBuilder(np.random.default_rng(1), (64, 4, 4))
    tensor = b.input
    for _ in range(4):
        wide = b.depthwise(tensor, kernel=(3, 3), pads=(1, 1, 1, 1))
        tensor = b.sum(tensor, b.conv(wide, 64))
    graph = b.graph(tensor)

    def made(worth):
        monkeypatch.setattr(passes, "_WORTH", worth)
        program = compiler.compile(graph, PRESETS["base"])
        return program.peak_words, play(program.commands, program.config).cycles

    usual, close, apart = made(passes._WORTH), made(0), made(np.inf)
    assert close[0] < apart[0]
    assert usual == (apart if apart[1] < 0.995 * close[1] else close)
