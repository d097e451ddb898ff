"""Rows of files, of what is being put together into one, and of their blobs; by a thread of its own.

A blob has a row before its first byte is written and after its last one is removed, so nothing that a stopped
process left lies about unknown: `unwritten` dooms it. What is doomed is removed by whoever sweeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headgate.shelf import FileLabel, FileOwner, Piece, StoredFile
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sqlthread import SqlThread
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

WRITTEN, KEPT, DOOMED = range(3)  # `blobs.state`
_COLUMNS: Final = (
    "id, account, project, book, key, purpose, filename, kind, expires_at, bytes, sha256, created_at"
)
_AT_ONCE: Final = 500
_NOTES: Final = 100  # of what came and went, before they are added up


class Room(NamedTuple):
    """How many bytes may be kept. 0: as many as there is room for."""

    project: int
    account: int


class Full(NamedTuple):
    """A quota that has no room."""

    scope: str  # `project` or `account`
    used: int
    room: int


def any_files(sql: Connection) -> bool:
    """Say whether there is anything to look after."""
    return sql.execute("SELECT 1 FROM blobs LIMIT 1").fetchone() is not None


class SqlFiles:
    """The rows of files; close it after use. Every method raises `Unavailable`.

    Args:
        connect: opens the database; called in the thread.
        room: how many bytes projects and accounts may keep.
        writer: a name that this worker has again after a restart, and nobody else.
    """

    def __init__(self, connect: Callable[[], Connection], room: Room, writer: str) -> None:
        self.thread = SqlThread("files", connect, "The database does not keep files")
        self._room = room
        self._writer = writer

    async def reserve(
        self, blob: str, owner: FileOwner, size: int, now: WallMicros, *, bound: bool = True
    ) -> Full | None:
        """Note a blob that is about to be written, of at most so many bytes; unless a quota is full.

        Args:
            blob: its name.
            owner: whose it will be.
            size: its bytes; 0: nobody knows.
            now: wall time.
            bound: whether it is refused where a quota is full; it counts in any case.
        """
        return await self.thread.run(self._reserve, (blob, owner, size, now), bound)

    async def publish(self, file: StoredFile, *, bound: bool = True) -> Full | None:
        """Make a written blob a file; unless a quota is full that binds it."""
        return await self.thread.run(self._publish, file, bound)

    async def doom(self, blobs: Iterable[str]) -> None:
        """Let blobs be removed, whatever they are."""
        await self.thread.run(_doom, tuple(blobs))

    async def doomed(self) -> list[str]:
        """Return blobs that are to be removed."""
        return await self.thread.run(_doomed)

    async def removed(self, blobs: Iterable[str]) -> None:
        """Forget blobs that were removed."""
        await self.thread.run(_removed, tuple(blobs))

    async def find(self, owner: FileOwner, name: str, now: WallMicros) -> StoredFile | None:
        """Return a file of a project; None where it has none, or one that has expired."""
        return await self.thread.run(find_file, owner, name, now)

    async def listed(
        self, owner: FileOwner, page: tuple[str, str, int, bool], now: WallMicros
    ) -> list[StoredFile] | None:
        """Return a project's files, without their pieces; None where the one before them is none of its own.

        Args:
            owner: whose they are.
            page: the purpose or "", the id before the first or "", how many at most, the newest first.
            now: wall time.
        """
        return await self.thread.run(_listed, owner, page, now)

    async def delete(self, owner: FileOwner, name: str, now: WallMicros) -> list[str] | None:
        """Delete a file; return its blobs, which are doomed. None where there is none."""
        return await self.thread.run(_delete, owner, name, now)

    async def expire(self, now: WallMicros, lost_before: WallMicros) -> int:
        """Doom what has expired, and what has been written since before an instant; return how many went."""
        return await self.thread.run(_expire, now, lost_before)

    async def unwritten(self, live: tuple[str, ...], before: WallMicros) -> None:
        """Doom what this worker has begun to write before an instant and does not write now."""
        await self.thread.run(_unwritten, self._writer, frozenset(live), before)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self.thread.close()

    # ── in the thread ────────────────────────────────────────────────────────────────────────────

    def _reserve(
        self, sql: Connection, row: tuple[str, FileOwner, int, WallMicros], bound: bool
    ) -> Full | None:
        blob, owner, size, now = row
        with writing(sql):
            full = self._full(sql, owner, size) if bound else None
            if full is None:
                sql.execute(
                    "INSERT INTO blobs (blob, account, project, holder, n, bytes, state, writer, at)"
                    " VALUES (?, ?, ?, '', 0, ?, ?, ?, ?)",
                    (blob, owner.account, owner.project, size, WRITTEN, self._writer, now),
                )
        return full

    def _publish(self, sql: Connection, file: StoredFile, bound: bool) -> Full | None:
        with writing(sql):
            return self.insert(sql, file, bound=bound)

    def insert(self, sql: Connection, file: StoredFile, *, bound: bool = True) -> Full | None:
        """Make blobs a file, in a transaction of the caller; unless a quota is full, which dooms them."""
        owner, label = file.owner, file.label
        mark(sql, [piece.blob for piece in file.pieces])  # so that they do not count twice
        full = self._full(sql, owner, file.size) if bound else None
        if full is not None:
            return full
        sql.executemany(
            "UPDATE blobs SET bytes = ?, state = ?, holder = ?, n = ? WHERE blob = ?",
            [(piece.size, KEPT, file.id, n, piece.blob) for n, piece in enumerate(file.pieces)],
        )
        sql.execute(
            f"INSERT INTO files ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(file.id, owner.account, owner.project, int(owner.book), owner.key),
                *(label.purpose, label.filename, label.kind, label.expires_at),
                *(file.size, file.sha256, file.created_at),
            ),
        )
        return None

    def _full(self, sql: Connection, owner: FileOwner, more: int) -> Full | None:
        """Return the quota that has no room for more."""
        for number, (scope, ref, room) in enumerate(
            (
                ("project", owner.project, self._room.project),
                ("account", owner.account, self._room.account),
            )
        ):
            if room:
                used = _used(sql, number, ref)
                if used + more > room:
                    return Full(scope, used, room)
        return None


def _used(sql: Connection, scope: int, ref: int) -> int:
    """Return how many bytes a project (0) or an account (1) keeps; in a transaction of the caller.

    Triggers note what comes and goes. Many notes become one, so this costs the same however many files there
    are.
    """
    where = "FROM storage WHERE scope = ? AND ref = ?"
    count, used = sql.execute(f"SELECT count(*), coalesce(sum(bytes), 0) {where}", (scope, ref)).fetchone()
    if count > _NOTES:
        sql.execute(f"DELETE {where}", (scope, ref))
        sql.execute("INSERT INTO storage (scope, ref, bytes) VALUES (?, ?, ?)", (scope, ref, int(used)))
    return int(used)


def _add_up(sql: Connection) -> None:
    """Make one note of many where nobody asks for their sum; in a transaction of the caller."""
    many = sql.execute(
        "SELECT scope, ref FROM storage GROUP BY scope, ref HAVING count(*) > ? LIMIT ?", (_NOTES, _AT_ONCE)
    )
    for scope, ref in many.fetchall():
        _used(sql, scope, ref)


def mark(sql: Connection, blobs: Iterable[str]) -> None:
    """Doom blobs."""
    sql.executemany("UPDATE blobs SET state = ? WHERE blob = ?", [(DOOMED, blob) for blob in blobs])


def _doom(sql: Connection, blobs: tuple[str, ...]) -> None:
    with writing(sql):
        mark(sql, blobs)


def _doomed(sql: Connection) -> list[str]:
    rows = sql.execute("SELECT blob FROM blobs WHERE state = ? ORDER BY at LIMIT ?", (DOOMED, _AT_ONCE))
    return [blob for (blob,) in rows]


def _removed(sql: Connection, blobs: tuple[str, ...]) -> None:
    with writing(sql):
        sql.executemany("DELETE FROM blobs WHERE blob = ? AND state = ?", [(blob, DOOMED) for blob in blobs])


def find_file(sql: Connection, owner: FileOwner, name: str, now: WallMicros) -> StoredFile | None:
    """Return a file of a project; None where it has none, or one that has expired."""
    row = _row(sql, owner, name)
    if row is None or 0 < row[8] <= now:
        return None
    blobs = sql.execute("SELECT blob, bytes FROM blobs WHERE holder = ? ORDER BY n", (name,))
    return _file(row, tuple(Piece(blob, size) for blob, size in blobs))


def _row(sql: Connection, owner: FileOwner, name: str) -> tuple[Any, ...] | None:
    found: tuple[Any, ...] | None = sql.execute(
        f"SELECT {_COLUMNS} FROM files WHERE id = ? AND project = ? AND book = ?",
        (name, owner.project, int(owner.book)),
    ).fetchone()
    return found


def _file(row: tuple[Any, ...], pieces: tuple[Piece, ...] = ()) -> StoredFile:
    name, account, project, book, key, purpose, filename, kind, expires_at, size, sha256, created_at = row
    owner = FileOwner(account, project, Book(book), key)
    return StoredFile(
        name, owner, FileLabel(purpose, filename, kind, expires_at), size, sha256, created_at, pieces
    )


def _listed(
    sql: Connection, owner: FileOwner, page: tuple[str, str, int, bool], now: WallMicros
) -> list[StoredFile] | None:
    purpose, after, limit, newest = page
    query = (
        f"SELECT {_COLUMNS} FROM files WHERE project = ? AND book = ? AND (expires_at = 0 OR expires_at > ?)"
    )
    values: list[int | str] = [owner.project, int(owner.book), now]
    if purpose:
        query += " AND purpose = ?"
        values.append(purpose)
    if after:
        row = _row(sql, owner, after)
        if row is None:
            return None
        query += f" AND (created_at, id) {'<' if newest else '>'} (?, ?)"
        values += [row[11], after]
    way = "DESC" if newest else "ASC"
    rows = sql.execute(f"{query} ORDER BY created_at {way}, id {way} LIMIT ?", (*values, limit))
    return [_file(row) for row in rows.fetchall()]


def _delete(sql: Connection, owner: FileOwner, name: str, now: WallMicros) -> list[str] | None:
    with writing(sql):
        row = _row(sql, owner, name)
        if row is None:
            return None
        blobs = _forget(sql, name)
        return None if 0 < row[8] <= now else blobs


def _forget(sql: Connection, name: str) -> list[str]:
    """Delete the row of a file and doom its blobs; return them."""
    sql.execute("DELETE FROM files WHERE id = ?", (name,))
    return doom_held(sql, name)


def doom_held(sql: Connection, holder: str) -> list[str]:
    """Doom the blobs of a file or an upload; return them."""
    rows = sql.execute("SELECT blob FROM blobs WHERE holder = ? AND state = ?", (holder, KEPT)).fetchall()
    blobs = [blob for (blob,) in rows]
    mark(sql, blobs)
    return blobs


def _expire(sql: Connection, now: WallMicros, lost_before: WallMicros) -> int:
    with writing(sql):
        _add_up(sql)
        names = sql.execute(
            "SELECT id FROM files WHERE expires_at > 0 AND expires_at <= ? LIMIT ?", (now, _AT_ONCE)
        ).fetchall()
        for (name,) in names:
            _forget(sql, name)
        lost = sql.execute(
            "UPDATE blobs SET state = ? WHERE state = ? AND at < ?", (DOOMED, WRITTEN, lost_before)
        )
    return len(names) + max(0, lost.rowcount)


def _unwritten(sql: Connection, writer: str, live: frozenset[str], before: WallMicros) -> None:
    rows = sql.execute(
        "SELECT blob FROM blobs WHERE state = ? AND writer = ? AND at < ?", (WRITTEN, writer, before)
    ).fetchall()
    lost = [blob for (blob,) in rows if blob not in live]
    if lost:
        with writing(sql):
            mark(sql, lost)
