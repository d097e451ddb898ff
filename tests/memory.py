"""Folders in memory, for tests of what books hold: a disk costs them a tenth of their time, and shows them nothing.

What fills a disk, limits it or is about what one keeps stays on it, and so do gateways, whose journals are large.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

MEMORY = Path("/dev/shm")
ROOM_BYTES = 2 << 30  # a container may have 64 MB of it


@cache
def has_room(memory: Path) -> bool:
    """Say whether there is such memory, and enough of it that tests are no burden."""
    try:
        found = os.statvfs(memory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= ROOM_BYTES and os.access(memory, os.W_OK)


@contextmanager
def in_memory(factory: pytest.TempPathFactory, memory: Path = MEMORY) -> Iterator[Path]:
    """Give an empty folder, in memory where there is room: that one is gone afterwards."""
    if not has_room(memory):
        yield factory.mktemp("books")
        return
    with TemporaryDirectory(prefix="headgate-test-", dir=memory) as made:
        yield Path(made)
