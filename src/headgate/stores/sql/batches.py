"""Batches in the books' own database, by a thread of its own: jobs and what their callers do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import Conflict, NotFound
from headgate.stores.sql import batchlines, batchmoney, doubts
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sqlthread import SqlThread
from headgate.values import Usage
from headgate.wire.batches import BatchCounts
from headgate.wire.batchjobs import OPEN, BatchJob, KeptBatch, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

    from headgate.errors import GatewayError
    from headgate.stores.sql.connection import Connection
    from headgate.values import Book, WallMicros
    from headgate.wire.batches import BatchError
    from headgate.wire.batchjobs import Claim, Finished, Loan, NewLine, Place, Quota, Returned, Room

_job = msgspec.json.Decoder(BatchJob).decode
_encode = msgspec.json.encode
_COLUMNS: Final = "n, job, status, fence, total, completed, failed, input, output, cached, reasoning, charge"
_READ: Final = "'validating', 'finalizing'"  # what is read or published by one worker,
_PASSED: Final = "'in_progress', 'cancelling'"  # and what one sees to at its provider
_ONES: Final = ", ".join(f"'{status}'" for status in OPEN)


class SqlBatches:
    """The batches of one data folder. Implements `batch.store.BatchStore`; close it after use.

    Args:
        connect: opens the database; called in the thread.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._thread = SqlThread("batches", connect, "The database does not keep batches")

    async def create(self, job: BatchJob) -> KeptBatch:
        """Keep a new batch, as `validating`."""
        return await self._thread.run(_create, job)

    async def find(self, project: int, book: Book, name: str) -> KeptBatch | None:
        """Return a batch of a project."""
        return await self._thread.run(_find, project, book, name)

    async def listed(self, project: int, book: Book, after: str, limit: int) -> list[KeptBatch] | None:
        """Return a project's batches behind another, the newest first; None where that is none of its own."""
        return await self._thread.run(_listed, project, book, after, limit)

    async def cancel(self, project: int, book: Book, name: str, now: WallMicros) -> KeptBatch | GatewayError:
        """Begin to cancel a batch; return it, or why it cannot be."""
        return await self._thread.run(_cancel, project, book, name, now)

    async def results(self, n: int, after: int, limit: int) -> list[Result]:
        """Return the outputs that came behind another, until they are published."""
        return await self._thread.run(batchlines.results, n, after, limit)

    async def open_batches(self) -> list[KeptBatch]:
        """Return every batch that is not done, the oldest first."""
        return await self._thread.run(_open)

    async def own(self, n: int, place: Place, now: WallMicros, until: WallMicros) -> KeptBatch | None:
        """Become who reads or publishes a batch, with a new fencing number; None: somebody else is."""
        return await self._thread.run(_own, n, place, now, until)

    async def see_to(self, n: int, place: Place, now: WallMicros, until: WallMicros) -> KeptBatch | None:
        """Become who sees to a batch at its provider, with a new fencing number; None: somebody else is."""
        return await self._thread.run(_own, n, place, now, until, _PASSED)

    async def note(self, batch: KeptBatch, *, uncancelled: bool = False) -> bool:
        """Keep what is known of a batch at its provider, perhaps unless it was cancelled. False: fenced."""
        return await self._thread.run(_note, batch, uncancelled=uncancelled)

    async def take_back(self, batch: KeptBatch) -> bool:
        """Keep that we run a batch of which its provider has run nothing. False: fenced."""
        return await self._thread.run(_take_back, batch)

    async def keep_answers(self, batch: KeptBatch, answers: Sequence[tuple[int, bytes]]) -> bool:
        """Keep what a provider has answered to lines that wait. False: fenced."""
        return await self._thread.run(batchlines.keep_answers, batch, answers)

    async def add_lines(self, batch: KeptBatch, lines: Sequence[NewLine], *, first: bool) -> bool:
        """Keep lines of a batch that is being read; the first ones replace what there is. False: fenced."""
        return await self._thread.run(batchlines.add, batch, lines, first=first)

    async def begin(
        self, batch: KeptBatch, tokens: int, limits: tuple[int, int, int], loan: Loan
    ) -> Quota | None:
        """Put a batch in progress, with its money; or return which quota has no room."""
        return await self._thread.run(batchmoney.begin, batch, tokens, limits, loan)

    async def has_begun(self, batch: KeptBatch) -> bool:
        """Say whether a batch has its money, after whoever may be giving it that has ended."""
        return await self._thread.run(_has_begun, batch)

    async def fail(self, batch: KeptBatch, errors: tuple[BatchError, ...], now: WallMicros) -> None:
        """End a batch that cannot be run."""
        await self._thread.run(_fail, batch, errors, now)

    async def claim(
        self, n: int, place: Place, room: Room, now: WallMicros, until: WallMicros
    ) -> list[Claim]:
        """Take waiting lines of a batch in progress, up to one for each id of a call."""
        return await self._thread.run(batchlines.claim, n, place, room, now, until)

    async def finish(self, batch: KeptBatch, done: Sequence[Finished]) -> None:
        """Keep outputs and give back what of their money was not used; what is fenced changes nothing."""
        await self._thread.run(batchlines.finish, batch, done)

    async def give_back(self, batch: KeptBatch, lines: Sequence[Returned]) -> None:
        """Let lines be tried again."""
        await self._thread.run(batchlines.give_back, batch.n, lines)

    async def renew(self, place: Place, calls: Set[bytes], until: WallMicros) -> None:
        """Keep the lines that a worker has, by their calls; any other that it had claimed waits again."""
        await self._thread.run(batchlines.renew, place, calls, until)

    async def settle_doubts(self) -> int:
        """Free what was kept for runs of which is known now what they were charged; return how many."""
        return await self._thread.run(_settle_doubts)

    async def take_over(self, now: WallMicros) -> int:
        """Let the lines of workers that are no more be tried again; return how many."""
        return await self._thread.run(batchlines.take_over, now)

    async def close_waiting(self, batch: KeptBatch, code: str, most: int) -> int:
        """Give up to so many waiting lines an error as their output; return how many."""
        return await self._thread.run(batchlines.close_waiting, batch, code, most)

    async def settle_down(self, n: int, now: WallMicros) -> KeptBatch | None:
        """Go to `finalizing` where no line waits or runs any more; return the batch then."""
        return await self._thread.run(_settle_down, n, now)

    async def outputs(self, n: int, after: int, most: int, *, answered: bool) -> list[tuple[int, bytes]]:
        """Return outputs behind a line, in the order of the input: the line and its output."""
        return await self._thread.run(batchlines.outputs, n, after, most, answered=answered)

    async def publish(self, batch: KeptBatch) -> bool:
        """End a batch that has its files; its lines are forgotten. False: fenced."""
        return await self._thread.run(_publish, batch)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self._thread.close()


