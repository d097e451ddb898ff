"""A database with batches, for tests: one worker, and a budget of which it has a slice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from headgate.stores.sql.batches import SqlBatches
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.check.batches import check_batches
from headgate.stores.sql.check.findings import Findings
from headgate.stores.sql.database import connect
from headgate.values import Book, Usage
from headgate.wire.batchjobs import BatchJob, Finished, KeptBatch, Loan, NewLine, Place, Room

HOUR = 3_600_000_000
NONE = (0, 0, 0)


class Aside:
    """A connection in a thread of its own: one to PostgreSQL does not wait in a loop that runs."""

    def __init__(self, place) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(prepare, place, 1, None).result()
        self._sql = self._thread.submit(connect, place).result()

    def execute(self, statement: str, values=()) -> list:
        return self._thread.submit(self._rows, statement, values).result()

    def with_connection(self, work, *args) -> None:
        self._thread.submit(work, self._sql, *args).result()

    def _rows(self, statement: str, values) -> list:
        found = self._sql.execute(statement, values)
        return found.fetchall() if statement.startswith("SELECT") else []

    def close(self) -> None:
        self._thread.submit(self._sql.close).result()
        self._thread.shutdown()


class World:
    """A database with one worker, `slot-0`, which has 1,000 of the pot of a budget."""

    def __init__(self, place) -> None:
        self.sql = Aside(place)
        self.store = SqlBatches(partial(connect, place))
        self.place = Place("slot-0", 1)
        self.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('slot-0', 1, 7, 0)")
        self.sql.execute(
            "INSERT INTO budgets (id, public_id, scope, ref, book, amount, unit, tz, hard, thresholds, origin,"
            " created_at) VALUES (9, 'b9', 'account', 1, 0, 5000, 'total', 'UTC', 1, '[]', 'config', 0)"
        )
        self.sql.execute(
            "INSERT INTO pots (id, kind, ref, period, book, since, until, amount, spent, over)"
            " VALUES (5, 'budget', 9, '', 0, 0, 9000000000000000, 5000, 0, 0)"
        )
        self.sql.execute("INSERT INTO slices (pot, slot, amount) VALUES (5, 'slot-0', 1000)")

    def job(self, name: str = "batch_1", **more) -> BatchJob:
        fields = {
            "id": name, "call": bytes(15) + name[-1].encode(), "account": 1, "project": 2, "key": 3, "member": 0,
            "book": Book.REAL, "endpoint": "/v1/x", "input_file": "f", "created_at": 1, "expires_at": HOUR,
        }  # fmt: skip
        return BatchJob(**{**fields, **more})

    async def begun(self, lines: int = 4, bound: int = 100, **more) -> KeptBatch:
        """Return a batch in progress whose lines may cost `bound` each."""
        kept = await self.store.create(self.job())
        owned = await self.store.own(kept.n, self.place, 10, 20)
        assert owned is not None
        rows = [NewLine(n, 100 * n, 90, f"c{n}", bound * (n - 1), bound) for n in range(1, lines + 1)]
        assert await self.store.add_lines(owned, rows, first=True)
        job = msgspec.structs.replace(
            owned.job, model="m", capped=True, held=lines * bound, held_at=5, pots=(5,), **more
        )
        ready = msgspec.structs.replace(owned, job=job, counts=owned.counts._replace(total=lines))
        assert await self.store.begin(ready, 40, NONE, Loan(self.place, ((5, lines * bound),))) is None
        return ready

    async def claim(
        self, batch: KeptBatch, count: int, now: int = 30, place: Place | None = None, most: int = 99
    ):
        calls = [bytes(14) + bytes([now % 200, n]) for n in range(1, count + 1)]
        return await self.store.claim(batch.n, place or self.place, Room(calls, most), now, now + HOUR)

    def in_hand(self) -> set[bytes]:
        """Return the calls of all lines that run."""
        return {bytes(call) for (call,) in self.sql.execute("SELECT call FROM batch_lines WHERE state = 1")}

    def slices(self) -> dict[str, int]:
        return dict(self.sql.execute("SELECT slot, amount FROM slices WHERE pot = 5"))

    def missing(self) -> list[tuple[str, str]]:
        findings = Findings()
        self.sql.with_connection(check_batches, findings)
        return [(each.kind, each.detail) for each in findings.all()]

    def done(self, claim, charge: int = 0, *, answered: bool = True) -> Finished:
        back = ((5, claim.bound - charge),)
        return Finished(claim.n, claim.fence, b"out\n", answered, charge, back, Usage(3, 2))
