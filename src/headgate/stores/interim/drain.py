"""Copy settlements from a journal to SQL while serving: in batches, in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ports import Failpoints
    from headgate.stores.interim.journal import Settled, SlotJournal
    from headgate.stores.interim.ledger import Books

BATCH = 256
EVERY_S = 0.05
SYNC_EVERY_S = 0.005
_RETRY_S = 0.5


class Drain:
    """One journal's way into the database.

    Args:
        journal: whose `pending` settlements are copied.
        books: the writer, used by one thread at a time.
        failpoints: named places around the commit.
        trouble: told what the database said when it refused a batch.
    """

    def __init__(
        self, journal: SlotJournal, books: Books, failpoints: Failpoints, trouble: Callable[[str], None]
    ) -> None:
        self._journal = journal
        self._books = books
        self._failpoints = failpoints
        self._trouble = trouble
        self.healthy = True

    async def run(self) -> None:
        """Copy for as long as the process lives."""
        while True:
            if not self._journal.pending:
                await asyncio.sleep(EVERY_S)
            elif not await self.step():
                await asyncio.sleep(_RETRY_S)

    async def sync(self) -> None:
        """Make the journal durable every few milliseconds while it is written."""
        while True:
            await asyncio.sleep(SYNC_EVERY_S if self._journal.dirty else EVERY_S)
            if self._journal.dirty:
                await asyncio.to_thread(self._journal.sync_if_dirty)

    async def flush(self) -> None:
        """Copy everything that is settled now; give up when the database refuses."""
        while self._journal.pending:
            if not await self.step():
                return

    async def step(self) -> bool:
        """Copy one batch; say whether the database took it."""
        pending = self._journal.pending
        batch = [pending[index] for index in range(min(BATCH, len(pending)))]
        try:
            await asyncio.to_thread(self._write, batch)
        except sqlite3.Error as fault:
            self.healthy = False
            self._trouble(str(fault))
            return False
        self.healthy = True
        for _ in batch:
            pending.popleft()
        self._journal.drained_to(batch[-1])
        return True

    def _write(self, batch: list[Settled]) -> None:
        self._failpoints.hit("drain-before-commit")
        last = batch[-1]
        rows = [(item.opened, item.settled, False) for item in batch]
        self._books.write(rows, self._journal.folder.name, last.segment, last.offset)
        self._failpoints.hit("drain-after-commit")
