"""Play a storm and say what is wrong with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tests.caps.money import Money
from tests.faults.worker import INPUT, OUTPUT, Worker, worker
from tests.storm.callers import Caller, Seen, Tenant
from tests.storm.echo import PIECES, PROMPT_TOKENS, Echo

from headgate.stores.sql.database import connect

COST = PROMPT_TOKENS * INPUT + PIECES * OUTPUT
KEPT = 10  # idle connections to the upstream
LEAVE, CUT, TWICE = 0.2, 0.1, 0.1  # callers that leave, calls that are cancelled here, and of those twice
PLENTY = 10**15


@dataclass
class Storm:
    """What came of it."""

    seen: list[Seen] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cut: int = 0
    connections: int = 0

    def expect(self, true: object, said: str) -> None:
        if not true:
            self.wrong.append(said)

    def judge(self, calls: int) -> None:
        """What each caller saw is its own; without a reason every answer is whole."""
        self.expect(len(self.seen) == calls, f"{len(self.seen)} of {calls} calls ended")
        for each in self.seen:
            self.expect(not each.foreign, f"{each.canary} saw {each.foreign}")
            if each.whole and each.status == 200:
                self.expect(each.text == each.canary, f"{each.canary} was told {each.text!r}")
        broken = [each for each in self.seen if not (each.left or (each.whole and each.status == 200))]
        self.expect(len(broken) <= self.cut, f"{len(broken)} failed, {self.cut} were cut: {broken[:1]}")

    def reconcile(self, rows: dict[str, tuple[int, int, int]]) -> None:
        """The books have each answer once, for who asked, at its price; and nobody else's.

        Args:
            rows: account, charge and hold by request id.
        """
        for each in self.seen:
            account, charge, _ = rows.get(each.request_id, (each.tenant.account, 0, 0))
            self.expect(account == each.tenant.account, f"{each.canary} was paid by {account}")
            if each.whole and each.status == 200:
                self.expect(charge == COST, f"{each.canary} cost {charge}, not {COST}")
        dear = [row for row in rows.values() if row[1] > row[2]]
        self.expect(not dear, f"charged above the hold: {dear[:3]}")

    def report(self) -> str:
        """Say how it was."""
        served = sum(each.whole and each.status == 200 for each in self.seen)
        left = sum(each.left for each in self.seen)
        return (
            f"{len(self.seen)} calls: {served} answered, {left} left by their callers, {self.cut} cancelled here; "
            f"{self.connections} connections to the upstream; {len(self.wrong)} wrong"
        )


async def play(folder: Path, calls: int, chance: Random, *, tenants: int = 50, at_once: int = 40) -> Storm:
    """Let so many calls be made, and look at what they left behind."""
    storm = Storm()
    async with (
        Echo(chance) as echo,
        worker(folder, f"http://127.0.0.1:{echo.port}/v1", cap="1/total") as gateway,
    ):
        transport = gateway.app.outward.transport
        transport.settings = replace(transport.settings, max_idle=KEPT)
        people = await _tenants(gateway, folder / "data", tenants)
        numbers = iter(range(calls))
        cutting = asyncio.create_task(_cut(gateway, storm, chance))
        await asyncio.gather(*(_client(gateway, people, numbers, storm, chance) for _ in range(at_once)))
        cutting.cancel()
        with suppress(asyncio.CancelledError):
            await cutting
        await gateway.idle(10)
        storm.connections = echo.connections
        storm.judge(calls)
        storm.expect(await _is_quiet(gateway), "a connection still serves a call")
        storm.expect(transport.idle <= KEPT, f"{transport.idle} connections are kept")
        await _settled(gateway, folder / "data", storm)
        await _serves(gateway, people, storm, chance)
    return storm


async def _tenants(gateway: Worker, data: Path, count: int) -> list[Tenant]:
    money, found = Money(data), []
    for number in range(count):
        payer = money.payer()
        money.budget("account", payer.account, PLENTY)
        found.append(Tenant(payer.account, payer.keys[0][1], f"t{number}"))
    await gateway.app._follow()
    return found


async def _client(
    gateway: Worker, people: list[Tenant], numbers: object, storm: Storm, chance: Random
) -> None:
    caller = Caller(gateway.address[1], chance)
    for number in numbers:  # type: ignore[attr-defined]
        tenant = chance.choice(people)
        seen = Seen(
            tenant, f"canary-{tenant.name}-{number}-" + "x" * chance.randrange(40), chance.random() < 0.5
        )
        storm.seen.append(await caller.call(seen, leaves=chance.random() < LEAVE))
    caller.close()


async def _cut(gateway: Worker, storm: Storm, chance: Random) -> None:
    """Cancel open calls wherever they are, as many as shall be."""
    runs = gateway.app.calls.runs
    while True:
        await asyncio.sleep(0)
        if not runs or storm.cut >= CUT * len(storm.seen):
            continue
        run = chance.choice(tuple(runs))
        storm.cut += 1
        run.cancel()
        if chance.random() < TWICE and run in runs:
            await asyncio.sleep(0)
            if run in runs:
                run.cancel()


async def _is_quiet(gateway: Worker) -> bool:
    """Whether soon no connection serves a call: those of cancelled ones are being closed."""
    for _ in range(500):
        if not gateway.app.outward.transport.busy(gateway.target.host):
            return True
        await asyncio.sleep(0.01)
    return False


async def _settled(gateway: Worker, data: Path, storm: Storm) -> None:
    await gateway.books()
    with closing(connect(data, read_only=True)) as sql:
        rows = sql.execute("SELECT call, account, charge, hold FROM calls").fetchall()
    storm.reconcile({"req_" + call.hex(): (account, charge, hold) for call, account, charge, hold in rows})
    charged = Counter[int]()
    for _, account, charge, _ in rows:
        charged[account] += charge
    told = Counter(each.tenant.account for each in storm.seen if each.whole and each.status == 200)
    for account, count in told.items():
        storm.expect(
            charged[account] >= count * COST, f"account {account} paid {charged[account]} for {count} answers"
        )


async def _serves(gateway: Worker, people: list[Tenant], storm: Storm, chance: Random) -> None:
    """After the storm every call is served."""
    caller = Caller(gateway.address[1], chance)
    for number, tenant in enumerate(people):
        seen = await caller.call(
            Seen(tenant, f"canary-{tenant.name}-after-{number}", stream=False), leaves=False
        )
        storm.expect(seen.status == 200, f"after the storm: {seen.status}")
    caller.close()
