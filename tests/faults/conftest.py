"""These tests run on the loop that a server has: uvloop where it exists. `HEADGATE_RUNS` repeats each of them."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

RUNS = int(os.environ.get("HEADGATE_RUNS", "1"))


@pytest.fixture
def which_run() -> int:
    """Overridden where there are several."""
    return 0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if RUNS > 1:
        metafunc.fixturenames.append("which_run")
        metafunc.parametrize("which_run", range(RUNS))


@pytest.fixture(scope="session")
def anyio_backend() -> Any:
    return "asyncio", {"use_uvloop": sys.platform != "win32"}