def any_open(sql: Connection) -> bool:
    """Say whether a batch is not done."""
    return sql.execute(f"SELECT 1 FROM batches WHERE status IN ({_ONES}) LIMIT 1").fetchone() is not None


def untaken(sql: Connection, before: WallMicros) -> int:
    """Return how many batches were ordered before an instant and are not even being read."""
    waiting = "SELECT count(*) FROM batches WHERE status = 'validating' AND fence = 0 AND created_at < ?"
    return int(sql.execute(waiting, (before,)).fetchone()[0])


# ── in the thread ────────────────────────────────────────────────────────────────────────────────


def _kept(row: Sequence[Any]) -> KeptBatch:
    n, job, status, fence, total, completed, failed, given, made, cached, reasoning, charge = row
    return KeptBatch(
        n=n,
        job=_job(job),
        status=status,
        fence=fence,
        counts=BatchCounts(total, completed, failed),
        usage=Usage(given, made, cached_tokens=cached, reasoning_tokens=reasoning),
        charge=charge,
    )


def _create(sql: Connection, job: BatchJob) -> KeptBatch:
    row = (job.id, job.project, int(job.book), job.key, "validating", job.created_at, job.expires_at)
    with writing(sql):
        (n,) = sql.execute(
            "INSERT INTO batches (id, project, book, key, status, created_at, expires_at, job)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING n",
            (*row, _encode(job).decode()),
        ).fetchone()
    return KeptBatch(n=n, job=job, status="validating")


def _find(sql: Connection, project: int, book: Book, name: str) -> KeptBatch | None:
    row = sql.execute(
        f"SELECT {_COLUMNS} FROM batches WHERE id = ? AND project = ? AND book = ?",
        (name, project, int(book)),
    ).fetchone()
    return None if row is None else _kept(row)


def _by_number(sql: Connection, n: int) -> KeptBatch:
    return _kept(sql.execute(f"SELECT {_COLUMNS} FROM batches WHERE n = ?", (n,)).fetchone())


def _listed(sql: Connection, project: int, book: Book, after: str, limit: int) -> list[KeptBatch] | None:
    query, values = f"SELECT {_COLUMNS} FROM batches WHERE project = ? AND book = ?", [project, int(book)]
    if after:
        found = _find(sql, project, book, after)
        if found is None:
            return None
        query += " AND n < ?"
        values.append(found.n)
    rows = sql.execute(f"{query} ORDER BY n DESC LIMIT ?", (*values, limit)).fetchall()
    return [_kept(row) for row in rows]


def _cancel(
    sql: Connection, project: int, book: Book, name: str, now: WallMicros
) -> KeptBatch | GatewayError:
    with writing(sql):
        batch = _find(sql, project, book, name)
        if batch is None:
            return NotFound(f"No batch found with id '{name[:100]}'.", param="batch_id")
        if batch.status == "cancelling":
            return batch
        if batch.status not in {"validating", "in_progress"}:
            return Conflict(f"Cannot cancel a batch with status '{batch.status}'.", code="invalid_status")
        times = msgspec.structs.replace(batch.job.times, cancelling=now)
        job = msgspec.structs.replace(batch.job, times=times)
        sql.execute(
            "UPDATE batches SET job = ?, status = 'cancelling' WHERE n = ?", (_encode(job).decode(), batch.n)
        )
        # Who reads a batch is fenced by this: it has nothing to cancel but its lines. Who sees to one at its
        # provider goes on with that: what he has just ordered nobody else can know of yet.
        if batch.status == "validating":
            sql.execute("UPDATE batches SET fence = fence + 1, until = 0 WHERE n = ?", (batch.n,))
            batchlines.forget(sql, batch.n)
        return _by_number(sql, batch.n)


