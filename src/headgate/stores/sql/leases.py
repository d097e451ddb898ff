"""Leases in the books' own SQLite file: short transactions, on a connection and in a thread of its own.

`synchronous = NORMAL` is enough here: after a power cut no worker lives, and the next start clears every
slice once the journals are replayed.
"""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from headgate.money.pots import Lot, Outcome, allocate
from headgate.stores.sql import pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sqlthread import SqlThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.money.pots import Batch, Pot, PotName
    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

_BUSY_S: Final = 0.25  # how long a batch waits for another writer before it is tried again
_SLICE = (
    "INSERT INTO slices (pot, slot, amount, answered) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (pot, slot) DO UPDATE SET amount = excluded.amount"
)
_LAST_RECALL = "(SELECT coalesce(max(recall), 0) FROM pots WHERE recall > 0)"
_TURN = (
    "UPDATE slots SET turn = ?, given = '', seen_at = ? WHERE slot = ? AND epoch = ? AND turn < ?"
    f" RETURNING {_LAST_RECALL}"
)
_OWN, _SERVING, _LAST, _RECALLED = range(4)  # what a row of a state tells
# One question for all of it, since over a network each costs more than what it asks.
_STATE = (
    f"SELECT {_OWN}, '', epoch, 0 FROM slots WHERE slot = :slot"
    f" UNION ALL SELECT {_SERVING}, slot, seen_at, 0 FROM slots WHERE pid <> 0"
    f" UNION ALL SELECT {_LAST}, '', {_LAST_RECALL}, 0"
    f" UNION ALL SELECT {_RECALLED}, '', p.id, p.recall FROM pots p"
    " JOIN slices s ON s.pot = p.id AND s.slot = :slot"
    " WHERE p.recall > 0 AND p.recall > :seen AND p.recall > s.answered"
)


