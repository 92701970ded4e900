"""Rules of the layers other than convolutions, against onnxruntime: on all inputs where a layer
reads one or two values at a time."""

from fractions import Fraction

import numpy as np
import pytest
from models import run_quantized
from onnx import helper

from weft import reference
from weft.ir import (
    Add,
    Concat,
    Graph,
    Layer,
    Lookup,
    Multiply,
    Pads,
    Pool,
    PoolKind,
    Resize,
    Tensor,
)
from weft.reference.exact import Quantization, average_constants
from weft.reference.golden import cpu_is_exact

pytestmark = pytest.mark.skipif(not cpu_is_exact(), reason=cpu_is_exact().reason or "exact")


def rng_of(seed, kind):
    return np.random.default_rng([seed, kind])


def tensor(name, shape, scale, zero_point, unsigned):
    return Tensor(name=name, shape=shape, scale=float(scale), zero_point=zero_point,
                  unsigned=unsigned)


def random_scales(rng, seed):
    """Scales of two inputs and an output; mostly without a relation, at times equal or powers of 2
    apart, where sums fall on ties."""
    base = 10.0 ** rng.uniform(-4, 1)
    sa, sb, sy = (np.float32(base * 10.0 ** rng.uniform(-0.7, 0.7)) for _ in range(3))
    if seed % 3 == 1:
        sb = sa
    if seed % 4 == 2:
        sy = np.float32(2 * sa)
    if seed % 5 == 3:
        sy = sb
    return sa, sb, sy


def zeros(rng, count=3):
    return [int(value) for value in rng.integers(-128, 128, count)]


def golden(op, arrays, sources, target, **attributes):
    """What onnxruntime makes of int8 arrays, in int8."""
    return run_quantized(
        [helper.make_node(op, [f"{name}_d" for name in arrays], ["y"], name="node", **attributes)],
        arrays, sources, target)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_add_is_onnxruntime_for_every_pair(seed, unsigned):
    rng = rng_of(seed, 1)
    scales = random_scales(rng, seed)
    za, zb, zy = zeros(rng)
    shape = (1, 256, 256)
    sources = [tensor("a", shape, scales[0], za, unsigned),
               tensor("b", shape, scales[1], zb, unsigned)]
    target = tensor("y", shape, scales[2], zy, unsigned)
    a, b = (values[None] for values in reference.every_pair())
    expected = golden("Add", {"a": a, "b": b}, sources, target)
    layer = Add(name="node", op="Add", a="a", b="b", output="y")
    np.testing.assert_array_equal(reference.add(layer, a, b, *sources, target), expected)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_multiply_is_onnxruntime_for_every_pair(seed, unsigned):
    rng = rng_of(seed, 2)
    sa, sb, _ = random_scales(rng, seed)
    sy = np.float32(sa * sb * (2 if seed % 4 == 2 else rng.uniform(30, 200)))
    za, zb, zy = zeros(rng)
    shape = (1, 256, 256)
    sources = [tensor("a", shape, sa, za, unsigned), tensor("b", shape, sb, zb, unsigned)]
    target = tensor("y", shape, sy, zy, unsigned)
    a, b = (values[None] for values in reference.every_pair())
    expected = golden("Mul", {"a": a, "b": b}, sources, target)
    layer = Multiply(name="node", op="Mul", a="a", b="b", output="y")
    np.testing.assert_array_equal(reference.multiply(layer, a, b, *sources, target), expected)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_multiply_by_one_factor_for_each_channel_is_onnxruntime(turned, unsigned):
    rng = rng_of(turned, 3)
    za, zb, zy = zeros(rng)
    sources = [tensor("a", (256, 16, 16), 0.03, za, unsigned),
               tensor("b", (256, 1, 1), 0.004, zb, unsigned)]
    target = tensor("y", (256, 16, 16), 0.02, zy, unsigned)
    a = np.broadcast_to(np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16),
                        (256, 16, 16)).copy()
    b = np.arange(-128, 128).astype(np.int8).reshape(256, 1, 1)
    given = {"b": b, "a": a} if turned else {"a": a, "b": b}
    expected = golden("Mul", given, sources[::-1] if turned else sources, target)
    layer = Multiply(name="node", op="Mul", a="a", b="b", output="y")
    np.testing.assert_array_equal(reference.multiply(layer, a, b, *sources, target), expected)


