"""Recorded answers, in a SQLite file beside the books': they are kept for a day, the books for ever.

A row is claimed, on disk, before its call asks anybody. What it holds of callers is sealed, what it is found
by is a keyed digest. Parts of an answer on its way are written only while another worker wants them. Where
there is too much, answers of whoever holds most go first, the oldest before others.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.charges import Charges, has_left
from headgate.stores.sql.database import RECORDINGS, connect, folder_of
from headgate.stores.sql.sealed import COLUMNS, MOMENT_US, RENEWED_US, WANTED_US, Sealed
from headgate.stores.sql.sqlite import SqliteConnection, open_file, statements
from headgate.stores.sqlthread import SqlThread
from headgate.wire.recorded import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from headgate.stores.sql.database import Place
    from headgate.stores.sql.sealed import Room
    from headgate.values import NanoUSD, WallMicros
    from headgate.vaults.boxes import Box
    from headgate.wire.recorded import Kept, Label, Progress, Recorded

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE recordings (call BLOB PRIMARY KEY, -- 16 bytes: the call that is recorded
  name BLOB NOT NULL UNIQUE,                  -- keyed digest: of tenant and Idempotency-Key, or of the call
  request BLOB NOT NULL,                      -- keyed digest of what was asked
  project INTEGER NOT NULL, book INTEGER NOT NULL, keyed INTEGER NOT NULL, resume_s INTEGER NOT NULL,
  slot INTEGER NOT NULL, state INTEGER NOT NULL, made_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,                -- when the answer goes; the row stays a day after `made_at`
  resume_until INTEGER NOT NULL,              -- how long it may be read on; 0: not at all
  wanted_until INTEGER NOT NULL DEFAULT 0,    -- how long another worker reads it while it is open
  size INTEGER NOT NULL DEFAULT 0, answer BLOB); -- sealed; bytes
CREATE INDEX recordings_age ON recordings (project, made_at);
CREATE INDEX recordings_due ON recordings (expires_at);
CREATE INDEX recordings_wanted ON recordings (slot, wanted_until) WHERE state = 0;
CREATE TABLE parts (call BLOB NOT NULL, n INTEGER NOT NULL, part BLOB NOT NULL, -- sealed
  PRIMARY KEY (call, n));
CREATE TABLE holders (project INTEGER PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TRIGGER recordings_in AFTER INSERT ON recordings BEGIN
  INSERT INTO holders VALUES (new.project, 1, new.size) ON CONFLICT DO UPDATE SET
    entries = entries + 1, bytes = bytes + new.size; END;
CREATE TRIGGER recordings_sized AFTER UPDATE OF size ON recordings BEGIN
  UPDATE holders SET bytes = bytes + new.size - old.size WHERE project = new.project; END;
CREATE TRIGGER recordings_out AFTER DELETE ON recordings BEGIN
  UPDATE holders SET entries = entries - 1, bytes = bytes - old.size WHERE project = old.project;
  DELETE FROM parts WHERE call = old.call; END;
"""
_FIELDS: Final = f"{COLUMNS}, slot, expires_at"
_AT_ONCE: Final = 200


