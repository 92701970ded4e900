"""Configurations that the tests on RTL sweep: all presets, both kinds of PE, and an odd one."""

import pytest

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS

__all__ = ["ATTENTION_PLAIN", "CONFIGS", "LINES", "ODD", "PRODUCTS", "PRODUCTS_PLAIN", "SWEPT"]


ODD = AcceleratorConfig(
    name="odd", rows=6, cols=10, requant_lanes=2, activation_bytes=6 * 8192,
    weight_bytes=40_000, accumulator_pixels=64, accumulator_width=28, axi_data_width=128,
    axi_addr_width=40, axi_burst_beats=4, activation_banks=2, queue_depth=2)
"""No power of 2, few banks, short bursts, narrow accumulators, a wide bus."""

PRODUCTS = PRESETS["tiny"].replace(name="products", products=True, softmax=True,
                                   normalize_channels=64, row_units=2)
PRODUCTS_PLAIN = PRESETS["tiny"].replace(
    name="products_plain", rows=6, cols=6, requant_lanes=3, fip=False, products=True,
    activation_bytes=6 * 8192, accumulator_pixels=16, normalize_channels=48)
"""Those that multiply activations and normalize them; the first one has a softmax, too."""

ATTENTION_PLAIN = PRODUCTS.replace(name="attention_plain", fip=False)
"""All that ``PRODUCTS`` has, on an array of plain multipliers."""

LINES = PRESETS["tiny"].replace(
    name="lines", vector_taps=8, vector_lines=32, requant_lanes=4, vector_entries=128)
"""Keeps rows of windows, of 3x3 in two groups and of 5x5 in five; ``base``, in one and three."""

CONFIGS = {config.name + ("_fip" if config.fip else "_plain"): config
           for preset in PRESETS.values()
           for config in (preset, preset.replace(fip=not preset.fip))} | {"odd": ODD}
"""By name."""

SWEPT = [pytest.param(name, marks=pytest.mark.slow)
         if name in ("small_plain", "wide_plain", "base_plain") else name for name in CONFIGS]
"""The same, as parameters of tests. Each takes a simulator of its own, and those of the large
arrays minutes; a plain array differs from the other in its PEs alone, which are proved to be equal,
and is simulated in the smallest size."""
