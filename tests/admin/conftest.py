from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.admin.api import Api
from tests.memory import in_memory


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with in_memory(tmp_path_factory) as made:
        yield made


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    api = Api(tmp_path)
    yield api
    assert api.faults == []
