"""Energy of what was done."""

import re

import pytest

from weft.compiler.activity import EVENTS, Activity
from weft.errors import InputError
from weft.hw.isa.presets import PRESETS
from weft.runtime.energy import energy_pj, load_energy_table

CONFIG = PRESETS["small"]
TABLE = load_energy_table()


def test_default_is_that_of_its_sources():
    # Horowitz: 64 bits from 8 KB take 10 pJ, from 32 KB 20 pJ.
    small, large = (energy_pj(Activity(activation_reads=8), CONFIG.replace(
        activation_bytes=size, activation_banks=1), TABLE)["activation"] / CONFIG.rows
        for size in (8192, 32768))
    assert (small, large) == (pytest.approx(10), pytest.approx(20))
    beat = energy_pj(Activity(read_beats=1), CONFIG, TABLE)["dram"]
    assert 1300 <= beat * 8 / CONFIG.axi_bytes <= 2600


def test_every_event_counts_once():
    whole = dict.fromkeys(EVENTS, 3)
    total = sum(energy_pj(Activity(**whole), CONFIG, TABLE).values())
    parts = [sum(energy_pj(Activity(**{name: 3}), CONFIG, TABLE).values()) for name in EVENTS]
    assert all(each > 0 for each in parts)
    assert total == pytest.approx(sum(parts))


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "table.toml"
    path.write_text("product = 7\ndram_byte = 0\n")
    table = load_energy_table(path)
    assert (table.product, table.dram_byte, table.memory_byte) == (7, 0, TABLE.memory_byte)


@pytest.mark.parametrize("text, message", [
    ("prodct = 1", "has an unknown field 'prodct'; the fields are product, accumulation, "),
    ("product = 'x'", "must have a number from 0 to 1e12 for product, not 'x'"),
    ("product = -1", "must have a number from 0 to 1e12 for product, not -1"),
    ("product = nan", "must have a number from 0 to 1e12 for product, not nan"),
    ("product", "is not TOML: "),
])
def test_wrong_table(tmp_path, text, message):
    path = tmp_path / "table.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"^Energy table .* {re.escape(message)}"):
        load_energy_table(path)


def test_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read: No such file or directory$"):
        load_energy_table(tmp_path / "none.toml")
