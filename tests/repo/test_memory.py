"""Folders of tests are in memory where there is room for them, and nothing is left there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests import memory


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    memory.has_room.cache_clear()
    yield
    memory.has_room.cache_clear()


@pytest.mark.parametrize(("free", "there"), [(memory.ROOM_BYTES, True), (64 << 20, False)])
def test_a_folder_is_in_memory_where_there_is_room_and_gone_afterwards(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    there: bool,
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))
    with memory.in_memory(tmp_path_factory, tmp_path) as made:
        (made / "books").write_text("x")
        assert (made.parent == tmp_path) == there
    assert made.exists() != there


def test_a_machine_without_such_memory_has_a_disk(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with memory.in_memory(tmp_path_factory, tmp_path / "missing") as made:
        assert made.is_dir()
