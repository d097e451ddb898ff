"""What is played: an old database, starts at once, a kill in the middle of a step, and starts at once again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import asyncpg
from tests.caps.money import Money
from tests.caps.provider import Provider
from tests.ensemble.load import chat
from tests.ensemble.table import Row, spread
from tests.losses.rounds import CALL
from tests.several.asking import ask
from tests.several.database import OwnPostgres
from tests.several.gateways import Replica
from tests.upgrade.older import fingerprints, make_older, write_calls

from headgate.stores.sql.bootstrap import SCHEMA, version
from headgate.stores.sql.database import Database, connect

OLDEST, KILLED_AT = "0008", "0010"
KEPT = ("accounts", "projects", "keys", "calls", "entries", "names", "price_rows", "usage_hours", "balances")
_STEP = (
    "CREATE TABLE usage_days"  # of the one after `KILLED_AT`, which then waits for a lock of `usage_hours`
)
_MIDDLE = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = CAST('usage_hours' AS regclass)"
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
_SUMS = "SELECT sum(calls), sum(input), sum(output), sum(charge), sum(cost) FROM"


class Upgrade:
    """Gateways on one database of an older schema."""

    def __init__(self, folder: Path, server: OwnPostgres, provider: Provider, count: int) -> None:
        self.folder, self.server = folder, server
        self.replicas = [Replica(folder / f"replica-{n}", server.url, provider.port) for n in range(count)]
        self.place: Database = self.replicas[0].place
        self.row = Row(
            f"R-25 upgrade, {count} start at once",
            "one migrates; killed and gone on with; nothing changed or lost",
        )

    async def age(self, calls: int) -> None:
        """Make a database of the oldest revision, with so many calls in it."""
        first = self.replicas[0]
        await first.start()
        self.row.expect(await first.stop() == 0, first.say())
        await asyncio.to_thread(self._age, calls)

    def _age(self, calls: int) -> None:
        write_calls(self.place, calls)
        make_older(self.place, OLDEST)
        with closing(connect(self.place)) as sql:
            sql.execute("CREATE TABLE theirs (a INTEGER PRIMARY KEY, b TEXT)")
            sql.execute("INSERT INTO theirs SELECT n, 'row ' || n FROM generate_series(1, 1000) AS n")

    async def start(self) -> list[float]:
        """Start all at once; return how long each took."""

        async def one(replica: Replica) -> float:
            began = time.monotonic()
            await replica.start(self.replicas[0].data / "pepper")
            return time.monotonic() - began

        return list(await asyncio.gather(*(one(each) for each in self.replicas)))

    async def kill_in_a_step(self) -> None:
        """Start all at once, let one of them get stuck in the middle of a step, and kill all."""
        holder, observer = [await asyncio.wait_for(asyncpg.connect(self.place.url), 10) for _ in range(2)]
        await holder.execute("BEGIN; LOCK TABLE usage_hours IN ROW EXCLUSIVE MODE")
        starts = asyncio.create_task(self.start())
        async with asyncio.timeout(60):
            while await observer.fetchval(_MIDDLE) is None:
                await asyncio.sleep(0.02)
            while await observer.fetchval(_WAITING) < len(self.replicas) - 1:
                await asyncio.sleep(0.02)  # the others wait for the one
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in _processes(self.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        await asyncio.gather(starts, return_exceptions=True)
        for each in (holder, observer):
            await each.close()
        found = await asyncio.to_thread(self._version)
        self.row.expect(found == KILLED_AT, f"the schema is {found} after the kill")

    def _version(self) -> str:
        with closing(connect(self.place)) as sql:
            return version(sql)

    async def serve(self) -> None:
        """Let every gateway serve a call, which is booked."""
        payer = await asyncio.to_thread(Money(self.place).payer)
        await asyncio.sleep(1.5)  # until every one knows it
        for each in self.replicas:
            reply = await ask(each.port, payer.keys[0][1], CALL, chat(1))
            self.row.expect(reply.status == 200, f"{each.folder.name}: {reply}")

    def judge_sums(self) -> None:
        """Compare what the last step made with what it made it of."""
        with closing(connect(self.place)) as sql:
            hours, days = (sql.execute(f"{_SUMS} usage_{unit}").fetchone() for unit in ("hours", "days"))
        self.row.expect(tuple(hours) == tuple(days), f"{hours} in hours, {days} in days")
        self.row.expect(self._version() == SCHEMA, "the schema is not the newest")

    async def stop(self) -> None:
        """Stop all, and prove the books."""
        codes = await asyncio.gather(*(each.stop() for each in self.replicas))
        self.row.expect(set(codes) == {0}, f"exit codes {codes}")
        findings = await asyncio.to_thread(self.replicas[0].findings)
        self.row.expect(findings == [], f"{findings}")


def _processes(folder: Path) -> list[int]:
    """Return the processes that were started on a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(folder) in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


async def play(folder: Path, calls: int, count: int = 3) -> Row:
    """Play it; return what came of it."""
    tables = (*KEPT, "theirs")
    async with OwnPostgres(logging="ddl") as server, Provider() as provider:
        upgrade = Upgrade(folder, server, provider, count)
        await upgrade.age(calls)
        before = await asyncio.to_thread(fingerprints, upgrade.place, tables)
        await upgrade.kill_in_a_step()
        done = server.log().count(_STEP)
        took = await upgrade.start()
        after = await asyncio.to_thread(fingerprints, upgrade.place, tables)
        row = upgrade.row
        row.expect(before == after, f"{before} became {after}")
        row.expect(server.log().count(_STEP) == done + 1, "the step was not done once")
        await upgrade.serve()
        await upgrade.stop()
        await asyncio.to_thread(upgrade.judge_sums)
    rows = sum(number for number, _ in before.values())
    row.seen = f"{calls:,} calls, {rows:,} rows of schema {OLDEST}; killed in the step after {KILLED_AT}, ready after {spread(took)}"
    return row
