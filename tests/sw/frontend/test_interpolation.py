"""Linear enlargement, against onnxruntime."""

import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden, random_inputs

from weft.errors import ModelError
from weft.frontend import load_graph, partition
from weft.ir import Pool, Resize
from weft.reference.exact import exactness
from weft.reference.golden import cpu_is_exact

MODES = ("half_pixel", "pytorch_half_pixel", "asymmetric")


def enlarging(factors, mode, size, *, scale, target, unsigned=False, seed=0, sizes=False,
              between="", channels=3):
    b = QdqBuilder(np.random.default_rng([seed, 5]), unsigned=unsigned)
    x = b.input("x", (1, channels, *size), scale=scale)
    if sizes:
        shape = [1, channels, *(side * factor for side, factor in zip(size, factors, strict=True))]
        given = ["", "", b.constant("sizes", np.array(shape, np.int64))]
    else:
        given = ["", b.constant("scales", np.array([1, 1, *factors], np.float32))]
    large = b.node("Resize", [x, *given], "large", mode="linear",
                   coordinate_transformation_mode=mode)
    if between:
        large = b.node(between, [large], "between")
    b.output(b.quantize(large, scale=target))
    return b.build()


def layers_of(model, seed=0):
    """The layers of a model that is accelerated whole, compared with onnxruntime."""
    plan = partition(model)
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(np.random.default_rng(seed), plan.model.proto))
    graph, = plan.graphs
    return graph, graph.layers


@pytest.mark.parametrize("seed", range(12))
def test_random_sizes_factors_and_scales(seed):
    rng = np.random.default_rng([seed, 8])
    for number in range(8):
        factors = tuple(int(2 ** each) for each in rng.integers(0, 4, 2))
        scale = float(rng.uniform(0.01, 0.1))
        _, layers = layers_of(enlarging(
            factors, MODES[number % 3], tuple(int(each) for each in rng.integers(1, 9, 2)),
            scale=scale, target=scale * float(rng.choice([257 / 256, 1.2345])),
            unsigned=bool(rng.integers(2)), seed=seed, sizes=bool(rng.integers(2))), seed=number)
        assert [type(layer) for layer in layers] == [Resize, Pool]
        assert layers[0].factors == factors


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale, target", [(0.25, 0.25), (0.0371, 0.0371 * 257 / 256)])
def test_scales_without_ties_or_roundings_are_exact(mode, scale, target):
    for factors in ((1, 2), (2, 2)):
        graph, layers = layers_of(enlarging(factors, mode, (5, 6), scale=scale, target=target))
        assert exactness(graph, layers[1]).exact


def test_planes_of_one_axis():
    _, layers = layers_of(enlarging((4,), "half_pixel", (7,), scale=0.0317, target=0.05))
    assert layers[1].weights == ((1, 2, 2, 2, 1), (1,))


def test_bounds_behind_it():
    graph, layers = layers_of(enlarging((2, 2), "half_pixel", (4, 5), scale=0.0317, target=0.04,
                                        between="Relu"))
    assert layers[-1].clamp[0] == graph.tensors[layers[-1].output].zero_point


@pytest.mark.parametrize("factors, mode, target, message", [
    ((2, 2), "half_pixel", 0.0371,
     r"^Resize 'large' is interpolated in float32 by onnxruntime: \d+ of 5\d\d\d sums may come out "
     r"differently on the accelerator$"),
    ((2, 2), "align_corners", 0.05,
     r"^Resize 'large' interpolates by 2x2 in coordinate_transformation_mode align_corners; only "
     r"asymmetric, half_pixel, pytorch_half_pixel by powers of 2 have the same exact weights "
     r"everywhere$"),
    ((3, 2), "half_pixel", 0.05, r"^Resize 'large' interpolates by 3x2 in coordinate_"),
    ((1.5, 2), "half_pixel", 0.05, r"^Resize 'large' makes .*; only whole factors"),
])
def test_what_is_not_exact_wrong(factors, mode, target, message):
    model = enlarging(factors, mode, (4, 6), scale=0.0371, target=target)
    with pytest.raises(ModelError, match=message):
        load_graph(model)


def test_integers_that_onnxruntime_interpolates_wrong():
    b = QdqBuilder(np.random.default_rng(0))
    b.input("x", (1, 3, 4, 4))
    b.node("Resize", ["x_q", "", b.constant("scales", np.array([1, 1, 2, 2], np.float32))],
           "large", mode="linear")
    b.output(b.node("DequantizeLinear", ["large", "x_scale", "x_zero"], "large_d"))
    with pytest.raises(ModelError, match=r"^Resize 'large' must read"):
        load_graph(b.build())
