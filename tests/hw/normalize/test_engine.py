"""The normalization engine alone, against the reference."""

import numpy as np
import pytest
from row_bench import RowBench
from sweeps import sweep

from weft import reference
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import load_config
from weft.hw.isa.registers import Error
from weft.hw.normalize.engine import NormalizeEngine
from weft.hw.rows.walk import batch_rows
from weft.ir import Tensor, layout

TINY = load_config("tiny,products=true,normalize_channels=32")
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=6, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=20480,
    accumulator_pixels=16, parameter_channels=64, products=True, normalize_channels=48)
CONFIGS = {
    "4": TINY, "6": ODD, "2": TINY.replace(rows=2, cols=2, requant_lanes=1),
    "16": load_config("base,products=true,normalize_channels=64"),
    "4x2": TINY.replace(row_units=2), "4x4": TINY.replace(row_units=4),
    "6x4": ODD.replace(row_units=4)}


def scaled(value):
    """A positive number as 16 bits, the first of which is set, and an exponent."""
    fraction, exponent = np.frexp(value)
    return int(fraction * (1 << 16)), int(exponent) - 1


class Rows:
    """Constants of rows of a length, and what comes of them."""

    def __init__(self, rng, channels, *, kind="any"):
        scale = float(np.float32(10 ** rng.uniform(-4, 1)))
        self.source = Tensor(name="x", shape=(1, 1, 1), scale=scale,
                             zero_point=int(rng.integers(-128, 128)))
        self.out_scale = float(np.float32(10 ** rng.uniform(-2.5, -1)))
        self.out_zero = int(rng.choice([-128, 127, 0, rng.integers(-128, 128)]))
        self.scale = rng.normal(1, 0.5, channels).astype(np.float32)
        self.shift = rng.normal(0, 0.5, channels).astype(np.float32)
        self.epsilon = np.float32(10 ** rng.uniform(-12, -3))
        if kind == "few bits":  # for values that lie just between two others
            self.source = Tensor(name="x", shape=(1, 1, 1), zero_point=int(rng.integers(-3, 4)),
                                 scale=2.0 ** int(rng.integers(-20, 20)))
            self.out_scale = 2.0 ** int(rng.integers(-8, 0))
            self.scale = (2.0 ** rng.integers(-2, 3, channels)).astype(np.float32)
            self.shift = (rng.integers(-3, 4, channels) / 4).astype(np.float32)
        self.table = layout.pack_normalization(
            reference.normalized_values(self.source),
            reference.thresholds(self.out_scale, self.out_zero), self.scale, self.shift)

    def fields(self, blocks, lanes, rows):
        length, length_exponent = scaled((blocks - 1) * rows + lanes)
        rate, rate_exponent = scaled(1 / self.out_scale)
        return {"length": length, "length_exponent": length_exponent, "rate": rate,
                "rate_exponent": rate_exponent, "out_zero": self.out_zero,
                "sum_exponent": int(np.float32(self.source.scale).view(np.uint32) >> 23),
                "epsilon": int(self.epsilon.view(np.uint32))}

    def compute(self, fields, rows):
        values = reference.normalized_values(self.source)[rows + 128]
        length = rows.shape[1]
        return reference.quantize(
            reference.normalize(values, self.scale[:length], self.shift[:length], self.epsilon),
            self.out_scale, self.out_zero)


def bench_of(config, *, seed=0, kind="any", **options):
    rows = Rows(np.random.default_rng(seed), config.normalize_channels, kind=kind)
    bench = RowBench(NormalizeEngine, Opcode.NORMALIZE, config, rows.table, rows.compute,
                     seed=seed, **options)
    bench.rows = rows
    return bench


def draw(bench, *, target, length=None):
    """Fields of a legal command that writes from ``target`` on."""
    rng, config = bench.rng, bench.config
    length = 8 * int(rng.integers(1, min(config.normalize_channels, 4 * config.rows) // 8 + 1)) \
        if length is None else length
    blocks = -(-length // config.rows)
    lanes = length - (blocks - 1) * config.rows
    return bench.places(target=target) | {"blocks": blocks, "lanes": lanes} \
        | bench.rows.fields(blocks, lanes, config.rows)


def spread(bench):
    """Words with values that are alike, or far from each other."""
    for place in range(300):
        width = int(bench.rng.choice([0, 1, 10, 127]))
        centre = int(bench.rng.integers(-128, 128))
        drawn = bench.rng.integers(centre - width, centre + width + 1, bench.config.rows)
        bench.words[place] = bench.expected[place] = np.clip(drawn, -128, 127)


@pytest.mark.parametrize("name, kind", sweep(
    CONFIGS, ("any", "few bits"),
    fast=lambda name, kind: (name in ("4", "6", "2", "4x2") and kind == "few bits") or name == "4"))
def test_results_are_those_of_the_reference(name, kind):
    config, stall = CONFIGS[name], 0.5 if kind == "few bits" else 0
    bench = bench_of(config, seed=config.rows + len(kind), kind=kind, stall=stall)
    spread(bench)
    for number in range(3):
        bench.add(draw(bench, target=300 + 100 * number))
    fields = draw(bench, target=0)
    bench.add(fields | {"out_base": fields["in_base"], "out_plane": fields["in_plane"]})
    assert bench.run() == []
    bench.check()


@pytest.mark.parametrize("name", sweep(CONFIGS, fast=("4", "6", "4x2", "16").__contains__))
def test_a_command_takes_as_long_as_is_told(name):
    config = CONFIGS[name]
    bench = bench_of(config)
    rows = batch_rows(config)
    shapes = [(1, 8), (rows - 1, 24), (rows, 16), (2 * rows + 1, 8)]
    for pixels, length in shapes:
        bench.add(draw(bench, target=300, length=length) | {
            "in_base": 0, "in_plane": pixels, "out_plane": pixels, "pixels": pixels})
    assert bench.run() == []
    bench.check()
    assert bench.cycles() == [
        NormalizeEngine.cycles(config, pixels, -(-length // config.rows))
        for pixels, length in shapes]


@pytest.fixture(scope="module")
def without_table():
    """A bench whose results do not matter."""
    bench = bench_of(TINY)
    bench.table = bench.table[:0]
    return bench


@pytest.mark.parametrize("field, value, error", [
    ("pixels", 0, Error.ARGUMENT), ("blocks", 0, Error.ARGUMENT), ("lanes", 0, Error.ARGUMENT),
    ("lanes", 5, Error.ARGUMENT), ("length", 32767, Error.ARGUMENT), ("blocks", 9, Error.ARGUMENT),
    ("rate", 32767, Error.ARGUMENT), ("in_base", 16384 - 8, Error.ADDRESS),
    ("in_plane", 1 << 20, Error.ADDRESS), ("out_base", 16384 - 17, Error.ADDRESS),
    ("out_plane", 1 << 20, Error.ADDRESS)])
def test_what_cannot_be_is_a_fault(without_table, field, value, error):
    bench = without_table
    bench.begin()
    good = draw(bench, target=100, length=8) | {"in_base": 9, "pixels": 9, "in_plane": 9,
                                                "out_plane": 9}
    bench.commands = [good, good | {field: value}]
    assert bench.run() == [(error, 101)]
    assert len(bench.done) == 1


def test_the_last_words_of_the_memory_may_be_used():
    bench = bench_of(TINY)
    assert TINY.activation_depth == 16384
    bench.add(draw(bench, target=16384 - 18, length=8) | {
        "in_base": 16384 - 18, "pixels": 9, "in_plane": 9, "out_plane": 9})
    assert bench.run() == []
    bench.check()
