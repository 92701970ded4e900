"""Constants of the same contents are loaded once, where all that differ fit."""

from dataclasses import replace

import numpy as np
import pytest
from graph_builder import GraphBuilder
from sw_programs import equal

from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS

TINY = PRESETS["tiny"]


def steps(rng, count):
    """Layers with the same weights and parameters, and between them others, which all differ."""
    builder = GraphBuilder(rng, (8, 5, 4))
    x = builder.conv(builder.input, 8)
    graph = builder.graph(x)
    first = graph.layers[0]
    for _ in range(count):
        x = builder.conv(x, 8, kernel=(3, 3), pads=(1, 1, 1, 1))
        x = builder.conv(x, 8)
    graph = builder.graph(x)
    layers = tuple(
        replace(layer, weights=first.weights, bias=first.bias, multiplier=first.multiplier)
        if layer.weights.shape == first.weights.shape else layer for layer in graph.layers)
    scale = graph.tensors[first.input]
    tensors = {name: replace(tensor, scale=scale.scale, zero_point=scale.zero_point)
               for name, tensor in graph.tensors.items()}
    return replace(graph, layers=layers, tensors=tensors)


def loaded(program, what):
    return sum(info.engine is Engine.LOAD and what in info.text for info in program.infos)


@pytest.mark.parametrize("count", [1, 4])
def test_what_fits_is_loaded_once(count):
    rng = np.random.default_rng(count)
    graph = steps(rng, count)
    program = equal(graph, TINY.replace(weight_bytes=1 << 16), rng, warm=2)
    same = [layer.name for layer in graph.layers if layer.weights.shape[2:] == (1, 1)]
    assert len(same) == count + 1
    assert loaded(program, f"{same[0]} weights") == 1
    assert not any(loaded(program, f"{name} weights") for name in same[1:])
    assert program.warm_commands


def test_what_does_not_fit_is_loaded_again():
    rng = np.random.default_rng(3)
    graph = steps(rng, 4)
    size = 8 * 8 * 9 * 3    # of three of the others
    program = equal(graph, TINY.replace(weight_bytes=size), rng)
    same = [layer.name for layer in graph.layers if layer.weights.shape[2:] == (1, 1)]
    assert all(loaded(program, f"{name} weights") for name in same)
    assert not program.warm_commands
