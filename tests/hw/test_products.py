"""Products of two activations through the RTL, byte for byte."""

import numpy as np
import pytest
from configs import PRODUCTS, PRODUCTS_PLAIN
from graph_builder import GraphBuilder
from graphs import operator_graph, random_image
from places import MODELS

from weft import reference
from weft.ir import MatMul, Normalization, Softmax
from weft.reference.golden import cpu_is_exact
from weft.runtime.device.verilator import VerilatorDevice
from weft.runtime.runner import random_frames
from weft.runtime.session import InferenceSession

CONFIGS = {"fip": PRODUCTS, "plain": PRODUCTS_PLAIN}


def attention(rng, *, tokens, depth, heads, channels=9, softmax=False, normalized=0):
    """A block of attention; without ``softmax`` there is a table in its place. If ``normalized``,
    it reads so many normalized channels."""
    builder = GraphBuilder(rng, (channels, tokens, 1), unsigned=bool(rng.integers(2)))
    source = builder.normalization(builder.conv(builder.input, normalized)) if normalized \
        else builder.input
    q, k, v = (builder.conv(source, heads * depth) for _ in range(3))
    scores = builder.matmul(q, k, heads=heads, transposed=True)
    scores = builder.softmax(scores, heads=heads) if softmax else builder.lookup(scores)
    context = builder.matmul(scores, v, heads=heads)
    return builder.graph(builder.sum(builder.conv(context, channels), builder.input))


def product(rng, *, pixels, depth, channels, heads, transposed):
    builder = GraphBuilder(rng, (heads * depth, pixels, 1))
    b = builder.add_input("b", (heads * depth, channels, 1) if transposed else
                          (heads * channels, depth, 1))
    return builder.graph(builder.matmul(builder.input, b, heads=heads, transposed=transposed))


def check(graph, config, rng, *, frames=2, built=None):
    """Some frames of a graph, compiled for ``config``, on the RTL of ``built``, or of the same."""
    def device(_config, *, memory_bytes):
        return VerilatorDevice(built or config, memory_bytes=memory_bytes)

    with InferenceSession(graph, config=config, device=device) as session:
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
    for tokens, depth, heads, normalized in ((1, 3, 1, 8), (17, 8, 2, 0), (33, 5, 3, 40)):
        check(attention(rng, tokens=tokens, depth=depth, heads=heads, softmax=config.softmax,
                        normalized=normalized), config, rng, frames=3)


@pytest.mark.parametrize("name", CONFIGS)
def test_normalized_rows(name):
    config = CONFIGS[name]
    rng = np.random.default_rng(config.rows)
    for _ in range(24):
        length = 8 * int(rng.choice([1, rng.integers(1, config.normalize_channels // 8 + 1)]))
        builder = GraphBuilder(rng, (length, int(rng.integers(1, 12)), int(rng.integers(1, 5))),
                               unsigned=bool(rng.integers(2)))
        check(builder.graph(builder.normalization(
            builder.input, epsilon=float(rng.choice([1e-5, 1e-12, 0.3])),
            scale=float(np.exp(rng.uniform(-8, 1))))), config, rng)


def test_products_in_tiles_of_rows():
    # Compiled for less memory than the device has.
    config = PRODUCTS.replace(activation_bytes=4 * 512)
    rng = np.random.default_rng(2)
    check(product(rng, pixels=230, depth=6, channels=14, heads=2, transposed=True), config, rng,
          built=PRODUCTS)


def test_attention_in_turns_of_its_heads():
    # The scores would take all of the memory twice.
    config = PRODUCTS.replace(activation_bytes=4 * 2048)
    rng = np.random.default_rng(4)
    for tokens, depth, heads in ((70, 8, 2), (61, 5, 3)):
        check(attention(rng, tokens=tokens, depth=depth, heads=heads, softmax=True, normalized=24),
              config, rng, built=PRODUCTS)


@pytest.mark.parametrize("name", CONFIGS)
def test_tensors_of_known_values(name):
    rng = np.random.default_rng(3)
    for number in range(6):
        check(operator_graph(rng, "constants", unsigned=bool(number % 2)), CONFIGS[name], rng)


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
def test_vision_transformer():
    """All products of two activations, softmaxes and normalizations run on the accelerator, and the
    constants of class and places are there: it is one part."""
    model = MODELS / "real" / "tv_vit_tiny.onnx"
    with InferenceSession(model, config=PRODUCTS) as session:
        graph, = session.plan.graphs
        assert len(graph.constants) == 2
        layers = graph.layers
        assert [sum(isinstance(layer, kind) for layer in layers)
                for kind in (MatMul, Softmax, Normalization)] == [4, 2, 5]
        feed = random_frames(session, 1)
        found = session.run(None, feed)
        if cpu_is_exact():
            expected = session.plan.model.golden().run(feed)
            for info, value in zip(session.get_outputs(), found, strict=True):
                np.testing.assert_array_equal(value, expected[info.name])
