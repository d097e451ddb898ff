"""The metrics of several workers as one: each writes its own where the others, and commands, can read them.

A scrape reaches any worker, and its answer must not depend on which. A worker that dies leaves its last
board, and its successor begins with it, so counters never go back while the supervisor lives.
"""

from __future__ import annotations

import os
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.observe.metrics import Label, Metrics, Series
from headgate.vitals import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from headgate.values import WallMicros

_LARGEST: Final = frozenset({"headgate_loop_stall_max_seconds"})
_SMALLEST: Final = frozenset({"headgate_ready"})


class Board(msgspec.Struct, frozen=True, array_like=True):
    """What one worker has counted."""

    series: list[tuple[Label, list[int], list[int]]]  # label, counters, durations
    refusals: list[tuple[tuple[str, int, str], int]]
    absorbed_nano: int
    gauges: dict[str, float]
    seen: Seen  # of the providers
    counts: list[tuple[tuple[str, tuple[str, ...]], int]] = []


_COUNTERS: Final = tuple(name for name in Series.__slots__ if name != "durations")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Board).decode


class Scoreboard:
    """The boards of one supervisor's workers.

    Args:
        folder: where they are; made if it is not there.
        slot: whose board this process writes.
    """

    def __init__(self, folder: Path, slot: int) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._own = folder / f"slot-{slot}.metrics"
        self._shown = b""
        self._taken = self._written = 0  # boards
        self._writing = Lock()

    def resume(self, metrics: Metrics) -> Seen:
        """Go on with what the worker that had this slot before has counted; return what it had seen."""
        if not self._own.exists():
            return Seen()
        board = _decode(self._own.read_bytes())
        _add(metrics, board)
        return board.seen

    def take(self, metrics: Metrics, gauges: Mapping[str, float], seen: Seen) -> Callable[[], None]:
        """Return what shows the others what this worker has counted and seen by now.

        It may be called in a thread: a disk that is busy with the books makes it wait for long. A board
        that is older than one that was shown is not.
        """
        self._taken += 1
        return partial(self._write, self._taken, _encode(_board(metrics, gauges, seen)))

    def _write(self, number: int, content: bytes) -> None:
        with self._writing:
            if number < self._written or content == self._shown:
                return
            fresh = self._own.with_suffix(".new")
            fresh.write_bytes(content)
            os.replace(fresh, self._own)
            self._written, self._shown = number, content

    def all(
        self, metrics: Metrics, gauges: Mapping[str, float], seen: Seen
    ) -> tuple[Metrics, dict[str, float], list[Seen]]:
        """Return this worker's counts and gauges together with the others', and what each has seen."""
        total, merged, sights = Metrics(), dict(gauges), [seen]
        _add(total, _board(metrics, gauges, seen))
        for path in self._folder.glob("slot-*.metrics"):
            if path != self._own:
                board = _decode(path.read_bytes())
                _add(total, board)
                _merge(merged, board.gauges)
                sights.append(board.seen)
        return total, merged, sights


def shown(folder: Path) -> tuple[list[Seen], WallMicros]:
    """Return what the workers of a folder have seen, and when the latest said so; 0: nobody ever did.

    Raises:
        msgspec.DecodeError: another version of Headgate wrote it.
    """
    sights, at = [], 0
    for path in sorted(folder.glob("slot-*.metrics")):
        sights.append(_decode(path.read_bytes()).seen)
        at = max(at, path.stat().st_mtime_ns // 1000)
    return sights, at


def clear_boards(folder: Path) -> None:
    """Forget what the workers of an earlier supervisor have counted."""
    for path in folder.glob("slot-*.metrics"):
        path.unlink()


def _board(metrics: Metrics, gauges: Mapping[str, float], seen: Seen) -> Board:
    return Board(
        [
            (label, [getattr(series, name) for name in _COUNTERS], series.durations)
            for label, series in metrics.series.items()
        ],
        list(metrics.refusals.items()),
        metrics.absorbed_nano,
        dict(gauges),
        seen,
        list(metrics.counts.items()),
    )


def _add(metrics: Metrics, board: Board) -> None:
    for label, counters, durations in board.series:
        series = metrics.series.setdefault(label, Series())
        for name, count in zip(_COUNTERS, counters, strict=True):
            setattr(series, name, getattr(series, name) + count)
        series.durations = [a + b for a, b in zip(series.durations, durations, strict=True)]
    for what, count in board.refusals:
        metrics.refusals[what] = metrics.refusals.get(what, 0) + count
    for each, count in board.counts:
        metrics.counts[each] = metrics.counts.get(each, 0) + count
    metrics.absorbed_nano += board.absorbed_nano


def _merge(gauges: dict[str, float], other: Mapping[str, float]) -> None:
    for name, value in other.items():
        if name in _LARGEST:
            gauges[name] = max(gauges.get(name, value), value)
        elif name in _SMALLEST:
            gauges[name] = min(gauges.get(name, value), value)
        else:
            gauges[name] = gauges.get(name, 0) + value
