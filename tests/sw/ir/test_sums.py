"""int32 sums, a byte in each channel."""

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import random_image

from weft import reference
from weft.ir import Sums, Tensor


@pytest.mark.parametrize("parts, features", [(2, 1), (3, 80), (4, 600)])
def test_bytes_of_sums_are_the_sums(parts, features):
    rng = np.random.default_rng(parts)
    builder = GraphBuilder(rng, (features, 3, 4))
    graph = builder.graph(builder.sums(builder.input, 5, kernel=(2, 3), pads=(1, 0, 1, 2),
                                       parts=parts))
    layer, = graph.layers
    image = random_image(rng, graph)
    if parts > 2:
        image["x"][:] = rng.choice(np.array([-128, 127], np.int8), image["x"].shape)
    octets = reference.run(graph, image)[layer.output]
    sums = reference.conv2d(image["x"], layer.weights[:5], pads=layer.pads,
                            in_zero=graph.tensors["x"].zero_point)
    place = 1 << 8 * parts
    wrapped = (sums + place // 2) % place - place // 2 if parts < 4 else sums
    tensor = Tensor(name="y", shape=octets.shape, scale=1.0, zero_point=-128, parts=parts)
    values = tensor.to_model(octets)
    assert values.dtype == np.int32 == tensor.dtype
    np.testing.assert_array_equal(values, wrapped[None])


def test_order_is_that_of_sums():
    rng = np.random.default_rng(9)
    octets = rng.integers(-128, 128, (6, 2, 2)).astype(np.int8)
    tensor = Tensor(name="y", shape=(6, 2, 2), scale=1.0, zero_point=-128, parts=3)
    order = rng.permutation(8)
    turned = Tensor(name="y", shape=(6, 2, 2), scale=1.0, zero_point=-128, parts=3,
                    order=order, model_shape=(8,))
    np.testing.assert_array_equal(turned.to_model(octets)[order], tensor.to_model(octets).ravel())


def test_multiplications_are_those_of_one_sum():
    weights = np.ones((3, 4, 1, 1), np.int8)
    names = {"name": "a", "op": "ConvInteger", "input": "x", "output": "y"}
    output = Tensor(name="y", shape=(9, 5, 5), scale=1.0, zero_point=-128, parts=3)
    assert Sums.of(weights, 3, **names).macs(output) == 3 * 4 * 25
    assert Sums.of(weights, 3, **names, asked=False).macs(output) == 0
