"""Videos that are being made, or were: a row each in the books, by a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sqlthread import SqlThread
from headgate.wire.videos import VideoJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.stores.sql.connection import Connection

_job = msgspec.json.Decoder(VideoJob).decode
_encode = msgspec.json.encode
_PUT: Final = (
    "INSERT INTO videos (id, project, slot, created_at, open, deleted, job, node)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET slot = excluded.slot, node = excluded.node, open = excluded.open,"
    " deleted = excluded.deleted, job = excluded.job"
)


def any_open(sql: Connection) -> bool:
    """Say whether a video is being made, by whichever node."""
    return sql.execute("SELECT 1 FROM videos WHERE open = 1 LIMIT 1").fetchone() is not None


class SqlVideos:
    """The videos that a data folder looks after; close it after use.

    Args:
        connect: opens the database; called in the thread.
        node: that the folder is, on a database that it shares.
    """

    def __init__(self, connect: Callable[[], Connection], node: str = "") -> None:
        self._node = node
        self._thread = SqlThread("videos", connect, "The database does not keep videos")

    async def put(self, job: VideoJob) -> None:
        """Keep a job as it is now. Raises `Unavailable`."""
        await self._thread.run(_put, job, self._node)

    async def drop(self, job: VideoJob) -> None:
        """Forget a job."""
        await self._thread.run(_drop, job.id)

    async def find(self, project: int, name: str) -> VideoJob | None:
        """Return a job of a project; None where there is none, or it was deleted."""
        return await self._thread.run(_find, project, name)

    async def placed(self, name: str) -> VideoJob | None:
        """Return a job by its id alone, also one that its caller has deleted while it was made."""
        return await self._thread.run(_placed, name)

    async def listed(self, project: int, after: str, limit: int, *, newest: bool) -> list[VideoJob] | None:
        """Return a project's jobs behind another; None where that is none of its own."""
        return await self._thread.run(_listed, project, after, limit, newest)

    async def open(self, slot: int, workers: int) -> list[VideoJob]:
        """Return the jobs that a worker asks for; the first one those of who is no more, too."""
        return await self._thread.run(_open, self._node, slot, workers)

    async def open_of(self, batch: str) -> list[VideoJob]:
        """Return the jobs of a batch's lines that nobody has seen the end of."""
        return await self._thread.run(_open_of, batch)

    async def booked(self, job: VideoJob) -> bool:
        """Say whether the books have its settlement."""
        return await self._thread.run(_booked, job.call)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self._thread.close()


# ── in the thread ────────────────────────────────────────────────────────────────────────────────


def _put(sql: Connection, job: VideoJob, node: str) -> None:
    text = _encode(job).decode()
    row = (job.id, job.project, job.slot, job.created_at, job.open, job.deleted, text, node)
    with writing(sql):
        sql.execute(_PUT, row)


def _drop(sql: Connection, name: str) -> None:
    with writing(sql):
        sql.execute("DELETE FROM videos WHERE id = ?", (name,))


def _find(sql: Connection, project: int, name: str) -> VideoJob | None:
    row = sql.execute(
        "SELECT job FROM videos WHERE id = ? AND project = ? AND deleted = 0", (name, project)
    ).fetchone()
    return None if row is None else _job(row[0])


def _placed(sql: Connection, name: str) -> VideoJob | None:
    row = sql.execute("SELECT job FROM videos WHERE id = ?", (name,)).fetchone()
    return None if row is None else _job(row[0])


def _listed(sql: Connection, project: int, after: str, limit: int, newest: bool) -> list[VideoJob] | None:
    query = "SELECT job FROM videos WHERE project = ? AND deleted = 0"
    values: list[int | str] = [project]
    if after:
        row = sql.execute(
            "SELECT created_at FROM videos WHERE id = ? AND project = ?", (after, project)
        ).fetchone()
        if row is None:
            return None
        query += f" AND (created_at, id) {'<' if newest else '>'} (?, ?)"
        values += [row[0], after]
    way = "DESC" if newest else "ASC"
    rows = sql.execute(f"{query} ORDER BY created_at {way}, id {way} LIMIT ?", (*values, limit))
    return [_job(text) for (text,) in rows]


def _open(sql: Connection, node: str, slot: int, workers: int) -> list[VideoJob]:
    rows = sql.execute(
        "SELECT job, node = ? FROM videos WHERE open = 1"
        " AND (node = ? OR node NOT IN (SELECT node FROM nodes)) ORDER BY created_at",
        (node, node),
    ).fetchall()
    jobs = [(_job(text), own) for text, own in rows]
    left = [job for job, own in jobs if not own or job.slot >= workers]  # nobody else asks for them
    return [job for job, own in jobs if own and job.slot == slot] + (left if slot == 0 else [])


def _open_of(sql: Connection, batch: str) -> list[VideoJob]:
    rows = sql.execute("SELECT job FROM videos WHERE open = 1 ORDER BY id").fetchall()
    return [job for job in (_job(text) for (text,) in rows) if job.batch == batch]


def _booked(sql: Connection, call: bytes) -> bool:
    return sql.execute("SELECT 1 FROM calls WHERE call = ?", (call,)).fetchone() is not None
