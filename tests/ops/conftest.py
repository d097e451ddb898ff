from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.memory import in_memory
from tests.ops.fakes import HandClock, opened_desk

from headgate.ops.desk import Desk


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with in_memory(tmp_path_factory) as made:
        yield made


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def desk(tmp_path: Path, clock: HandClock) -> Iterator[Desk]:
    with opened_desk(tmp_path, clock) as opened:
        yield opened