class SqlRecordings:
    """The recordings of one data folder; close it after use. Every method raises `Unavailable`.

    Args:
        place: the data folder, and where its books are.
        box: seals what is kept.
        room: how much that may be.
    """

    def __init__(self, place: Place, box: Box, room: Room) -> None:
        self._place = place
        self._sealed = Sealed(box)
        self._room = room
        self._thread = SqlThread(
            "recordings", partial(_open, folder_of(place)), "Recorded answers cannot be kept or read"
        )

    async def lose(self, slot: int, workers: int) -> None:
        """Take note that what a worker recorded is lost: it has just started, or is no more."""
        await self._thread.run(_lose, slot, workers)

    async def claim(self, label: Label, slot: int, now: WallMicros) -> Kept | None:
        """Begin to record; on disk when it returns. Return what there is of this name, if anything."""
        return await self._thread.run(self._claim, label, slot, now)

    async def take_over(self, label: Label, before: bytes, slot: int, now: WallMicros) -> bool:
        """Record anew what was lost with another call; False where somebody else has done so."""
        return await self._thread.run(_take_over, label, before, slot, now, self._room.open_until(now))

    async def keep(self, call: bytes, state: State, recorded: Recorded | None, now: WallMicros) -> None:
        """Keep how a recording ended."""
        await self._thread.run(self._keep, call, state, recorded, now)

    async def release(self, call: bytes, recorded: Recorded, now: WallMicros) -> None:
        """Forget a call that was refused, so that the next one is made; who waits elsewhere is told."""
        await self._thread.run(self._release, call, recorded, now)

    async def wanted(self, slot: int, now: WallMicros, /) -> list[bytes]:
        """Return the calls whose recordings other workers read while they are made."""
        return await self._thread.run(_wanted, slot, now)

    async def tell(self, call: bytes, first: int, parts: Sequence[bytes]) -> None:
        """Show parts of a recording, from a number on, to other workers."""
        await self._thread.run(self._tell, call, first, parts)

    async def follow(self, call: bytes, known: int, now: WallMicros, /) -> Progress | None:
        """Return what came behind the parts that are known, and want more; None where it was forgotten."""
        return await self._thread.run(self._follow, call, known, now + WANTED_US)

    async def give_up(self, call: bytes) -> None:
        """Take note that nobody makes a call whose recording is open."""
        await self._thread.run(_give_up, call)

    async def find(self, call: bytes) -> Kept | None:
        """Return the recording of a call."""
        return await self._thread.run(self._find, call)

    async def sweep(self, now: WallMicros) -> None:
        """Forget what has been kept for long enough, and what there is too much of."""
        await self._thread.run(self._sweep, now)

    async def charged(self, call: bytes) -> NanoUSD | None:
        """Return what a call has cost its caller by the books; None where that is not settled yet."""
        return await self._thread.run(self._charged, call)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self._thread.close()

    # ── in the thread ────────────────────────────────────────────────────────────────────────────

    def _claim(self, sql: SqliteConnection, label: Label, slot: int, now: WallMicros) -> Kept | None:
        with _on_disk(sql):
            row = sql.execute(f"SELECT {_FIELDS} FROM recordings WHERE name = ?", (label.name,)).fetchone()
            if row is not None and not _over(row, now):
                return self._kept(row)
            if row is not None:
                sql.execute("DELETE FROM recordings WHERE call = ?", (row[0],))
            _insert(sql, label, slot, now, self._room.open_until(now))
        return None

    def _keep(
        self, sql: SqliteConnection, call: bytes, state: State, recorded: Recorded | None, now: WallMicros
    ) -> None:
        answer = self._sealed.answer(call, recorded) if recorded is not None else None
        with writing(sql):
            row = sql.execute(
                "SELECT made_at, keyed, resume_s FROM recordings WHERE call = ?", (call,)
            ).fetchone()
            if row is None:
                return  # taken over by another call
            made_at, keyed, resume_s = row
            resume_until = now + resume_s * 1_000_000 if resume_s else 0
            expires_at = max(resume_until, made_at + self._room.kept_us) if keyed else resume_until
            sql.execute(
                "UPDATE recordings SET state = ?, answer = ?, size = ?, resume_until = ?, expires_at = ?"
                " WHERE call = ?",
                (state, answer, len(answer or b""), resume_until, expires_at, call),
            )
            sql.execute("DELETE FROM parts WHERE call = ?", (call,))
            self._make_room(sql)

    def _release(self, sql: SqliteConnection, call: bytes, recorded: Recorded, now: WallMicros) -> None:
        answer = self._sealed.answer(call, recorded)
        with writing(sql):
            sql.execute(
                "UPDATE recordings SET state = ?, answer = ?, expires_at = ?, resume_until = 0"
                " WHERE call = ? AND wanted_until > ?",
                (State.REFUSED, answer, now + MOMENT_US, call, now),
            )
            sql.execute("DELETE FROM recordings WHERE call = ? AND state = 0", (call,))

    def _tell(self, sql: SqliteConnection, call: bytes, first: int, parts: Sequence[bytes]) -> None:
        rows = self._sealed.parts(call, first, parts)
        with writing(sql):
            sql.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", rows)

    def _follow(self, sql: SqliteConnection, call: bytes, known: int, until: WallMicros) -> Progress | None:
        row = sql.execute(
            "SELECT state, answer, wanted_until FROM recordings WHERE call = ?", (call,)
        ).fetchone()
        if row is not None and row[2] < until - RENEWED_US:
            with writing(sql):
                sql.execute("UPDATE recordings SET wanted_until = ? WHERE call = ?", (until, call))
        sealed = sql.execute(
            "SELECT n, part FROM parts WHERE call = ? AND n >= ? ORDER BY n", (call, known)
        ).fetchall()
        return None if row is None else self._sealed.progress(call, row[0], row[1], sealed)

    def _find(self, sql: SqliteConnection, call: bytes) -> Kept | None:
        row = sql.execute(f"SELECT {_FIELDS} FROM recordings WHERE call = ?", (call,)).fetchone()
        return None if row is None else self._kept(row)

    def _kept(self, row: tuple[Any, ...]) -> Kept:
        *columns, slot, _ = row
        return self._sealed.kept(columns, slot)

    def _make_room(self, sql: SqliteConnection) -> None:
        """Drop answers, then whole rows, until there is room again."""
        room = self._room
        while (project := _largest(sql, "bytes", room.total_bytes)) is not None:
            sql.execute(
                "UPDATE recordings SET answer = NULL, size = 0, state = ?"
                " WHERE call IN (SELECT call FROM recordings WHERE project = ? AND size > 0"
                " ORDER BY made_at LIMIT 10)",
                (State.DROPPED, project),
            )
        while (project := _largest(sql, "entries", room.entries)) is not None:
            done = sql.execute(
                "DELETE FROM recordings WHERE call IN (SELECT call FROM recordings"
                " WHERE project = ? AND state <> 0 ORDER BY made_at LIMIT 10)",
                (project,),
            )
            if not done.rowcount:
                break  # all of them are being made

    def _sweep(self, sql: SqliteConnection, now: WallMicros) -> None:
        while True:
            with writing(sql):
                rows = sql.execute(
                    "SELECT call, state, made_at FROM recordings WHERE expires_at <= ? LIMIT ?",
                    (now, _AT_ONCE),
                ).fetchall()
                for call, state, made_at in rows:
                    known_until = 0 if state == State.REFUSED else made_at + self._room.kept_us
                    _expire(sql, call, now, known_until)
            if len(rows) < _AT_ONCE:
                break

    def _charged(self, _sql: SqliteConnection, call: bytes) -> NanoUSD | None:
        charges = Charges(folder_of(self._place))
        with closing(connect(self._place, read_only=True)) as books:
            return None if has_left(books, call) else charges.of(books, call)


