"""Copy settlements from a journal to SQL while serving: in batches, in a thread of its own.

The thread sleeps on a lock while nothing is written, then for `every_s`, so a batch is what came
meanwhile: for longer while one transaction takes all of that, since each has its price. It works in slices
with a longer sleep after each: a thread that computes would keep the event loop waiting for the interpreter
lock, and the core. In a transaction it sleeps for moments only, since all who write wait for that, and calls
that need money with them: the rest of its sleep comes between two of them. For moments only, too, while it
is far behind.
What the database refuses stays in the journal and is tried again, ever more slowly.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from headgate.failpoints import NoFailpoints
from headgate.stores.journal.bell import Bell
from headgate.stores.journal.cursor import Cursor, OpenCalls, Settled
from headgate.stores.journal.records import HEAD
from headgate.stores.journal.segments import Position
from headgate.stores.sql.ledger import SLICE, Books

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from headgate.ports import Failpoints
    from headgate.stores.journal import SlotJournal
    from headgate.stores.journal.handover import Handover
    from headgate.stores.sql.connection import Connection

BATCH: Final = 1024  # settled calls in one transaction, at most
_PAUSE_S: Final = 0.0005
_MOMENT_S: Final = 0.001  # the longest sleep in a transaction,
_LONGEST_PAUSE_S: Final = 0.03  # and between two
_RESTS: Final = 4  # times as long as a slice took: calls that come meanwhile hardly notice it
_SOME: Final = range(128, 2 * BATCH)  # records in a turn: many, and one transaction takes them all
_LONGER: Final = 2.5  # times that the next turn lasts: what a call did is in the books within the second
_FAR_BEHIND: Final = 16_000  # records: soon the files would have to be read, and then the journal be full
_SLOWEST_RETRY_S: Final = 2.0


class Copier:
    """Where the copying of one slot's journal stands; for one thread.

    Args:
        folder: of the slot.
        sql: the connection that it writes on.
        failpoints: `drain-before-commit`, `drain-after-commit`.
        pause: called between slices of work.
        handover: what its journal gives on directly; None: all of it is read.
        slot: what the database calls it, if not as its folder.
    """

    def __init__(
        self,
        folder: Path,
        sql: Connection,
        failpoints: Failpoints | None = None,
        pause: Callable[[], None] | None = None,
        handover: Handover | None = None,
        slot: str = "",
    ) -> None:
        self.folder = folder
        self._slot = slot or folder.name
        self._orphans = 0  # settlements without an OPEN
        self._damaged = 0  # places that were passed by an earlier cursor
        self._handover = handover
        self._pause = pause or _go_on
        self._failpoints = failpoints or NoFailpoints()
        self._books = Books(sql, self._pause)
        self._calls = OpenCalls()
        self._batch: list[Settled] = []
        self._batch_end = Position(0, 0)
        self._batch_records = 0
        row = sql.execute('SELECT segment, "offset" FROM drains WHERE slot = ?', (self._slot,)).fetchone()
        self.done = Position(*row) if row else Position(0, 0)
        self._cursor = Cursor(folder, Position(self.done.segment, 0))
        self._reading = True  # the cursor is where the copying is
        self._learn_open_calls()

    def _read_again(self) -> None:
        """Go on from the files after what was handed over."""
        self._damaged += len(self._cursor.damage)
        self._calls = OpenCalls()
        self._cursor = Cursor(self.folder, Position(self.done.segment, 0))
        self._reading = True
        self._learn_open_calls()
        self._cursor.damage.clear()

    def _learn_open_calls(self) -> None:
        """Read again what the checkpoint's segment says before it: the calls still open are there."""
        while self._cursor.position < self.done:
            found = self._cursor.read(SLICE, self.done)
            if not found:
                return
            for kind, record in found:
                self._calls.take(kind, record)
        self._calls.orphans.clear()

    @property
    def damaged(self) -> int:
        """Return how many places of the journal could not be read, or not be used."""
        return self._damaged + len(self._cursor.damage) + self._orphans

    def copy(self, until: Position) -> int:
        """Copy one batch; return how many records the checkpoint has moved over.

        A batch that the database refused is tried again, so nothing is lost between.

        Raises:
            sqlite3.Error: the database refused.
        """
        if not self._batch:
            self._collect(until)
        if self._batch or self._batch_end.segment > self.done.segment:
            self._failpoints.hit("drain-before-commit")
            self._books.post(self._batch, self._slot, self._batch_end)
            self._failpoints.hit("drain-after-commit")
        self.done = max(self.done, self._batch_end)
        self._batch = []
        return self._batch_records

    def _collect(self, until: Position) -> None:
        taken = self._handover.take(self.done, until, BATCH) if self._handover is not None else None
        if taken is not None:
            self._batch, self._batch_end, self._batch_records = taken
            self._reading = False
            return
        if not self._reading:
            self._read_again()
        self._batch_records = 0
        while len(self._batch) < BATCH:
            found = self._cursor.read(4 * SLICE, until)
            if not found:
                break
            for kind, record in found:
                self._batch_records += kind != HEAD
                settled = self._calls.take(kind, record)
                if settled is not None:
                    self._batch.append(settled)
            self._pause()
        self._batch_end = self._cursor.position
        self._orphans += len(self._calls.orphans)
        self._calls.orphans.clear()


