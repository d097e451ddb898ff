"""Recorded answers of all servers on one database: whichever is asked again knows what was asked before.

Each step is one statement of its own: recordings are not the books, so nobody waits for their one writer. Who
makes a call writes of it, and of one that was lost says what it has cost, since that is in its journal. Those
who read along are on machines whose clocks differ, so that is timed by the database's.
"""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from headgate.errors import Unavailable
from headgate.stores.postgres.room import Keeper
from headgate.stores.sql.charges import Charges, booked, has_left, total
from headgate.stores.sql.database import connect, folder_of
from headgate.stores.sql.sealed import COLUMNS, MOMENT_US, RENEWED_US, WANTED_US, Sealed
from headgate.stores.sqlthread import SqlThread
from headgate.wire.recorded import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.sealed import Room
    from headgate.values import NanoUSD, WallMicros
    from headgate.vaults.boxes import Box
    from headgate.wire.recorded import Kept, Label, Progress, Recorded

Result = TypeVar("Result")
Given = ParamSpec("Given")
_WAIT_S: Final = 2.0  # that a caller waits for the database, as for money
_TROUBLE: Final = "The database that keeps recorded answers is away"
_UNHELD: Final = (
    "Nothing was sent to a provider, and nothing is paid: without the database nobody can tell whether this "
    "call was made before, or keep its answer. Send it again later, with the same Idempotency-Key."
)
_TRIES: Final = 5
_CLOCK: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_NEW: Final = (
    "call = :call, request = :request, project = :project, book = :book, keyed = :keyed,"
    " resume_s = :resume_s, node = :node, slot = :slot, state = 0, made_at = :now, expires_at = :until,"
    " resume_until = :resume_until, wanted_until = 0, charge = NULL, size = 0, answer = NULL"
)
_CLAIM: Final = (
    "INSERT INTO recordings (call, name, request, project, book, keyed, resume_s, node, slot, state, made_at,"
    " expires_at, resume_until) VALUES (:call, :name, :request, :project, :book, :keyed, :resume_s, :node,"
    f" :slot, 0, :now, :until, :resume_until) ON CONFLICT (name) DO UPDATE SET {_NEW}"
    f" WHERE recordings.state IN ({State.REFUSED}, {State.EXPIRED}) OR recordings.expires_at <= :now"
)
_TAKE_OVER: Final = (
    f"UPDATE recordings SET {_NEW} WHERE name = :name AND call = :before"
    f" AND state IN ({State.WHOLE}, {State.LOST}, {State.DROPPED})"  # whole: it cannot be opened any more
)
_KEEP: Final = (
    "WITH shown AS (DELETE FROM recording_parts WHERE call = :call)"
    " UPDATE recordings SET state = :state, answer = :answer, size = :size, charge = :charge,"
    " resume_until = CASE WHEN resume_s > 0 THEN resume_s * 1000000 + :now ELSE 0 END,"
    " expires_at = greatest(CASE WHEN resume_s > 0 THEN resume_s * 1000000 + :now ELSE 0 END,"
    " CASE WHEN keyed = 1 THEN made_at + :kept ELSE 0 END) WHERE call = :call"
)
_REFUSE: Final = (
    "WITH shown AS (DELETE FROM recording_parts WHERE call = :call)"
    f" UPDATE recordings SET state = {State.REFUSED}, answer = :answer, expires_at = :until, resume_until = 0"
    f" WHERE call = :call AND wanted_until > {_CLOCK}"
)
# Others may have given it up meanwhile; only who made it releases it.
_RELEASE: Final = (
    f"DELETE FROM recordings WHERE call = ? AND (state = 0 OR (state = {State.LOST} AND charge IS NULL))"
)
_TELL: Final = (
    "INSERT INTO recording_parts SELECT r.call, CAST(? AS bigint), CAST(? AS bytea) FROM recordings r"
    " WHERE r.call = ? AND r.state = 0 ON CONFLICT DO NOTHING"
)
# The owner of a slot says each 0.4 s that it lives.
_FOLLOW: Final = (
    f"SELECT r.state, r.answer, coalesce(s.seen_at, 0), r.wanted_until - {_CLOCK}, ARRAY(SELECT p.part"
    " FROM recording_parts p WHERE p.call = r.call AND p.n >= ? ORDER BY p.n) FROM recordings r"
    " LEFT JOIN slots s ON s.slot = r.node || '/slot-' || CAST(r.slot AS text) WHERE r.call = ?"
)
_WANT: Final = f"UPDATE recordings SET wanted_until = {_CLOCK} + {WANTED_US} WHERE call = ? AND state = 0"
_LOSE: Final = (
    f"UPDATE recordings SET state = {State.LOST}, charge = ? WHERE call = ?"
    f" AND (state = 0 OR (state = {State.LOST} AND charge IS NULL))"
)
_FIELDS: Final = f"{COLUMNS}, node, slot"
_ELSEWHERE: Final = -1  # the slot of a worker of another node


