"""Meters that several workers share: in SQLite beside the books, or in this process.

The file is made anew at each start, from what the books' file has kept (`sql.meters`), and never synced:
after a power cut no worker lives. Beside it is memory that workers share because they are forked from the
process that has made it (`money.shares.Sight`): no file, since on a full disk a page of one kills its writer.
The store in memory is for one process, and for the contract's tests.
"""

from __future__ import annotations

import mmap
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from headgate.money.shares import (
    CELLS,
    MICRO,
    Answer,
    Ask,
    Pool,
    Sight,
    begun,
    buried,
    exchange,
    refilled,
    unused,
)
from headgate.stores.sqlthread import SqlThread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from headgate.values import MonotonicNs

FILE: Final = "live.sqlite"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pools (row INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, used INTEGER NOT NULL,
  at INTEGER NOT NULL, lim INTEGER NOT NULL, span INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS hands (name TEXT NOT NULL, slot INTEGER NOT NULL, held INTEGER NOT NULL,
  told INTEGER NOT NULL, PRIMARY KEY (name, slot)) WITHOUT ROWID; -- told: all that it ever said it spent
"""
_PUT: Final = (
    "INSERT INTO pools (name, used, at, lim, span) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
    " used = excluded.used, at = excluded.at, lim = excluded.lim, span = excluded.span RETURNING row"
)
_HOLD: Final = (
    "INSERT INTO hands VALUES (?, ?, ?, ?) ON CONFLICT (name, slot) DO UPDATE SET"
    " held = excluded.held, told = told + excluded.told"
)
_BYTES: Final = 8 * CELLS  # of which only what is used takes space
_seen: Final[dict[Path, memoryview[int]]] = {}  # by data folder, of this process and those forked from it
_BUSY_S: Final = 0.25


class MemoryMeters:
    """Shared meters of one process. Implements `ports.SharedMeters`."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pools: dict[str, Pool] = {}
        self._hands: dict[str, dict[int, int]] = {}
        self._told: dict[str, dict[int, int]] = {}
        self._rows: dict[str, int] = {}
        self._cells = _new_cells()

    def sight(self, slot: int) -> Sight:
        """Return what a worker sees of all."""
        return Sight(self._cells, slot, self._workers)

    async def exchange(self, slot: int, asks: Sequence[Ask], now: MonotonicNs) -> list[Answer]:
        """Take and give. See the port."""
        answers = []
        for ask in asks:
            hands = self._hands.setdefault(ask.name, {})
            others = sum(held for other, held in hands.items() if other != slot)
            pool = self._pools.get(ask.name, begun(ask, now))
            pool, hands[slot], answer = exchange(pool, ask, others, now, self._workers)
            self._pools[ask.name] = pool
            told = self._told.setdefault(ask.name, {})
            told[slot] = told.get(slot, 0) + ask.spent
            row = self._rows.setdefault(ask.name, len(self._rows) + 1)
            answers.append(answer._replace(told=sum(told.values()), row=row))
        return answers

    async def forget(self, slot: int, now: MonotonicNs) -> None:
        """Bury a dead worker."""
        for name, hands in self._hands.items():
            pool = self._pools[name] = buried(self._pools[name], hands.pop(slot, 0), now)
            sight, row, told = self.sight(slot), self._rows[name], self._told[name]
            told[slot] = sight.spent(row)
            sight.show(row, unused(pool), sum(told.values()), now)

    async def lacks(self, since: MonotonicNs, now: MonotonicNs) -> list[tuple[str, int]]:
        """Return what meters lack. See the port."""
        return [
            (name, refilled(pool, now).used + sum(self._hands[name].values()) * MICRO)
            for name, pool in self._pools.items()
            if pool.window_ns and pool.at >= since
        ]


class SqliteMeters:
    """Shared meters of one data folder, in a thread of its own. Implements `ports.SharedMeters`.

    Args:
        folder: the data folder.
        workers: how many share them.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self._workers = workers
        self._cells = _cells(folder)
        self._thread = SqlThread(
            "meters", partial(_open, folder / FILE), "The store of shared limits does not answer"
        )

    def sight(self, slot: int) -> Sight:
        """Return what a worker sees of all."""
        return Sight(self._cells, slot, self._workers)

    async def exchange(self, slot: int, asks: Sequence[Ask], now: MonotonicNs) -> list[Answer]:
        """Take and give. See the port."""
        return await self._thread.run(_exchange, slot, asks, now, self._workers)

    async def forget(self, slot: int, now: MonotonicNs) -> None:
        """Bury a dead worker."""
        await self._thread.run(_forget, Sight(self._cells, slot, self._workers), slot, now)

    async def lacks(self, since: MonotonicNs, now: MonotonicNs) -> list[tuple[str, int]]:
        """Return what meters lack. See the port."""
        return await self._thread.run(_lacking, since, now)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self._thread.close()


def start_anew(folder: Path, lacks: Iterable[tuple[str, int, MonotonicNs]], now: MonotonicNs) -> None:
    """Make the file for a new run, and what workers share in memory, before any of them is forked.

    Args:
        folder: the data folder.
        lacks: what meters lacked, in millionths, and how long ago.
        now: monotonic time, which all workers share.
    """
    for suffix in ("", "-wal", "-shm"):
        (folder / (FILE + suffix)).unlink(missing_ok=True)
    _seen[folder.resolve()] = _new_cells()
    with closing(_open(folder / FILE)) as sql, sql:
        sql.execute("BEGIN")
        # The limit is not known here. The first worker that asks brings it, and the time since counts then.
        sql.executemany(
            "INSERT INTO pools (name, used, at, lim, span) VALUES (?, ?, ?, 0, 0)",
            [(name, used, now - ago) for name, used, ago in lacks],
        )


def last_lacks(folder: Path, now: MonotonicNs) -> list[tuple[str, int]]:
    """Return what every meter lacks after all workers have gone.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    with closing(_open(folder / FILE)) as sql:
        return _lacking(sql, 0, now)


def bury(folder: Path, slot: int, now: MonotonicNs) -> None:
    """Bury a dead worker, from outside of the event loop.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    with closing(_open(folder / FILE)) as sql:
        _forget(sql, Sight(_cells(folder), slot, slot + 1), slot, now)


def _exchange(
    sql: sqlite3.Connection, slot: int, asks: Sequence[Ask], now: MonotonicNs, workers: int
) -> list[Answer]:
    answers = []
    with sql:
        sql.execute("BEGIN IMMEDIATE")
        for ask in asks:
            row = sql.execute("SELECT used, at, lim, span FROM pools WHERE name = ?", (ask.name,)).fetchone()
            (others,) = sql.execute(
                "SELECT coalesce(sum(held), 0) FROM hands WHERE name = ? AND slot <> ?", (ask.name, slot)
            ).fetchone()
            pool = Pool(*row) if row else begun(ask, now)
            pool, held, answer = exchange(pool, ask, others, now, workers)
            (number,) = sql.execute(_PUT, (ask.name, *pool)).fetchone()
            sql.execute(_HOLD, (ask.name, slot, held, ask.spent))
            (told,) = sql.execute("SELECT sum(told) FROM hands WHERE name = ?", (ask.name,)).fetchone()
            answers.append(answer._replace(told=told, row=number))
    return answers


def _lacking(sql: sqlite3.Connection, since: MonotonicNs, now: MonotonicNs) -> list[tuple[str, int]]:
    rows = sql.execute(
        "SELECT name, used, at, lim, span, (SELECT coalesce(sum(held), 0) FROM hands h"
        " WHERE h.name = p.name) FROM pools p WHERE span > 0 AND at >= ?",
        (since,),
    )
    return [(name, refilled(Pool(*pool), now).used + held * MICRO) for name, *pool, held in rows]


def _forget(sql: sqlite3.Connection, sight: Sight, slot: int, now: MonotonicNs) -> None:
    with sql:
        sql.execute("BEGIN IMMEDIATE")
        rows = sql.execute(
            "SELECT p.row, p.name, used, at, lim, span, held FROM pools p JOIN hands h ON h.name = p.name"
            " WHERE slot = ?",
            (slot,),
        ).fetchall()
        for row, name, *pool, held in rows:
            after = buried(Pool(*pool), held, now)
            sql.execute("UPDATE pools SET used = ?, at = ? WHERE name = ?", (after.used, after.at, name))
            said = (sight.spent(row), name, slot)  # all that it spent is in what it held
            sql.execute("UPDATE hands SET held = 0, told = ? WHERE name = ? AND slot = ?", said)
            (told,) = sql.execute("SELECT sum(told) FROM hands WHERE name = ?", (name,)).fetchone()
            sight.show(row, unused(after), told, now)


def _new_cells() -> memoryview[int]:
    return memoryview(mmap.mmap(-1, _BYTES)).cast("q")


def _cells(folder: Path) -> memoryview[int]:
    """Return the cells that the workers of a folder share."""
    place = folder.resolve()
    if place not in _seen:
        _seen[place] = _new_cells()
    return _seen[place]


def _open(path: Path) -> sqlite3.Connection:
    sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("PRAGMA synchronous = OFF")
    sql.executescript(_SCHEMA)
    return sql