class Drain:
    """One journal's way into the database, from `start` to `close`.

    Args:
        journal: that is copied.
        connect: opens the connection that the thread writes on.
        failpoints: named places around the commit.
        trouble: told, in the thread, what the database said when it refused a batch.
        every_s: how long records may wait before they are copied.
        slot: what the database calls the journal, if not as its folder.
    """

    def __init__(
        self,
        journal: SlotJournal,
        connect: Callable[[], Connection],
        failpoints: Failpoints,
        trouble: Callable[[str], None],
        every_s: float = 0.2,
        slot: str = "",
    ) -> None:
        self.healthy = True
        self.damaged = 0  # places of the journal that could not be read
        self._journal = journal
        self._connect = connect
        self._failpoints = failpoints
        self._trouble = trouble
        self._every_s = every_s
        self._slot = slot
        self._sql: Connection | None = None
        self._waiting: list[tuple[Position, Callable[[], None]]] = []
        self._flushes = 0  # how many wait for us
        self._away_since: float | None = None  # when the database first refused, of late
        self._kick, self._hurry = Bell(), Bell()
        self._stopping = False
        self._rests = Rests()
        self._outcome = _Outcome()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)

    def start(self) -> None:
        """Begin to copy."""
        self._journal.on_durable = self._wake
        self._thread.start()
        self._wake()

    async def run(self) -> None:
        """Start, and wait for as long as the thread lives.

        Raises:
            BaseException: what ended the thread.
        """
        self.start()
        ended = asyncio.Event()
        self._when(Position(2**62, 0), asyncio.get_running_loop(), ended)
        await ended.wait()
        if self._outcome.fault is not None:
            raise self._outcome.fault

    async def flush(self) -> None:
        """Wait until the database has everything that is written now; for ever while it refuses."""
        if self._ended.is_set() or not self._thread.is_alive():
            return
        done = asyncio.Event()
        self._when(self._journal.position, asyncio.get_running_loop(), done)
        self._flushes += 1
        try:
            self._journal.sync_soon()
            self._hurry.ring()
            self._wake()
            await done.wait()
        finally:
            self._flushes -= 1

    async def close(self) -> None:
        """End the thread; `flush` before, to leave nothing behind."""
        self._stopping = True
        self._hurry.ring()
        self._wake()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _when(self, position: Position, loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
        """Set an event when everything before a position is copied, or when the thread ends."""

        def tell() -> None:
            with suppress(RuntimeError):  # its loop is closed: nobody waits
                loop.call_soon_threadsafe(done.set)

        self._waiting.append((position, tell))

    def _wake(self) -> None:
        self._kick.ring()

    # ── in the thread ────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        with self._outcome:
            self._serve()
        if self._outcome.fault is not None:
            self.healthy = False
            self._trouble(f"copying has ended: {self._outcome.fault!r}")
        if self._sql is not None:
            self._sql.close()
        self._ended.set()
        for _, tell in self._waiting:
            tell()

    def _serve(self) -> None:
        copier: Copier | None = None
        turn_s = retry_s = self._every_s
        while not self._stopping:
            self._kick.wait()
            if not self._flushes:  # they may wait for the disk: when that has it all, we are woken
                self._hurry.wait(turn_s)
            try:
                copier = copier or self._new_copier()
                turn_s = self._every_s * (_LONGER if self._copy_all(copier) in _SOME else 1)
                retry_s = self._every_s
                self._count_away(None)
            except sqlite3.Error as fault:
                self.healthy = False
                self._trouble(str(fault))
                self._count_away(str(fault))
                self._hurry.wait(retry_s)
                retry_s = min(2 * retry_s, _SLOWEST_RETRY_S)
                self._wake()

    def _count_away(self, said: str | None) -> None:
        """Stop admission once the database has taken nothing for as long as the journal may go on alone."""
        if said is None:
            self._away_since = None
            self._journal.fall_behind("")
            return
        now = time.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= self._journal.bound_s:
            self._journal.fall_behind("the database does not take the books")

    def _new_copier(self) -> Copier:
        if self._sql is None:
            self._sql = self._connect()
            self._sql.wait_for_writers(0.5)  # then say that it is locked, and try again
        journal = self._journal
        return Copier(journal.folder, self._sql, self._failpoints, self._pause, journal.handover, self._slot)

    def _copy_all(self, copier: Copier) -> int:
        """Copy what is durable; return how many records that were."""
        until, copied = self._journal.durable, 0
        while True:
            count = copier.copy(until)
            copied += count
            self.healthy = True
            if copier.damaged != self.damaged:
                self.damaged = copier.damaged
                self._trouble(f"{self.damaged} records of the journal cannot be read")
            self._journal.drained(copier.done, count)
            self._tell(copier.done)
            if not count:
                return copied
            self._pause()
            until = self._journal.durable if self._stopping else until

    def _tell(self, position: Position) -> None:
        due = [item for item in self._waiting if item[0] <= position]
        for item in due:
            self._waiting.remove(item)
            item[1]()

    def _pause(self) -> None:
        """Let the event loop have the core and the interpreter, unless somebody waits for us."""
        writing = self._sql is not None and self._sql.in_transaction
        hastens = writing or self._journal.undrained_records > _FAR_BEHIND
        rest_s = self._rests.next_s(_MOMENT_S if hastens else _LONGEST_PAUSE_S)
        if not (self._flushes or self._stopping):
            time.sleep(rest_s)


class Rests:
    """How long a thread that works in slices sleeps after each: others need most of the core that it shares.

    Args:
        worked_s: returns how many seconds of CPU the thread has had.
    """

    __slots__ = ("_before_s", "_owed_s", "_worked_s")

    def __init__(self, worked_s: Callable[[], float] = time.thread_time) -> None:
        self._worked_s = worked_s
        self._before_s = self._owed_s = 0.0

    def next_s(self, longest_s: float) -> float:
        """Return how many seconds to sleep after the work since the last time.

        Args:
            longest_s: sleep no longer now; what is lacking is made up for the next times.
        """
        now_s = self._worked_s()
        worked_s, self._before_s = now_s - self._before_s, now_s
        due_s = max(_PAUSE_S, _RESTS * worked_s + self._owed_s)
        rest_s = min(due_s, longest_s)
        self._owed_s = min(due_s - rest_s, _LONGEST_PAUSE_S)
        return rest_s


class _Outcome:
    """Keep what ended a thread for the one who waits for it."""

    __slots__ = ("fault",)

    def __init__(self) -> None:
        self.fault: BaseException | None = None

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.fault = fault
        return True


def _go_on() -> None:
    """Pause for nobody."""
