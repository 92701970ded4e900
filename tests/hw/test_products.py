"""Products of two activations through the RTL, byte for byte."""

import numpy as np
import pytest
from graphs import GraphBuilder, random_image

from weft import reference
from weft.hw.isa.config import load_config
from weft.runtime.session import InferenceSession

CONFIGS = {
    "fip":   load_config("tiny,products=true"),
    "plain": load_config("tiny,products=true").replace(
        rows=6, cols=6, requant_lanes=3, fip=False, activation_bytes=6 * 8192,
        accumulator_pixels=16),
}


def attention(rng, *, tokens, depth, heads, channels=9):
    """A block of attention without its softmax, in whose place there is a table."""
    builder = GraphBuilder(rng, (channels, tokens, 1), unsigned=bool(rng.integers(2)))
    q, k, v = (builder.conv(builder.input, heads * depth) for _ in range(3))
    scores = builder.lookup(builder.matmul(q, k, heads=heads, transposed=True))
    context = builder.matmul(scores, v, heads=heads)
    return builder.graph(builder.sum(builder.conv(context, channels), builder.input))


def product(rng, *, pixels, depth, channels, heads, transposed):
    builder = GraphBuilder(rng, (heads * depth, pixels, 1))
    b = builder.add_input("b", (heads * depth, channels, 1) if transposed else
                          (heads * channels, depth, 1))
    return builder.graph(builder.matmul(builder.input, b, heads=heads, transposed=transposed))


def check(graph, config, rng, *, frames=2):
    with InferenceSession(graph, config=config) as session:
        for _ in range(frames):
            image = random_image(rng, graph)
            feed = {edge.name: graph.tensors[edge.tensor].to_model(image[edge.tensor])
                    for edge in graph.inputs}
            found = session.run(None, feed)
            expected = reference.run(graph, image)
            for edge, value in zip(graph.outputs, found, strict=True):
                np.testing.assert_array_equal(
                    value, graph.leave(edge, expected[edge.tensor]))


@pytest.mark.parametrize("name", CONFIGS)
def test_random_products(name):
    config = CONFIGS[name]
    rng = np.random.default_rng(config.rows)
    size = 4 * config.rows
    for number in range(24):
        shape = {axis: int(rng.choice([1, rng.integers(1, size)]))
                 for axis in ("pixels", "depth", "channels")}
        check(product(rng, **shape, heads=int(rng.choice([1, 1, 2, 3])),
                      transposed=bool(number % 2)), config, rng)


@pytest.mark.parametrize("name", CONFIGS)
def test_attention_of_some_heads(name):
    config = CONFIGS[name]
    rng = np.random.default_rng(1)
    for tokens, depth, heads in ((1, 3, 1), (17, 8, 2), (33, 5, 3)):
        check(attention(rng, tokens=tokens, depth=depth, heads=heads), config, rng, frames=3)


def test_products_in_tiles_of_rows():
    config = CONFIGS["fip"].replace(activation_bytes=4 * 512)
    rng = np.random.default_rng(2)
    check(product(rng, pixels=230, depth=6, channels=14, heads=2, transposed=True), config, rng)
