"""The softmax engine alone, against a plain model."""

import numpy as np
import pytest
from row_bench import RowBench
from sweeps import sweep

from weft import reference
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import load_config
from weft.hw.isa.registers import Error
from weft.hw.rows.walk import batch_rows
from weft.hw.softmax.engine import SoftmaxEngine
from weft.ir import layout

TINY = load_config("tiny,products=true,softmax=true")
ODD = AcceleratorConfig(
    name="odd", rows=6, cols=6, requant_lanes=2, activation_bytes=6 * 4096, weight_bytes=20480,
    accumulator_pixels=16, parameter_channels=64, products=True, softmax=True)
CONFIGS = {
    "4": TINY, "6": ODD, "2": TINY.replace(rows=2, cols=2, requant_lanes=1),
    "16": load_config("base,products=true,softmax=true"),
    "4x2": TINY.replace(row_units=2), "4x4": TINY.replace(row_units=4),
    "6x4": ODD.replace(row_units=4),
    "16x2": load_config("base,products=true,softmax=true,row_units=2")}


def shares(table):
    """What a SOFTMAX with a table makes of rows."""
    terms = layout.unpack_exponentials(table)
    return lambda fields, rows: np.minimum(fields["out_zero"] + reference.shares(
        rows, terms, fields["factor"], fields["exponent"] - 15), 127)


def bench_of(config, *, table=None, **options):
    table = layout.pack_exponentials(reference.exponentials(0.03, 20)) if table is None else table
    return RowBench(SoftmaxEngine, Opcode.SOFTMAX, config, table, shares(table), **options)


def draw(bench, *, target, largest=3):
    """Fields of a legal command that writes from ``target`` on."""
    rng = bench.rng
    return bench.places(target=target, largest=largest) | {
        "factor": int(rng.choice([1 << 15, 65535, 65280, rng.integers(1 << 15, 1 << 16)])),
        "exponent": int(rng.choice([7, 8, rng.integers(0, 16)]))}


def table_of(kind, rng):
    """Entries that are exponentials, of few bits so that halves come up, or anything."""
    if kind == "exponentials":
        return layout.pack_exponentials(reference.exponentials(float(rng.uniform(0.001, 1)), 40))
    if kind == "few bits":
        terms = np.ldexp(rng.integers(0, 4, 256).astype(np.float32), rng.integers(0, 4, 256))
        return layout.pack_exponentials(np.maximum(terms.astype(np.float32), 1))
    return rng.integers(-128, 128, (256, 4)).astype(np.int8)


@pytest.mark.parametrize("name, kind, stall", sweep(
    CONFIGS, ("exponentials", "few bits", "anything"), (0.0, 0.5),
    fast=lambda name, kind, stall: name == "4" or (
        stall and kind == "few bits" and name not in ("6x4", "16x2"))))
def test_shares_are_those_of_the_model(name, kind, stall):
    config = CONFIGS[name]
    seed = config.rows + len(kind)
    bench = bench_of(config, seed=seed, stall=stall,
                     table=table_of(kind, np.random.default_rng(seed)))
    for number in range(2 if config.rows > 6 else 5):
        bench.add(draw(bench, target=200 + 100 * number))
    fields = draw(bench, target=0)
    bench.add(fields | {"out_base": fields["in_base"], "out_plane": fields["in_plane"]})
    assert bench.run() == []
    bench.check()


@pytest.mark.parametrize("name", sweep(CONFIGS, fast=("4", "6", "4x2", "16").__contains__))
def test_a_command_takes_as_long_as_is_told(name):
    config = CONFIGS[name]
    bench = bench_of(config)
    rows = batch_rows(config)
    shapes = [(1, 1), (rows - 1, 3), (rows, 1), (2 * rows + 1, 2)]
    for pixels, blocks in shapes:
        bench.add(draw(bench, target=300) | {
            "in_base": 0, "in_plane": pixels, "out_plane": pixels, "pixels": pixels,
            "blocks": blocks})
    assert bench.run() == []
    bench.check()
    assert bench.cycles() == \
        [SoftmaxEngine.cycles(config, *shape) for shape in shapes]


@pytest.fixture(scope="module")
def without_table():
    """A bench whose results do not matter."""
    bench = bench_of(TINY)
    bench.table = bench.table[:0]
    return bench


@pytest.mark.parametrize("field, value, error", [
    ("pixels", 0, Error.ARGUMENT), ("blocks", 0, Error.ARGUMENT), ("lanes", 0, Error.ARGUMENT),
    ("lanes", 5, Error.ARGUMENT), ("lanes", 255, Error.ARGUMENT), ("factor", 32767, Error.ARGUMENT),
    ("in_base", 16384 - 8, Error.ADDRESS), ("in_base", (1 << 24) - 1, Error.ADDRESS),
    ("in_plane", 1 << 20, Error.ADDRESS), ("out_base", 16384 - 17, Error.ADDRESS),
    ("out_plane", 1 << 20, Error.ADDRESS)])
def test_what_cannot_be_is_a_fault(without_table, field, value, error):
    bench = without_table
    bench.begin()
    good = draw(bench, target=100) | {
        "in_base": 9, "pixels": 9, "blocks": 2, "in_plane": 9, "out_plane": 9, "lanes": 3}
    bench.commands = [good, good | {field: value}]
    assert bench.run() == [(error, 101)]
    assert len(bench.done) == 1


def test_the_last_words_of_the_memory_may_be_used():
    bench = bench_of(TINY)
    assert TINY.activation_depth == 16384
    bench.add(draw(bench, target=16384 - 18) | {
        "in_base": 16384 - 18, "pixels": 9, "blocks": 2, "in_plane": 9, "out_plane": 9})
    assert bench.run() == []
    bench.check()
