import numpy as np
import pytest
from graph_builder import GraphBuilder

from weft import reference
from weft.compiler import compile
from weft.hw.isa.presets import PRESETS
from weft.ir import Add, Multiply, Pool, PoolKind, Tensor
from weft.reference import vector as vector_model
from weft.reference.exact import (
    Exactness,
    Quantization,
    add_constants,
    average_constants,
    exactness,
    multiply_constants,
)

INT8 = (-128, 127)


def quantizations(seed: int, *, fits: bool = True) -> list[Quantization]:
    """Random ones of two operands and a result."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.uniform(-5, -1, 3)).astype(np.float32)
    if fits:
        scales[2] = scales[:2].max() * rng.uniform(0.8, 2)
    unsigned = bool(rng.integers(2))
    return [Quantization(float(scale), int(rng.integers(-128, 128)), unsigned)
            for scale in scales]


def add_differences(a: Quantization, b: Quantization, y: Quantization,
                    clamp: tuple[int, int] = INT8) -> tuple[int, Exactness]:
    """Pairs that differ from the reference, and the proof."""
    constants, proof = add_constants(a, b, y, clamp)
    x, z = (values[None] for values in reference.every_pair())
    made = vector_model.add(
        x, z, (np.array([constants.first]), np.array([constants.second])),
        np.array([constants.bias], np.int32), np.array([constants.scale], np.float32),
        clamp=clamp)
    wanted = reference.add(Add(name="", op="Add", output="y", a="a", b="b", clamp=clamp), x, z,
                           a.tensor(), b.tensor(), y.tensor())
    return int((made != wanted).sum()), proof


def multiply_differences(a: Quantization, b: Quantization, y: Quantization,
                         clamp: tuple[int, int] = INT8) -> tuple[int, Exactness]:
    constants, proof = multiply_constants(a, b, y, clamp)
    x, z = (values[None] for values in reference.every_pair())
    made = vector_model.multiply(
        x, z, np.array([constants.bias], np.int32), np.array([constants.scale], np.float32),
        a_zero=a.zero_point, b_zero=b.zero_point, out_zero=constants.out_zero, clamp=clamp)
    wanted = reference.multiply(
        Multiply(name="", op="Mul", output="y", a="a", b="b", clamp=clamp), x, z, a.tensor(),
        b.tensor(), y.tensor())
    return int((made != wanted).sum()), proof


# Sums -----------------------------------------------------------------------------------------

def test_random_sums_are_exact():
    for seed in range(60):
        differing, proof = add_differences(*quantizations(seed, fits=seed % 3 > 0))
        assert proof == Exactness(65536, differing)
        assert proof.exact, seed


def test_constants_of_a_sum_fit_their_fields():
    for seed in range(30):
        a, b, y = quantizations(seed, fits=False)
        constants, _ = add_constants(a, b, y, INT8)
        assert 0 <= constants.first < 1 << 24 and 0 <= constants.second < 1 << 24
        x, z = (values.astype(np.int64) for values in reference.every_pair())
        sums = constants.first * x + constants.second * z + constants.bias
        assert np.abs(sums).max() < 1 << 31
        scale = np.float32(constants.scale)
        assert scale == constants.scale and scale >= np.finfo(np.float32).tiny


@pytest.mark.parametrize("exponents", [(3, 3, 3), (4, 3, 2), (5, 2, 3), (1, 6, 6)])
def test_sums_with_ties_are_exact_where_all_scales_are_powers_of_2(exponents):
    for zero in (-128, -1, 0, 7):
        a, b, y = (Quantization(2.0 ** -exponent, zero + number, False)
                   for number, exponent in enumerate(exponents))
        assert add_differences(a, b, y) == (0, Exactness(65536, 0))


def test_sums_with_one_scale_are_exact():
    for seed in range(20):
        a, b, y = quantizations(seed)
        b, y = b._replace(scale=a.scale), y._replace(scale=a.scale)
        assert add_differences(a, b, y)[1].exact


def test_clamp_belongs_to_the_sum():
    a, b, y = quantizations(3)
    assert add_differences(a, b, y, (-5, 60)) == (0, Exactness(65536, 0))


def test_sums_that_cannot_be_exact_are_counted():
    # Ratios of small integers other than powers of 2: many ties, and float32 breaks each its way.
    a, b, y = (Quantization(float(np.float32(scale / 255)), zero, False)
               for scale, zero in ((7, 10), (2, -57), (6, -80)))
    differing, proof = add_differences(a, b, y)
    assert not proof.exact and proof == Exactness(65536, differing)
    assert differing < 65536 // 20
    assert str(proof) == f"{differing:,} of 65,536 inputs may differ"


def test_proof_as_text():
    assert str(Exactness(65536, 0)) == "equal for all 65,536 inputs"
    assert Exactness(2, 1) + Exactness(3, 0) == Exactness(5, 1)


# Products -------------------------------------------------------------------------------------

def test_random_products_are_mostly_exact():
    exact = 0
    for seed in range(60):
        a, b, y = quantizations(seed)
        rng = np.random.default_rng(seed)
        y = y._replace(scale=float(np.float32(a.scale * b.scale * rng.uniform(40, 300))))
        differing, proof = multiply_differences(a, b, y)
        assert proof == Exactness(65536, differing)
        assert differing < 32
        exact += proof.exact
    assert exact >= 57


def test_products_with_ties_are_exact_where_all_scales_are_powers_of_2():
    for exponent in range(4, 8):
        for zero in (-128, -3, 0):
            a = Quantization(2.0 ** -exponent, zero, False)
            assert multiply_differences(a, a, Quantization(2.0 ** -5, zero, False), INT8) == (
                0, Exactness(65536, 0))


# Averages -------------------------------------------------------------------------------------

def averages(x: Quantization, y: Quantization, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Averages of the rows of int8 [C, taps] by the hardware and by the reference, and the sums."""
    channels, taps = values.shape
    constants, _ = average_constants(x, y, None, taps, taps, INT8)
    made = vector_model.depthwise(
        values[:, None], np.ones((channels, 1, taps), np.int8),
        np.full(channels, constants.bias, np.int32), np.full(channels, constants.scale, np.float32),
        in_zero=x.zero_point, out_zero=constants.out_zero)
    layer = Pool(name="", op="AveragePool", output="y", input="x", kind=PoolKind.AVERAGE,
                 kernel=(1, taps))
    source = Tensor(name="x", shape=(channels, 1, taps), scale=x.scale, zero_point=x.zero_point)
    target = Tensor(name="y", shape=(channels, 1, 1), scale=y.scale, zero_point=y.zero_point)
    wanted = reference.pool(layer, values[:, None], source, target)
    return made.ravel(), wanted.ravel(), values.astype(int).sum(axis=1)


