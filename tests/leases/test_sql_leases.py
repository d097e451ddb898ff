"""Leases in SQLite: the contract, and what is SQLite's own."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.leases.contract import NOW, LeasesContract
from tests.recycled import recycled_database
from tests.stores.books import anywhere, make

from headgate.errors import Unavailable
from headgate.money.periods import period_end, period_key, period_start
from headgate.money.pots import Batch, PotName, Want
from headgate.stores.postgres.connection import PostgresConnection
from headgate.stores.sql import pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import Database, Place, connect
from headgate.stores.sql.leases import SqlLeases
from headgate.stores.sql.postings import Grant, add_grant
from headgate.stores.sql.sqlite import SqliteConnection
from headgate.values import Book

pytestmark = pytest.mark.anyio


class SqlShared:
    """A data folder, as people and the drain see it."""

    def __init__(self, data: Place) -> None:
        self.data = make(data)
        self.sql = anywhere(self.data)
        self.store = SqlLeases(lambda: connect(self.data))

    def budget(self, amount: int, spent: int = 0) -> PotName:
        """Every one has an account of its own, so that what is spent of it is not spent of another."""
        with writing(self.sql):
            (ref,) = self.sql.execute("SELECT count(*) + 100 FROM budgets").fetchone()
            (number,) = self.sql.execute(
                "INSERT INTO budgets (public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
                " VALUES (?, 'account', ?, 0, ?, 'day', 'UTC', 'test', 0) RETURNING id",
                (f"budget_{ref}", ref, amount),
            ).fetchone()
            hour = (NOW // 3_600_000_000, 0, ref, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, spent, 0)
            row = ", ".join("?" * len(hour))
            self.sql.execute("DELETE FROM usage_hours WHERE account = ?", (ref,))
            self.sql.execute(f"INSERT INTO usage_hours VALUES ({row})", hour)
        day = (NOW, "day", "UTC")
        return PotName("budget", number, period_key(*day), period_start(*day), period_end(*day))

    def grant(self, amount: int, expires_at: int = 0) -> PotName:
        return self._grant(Grant(1, int(Book.REAL), "gift", NOW, expires_at=expires_at), amount)

    def tokens(self, amount: int) -> PotName:
        return self._grant(Grant(1, int(Book.REAL), "gift", NOW, model="gpt-*", tokens=amount), amount)

    def _grant(self, grant: Grant, amount: int) -> PotName:
        with writing(self.sql):
            number, _ = add_grant(self.sql, grant)
            self.sql.execute(
                "UPDATE pots SET amount = ? WHERE kind <> 'budget' AND ref = ?", (amount, number)
            )
        kind = "tokens" if grant.model else "grant"
        return PotName(kind, number, until=grant.expires_at or PotName("grant", 0).until)

    def spend(self, slot: str, pot: int, charge: int) -> None:
        with writing(self.sql):
            self.sql.execute("UPDATE pots SET spent = spent + ? WHERE id = ?", (charge, pot))
            self.sql.execute(pots.LESS, (charge, pot, slot))

    def resize(self, name: PotName, amount: int) -> None:
        with writing(self.sql):
            self.sql.execute("UPDATE budgets SET amount = ? WHERE id = ?", (amount, name.ref))
            pots.resize(self.sql, "budget", name.ref, amount)

    def remove(self, name: PotName) -> None:
        with writing(self.sql):
            pots.remove(self.sql, name.ref)
            self.sql.execute("DELETE FROM budgets WHERE id = ?", (name.ref,))

    def bury(self, slot: str) -> None:
        with writing(self.sql):
            pots.clear(self.sql, slot)

    def standing(self, name: PotName) -> tuple[int, int, int, dict[str, int]]:
        number, amount, over, spent = self.sql.execute(
            "SELECT id, amount, over, spent FROM pots WHERE kind = ? AND ref = ? AND period = ?", name[:3]
        ).fetchone()
        slices = self.sql.execute("SELECT slot, amount FROM slices WHERE pot = ?", (number,)).fetchall()
        return amount, over, spent, dict(slices)


class TestSqlLeases(LeasesContract):
    @pytest.fixture
    async def shared(self, place: Place) -> AsyncIterator[SqlShared]:
        made = SqlShared(place)
        yield made
        await made.store.close()
        made.sql.close()

    async def test_a_locked_database_is_said_and_changes_nothing(self, shared: SqlShared) -> None:
        name = shared.budget(100)
        worker = await self.worker(shared, "slot-0")
        shared.sql.execute("BEGIN IMMEDIATE")
        before = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match="locked"):
            await worker.take(10, name)
        assert asyncio.get_running_loop().time() - before < 2
        shared.sql.execute("ROLLBACK")
        assert (await worker.take(10, name)).granted == 100

    async def test_the_loop_goes_on_while_the_database_is_locked(self, shared: SqlShared) -> None:
        worker = await self.worker(shared, "slot-0")
        shared.sql.execute("BEGIN IMMEDIATE")
        asked = asyncio.create_task(worker.say(beat=True))
        for _ in range(5):
            await asyncio.sleep(0.01)
            assert not asked.done()
        shared.sql.execute("ROLLBACK")
        assert not (await asked).fenced

    async def test_a_batch_that_fails_in_the_middle_changes_nothing(self, shared: SqlShared) -> None:
        name = shared.budget(100)
        worker = await self.worker(shared, "slot-0")
        pot = (await worker.take(10, name)).pot
        shared.sql.define(
            "CREATE TRIGGER no BEFORE UPDATE ON slots BEGIN SELECT RAISE(ABORT, 'planted'); END;"
        )
        with pytest.raises(Unavailable, match="planted"):
            await worker.say(returns={pot: 40}, beat=True)
        assert shared.standing(name)[3] == {"slot-0": 100}

    async def test_a_commit_whose_answer_is_lost_counts_once(
        self, shared: SqlShared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = ["COMMIT"]

        def losing(execute: Any) -> Any:
            def run(sql: Any, text: str, *values: Any) -> Any:
                done = execute(sql, text, *values)
                if text in lost and threading.current_thread().name.startswith("leases"):
                    lost.clear()
                    raise sqlite3.OperationalError("the connection was lost")
                return done

            return run

        name = shared.budget(100)
        worker = await self.worker(shared, "slot-0", "slot-1")
        pot = (await worker.take(50, name)).pot
        for kind in (SqliteConnection, PostgresConnection):
            monkeypatch.setattr(kind, "execute", losing(kind.execute))
        said = {"returns": {pot: 20}, "wants": [Want(30, (name,))]}
        with pytest.raises(Unavailable, match="lost"):
            await worker.say(**said)
        again = await worker.say(again=True, **said)
        assert (again.repeated, [lot.granted for lot in again.lots]) == (True, [30])
        assert shared.standing(name)[3] == {"slot-0": 50 - 20 + 30}

    async def test_looking_writes_nothing(self, shared: SqlShared) -> None:
        worker = await self.worker(shared, "slot-0")
        shared.sql.execute("BEGIN IMMEDIATE")  # nobody else can write
        outcome = await shared.store.exchange(Batch("slot-0", worker.epoch, NOW))
        shared.sql.execute("ROLLBACK")
        assert outcome.slots == {"slot-0": NOW}

    async def test_a_pot_begins_with_what_the_books_say_of_its_period_alone(self, shared: SqlShared) -> None:
        name = shared.budget(1_000, spent=100)
        day = 24
        for hours, charge in ((-day, 7), (day, 30), (1, 50)):
            hour = (NOW // 3_600_000_000 + hours, 0, 100, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, charge, 0)
            shared.sql.execute(f"INSERT INTO usage_hours VALUES ({', '.join('?' * len(hour))})", hour)
        worker = await self.worker(shared, "slot-0")
        await worker.say(wants=[Want(10, (name,))])
        assert shared.standing(name)[2] == 150

    async def test_a_lost_slice_stays_away(self, shared: SqlShared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0", "slot-1")
        await one.take(40, name)
        with writing(shared.sql):
            pots.clear(shared.sql, "slot-0", lost=True)
        assert shared.standing(name)[3] == {pots.LOST: 40}
        two = await self.worker(shared, "slot-1")
        assert (await two.take(61, name)).granted == 0
        assert (await two.take(60, name)).granted == 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with recycled_database() as url:
        yield Database(tmp_path, url)


@pytest.mark.services("postgresql")
@pytest.mark.parametrize("pots_at_once", [1, 3, 33])
async def test_how_many_questions_an_exchange_is_does_not_grow_with_its_pots(
    pots_at_once: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a network each costs more than what it asks."""
    asked: list[str] = []
    wait = PostgresConnection._wait

    def noting(self: PostgresConnection, work: Any) -> Any:
        asked.append(threading.current_thread().name)
        return wait(self, work)

    shared = SqlShared(database)
    names = tuple(shared.budget(1_000) for _ in range(pots_at_once))
    monkeypatch.setattr(PostgresConnection, "_wait", noting)
    worker = await LeasesContract().worker(shared, "slot-0", "slot-1")
    ids = [lot.pot for lot in (await worker.say(wants=[Want(10, names)])).lots]  # which makes them
    await worker.say(watched=ids)  # a connection asks once whether calls are in months
    returned, recalls = dict.fromkeys(ids, 1), dict.fromkeys(ids, 0)
    for said, most in (
        ({}, 1),
        ({"watched": ids}, 4),
        ({"beat": True}, 4),
        ({"wants": [Want(1, names)]}, 4 + 3),
        ({"returns": returned, "answers": recalls}, 4 + 4),
    ):
        asked.clear()
        assert not (await worker.say(**said)).fenced
        assert sum(name.startswith("leases") for name in asked) == most, said
    await shared.store.close()
    shared.sql.close()


def test_the_id_of_a_removed_budget_may_be_given_again(tmp_path: Path) -> None:
    shared = SqlShared(tmp_path)
    name = shared.budget(100)
    with closing(shared.sql):
        with writing(shared.sql):
            assert pots.find(shared.sql, name) is not None
        shared.remove(name)
        again = shared.budget(500)
        assert again.ref == name.ref
        with writing(shared.sql):
            found = pots.find(shared.sql, again)
        assert found is not None
        assert (found.amount, found.spent) == (500, 0)
        with pytest.raises(sqlite3.IntegrityError):
            shared.sql.execute("INSERT INTO pots SELECT * FROM pots")
    asyncio.run(shared.store.close())
