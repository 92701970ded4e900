"""What a search may choose, from a file."""

import re

import pytest

from weft.errors import InputError
from weft.explore.space import DEFAULT_SPACE, Space, load_space
from weft.hw.isa.presets import PRESETS

BASE = PRESETS["base"]


def load(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return load_space(path, BASE)


def test_lists_and_single_values(tmp_path):
    space = load(tmp_path, "rows = [8, 16, 8]\nvector_taps = 1\nfip = [true, false]\n")
    assert space.choices == {"rows": (8, 16), "vector_taps": (1,), "fip": (True, False),
                             "vector_lines": (0,)}
    assert space.size == 4


def test_values_may_depend_on_others_of_the_space(tmp_path):
    # 7 requantization lanes divide neither the rows nor the columns of the base.
    assert load(tmp_path, "requant_lanes = 32\nparameter_channels = 40\nrows = 62").size == 1


@pytest.mark.parametrize("text, message", [
    ("", "must have values for a field or more, such as rows = [8, 16]; it has none"),
    ("rows = []", "must have a value or more for rows, not an empty list"),
    ("rows = [8, 128]", "has a value of rows outside its range: Rows must be between 2 and 64, "
                        "not 128"),
    ("axi_data_width = 48", "has a value of axi_data_width outside its range: AXI data width must "
                            "be one of 32, 64, 128, 256, 512, not 48"),
    ('rows = ["many"]', "has a value of rows outside its range: Rows must be an integer, not "
                        "'many'"),
    ("rows = [", "is not TOML: "),
    ("name = 'x'", "has an unknown field 'name'; the fields are accumulator_pixels, "),
    ("lanes = 3", "has an unknown field 'lanes'; the fields are accumulator_pixels, "),
])
def test_wrong_file(tmp_path, text, message):
    with pytest.raises(InputError, match=f"^Space file .*space.toml {re.escape(message)}"):
        load(tmp_path, text)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"^Space file .* cannot be read: No such file"):
        load_space(tmp_path / "none.toml", BASE)


def test_every_value_of_the_default_is_one_of_some_configuration(tmp_path):
    text = "\n".join(f"{name} = {list(values)}" for name, values in DEFAULT_SPACE.choices.items())
    assert load(tmp_path, text) == DEFAULT_SPACE


def test_a_configuration_is_inside_or_outside():
    space = Space({"rows": (8, 16), "cols": (16,)})
    assert space.parameters(BASE) == {"rows": 16, "cols": 16}
    assert space.parameters(PRESETS["small"]) is None