def _open(folder: Path) -> SqliteConnection:
    """Open the file, and make it where it is not there, or of another version: that was for a day."""
    with suppress(FileExistsError):  # before SQLite makes it readable for everyone
        os.close(os.open(folder / RECORDINGS, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    sql = open_file(folder / RECORDINGS)
    sql.execute("PRAGMA secure_delete = ON")
    sql.execute("PRAGMA synchronous = NORMAL")
    if _version(sql) != _VERSION:
        with writing(sql):
            if _version(sql) != _VERSION:
                _create(sql)
    return sql


@contextmanager
def _on_disk(sql: SqliteConnection) -> Iterator[None]:
    """Run a block as one transaction that a power cut does not undo: what is claimed. The rest may be."""
    sql.execute("PRAGMA synchronous = FULL")
    try:
        with writing(sql):
            yield
    finally:
        sql.execute("PRAGMA synchronous = NORMAL")


def _version(sql: SqliteConnection) -> int:
    return int(sql.execute("PRAGMA user_version").fetchone()[0])


def _create(sql: SqliteConnection) -> None:
    for table in ("recordings", "parts", "holders"):
        sql.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in statements(_SCHEMA):
        sql.execute(statement)
    sql.execute(f"PRAGMA user_version = {_VERSION}")


def _over(row: tuple[Any, ...], now: WallMicros) -> bool:
    """Say whether a row is in nobody's way any more."""
    state, expires_at = row[7], row[-1]
    return bool(state in {State.REFUSED, State.EXPIRED} or expires_at <= now)


def _insert(sql: SqliteConnection, label: Label, slot: int, now: WallMicros, expires_at: WallMicros) -> None:
    sql.execute(
        "INSERT INTO recordings (call, name, request, project, book, keyed, resume_s, slot, state, made_at,"
        " expires_at, resume_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
        (*label, slot, now, expires_at, expires_at if label.resume_s else 0),
    )


def _take_over(
    sql: SqliteConnection, label: Label, before: bytes, slot: int, now: WallMicros, expires_at: WallMicros
) -> bool:
    with _on_disk(sql):
        done = sql.execute(
            "DELETE FROM recordings WHERE name = ? AND call = ? AND state IN (?, ?, ?)",
            (label.name, before, State.WHOLE, State.LOST, State.DROPPED),  # whole: it cannot be opened
        )
        if done.rowcount:
            _insert(sql, label, slot, now, expires_at)
    return bool(done.rowcount)


def _lose(sql: SqliteConnection, slot: int, workers: int) -> None:
    with writing(sql):
        sql.execute(
            "UPDATE recordings SET state = ? WHERE state = 0 AND (slot = ? OR (? = 0 AND slot >= ?))",
            (State.LOST, slot, slot, workers),
        )


def _give_up(sql: SqliteConnection, call: bytes) -> None:
    with writing(sql):
        sql.execute("UPDATE recordings SET state = ? WHERE call = ? AND state = 0", (State.LOST, call))


def _wanted(sql: SqliteConnection, slot: int, now: WallMicros) -> list[bytes]:
    rows = sql.execute(
        "SELECT call FROM recordings WHERE state = 0 AND slot = ? AND wanted_until > ?", (slot, now)
    )
    return [call for (call,) in rows]


def _largest(sql: SqliteConnection, what: str, most: int) -> int | None:
    """Return who has most of something, where all together have too much of it."""
    (total,) = sql.execute(f"SELECT coalesce(sum({what}), 0) FROM holders").fetchone()
    if total <= most:
        return None
    (project,) = sql.execute(f"SELECT project FROM holders ORDER BY {what} DESC LIMIT 1").fetchone()
    return int(project)


def _expire(sql: SqliteConnection, call: bytes, now: WallMicros, until: WallMicros) -> None:
    """Forget an answer; what it was is known for a day."""
    if until <= now:
        sql.execute("DELETE FROM recordings WHERE call = ?", (call,))
    else:
        sql.execute(
            "UPDATE recordings SET state = ?, answer = NULL, size = 0, expires_at = ? WHERE call = ?",
            (State.EXPIRED, until, call),
        )
