"""What a configuration takes of an ECP5, in microseconds: for a search that asks often.

:mod:`weft.boards.flow.resources` generates the design and counts, which takes many seconds. Here
multipliers and block memories follow from the configuration, by the rules of
:mod:`weft.boards.ecp5`. Look-up tables and flip-flops are, for each part of the accelerator, a sum
of what its description is made of (:func:`terms`), each with a factor of ``predicted.json``. These
were fitted to the estimates of generated designs by :mod:`weft.boards.flow.fit`; ``error`` there is
how far designs were off that the fit did not know.
"""

import json
from collections import Counter
from functools import cache
from importlib.resources import files
from math import ceil
from typing import Any

from amaranth.hdl import Shape

from weft.boards.blocks.memory import block_count
from weft.boards.family import Capacity, Family
from weft.boards.memory import BoardMemory
from weft.boards.system.staging import STORAGE_BITS
from weft.hw.bus.dma_write import WriteEngine, beat_layout
from weft.hw.control.fetch import CommandFetch
from weft.hw.isa.commands import Memory
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import RowConstant
from weft.hw.isa.limits import LINE_WORDS
from weft.hw.isa.memories import memories
from weft.hw.lib.fanout import SINKS, parts

from .resources import DISTRIBUTED_ROWS

__all__ = ["PARTS", "predict", "predicted_error", "terms"]


Terms = dict[str, float]

PARTS: dict[str, tuple[str, ...]] = {
    "array": ("core.matrix.array",),
    "accumulators": ("core.matrix.accumulators",),
    "drain": ("core.matrix.drain",),
    "matrix": ("core.matrix",),
    "activation": ("core.activation",),
    "alu": ("core.vector.alu",),
    "vector_drain": ("core.vector.drain",),
    "vector": ("core.vector",),
    "transfer": ("core.load", "core.load_dma", "core.store", "core.store_dma", "core.fetch",
                 "core.fetch_dma", "core.arbiter"),
    "turn": ("core.load.turn",),
    "softmax": ("core.load.softmax",),
    "normalize": ("core.load.normalize",),
    "control": ("control", "core"),
    "system": ("",),
}
"""The parts of an accelerator that are told apart, and their places in the hierarchy, each without
those parts inside it that are named themselves."""

_NORMALIZE_BLOCKS = 9   # two products of 24 x 24 bits, and one of 16 x 16


def _wide_products(config: AcceleratorConfig, blocks: int) -> tuple[int, int]:
    """Lanes of requantization in the matrix and the vector engine that have multiplier blocks."""
    left = max(0, blocks - config.multipliers) // 4
    matrix = min(config.requant_lanes, left)
    return matrix, min(config.requant_lanes, left - matrix) if config.vector else 0


def _other_blocks(config: AcceleratorConfig, blocks: int) -> tuple[int, int]:
    """Multiplier blocks of the columns of the turn engine, and of the lanes of the vector engine:
    none, if there are not enough for these. The turn engine comes first."""
    lanes = config.word_lanes * config.vector_taps
    left = blocks - config.multipliers - 4 * config.requant_lanes * (2 if config.vector else 1)
    if left < lanes:
        return 0, 0
    turn = min(config.cols * config.products, max(0, left))
    return turn, min(lanes, left - turn)


