"""A data folder is served once, and again as soon as nobody serves it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headgate.stores.sql import folder
from headgate.stores.sql.folder import lock_folder, try_lock
from headgate.stores.sql.pepper import DataFolderError


def left_by_a_dead_process(place: Path) -> int:
    """Hold the lock as a worker does whose supervisor was killed; return the file that holds it."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (place / "serve.lock").write_text(str(dead.pid))
    handle = os.open(place / "serve.lock", os.O_RDWR)
    assert try_lock(handle)
    return handle


def test_a_start_waits_for_workers_whose_supervisor_was_killed(tmp_path: Path) -> None:
    handle = left_by_a_dead_process(tmp_path)
    ended = threading.Timer(0.2, os.close, [handle])
    ended.start()
    with lock_folder(tmp_path):
        assert ended.finished.is_set()
        assert (tmp_path / "serve.lock").read_text() == str(os.getpid())


def test_workers_that_do_not_end_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_ENDING_S", 0.1)
    handle = left_by_a_dead_process(tmp_path)
    with pytest.raises(DataFolderError, match="was killed; its workers still end"), lock_folder(tmp_path):
        pass
    os.close(handle)


def test_a_folder_that_is_served_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder.time, "sleep", None)
    with lock_folder(tmp_path), pytest.raises(DataFolderError, match=f"is served by process {os.getpid()}"):
        lock_folder(tmp_path).__enter__()
