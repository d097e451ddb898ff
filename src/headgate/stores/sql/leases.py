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
        writes = batch.wants or batch.returns or batch.answers or batch.beat or batch.leaving
        if not writes:
            sql.execute("BEGIN")
            try:
                return self._answer(sql, batch, {})
            finally:
                sql.execute("ROLLBACK")
        with writing(sql):
            row = sql.execute("SELECT epoch, turn, given FROM slots WHERE slot = ?", (batch.slot,)).fetchone()
            if row is None or row[0] != batch.epoch:
                return Outcome(fenced=True)
            if row[1] >= batch.turn:
                return self._repeat(sql, batch, row[2])
            self._take_back(sql, batch)
            wanted = self._grant(sql, batch) if batch.wants else {}
            given = {pot.number: pot.granted for pot in wanted.values() if pot is not None and pot.granted}
            sql.execute(
                "UPDATE slots SET turn = ?, given = ? WHERE slot = ?",
                (batch.turn, json.dumps(given) if given else "", batch.slot),
            )
            self._mark(sql, batch)
            return self._answer(sql, batch, wanted)

    def _repeat(self, sql: Connection, batch: Batch, given: str) -> Outcome:
        """Say again what came of a turn that was applied: whoever said it does not know."""
        granted = {int(pot): amount for pot, amount in json.loads(given or "{}").items()}
        again = batch._replace(watched=(*batch.watched, *granted))
        self._mark(sql, batch)
        outcome = self._answer(sql, again, {})
        lots = [lot._replace(granted=granted.get(lot.pot, 0)) for lot in outcome.lots]
        return outcome._replace(lots=lots, repeated=True)

    @staticmethod
    def _mark(sql: Connection, batch: Batch) -> None:
        """Note that a slot lives, or is gone."""
        if batch.leaving:
            sql.execute("UPDATE slots SET pid = 0 WHERE slot = ?", (batch.slot,))
        elif batch.beat:
            sql.execute("UPDATE slots SET seen_at = ? WHERE slot = ?", (batch.now, batch.slot))

    @staticmethod
    def _in_force(sql: Connection, batch: Batch) -> bool:
        row = sql.execute("SELECT epoch FROM slots WHERE slot = ?", (batch.slot,)).fetchone()
        return row is not None and row[0] == batch.epoch

    @staticmethod
    def _take_back(sql: Connection, batch: Batch) -> None:
        slot = batch.slot
        for pot, amount in batch.returns.items():
            sql.execute(
                "UPDATE slices SET amount = max(0, amount - ?) WHERE pot = ? AND slot = ?",
                (amount, pot, slot),
            )
            pots.settle_down(sql, pot)
        for pot, number in batch.answers.items():
            sql.execute("UPDATE slices SET answered = ? WHERE pot = ? AND slot = ?", (number, pot, slot))

    @staticmethod
    def _grant(sql: Connection, batch: Batch) -> dict[PotName, Pot | None]:
        """Meet the wants; return the pots that they name as they are now."""
        names = {name for want in batch.wants for name in (*want.all_of, *want.sources)}
        found = {name: pots.find(sql, name) for name in names}
        there = {name: pot for name, pot in found.items() if pot is not None}
        recall = pots.next_recall(sql)
        allocate(batch, there, recall)
        for pot in there.values():
            if pot.granted:
                sql.execute(_SLICE, (pot.number, batch.slot, *pot.slices[batch.slot]))
            if pot.recall == recall:
                sql.execute("UPDATE pots SET recall = ? WHERE id = ?", (recall, pot.number))
                # The taker itself need not answer, unless it owes an answer to an earlier one.
                sql.execute(
                    "UPDATE slices SET answered = ? WHERE pot = ? AND slot = ? AND answered >= ?",
                    (recall, pot.number, batch.slot, pot.heard),
                )
        return found

    def _answer(self, sql: Connection, batch: Batch, wanted: dict[PotName, Pot | None]) -> Outcome:
        if not self._in_force(sql, batch):
            return Outcome(fenced=True)
        lots = [
            pot.lot(batch.slot) if pot is not None else Lot(name, 0, 0, 0, 0, 0, -1, 0)
            for name, pot in wanted.items()
        ]
        known = {lot.pot for lot in lots}
        for number in {*batch.watched, *batch.answers} - known:
            if (pot := pots.by_id(sql, number)) is not None:
                pot.listen(batch.slot, batch.live)
                lots.append(pot.lot(batch.slot))
        recalled = sql.execute(
            "SELECT p.id, p.recall FROM pots p JOIN slices s ON s.pot = p.id AND s.slot = ?"
            " WHERE p.recall > 0 AND p.recall > ? AND p.recall > s.answered",
            (batch.slot, batch.seen),
        ).fetchall()
        slots = sql.execute("SELECT slot, seen_at FROM slots WHERE pid <> 0").fetchall()
        return Outcome(lots, dict(recalled), pots.next_recall(sql) - 1, dict(slots))


def _open(connect: Callable[[], Connection]) -> Connection:
    sql = connect()
    sql.sync_less()
    sql.wait_for_writers(_BUSY_S)
    return sql