@pytest.mark.parametrize("same", [False, True])
def test_proof_of_an_average_of_two_holds_for_all_pairs(same):
    for seed in range(12):
        x, _, y = (each._replace(unsigned=False) for each in quantizations(seed))
        if same:
            y = x
        pairs = np.stack([values.ravel() for values in reference.every_pair()], axis=1)
        made, wanted, sums = averages(x, y, pairs)
        _, proof = average_constants(x, y, None, 2, 2, INT8)
        assert proof.checked == 511
        assert len(np.unique(sums[made != wanted])) <= proof.differing


def test_averages_with_another_scale_differ_rarely():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, _, y = (each._replace(unsigned=False) for each in quantizations(seed))
        values = rng.integers(-128, 128, (4096, 9)).astype(np.int8)
        made, wanted, sums = averages(x, y, values)
        _, proof = average_constants(x, y, None, 9, 9, INT8)
        assert proof.checked == 9 * 255 + 1
        assert len(np.unique(sums[made != wanted])) <= proof.differing <= 2


@pytest.mark.parametrize("taps", [3, 9, 25, 49])
def test_averages_without_ties_are_exact(taps):
    for seed in range(8):
        x = quantizations(seed)[0]
        assert average_constants(x, x, None, taps, taps, INT8)[1] == Exactness(taps * 255 + 1, 0)


def test_averages_by_a_multiplier_are_exact():
    x, _, y = quantizations(0)
    constants, proof = average_constants(x, y, 0.0123, 49, 49, INT8)
    assert proof == Exactness(49 * 255 + 1, 0)
    assert constants == (0, float(np.float32(0.0123)), y.zero_point)


# Graphs ---------------------------------------------------------------------------------------

def test_layers_that_are_exact_by_construction_need_no_proof():
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 4))
    outputs = [builder.depthwise("x"), builder.max_pool("x"), builder.enlarge("x", (2, 2)),
               builder.conv("x", 3)]
    graph = builder.graph(*outputs)
    assert [exactness(graph, layer) for layer in graph.layers] == [None] * 4


def test_program_tells_what_is_proven():
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 4))
    y = builder.add_input("y", (4, 4, 4))
    outputs = [builder.sum("x", y), builder.product("x", y), builder.lookup("x"),
               builder.average_pool("x", kernel=(3, 3), pads=(1, 1, 1, 1), like="x"),
               builder.max_pool("x")]
    program = compile(builder.graph(*outputs), PRESETS["tiny"])
    proofs = [layer.exactness for layer in program.layers]
    assert proofs[:3] == [Exactness(65536, 0), Exactness(65536, 0), Exactness(256, 0)]
    # Windows of 4, 6 and 9 taps.
    assert proofs[3] is not None and proofs[3].checked == 3 + (4 + 6 + 9) * 255
    assert proofs[4] is None
    assert "equal for all 65,536 inputs" in program.dump()
