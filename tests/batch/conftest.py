"""These tests run on the loop that a server has: uvloop where it exists."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.batch.world import World


@pytest.fixture(scope="session")
def anyio_backend() -> Any:
    return "asyncio", {"use_uvloop": sys.platform != "win32"}


@pytest.fixture
async def world(place) -> AsyncIterator[World]:
    made = World(place)
    yield made
    await made.store.close()
    made.sql.close()