class SharedRecordings:
    """The recordings of all nodes, as one worker sees them; close it after use. Each raises `Unavailable`.

    Args:
        place: the data folder, and where the database is.
        worker: the node that the folder is, and the worker's slot.
        box: seals what is kept.
        room: how much that may be, of all nodes together.
    """

    def __init__(self, place: Place, worker: tuple[str, int], box: Box, room: Room) -> None:
        self._place = place
        self._node, self._slot = worker
        self._sealed = Sealed(box)
        self._room = room
        self._keeper = Keeper(room)
        self._thread = SqlThread("recordings", partial(connect, place), _TROUBLE)

    async def lose(self, slot: int, workers: int) -> None:
        """Take note that what a worker recorded is lost: it has just started, or is no more."""
        await self._thread.run(self._lose, slot, workers)

    async def claim(self, label: Label, slot: int, now: WallMicros) -> Kept | None:
        """Begin to record; committed when it returns. Return what there is of this name, if anything."""
        return await self._held(self._claim, label, slot, now)

    async def take_over(self, label: Label, before: bytes, slot: int, now: WallMicros) -> bool:
        """Record anew what was lost with another call; False where somebody else has done so."""
        return await self._held(self._take_over, label, before, slot, now)

    async def keep(self, call: bytes, state: State, recorded: Recorded | None, now: WallMicros) -> None:
        """Keep how a recording ended; of one that is lost also what it has cost."""
        await self._thread.run(self._keep, call, state, recorded, now)

    async def release(self, call: bytes, recorded: Recorded, now: WallMicros) -> None:
        """Forget a call that was refused, so that the next one is made; who waits elsewhere is told."""
        await self._thread.run(self._release, call, recorded, now)

    async def wanted(self, slot: int, _now: WallMicros, /) -> list[bytes]:
        """Return the calls whose recordings other workers read while they are made."""
        return await self._thread.run(self._wanted, slot)

    async def tell(self, call: bytes, first: int, parts: Sequence[bytes]) -> None:
        """Show parts of a recording, from a number on, to other workers; the same again is no harm."""
        await self._thread.run(self._tell, call, first, parts)

    async def follow(self, call: bytes, known: int, _now: WallMicros, /) -> Progress | None:
        """Return what came behind the parts that are known, and want more; None where it was forgotten."""
        return await self._soon(self._follow, call, known)

    async def give_up(self, call: bytes) -> None:
        """Take note that nobody makes a call whose recording is open."""
        await self._soon(self._give_up, call)

    async def find(self, call: bytes) -> Kept | None:
        """Return the recording of a call."""
        return await self._soon(self._find, call)

    async def sweep(self, now: WallMicros) -> None:
        """Forget what has been kept for long enough, and what there is too much of."""
        await self._thread.run(self._keeper.sweep, now)

    async def charged(self, call: bytes) -> NanoUSD | None:
        """Return what a call has cost its caller; None where nobody knows yet, or it made something."""
        return await self._held(self._charged, call)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self._thread.close()

    async def _soon(
        self,
        work: Callable[Concatenate[Connection, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Do work that somebody waits for, who does not wait long."""
        try:
            async with asyncio.timeout(_WAIT_S):
                return await self._thread.run(work, *args, **kwargs)
        except TimeoutError:
            raise Unavailable(f"{_TROUBLE}: it does not answer in time.") from None

    async def _held(
        self,
        work: Callable[Concatenate[Connection, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Do work without which a call is not made."""
        try:
            return await self._soon(work, *args, **kwargs)
        except Unavailable as fault:
            raise Unavailable(f"{fault.message} {_UNHELD}") from fault

    # ── in the thread ────────────────────────────────────────────────────────────────────────────

    def _claim(self, sql: Connection, label: Label, slot: int, now: WallMicros) -> Kept | None:
        values = self._row(label, slot, now)
        for _ in range(_TRIES):
            if sql.execute(_CLAIM, values).rowcount == 1:
                return None
            row = sql.execute(f"SELECT {_FIELDS} FROM recordings WHERE name = ?", (label.name,)).fetchone()
            if row is not None:  # else it was forgotten in between
                return self._kept(row)
        raise sqlite3.OperationalError("a key is claimed and forgotten all the time")

    def _take_over(self, sql: Connection, label: Label, before: bytes, slot: int, now: WallMicros) -> bool:
        values = {**self._row(label, slot, now), "before": before}
        return sql.execute(_TAKE_OVER, values).rowcount == 1

    def _row(self, label: Label, slot: int, now: WallMicros) -> dict[str, Any]:
        until = self._room.open_until(now)
        return {
            **label._asdict(),
            "book": int(label.book),
            "keyed": int(label.keyed),
            "node": self._node,
            "slot": slot,
            "now": now,
            "until": until,
            "resume_until": until if label.resume_s else 0,
        }

    def _keep(
        self, sql: Connection, call: bytes, state: State, recorded: Recorded | None, now: WallMicros
    ) -> None:
        answer = self._sealed.answer(call, recorded) if recorded is not None else None
        charge = self._journaled(sql, call) if recorded is None else None
        size = len(answer or b"")
        values = {"call": call, "state": int(state), "answer": answer, "size": size, "charge": charge}
        sql.execute(_KEEP, {**values, "now": now, "kept": self._room.kept_us})
        self._keeper.kept(sql, size)

    def _release(self, sql: Connection, call: bytes, recorded: Recorded, now: WallMicros) -> None:
        answer = self._sealed.answer(call, recorded)
        sql.execute(_REFUSE, {"call": call, "answer": answer, "until": now + MOMENT_US})
        sql.execute(_RELEASE, (call,))

    def _wanted(self, sql: Connection, slot: int) -> list[bytes]:
        rows = sql.execute(
            "SELECT call FROM recordings WHERE state = 0 AND node = ? AND slot = ?"
            f" AND wanted_until > {_CLOCK}",
            (self._node, slot),
        )
        return [call for (call,) in rows]

    def _tell(self, sql: Connection, call: bytes, first: int, parts: Sequence[bytes]) -> None:
        sql.executemany(_TELL, [(n, part, of) for of, n, part in self._sealed.parts(call, first, parts)])

    def _follow(self, sql: Connection, call: bytes, known: int) -> Progress | None:
        row = sql.execute(_FOLLOW, (known, call)).fetchone()
        if row is None:
            return None
        state, answer, beat, wanted_us, parts = row
        if state == State.OPEN and wanted_us < WANTED_US - RENEWED_US:
            sql.execute(_WANT, (call,))
        progress = self._sealed.progress(call, state, answer, list(enumerate(parts, start=known)))
        return progress._replace(beat=beat)

    def _give_up(self, sql: Connection, call: bytes) -> None:
        open_now = "SELECT node, slot FROM recordings WHERE call = ? AND state = 0"
        row = sql.execute(open_now, (call,)).fetchone()
        if row is None:
            return
        # Another worker may be frozen, and go on: nobody knows what that will cost.
        charge = self._journaled(sql, call) if self._ours(*row) else None
        sql.execute(_LOSE, (charge, call))

    def _find(self, sql: Connection, call: bytes) -> Kept | None:
        row = sql.execute(f"SELECT {_FIELDS} FROM recordings WHERE call = ?", (call,)).fetchone()
        return None if row is None else self._kept(row)

    def _kept(self, row: Sequence[Any]) -> Kept:
        *columns, node, slot = row
        return self._sealed.kept(columns, slot if node == self._node else _ELSEWHERE)

    def _lose(self, sql: Connection, slot: int, workers: int) -> None:
        rows = sql.execute(
            "SELECT call FROM recordings WHERE node = ? AND (slot = ? OR (? = 0 AND slot >= ?))"
            f" AND (state = 0 OR (state = {State.LOST} AND charge IS NULL))",
            (self._node, slot, slot, workers),
        ).fetchall()
        charges = Charges(folder_of(self._place)) if rows else None
        for (call,) in rows:
            assert charges is not None
            sql.execute(_LOSE, (charges.of(sql, call), call))

    def _charged(self, sql: Connection, call: bytes) -> NanoUSD | None:
        if has_left(sql, call):
            return None
        row = sql.execute("SELECT node, slot, charge FROM recordings WHERE call = ?", (call,)).fetchone()
        if row is not None and row[2] is not None:
            return int(row[2])
        if row is not None and self._ours(*row[:2]):
            return self._journaled(sql, call)
        # What is booked of it was paid; where nothing is, that may come still.
        return total(booked(sql, call).values()) or None

    def _ours(self, node: str, slot: int) -> bool:
        return (node, slot) == (self._node, self._slot)

    def _journaled(self, sql: Connection, call: bytes) -> NanoUSD | None:
        return Charges(folder_of(self._place)).of(sql, call)
