"""Rows of what is being put together into a file; on the connection of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from headgate.shelf import FileLabel, FileOwner, Piece, StoredFile, Upload, UploadStatus
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.files import KEPT, doom_held, find_file, mark
from headgate.values import Book

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.files import Full, SqlFiles
    from headgate.values import WallMicros

_COLUMNS: Final = (
    "id, account, project, book, key, purpose, filename, kind, bytes, kept_s, created_at, expires_at, status,"
    " file"
)
_REMEMBERED_US: Final = 30 * 86_400_000_000  # how long it is known what became of one
_AT_ONCE: Final = 500


class _NoRoom(Exception):
    """A quota is full."""

    def __init__(self, full: Full) -> None:
        self.full = full


class SqlUploads:
    """The rows of uploads. Every method raises `Unavailable`.

    Args:
        files: whose connection and quotas they use.
    """

    def __init__(self, files: SqlFiles) -> None:
        self._files = files
        self._thread = files.thread

    async def put(self, upload: Upload) -> None:
        """Begin one."""
        await self._thread.run(_put, upload)

    async def find(self, owner: FileOwner, name: str, now: WallMicros) -> Upload | None:
        """Return one of a project; None where it has none of this id."""
        return await self._thread.run(_find, owner, name, now)

    async def parts(self, upload: Upload) -> dict[str, int]:
        """Return the parts of one: their blobs and sizes."""
        return await self._thread.run(_parts, upload.id)

    async def count(self, upload: Upload) -> int:
        """Return how many parts one has; this costs the same however many they are."""
        return await self._thread.run(_count, upload.id)

    async def keep(self, upload: Upload, piece: Piece, now: WallMicros) -> bool:
        """Make a written blob a part of one; False where it is no longer open, and the blob is doomed."""
        return await self._thread.run(_keep, upload, piece, now)

    async def complete(self, upload: Upload, file: StoredFile, now: WallMicros) -> Full | bool | None:
        """Make parts a file and doom the others; False where it is no longer open, else what has no room."""
        return await self._thread.run(self._complete, upload, file, now)

    async def cancel(self, upload: Upload, now: WallMicros) -> list[str] | None:
        """Give one up; return its blobs, which are doomed. None where it is no longer open."""
        return await self._thread.run(_cancel, upload, now)

    async def expire(self, now: WallMicros) -> int:
        """Give up those whose time is over, and forget those that ended long ago; return how many."""
        return await self._thread.run(_expire, now)

    # ── in the thread ────────────────────────────────────────────────────────────────────────────

    def _complete(
        self, sql: Connection, upload: Upload, file: StoredFile, now: WallMicros
    ) -> Full | bool | None:
        try:
            with writing(sql):
                if not _close(sql, upload, UploadStatus.COMPLETED, file.id, now):
                    return False
                doom_held(sql, upload.id)
                self._insert(sql, file)
        except _NoRoom as refused:  # and nothing of it has happened
            return refused.full
        return None

    def _insert(self, sql: Connection, file: StoredFile) -> None:
        full = self._files.insert(sql, file)
        if full is not None:
            raise _NoRoom(full)


def _put(sql: Connection, upload: Upload) -> None:
    owner, label = upload.owner, upload.label
    with writing(sql):
        sql.execute(
            f"INSERT INTO uploads ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
            (
                *(upload.id, owner.account, owner.project, int(owner.book), owner.key),
                *(label.purpose, label.filename, label.kind, upload.size, upload.kept_s),
                *(upload.created_at, upload.expires_at, int(upload.status)),
            ),
        )


def _find(sql: Connection, owner: FileOwner, name: str, now: WallMicros) -> Upload | None:
    row = sql.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE id = ? AND project = ? AND book = ?",
        (name, owner.project, int(owner.book)),
    ).fetchone()
    return None if row is None else _upload(sql, tuple(row), now)


def _upload(sql: Connection, row: tuple[Any, ...], now: WallMicros) -> Upload:
    name, account, project, book, key, purpose, filename, kind, size, kept_s, *times, status, file = row
    created_at, expires_at = times
    if status == UploadStatus.PENDING and expires_at <= now:
        status = UploadStatus.EXPIRED
    owner = FileOwner(account, project, Book(book), key)
    made = find_file(sql, owner, file, now) if file else None
    label = FileLabel(purpose, filename, kind)
    return Upload(name, owner, label, size, kept_s, created_at, expires_at, UploadStatus(status), made)


def _parts(sql: Connection, name: str) -> dict[str, int]:
    rows = sql.execute("SELECT blob, bytes FROM blobs WHERE holder = ? AND state = ?", (name, KEPT))
    return {blob: int(size) for blob, size in rows.fetchall()}


def _count(sql: Connection, name: str) -> int:
    """Return the number of the last part: they are numbered as they come, and none goes before the upload."""
    (last,) = sql.execute("SELECT coalesce(max(n), 0) FROM blobs WHERE holder = ?", (name,)).fetchone()
    return int(last)


def _open(sql: Connection, upload: Upload, now: WallMicros) -> bool:
    row = sql.execute("SELECT status, expires_at FROM uploads WHERE id = ?", (upload.id,)).fetchone()
    if row is None:
        return False
    status, expires_at = row
    return bool(status == UploadStatus.PENDING and expires_at > now)


def _keep(sql: Connection, upload: Upload, piece: Piece, now: WallMicros) -> bool:
    with writing(sql):
        if not _open(sql, upload, now):
            mark(sql, [piece.blob])
            return False
        sql.execute(
            "UPDATE blobs SET bytes = ?, state = ?, holder = ?, n = ? WHERE blob = ?",
            (piece.size, KEPT, upload.id, _count(sql, upload.id) + 1, piece.blob),
        )
    return True


def _close(sql: Connection, upload: Upload, status: UploadStatus, file: str, now: WallMicros) -> bool:
    if not _open(sql, upload, now):
        return False
    sql.execute("UPDATE uploads SET status = ?, file = ? WHERE id = ?", (int(status), file, upload.id))
    return True


def _cancel(sql: Connection, upload: Upload, now: WallMicros) -> list[str] | None:
    with writing(sql):
        if not _close(sql, upload, UploadStatus.CANCELLED, "", now):
            return None
        return doom_held(sql, upload.id)


def _expire(sql: Connection, now: WallMicros) -> int:
    names = sql.execute(
        "SELECT id FROM uploads WHERE status = 0 AND expires_at <= ? LIMIT ?", (now, _AT_ONCE)
    ).fetchall()
    old = sql.execute(
        "SELECT id FROM uploads WHERE status <> 0 AND expires_at <= ? LIMIT ?",
        (now - _REMEMBERED_US, _AT_ONCE),
    ).fetchall()
    if names or old:
        with writing(sql):
            for (name,) in names:
                sql.execute(
                    "UPDATE uploads SET status = ? WHERE id = ? AND status = ?",
                    (int(UploadStatus.EXPIRED), name, int(UploadStatus.PENDING)),
                )
                doom_held(sql, name)
            sql.executemany("DELETE FROM uploads WHERE id = ?", [(name,) for (name,) in old])
    return len(names) + len(old)
