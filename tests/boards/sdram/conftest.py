"""The model of the chip, compiled once."""

import pytest
from sdram_model import build_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("sdram"))