def _open(sql: Connection) -> list[KeptBatch]:
    rows = sql.execute(f"SELECT {_COLUMNS} FROM batches WHERE status IN ({_ONES}) ORDER BY n").fetchall()
    return [_kept(row) for row in rows]


def _own(
    sql: Connection, n: int, place: Place, now: WallMicros, until: WallMicros, states: str = _READ
) -> KeptBatch | None:
    free = (
        f" WHERE n = ? AND status IN ({states}) AND (until < ? OR slot = ? AND epoch <= ?"
        " OR EXISTS (SELECT 1 FROM slots WHERE slots.slot = batches.slot"
        " AND (slots.epoch > batches.epoch OR slots.pid = 0)))"
    )
    if sql.execute(f"SELECT 1 FROM batches{free}", (n, now, *place)).fetchone() is None:
        return None
    with writing(sql):
        row = sql.execute(
            f"UPDATE batches SET slot = ?, epoch = ?, until = ?, fence = fence + 1{free}"
            f" RETURNING {_COLUMNS}",
            (*place, until, n, now, *place),
        ).fetchone()
    return None if row is None else _kept(row)


def _has_begun(sql: Connection, batch: KeptBatch) -> bool:
    with writing(sql):  # so this is behind a COMMIT whose answer was lost
        return _by_number(sql, batch.n).job.held_at == batch.job.held_at


def _fail(sql: Connection, batch: KeptBatch, errors: tuple[BatchError, ...], now: WallMicros) -> None:
    times = msgspec.structs.replace(batch.job.times, failed=now)
    job = msgspec.structs.replace(batch.job, times=times, errors=errors)
    with writing(sql):
        gone = sql.execute(
            "UPDATE batches SET status = 'failed', tokens = 0, model = ?, job = ?"
            " WHERE n = ? AND fence = ? AND status = ?",
            (job.model, _encode(job).decode(), batch.n, batch.fence, batch.status),
        ).rowcount
        if gone:
            batchlines.forget(sql, batch.n)
            batchmoney.release(sql, batch.slot)


def _note(sql: Connection, batch: KeptBatch, *, uncancelled: bool) -> bool:
    with writing(sql):
        row = sql.execute(
            f"SELECT job, status FROM batches WHERE n = ? AND fence = ? AND status IN ({_PASSED})",
            (batch.n, batch.fence),
        ).fetchone()
        if row is None or (uncancelled and row[1] != batch.status):
            return False
        job = msgspec.structs.replace(_job(row[0]), passed=batch.job.passed)  # it may be cancelled by now
        sql.execute("UPDATE batches SET job = ? WHERE n = ?", (_encode(job).decode(), batch.n))
    return True


def _take_back(sql: Connection, batch: KeptBatch) -> bool:
    with writing(sql):
        kept = sql.execute(
            "UPDATE batches SET job = ? WHERE n = ? AND fence = ? AND status = 'in_progress'",
            (_encode(batch.job).decode(), batch.n, batch.fence),
        ).rowcount
        if kept:
            batchlines.without_answers(sql, batch.n)
    return bool(kept)


def _settle_down(sql: Connection, n: int, now: WallMicros) -> KeptBatch | None:
    if batchlines.any_left(sql, n):
        return None
    with writing(sql):
        batch = _by_number(sql, n)
        if batch.status not in {"validating", "in_progress", "cancelling"}:
            return batch  # another worker went on, perhaps to its end
        if batch.status == "validating" or batchlines.any_left(sql, n):
            return None
        times = msgspec.structs.replace(batch.job.times, finalizing=now)
        job = msgspec.structs.replace(batch.job, times=times)
        sql.execute(
            "UPDATE batches SET status = 'finalizing', tokens = 0, until = 0, job = ? WHERE n = ?",
            (_encode(job).decode(), n),
        )
        return _by_number(sql, n)


def _settle_doubts(sql: Connection) -> int:
    if not doubts.any_over(sql):
        return 0
    with writing(sql):
        return doubts.settle(sql)


def _publish(sql: Connection, batch: KeptBatch) -> bool:
    with writing(sql):
        done = sql.execute(
            "UPDATE batches SET status = ?, job = ? WHERE n = ? AND fence = ? AND status = 'finalizing'",
            (batch.status, _encode(batch.job).decode(), batch.n, batch.fence),
        ).rowcount
        if done:
            batchlines.forget(sql, batch.n)
            batchmoney.sweep(sql)
    return bool(done)