def _normalize_blocks(config: AcceleratorConfig, blocks: int) -> int:
    """Multiplier blocks of the normalization engine, which gets what all others leave."""
    left = blocks - (config.multipliers + 4 * sum(_wide_products(config, blocks))
                     + sum(_other_blocks(config, blocks)))
    units = min(config.row_units, left // _NORMALIZE_BLOCKS) if config.normalize_channels else 0
    return _NORMALIZE_BLOCKS * max(0, units)


def _multipliers(config: AcceleratorConfig, blocks: int) -> int:
    return (config.multipliers + 4 * sum(_wide_products(config, blocks))
            + sum(_other_blocks(config, blocks)) + _normalize_blocks(config, blocks))


def _blocks(family: Family, *, depth: int, width: int, granularity: int | None = None) -> int:
    """Block memories of a registered memory; of one that is left to synthesis, those of a memory
    cut in both directions, as :mod:`weft.boards.flow.resources` has it."""
    found = block_count(depth=depth, width=width, granularity=granularity)
    return family.block_memory.count(width, depth) if found is None else found


def _block_rams(config: AcceleratorConfig, family: Family) -> int:
    """Block memories of the accelerator."""
    found = 0
    for memory, geometry in memories(config).items():
        if memory is Memory.ACTIVATION:
            depth = config.activation_depth // config.activation_banks
            found += config.activation_banks * sum(
                _blocks(family, depth=depth, width=8 * (part.stop - part.start), granularity=8)
                for part in parts(config.word_data_bytes, SINKS // 8))
        elif memory is Memory.LANE_TABLE:
            found += config.word_lanes * _blocks(family, depth=geometry.depth, width=8)
        elif memory is Memory.TABLE:    # that of the vector engine is the one of its lanes
            lanes = config.requant_lanes if config.drain_lookup else 0
            found += lanes * _blocks(family, depth=geometry.depth, width=8)
        elif memory is Memory.ROW_CONSTANT:     # each engine has its own tables
            tables = config.row_units * (config.softmax + 2 * bool(config.normalize_channels))
            depths: list[int] = [RowConstant.THRESHOLDS] * tables
            if config.normalize_channels:
                depths += [config.normalize_channels] * 2
            found += sum(_blocks(family, depth=depth, width=32, granularity=8) for depth in depths)
        else:
            found += _blocks(family, depth=geometry.depth, width=8 * geometry.unit_data_bytes,
                             granularity=8)
    found += sum(family.block_memory.count(width, rows)
                 for width, rows in (*_beat_memories(config), _lines_memory(config))
                 if rows > DISTRIBUTED_ROWS)
    return found + 2 * config.array_columns * _blocks(
        family, depth=config.accumulator_pixels, width=config.accumulator_width)


def _beat_memories(config: AcceleratorConfig) -> list[tuple[int, int]]:
    """Width and rows of the memories of the queues of beats, of which one more is in registers."""
    read, burst = config.axi_data_width + 1, config.axi_burst_beats
    written = Shape.cast(beat_layout(config.axi_data_width)).width
    return [(read, config.axi_outstanding * burst - 1),
            (read, CommandFetch.OUTSTANDING * burst - 1),
            (written, WriteEngine.BUFFER_BURSTS * burst - 1)]


def _lines_memory(config: AcceleratorConfig) -> tuple[int, int]:
    """Width of a column of kept rows of windows, and the columns; none of a width without."""
    return 8 * LINE_WORDS * config.word_lanes, config.vector_lines


def _staging_block_rams(config: AcceleratorConfig, family: Family, size: int) -> int:
    """Block memories of a staging memory of ``size`` bytes."""
    return sum(_blocks(family, depth=size // config.axi_bytes, width=part.stop - part.start,
                       granularity=8)
               for part in parts(config.axi_data_width, STORAGE_BITS))


def terms(config: AcceleratorConfig, blocks: int) -> dict[str, Terms]:
    """What each part's look-up tables and flip-flops grow with.

    Parameters
    ----------
    blocks : :class:`int`
        Multiplier blocks of the device: products that get none are made of LUTs.
    """
    matrix_wide, vector_wide = _wide_products(config, blocks)
    lanes, rows, columns = config.requant_lanes, config.rows, config.array_columns
    fixed = lanes * config.fixed_point
    # Of a queue's entries two are registers; those from the third on are in memories of 16.
    behind = config.queue_depth > 1, ceil(max(0, config.queue_depth - 2) / 16)
    beats = Counter[int]()      # bits of the memories of beats, by how many times 16 rows they have
    for width, depth in _beat_memories(config):
        beats[ceil(min(depth, DISTRIBUTED_ROWS + 1) / 16)] += width
    # What a LOAD puts together of several beats.
    joined = sum(max(0, geometry.unit_data_bytes - config.axi_bytes)
                 for geometry in memories(config).values())
    lines_width, lines_depth = _lines_memory(config)
    lines_in_luts = lines_width * ceil(lines_depth / 16) * (lines_depth <= DISTRIBUTED_ROWS)
    turn, vector = _other_blocks(config, blocks)
    found: dict[str, Terms] = {
        "array": {"pes": config.pe_rows * columns, "columns": columns,
                  "fip_pes": config.pe_rows * columns * config.fip,
                  "columns_square": columns * columns},
        "accumulators": {"one": 1, "columns": columns},
        "drain": {"one": 1, "lanes": lanes, "wide_in_luts": lanes - matrix_wide,
                  "columns": columns, "rows": rows, "fixed": fixed,
                  "fixed_in_luts": (lanes - matrix_wide) * config.fixed_point,
                  "looked_up": lanes * config.drain_lookup},
        "matrix": {"one": 1, "rows": rows, "weight_row": config.weight_row_lanes,
                   "lanes": lanes},
        "activation": {"one": 1, "banks": config.activation_banks, "rows": rows,
                       "bank_rows": config.activation_banks * rows},
        "transfer": {"one": 1, "axi": config.axi_bytes, "address": config.axi_addr_width,
                     "rows": rows,
                     "beats_16": beats[1], "beats_32": beats[2], "joined": joined,
                     "joined_axi": joined * config.axi_bytes, "products": config.products,
                     "vector": config.vector},
        "control": {"one": 1, "counters": config.counters, "second": behind[0],
                    "memory": behind[1], "vector": config.vector,
                    "second_vector": behind[0] and config.vector,
                    "memory_vector": behind[1] * config.vector},
        "system": {"one": 1, "axi": config.axi_bytes, "address": config.axi_addr_width},
    }
    if config.products:
        found["turn"] = {"one": 1, "rows": rows, "bytes": rows * rows, "fip": rows * config.fip,
                         "columns_in_luts": config.cols - turn}
    if config.softmax:
        found["softmax"] = {"one": 1, "rows": rows, "more_units": config.row_units - 1}
    if config.normalize_channels:
        found["normalize"] = {"one": 1, "rows": rows, "more_units": config.row_units - 1,
                              "in_luts": _NORMALIZE_BLOCKS * config.row_units
                              - _normalize_blocks(config, blocks)}
    if config.vector:
        taps = config.vector_taps
        found |= {
            "alu": {"one": 1, "rows": rows, "products": rows * taps,
                    "products_in_luts": rows * taps - vector},
            "vector_drain": {"one": 1, "lanes": lanes, "wide_in_luts": lanes - vector_wide,
                             "rows": rows, "fixed": fixed,
                             "fixed_in_luts": (lanes - vector_wide) * config.fixed_point},
            "vector": {"one": 1, "rows": rows, "products": rows * taps, "lanes": lanes,
                       "lines": lines_depth > 0, "lines_rows": rows * (lines_depth > 0),
                       "lines_in_luts": lines_in_luts},
        }
    return found


@cache
def _model() -> dict[str, Any]:
    text = files("weft.boards.flow").joinpath("predicted.json").read_text(encoding="utf-8")
    model: dict[str, Any] = json.loads(text)
    return model


def predicted_error() -> dict[str, float]:
    """How far :func:`predict` is off, of ``luts`` and ``ffs``: the mean of the absolute relative
    errors of designs that the fit did not know."""
    return dict(_model()["error"])


def predict(config: AcceleratorConfig, family: Family, *, blocks: int,
            memory: BoardMemory | None = None) -> Capacity:
    """What ``config`` takes.

    Parameters
    ----------
    family : :class:`Family`
        Of the ECP5.
    blocks : :class:`int`
        Multiplier blocks of the device.
    memory : :class:`~weft.boards.memory.BoardMemory`
        With clock, serial line and this memory around it, as on a board; a chip beside the FPGA
        takes no block memories of it. Without it, the accelerator by itself.
    """
    factors = _model()["factors"]
    used = dict.fromkeys(("luts", "ffs"), 0.0)
    for part, values in terms(config, blocks).items():
        if part == "system" and memory is None:
            continue
        for kind in used:
            used[kind] += max(0.0, sum(factors[part][kind][name] * value
                                       for name, value in values.items()))
    block_rams = _block_rams(config, family)
    if memory is not None and memory.chip is None:
        block_rams += _staging_block_rams(config, family, memory.size)
    return Capacity(luts=round(used["luts"]), ffs=round(used["ffs"]),
                    multipliers=_multipliers(config, blocks), block_rams=block_rams)
