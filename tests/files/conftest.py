"""These tests run on the loop that a server has: uvloop where it exists."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.files.place import Place

from headgate.stores.sql import database


@pytest.fixture(scope="session")
def anyio_backend() -> Any:
    return "asyncio", {"use_uvloop": sys.platform != "win32"}


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 200 KiB: the system then refuses as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.fixture(name="place")
def shelves(place: database.Place) -> Place:
    """Give a folder with files, and books in SQLite or PostgreSQL."""
    return Place(place)
