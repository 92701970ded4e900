import re

import pytest

from weft.boards.registry import BOARDS
from weft.hw.isa.config import SEQUENTIAL, ConfigError
from weft.hw.isa.presets import PRESETS

CONFIG = BOARDS["icebreaker"].config


WRONG = {"rows": 8, "cols": 8, "fip": True, "accumulator_width": 28, "activation_banks": 2,
         "requant_lanes": 2, "axi_data_width": 64, "vector_taps": 1, "fixed_point": True,
         "drain_lookup": True, "products": True, "softmax": True, "normalize_channels": 8,
         "counters": True}


@pytest.mark.parametrize("field, value", WRONG.items())
def test_what_a_sequential_accelerator_needs(field, value):
    name = "AXI data width" if field == "axi_data_width" else \
        field.replace("_", " ").capitalize()
    message = f"{name} must be {SEQUENTIAL[field]} in a sequential accelerator, not {value}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        CONFIG.replace(**{field: value})
    # Rows need products.
    freed = {"sequential": False, "products": field in ("softmax", "normalize_channels")} \
        | {field: value}
    assert not CONFIG.replace(**freed).sequential


def test_all_needs_are_tested():
    assert set(SEQUENTIAL) == set(WRONG)


def test_multipliers_and_rate():
    assert (CONFIG.multipliers, CONFIG.macs_per_cycle, CONFIG.rate_text) == (
        4, 4, "4 MACs per cycle")
    assert CONFIG.utilization(macs=80, cycles=40) == 0.5
    tiny = PRESETS["tiny"]
    assert (tiny.macs_per_cycle, tiny.rate_text) == (16, "4 x 4 MACs per cycle")


def test_a_softmax_needs_products():
    with pytest.raises(ConfigError, match=r"^Products must be true when softmax is on, not False$"):
        PRESETS["tiny"].replace(softmax=True)


def test_channels_that_are_normalized():
    tiny = PRESETS["tiny"].replace(products=True)
    odd = tiny.replace(rows=6, cols=6, requant_lanes=3, activation_bytes=6 * 4096)
    assert (tiny.normalize_step, odd.normalize_step) == (8, 24)
    assert odd.replace(normalize_channels=4080).normalize_channels == 4080
    for config, channels, error in (
            (tiny, 4, "Normalize channels must be between 8 and 4096, not 4"),
            (tiny, 4104, "Normalize channels must be between 8 and 4096, not 4104"),
            (tiny, 20, "Normalize channels must be a multiple of 8, not 20"),
            (odd, 64, "Normalize channels must be a multiple of 24, not 64"),
            (PRESETS["tiny"], 8, "Products must be true when channels are normalized, not False")):
        with pytest.raises(ConfigError, match=f"^{re.escape(error)}$"):
            config.replace(normalize_channels=channels)


def test_units_for_rows():
    tiny = PRESETS["tiny"].replace(products=True)
    assert tiny.replace(softmax=True, row_units=4).row_units == 4
    assert tiny.replace(normalize_channels=8, row_units=2).row_units == 2
    for change, error in (
            ({"row_units": 3}, "Row units must be a power of 2 between 1 and 16, not 3"),
            ({"row_units": 32}, "Row units must be a power of 2 between 1 and 16, not 32"),
            ({"row_units": 8}, "Row units must be at most rows (4), not 8"),
            ({"row_units": 2, "softmax": False},
             "Row units must be 1 without softmax and normalize channels, not 2")):
        with pytest.raises(ConfigError, match=f"^{re.escape(error)}$"):
            tiny.replace(**{"softmax": True, **change})


def test_sequential_is_a_truth_value():
    with pytest.raises(ConfigError, match=r"^Sequential must be true or false, not 1$"):
        CONFIG.replace(sequential=1)