class SqlLeases:
    """The slices of one data folder. Implements `ports.Leases`; close it after use.

    Args:
        connect: opens the database; called in the thread.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._thread = SqlThread("leases", partial(_open, connect), "The database does not grant money")

    async def join(self, slot: str, now: WallMicros) -> int:
        """Enter service in a slot and return its new epoch; whoever had the slot before is fenced."""
        return await self._thread.run(self._join, slot, now)

    async def exchange(self, batch: Batch) -> Outcome:
        """Apply a batch in one transaction. See `ports.Leases`."""
        return await self._thread.run(self._exchange, batch)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self._thread.close()

    # ── in the thread ────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _join(sql: Connection, slot: str, now: WallMicros) -> int:
        with writing(sql):
            row = sql.execute(
                "INSERT INTO slots (slot, epoch, pid, seen_at) VALUES (?, 1, ?, ?) ON CONFLICT (slot)"
                " DO UPDATE SET epoch = slots.epoch + 1, pid = excluded.pid, seen_at = excluded.seen_at,"
                " turn = 0, given = '' RETURNING epoch",
                (slot, os.getpid(), now),
            ).fetchone()
        return int(row[0])

    def _exchange(self, sql: Connection, batch: Batch) -> Outcome:
        asks = batch.wants or batch.ahead
        writes = asks or batch.returns or batch.answers or batch.beat or batch.leaving
        if not writes:
            return self._look(sql, batch)
        with writing(sql):
            values = (batch.turn, batch.now, batch.slot, batch.epoch, batch.turn)
            row = sql.execute(_TURN, values).fetchone()
            if row is None:
                return self._repeat(sql, batch)
            self._take_back(sql, batch)
            wanted = self._grant(sql, batch, row[0] + 1) if asks else {}
            self._leave(sql, batch)
            return self._answer(sql, batch, wanted)

    def _look(self, sql: Connection, batch: Batch) -> Outcome:
        if not batch.watched:
            return self._answer(sql, batch, {})  # one question, of one moment
        sql.execute("BEGIN")
        try:
            return self._answer(sql, batch, {})
        finally:
            sql.execute("ROLLBACK")

    def _repeat(self, sql: Connection, batch: Batch) -> Outcome:
        """Say again what came of a turn that was applied: whoever said it does not know."""
        row = sql.execute("SELECT epoch, given FROM slots WHERE slot = ?", (batch.slot,)).fetchone()
        if row is None or row[0] != batch.epoch:
            return Outcome(fenced=True)
        granted = {int(pot): amount for pot, amount in json.loads(row[1] or "{}").items()}
        again = batch._replace(watched=(*batch.watched, *granted))
        sql.execute("UPDATE slots SET seen_at = ? WHERE slot = ?", (batch.now, batch.slot))
        self._leave(sql, batch)
        outcome = self._answer(sql, again, {})
        lots = [lot._replace(granted=granted.get(lot.pot, 0)) for lot in outcome.lots]
        return outcome._replace(lots=lots, repeated=True)

    @staticmethod
    def _leave(sql: Connection, batch: Batch) -> None:
        if batch.leaving:
            sql.execute("UPDATE slots SET pid = 0 WHERE slot = ?", (batch.slot,))

    @staticmethod
    def _take_back(sql: Connection, batch: Batch) -> None:
        slot = batch.slot
        if batch.returns:
            sql.executemany(pots.LESS, [(amount, pot, slot) for pot, amount in batch.returns.items()])
            sql.executemany(pots.SETTLED, [(pot,) for pot in batch.returns])
        if batch.answers:
            sql.executemany(
                "UPDATE slices SET answered = ? WHERE pot = ? AND slot = ?",
                [(number, pot, slot) for pot, number in batch.answers.items()],
            )

    @staticmethod
    def _grant(sql: Connection, batch: Batch, recall: int) -> dict[PotName, Pot | None]:
        """Meet the wants; return the pots that they name as they are now."""
        named = [name for want in batch.wants for name in (*want.all_of, *want.sources)]
        found = pots.find_all(sql, (*named, *batch.ahead))
        there = {name: pot for name, pot in found.items() if pot is not None}
        allocate(batch, there, recall)
        granted = [pot for pot in there.values() if pot.granted]
        if granted:
            sql.executemany(_SLICE, [(pot.number, batch.slot, *pot.slices[batch.slot]) for pot in granted])
            given = json.dumps({pot.number: pot.granted for pot in granted})
            sql.execute("UPDATE slots SET given = ? WHERE slot = ?", (given, batch.slot))
        recalled = [pot for pot in there.values() if pot.recall == recall]
        if recalled:
            sql.executemany("UPDATE pots SET recall = ? WHERE id = ?", [(recall, p.number) for p in recalled])
            # The taker itself need not answer, unless it owes an answer to an earlier one.
            sql.executemany(
                "UPDATE slices SET answered = ? WHERE pot = ? AND slot = ? AND answered >= ?",
                [(recall, pot.number, batch.slot, pot.heard) for pot in recalled],
            )
        return found

    def _answer(self, sql: Connection, batch: Batch, wanted: dict[PotName, Pot | None]) -> Outcome:
        lots = [
            pot.lot(batch.slot) if pot is not None else Lot(name, 0, 0, 0, 0, 0, -1, 0)
            for name, pot in wanted.items()
        ]
        known = {lot.pot for lot in lots}
        for pot in pots.by_ids(sql, {*batch.watched, *batch.answers} - known):
            pot.listen(batch.slot, batch.live)
            lots.append(pot.lot(batch.slot))
        rows = sql.execute(_STATE, {"slot": batch.slot, "seen": batch.seen}).fetchall()
        if not any(kind == _OWN and epoch == batch.epoch for kind, _, epoch, _ in rows):
            return Outcome(fenced=True)
        return Outcome(
            lots,
            recalled={pot: recall for kind, _, pot, recall in rows if kind == _RECALLED},
            seen=next(last for kind, _, last, _ in rows if kind == _LAST),
            slots={slot: seen_at for kind, slot, seen_at, _ in rows if kind == _SERVING},
        )


def _open(connect: Callable[[], Connection]) -> Connection:
    sql = connect()
    sql.sync_less()
    sql.wait_for_writers(_BUSY_S)
    return sql
