from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from headgate.observe.metrics import Metrics
from headgate.observe.scoreboard import Scoreboard
from headgate.vitals import Seen

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def _gauge(folder: Path) -> float:
    reader = Scoreboard(folder, 9)
    return reader.all(Metrics(), {}, Seen())[1].get("headgate_open_calls", -1.0)


def test_a_board_that_comes_late_does_not_undo_a_newer_one(tmp_path: Path) -> None:
    board = Scoreboard(tmp_path, 0)
    older = board.take(Metrics(), {"headgate_open_calls": 1.0}, Seen())
    newer = board.take(Metrics(), {"headgate_open_calls": 2.0}, Seen())
    newer()
    assert _gauge(tmp_path) == 2.0
    older()
    assert _gauge(tmp_path) == 2.0


def test_boards_of_several_threads_are_each_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Scoreboard(tmp_path, 0)
    inside, replace = threading.Semaphore(1), os.replace

    def alone(source: str, target: str) -> None:
        assert inside.acquire(blocking=False), "two threads write the same file"
        replace(source, target)
        inside.release()

    monkeypatch.setattr(os, "replace", alone)
    writes = [board.take(Metrics(), {"headgate_open_calls": float(n)}, Seen()) for n in range(20)]
    threads = [threading.Thread(target=write) for write in writes]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert _gauge(tmp_path) == 19.0
