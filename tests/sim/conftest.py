import pytest
from copier_bench import build_copier


@pytest.fixture(scope="module")
def copier():
    return build_copier()