def test_pairs_are_all_there():
    a, b = reference.every_pair()
    assert len(set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))) == 65536


def test_clamp_of_pairs_is_in_the_int8_domain():
    source = tensor("a", (1, 256, 256), 0.1, -128, True)
    target = tensor("y", (1, 256, 256), 0.1, 0, True)
    a, b = (values[None] for values in reference.every_pair())
    for rule, kind in ((reference.add, Add), (reference.multiply, Multiply)):
        free, bound = (rule(kind(name="n", op="n", a="a", b="b", output="y", clamp=clamp), a, b,
                            source, source, target) for clamp in ((-128, 127), (-5, 90)))
        np.testing.assert_array_equal(bound, np.clip(free, -5, 90))


def test_fused_multiply_add_rounds_once():
    # A sum that lies 2^-64 below a tie of float32, at which float64 puts it.
    a = np.float32(1 + 2.0 ** -20)
    b = np.float32(2.0 ** -24 * (1 - 2.0 ** -20))
    c = np.float32(1 + 2.0 ** -23)
    assert np.float32(np.float64(a) * b + c) == np.float32(1 + 2.0 ** -22)
    assert reference.fma(a, b, c) == c


@pytest.mark.parametrize("seed", range(3))
def test_fused_multiply_add_is_the_nearest_float(seed):
    rng = rng_of(seed, 10)
    a, b, c = (rng.standard_normal(500).astype(np.float32) * np.float32(2.0 ** rng.integers(-9, 9))
               for _ in range(3))
    for x, y, z, got in zip(a, b, c, reference.fma(a, b, c), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        error = abs(Fraction(float(got)) - exact)
        for way in (np.inf, -np.inf):
            other = np.nextafter(got, np.float32(way))
            assert error <= abs(Fraction(float(other)) - exact)


# Pools --------------------------------------------------------------------------------------------

def random_pool(rng, kind, *, ceil, include):
    """A pool, its input and output shape as onnxruntime sees them, and the node's attributes."""
    channels = int(rng.integers(1, 40))
    size = [int(value) for value in rng.integers(4, 14, 2)]
    kernel = [int(value) for value in rng.integers(1, 5, 2)]
    strides = [int(value) for value in rng.integers(1, 4, 2)]
    pads = [int(rng.integers(0, kernel[index % 2])) for index in range(4)]
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(ceil)}
    if kind is PoolKind.AVERAGE:
        attributes["count_include_pad"] = int(include)
    full = list(pads)
    outputs = []
    for axis in (0, 1):
        span = size[axis] + pads[axis] + pads[axis + 2] - kernel[axis]
        count = (-(-span // strides[axis]) if ceil else span // strides[axis]) + 1
        if ceil and (count - 1) * strides[axis] >= size[axis] + pads[axis]:
            count -= 1
        full[axis + 2] = max(pads[axis + 2], (count - 1) * strides[axis] + kernel[axis]
                             - size[axis] - pads[axis])
        outputs.append(count)
    layer = Pool(name="node", op="pool", input="x", output="y", kind=kind, kernel=tuple(kernel),
                 strides=tuple(strides), pads=Pads(*full),
                 count_pads=Pads(*full) if include else Pads())
    return layer, (channels, *size), (channels, *outputs), attributes


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_average_pool_is_onnxruntime(seed, include, ceil, unsigned):
    rng = rng_of(seed, 4)
    layer, shape, out_shape, attributes = random_pool(rng, PoolKind.AVERAGE, ceil=ceil,
                                                      include=include)
    zx, zy = zeros(rng, 2)
    scale = np.float32(10.0 ** rng.uniform(-3, 0))
    ratio = (1, 0.5, 0.25, 0.9)[seed % 4]     # the first three give ties
    source = tensor("x", shape, scale, zx, unsigned)
    target = tensor("y", out_shape, np.float32(scale * ratio), zy, unsigned)
    x = rng.integers(-128, 128, shape).astype(np.int8)
    expected = golden("AveragePool", {"x": x}, [source], target, **attributes)
    np.testing.assert_array_equal(reference.pool(layer, x, source, target), expected)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_average_of_two_is_onnxruntime_for_every_pair(seed, unsigned):
    rng = rng_of(seed, 5)
    zx, zy = zeros(rng, 2)
    scale = np.float32(10.0 ** rng.uniform(-3, 0))
    source = tensor("x", (256, 256, 2), scale, zx, unsigned)
    target = tensor("y", (256, 256, 1), np.float32(scale * (1, 0.5, 0.7)[seed % 3]), zy, unsigned)
    x = np.stack(reference.every_pair(), -1)
    expected = golden("AveragePool", {"x": x}, [source], target, kernel_shape=[1, 2])
    layer = Pool(name="node", op="AveragePool", input="x", output="y", kind=PoolKind.AVERAGE,
                 kernel=(1, 2))
    np.testing.assert_array_equal(reference.pool(layer, x, source, target), expected)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_global_average_pool_is_onnxruntime_for_every_sum(seed, unsigned):
    rng = rng_of(seed, 6)
    height, width = (int(value) for value in rng.integers(1, 9, 2))
    count = height * width
    zx, zy = zeros(rng, 2)
    scale = np.float32(10.0 ** rng.uniform(-3, 0))
    out_scale = np.float32(scale * (1, 0.5, rng.uniform(0.2, 1))[seed % 3])
    # One channel for each sum that is possible.
    sums = np.arange(-128 * count, 127 * count + 1)
    base, rest = np.divmod(sums, count)
    x = (base[:, None] + (np.arange(count) < rest[:, None])).astype(np.int8)
    x = rng.permuted(x, axis=1).reshape(-1, height, width)
    source = tensor("x", x.shape, scale, zx, unsigned)
    target = tensor("y", (len(x), 1, 1), out_scale, zy, unsigned)
    expected = golden("GlobalAveragePool", {"x": x}, [source], target)
    layer = Pool(name="node", op="GlobalAveragePool", input="x", output="y",
                 kind=PoolKind.AVERAGE, kernel=(height, width),
                 multiplier=float(scale / (out_scale * np.float32(count))))
    np.testing.assert_array_equal(reference.pool(layer, x, source, target), expected)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_mean_is_onnxruntime_for_every_sum(seed, unsigned):
    # Values of few bits: no order of summation rounds.
    rng = rng_of(seed, 8)
    height, width = (int(value) for value in rng.integers(1, 9, 2))
    count = height * width
    zx, zy = zeros(rng, 2)
    scale = np.float32(2.0 ** rng.integers(-9, 3))
    sums = np.arange(-128 * count, 127 * count + 1)
    base, rest = np.divmod(sums, count)
    x = (base[:, None] + (np.arange(count) < rest[:, None])).astype(np.int8)
    x = rng.permuted(x, axis=1).reshape(-1, height, width)
    source = tensor("x", x.shape, scale, zx, unsigned)
    target = tensor("y", (len(x), 1, 1), np.float32(scale * (1, 0.5, 0.7)[seed % 3]), zy, unsigned)
    expected = golden("ReduceMean", {"x": x}, [source], target, axes=[2, 3])
    layer = Pool(name="node", op="ReduceMean", input="x", output="y", kind=PoolKind.AVERAGE,
                 kernel=(height, width), late_zero=True)
    np.testing.assert_array_equal(reference.pool(layer, x, source, target), expected)
    constants, proof = average_constants(Quantization.of(source), Quantization.of(target), None,
                                         count, count, (-128, 127), True)
    made = np.rint((x.astype(np.int64).sum((1, 2)) - source.zero_point * count + constants.bias)
                   .astype(np.float32) * np.float32(constants.scale)) + constants.out_zero
    assert (np.clip(made, -128, 127) != expected.ravel()).sum() <= proof.differing


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_max_pool_is_onnxruntime(seed, ceil, unsigned):
    rng = rng_of(seed, 7)
    layer, shape, out_shape, attributes = random_pool(rng, PoolKind.MAX, ceil=ceil, include=False)
    zero, = zeros(rng, 1)
    source = tensor("x", shape, 0.05, zero, unsigned)
    target = tensor("y", out_shape, 0.05, zero, unsigned)
    x = rng.integers(-128, 128, shape).astype(np.int8)
    expected = golden("MaxPool", {"x": x}, [source], target, **attributes)
    np.testing.assert_array_equal(reference.pool(layer, x, source, target), expected)


def test_max_pool_with_dilations_is_onnxruntime():
    rng = rng_of(0, 8)
    source = tensor("x", (5, 11, 12), 0.05, 3, False)
    target = tensor("y", (5, 4, 6), 0.05, 3, False)
    x = rng.integers(-128, 128, source.shape).astype(np.int8)
    expected = golden("MaxPool", {"x": x}, [source], target, kernel_shape=[3, 2],
                      dilations=[2, 3], strides=[2, 2], pads=[0, 1, 1, 1])
    layer = Pool(name="node", op="MaxPool", input="x", output="y", kind=PoolKind.MAX,
                 kernel=(3, 2), dilations=(2, 3), strides=(2, 2), pads=Pads(0, 1, 1, 1))
    np.testing.assert_array_equal(reference.pool(layer, x, source, target), expected)


# The rest -----------------------------------------------------------------------------------------

def run_layer(layer, arrays, sources, target):
    graph = Graph(name="g", tensors={item.name: item for item in (*sources, target)},
                  layers=(layer,), inputs=(), outputs=())
    return reference.compute(graph, layer, arrays)


def test_lookup_takes_the_entry_of_its_value():
    source = tensor("x", (256, 1, 1), 0.1, 0, False)
    x = np.arange(-128, 128).astype(np.int8).reshape(256, 1, 1)
    table = np.random.default_rng(0).permutation(256).astype(np.uint8).view(np.int8)
    layer = Lookup(name="l", op="Sigmoid", input="x", output="y", table=table)
    got = run_layer(layer, {"x": x}, [source], tensor("y", (256, 1, 1), 0.1, 0, False))
    np.testing.assert_array_equal(got.ravel(), table)


@pytest.mark.parametrize("unsigned", [False, True])
def test_concat_is_onnxruntime(unsigned):
    rng = rng_of(0, 9)
    arrays = {name: rng.integers(-128, 128, (count, 5, 6)).astype(np.int8)
              for name, count in (("a", 3), ("b", 1), ("c", 7))}
    sources = [tensor(name, value.shape, 0.1, 4, unsigned) for name, value in arrays.items()]
    target = tensor("y", (11, 5, 6), 0.1, 4, unsigned)
    expected = golden("Concat", arrays, sources, target, axis=1)
    layer = Concat(name="node", op="Concat", output="y", sources=("a", "b", "c"))
    np.testing.assert_array_equal(run_layer(layer, arrays, sources, target), expected)


def test_resize_repeats_rows_and_columns():
    x = np.arange(12).astype(np.int8).reshape(2, 2, 3)
    layer = Resize(name="r", op="Resize", input="x", output="y", factors=(2, 3))
    got = run_layer(layer, {"x": x}, [tensor("x", (2, 2, 3), 0.1, 0, False)],
                    tensor("y", (2, 4, 9), 0.1, 0, False))
    assert got.shape == (2, 4, 9)
    assert all(got[c, h, w] == x[c, h // 2, w // 3] for c, h, w in np.ndindex(got.shape))


def test_unknown_layer_wrong():
    class Other(Layer):
        inputs = ()

    with pytest.raises(TypeError, match=r"^No reference for a Other$"):
        run_layer(Other(name="o", op="o", output="y"), {}, [],
                  tensor("y", (1, 1, 1), 0.1, 0, False))
