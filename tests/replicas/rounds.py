"""What three replicas must do as one does."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.caps.callers import MODEL, Order, call
from tests.caps.money import PRICE, Payer, change
from tests.caps.provider import Provider
from tests.losses.rounds import CALL, order
from tests.several.asking import ask
from tests.several.database import OwnPostgres
from tests.several.gateways import Balancer, Fleet, Replica

TOKENS = 50
CHANGED_S = 1.0  # within which every replica knows of a change
SILENT_S = 30.0  # and of one that nobody rang for, as here, where replicas wait to be rung by Redis
SPENDABLE_S = 1.0  # within which what a call did not use can be spent, by any of them
RESTART = "leave_s = 1.0\ndrain_s = 10.0\n"


@dataclass
class Outcome:
    """What came of a round."""

    name: str
    wrong: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def report(self) -> str:
        """Say how it was."""
        told = ", ".join(f"{name} {figure:,.2f}" for name, figure in self.figures.items())
        return f"{self.name}: {told}; {f'{len(self.wrong)} WRONG' if self.wrong else 'as one'}"

    def expect(self, true: object, said: str) -> None:
        if not true:
            self.wrong.append(said)


class World:
    """A fleet and its balancer."""

    def __init__(self, fleet: Fleet, balancer: Balancer, chance: random.Random) -> None:
        self.fleet = fleet
        self.balancer = balancer
        self.chance = chance

    async def payer(self, *, cap: int = 0, credit: int = 0) -> Payer:
        """Make somebody with a budget or with credit, whom every replica knows when this returns."""
        return await asyncio.to_thread(self._payer, cap, credit)

    def _payer(self, cap: int, credit: int) -> Payer:
        money = self.fleet.money
        payer = money.payer(prepaid=bool(credit))
        if cap:
            money.budget("key", payer.keys[0][0], cap)
        if credit:
            money.grant(payer.account, credit)
        return payer

    async def known(self, payer: Payer, status: int = 200) -> dict[str, float]:
        """Wait until every replica answers a call for nothing so; return how long each took."""
        began = time.monotonic()

        async def at(replica: Replica) -> float:
            while (found := await free(replica.port, payer)) != status:
                assert time.monotonic() - began < 60, (found, replica.say())
                await asyncio.sleep(0.02)
            return time.monotonic() - began

        took = await asyncio.gather(*(at(each) for each in self.fleet.replicas))
        return {each.folder.name: seconds for each, seconds in zip(self.fleet.replicas, took, strict=True)}

    async def change(self, statement: str, values: tuple[object, ...], kind: str, table: str) -> None:
        """Change a row as `ops` does: with a note of it."""

        def write() -> None:
            from contextlib import closing

            from headgate.stores.sql.bootstrap import writing
            from headgate.stores.sql.database import connect

            with closing(connect(self.fleet.money.data)) as sql, writing(sql):
                sql.execute(statement, values)
                (name,) = sql.execute(f"SELECT public_id FROM {table} WHERE id = ?", values[-1:]).fetchone()
                change(sql, kind, name)

        await asyncio.to_thread(write)


async def free(port: int, payer: Payer) -> int:
    """Ask for the list of models, which costs nothing; return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /v1/models HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nAuthorization: Bearer {payer.keys[0][1]}\r\n\r\n".encode()
    )
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def caps(world: World, rounds: int, calls: int) -> Outcome:
    """Let many callers at once spend money for k calls; exactly k are granted, and never more is spent."""
    outcome = Outcome(f"caps, {rounds} rounds of {calls} calls")
    granted = slowest = 0.0
    for number in range(rounds):
        k, credit = world.chance.randrange(1, 51), bool(number % 2)
        amount = k * TOKENS * PRICE
        payer = await world.payer(**({"credit": amount} if credit else {"cap": amount}))
        await world.known(payer)
        if number % 3 == 0:
            await asyncio.sleep(0.3)  # where a budget is not in force yet, it is not one
        began, key = time.monotonic(), payer.keys[0][1]
        await asyncio.sleep(CHANGED_S)
        orders = [call(world.balancer.port, key, Order(TOKENS, gap_ms=20)) for _ in range(calls)]
        seen = await asyncio.gather(*orders)
        slowest = max(slowest, time.monotonic() - began)
        counts = Counter(each.status for each in seen)
        granted += counts[200]
        outcome.expect(counts[200] == min(k, calls), f"{counts} for {k} of {'credit' if credit else 'a cap'}")
        outcome.expect(counts[200] + counts[429] == calls, f"{counts}")
        await _spent(world, payer, counts[200] * TOKENS * PRICE, outcome)
    outcome.figures = {"granted": granted, "slowest round s": slowest}
    return outcome


async def _spent(world: World, payer: Payer, due: int, outcome: Outcome) -> None:
    until = time.monotonic() + 20
    while True:
        booked = sum((await asyncio.to_thread(world.fleet.money.charges, payer)).values())
        if booked == due or time.monotonic() > until:
            break
        await asyncio.sleep(0.05)
    outcome.expect(booked == due, f"{booked} booked, due {due}")


async def revocation(world: World, rounds: int, most_s: float) -> Outcome:
    """Revoke keys, bring them back, lower limits: every replica knows within a second."""
    outcome = Outcome(f"changes, {rounds} rounds")
    slowest: dict[str, float] = {}
    for _ in range(rounds):
        payer = await world.payer()
        key = payer.keys[0][0]
        took = {"made": max((await world.known(payer)).values())}
        for name, value, status in (("revoked", 1, 401), ("back", 0, 200)):
            statement = "UPDATE keys SET revoked_at = ? WHERE id = ?"
            await world.change(statement, (value, key), "key", "keys")
            took[name] = max((await world.known(payer, status)).values())
        await world.change(
            "UPDATE accounts SET status = ? WHERE id = ?", ("suspended", payer.account), "account", "accounts"
        )
        took["account suspended"] = max((await world.known(payer, 401)).values())
        for name, seconds in took.items():
            slowest[name] = max(slowest.get(name, 0.0), seconds)
            outcome.expect(seconds <= most_s, f"{name}: known everywhere after {seconds:.2f} s")
    outcome.figures = {f"{name} s": seconds for name, seconds in slowest.items()}
    return outcome


async def once(world: World, rounds: int) -> Outcome:
    """Send one key to all replicas at once: one call is made and paid, and everybody gets its answer."""
    outcome, copies = Outcome(f"one key at all replicas, {rounds} rounds"), 4
    payer = await world.payer(cap=10**12)
    await world.known(payer)
    key, due = payer.keys[0][1], TOKENS * PRICE
    plan: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"plan {TOKENS} 20 ok"}],
        "max_tokens": TOKENS,
    }
    for number in range(rounds):
        name = secrets.token_hex(8)
        body = plan | ({"stream": True} if number % 2 else {})
        ports = [each.port for each in world.fleet.replicas] * copies
        seen = await asyncio.gather(*(ask(port, key, CALL, body, once=name) for port in ports))
        seen.append(await ask(world.balancer.port, key, CALL, body, once=name))
        outcome.expect({reply.status for reply in seen} == {200}, f"{seen}")
        bodies = {unchunked(reply.body) for reply in seen}
        outcome.expect(len(bodies) == 1, f"answers differ: {bodies}")
        other = await ask(world.balancer.port, key, CALL, body | {"max_tokens": 1}, once=name)
        outcome.expect(other.status == 422, f"another request under the same key: {other}")
        await _spent(world, payer, (number + 1) * due, outcome)
    outcome.figures = {"calls": float(rounds * (len(ports) + 1)), "paid": float(rounds)}
    return outcome


def unchunked(body: bytes) -> bytes:
    """Return an answer without its framing and without what keeps it alive on a slow machine."""
    text = b""
    while b"\r\n" in body[:10]:
        size, _, rest = body.partition(b"\r\n")
        text, body = text + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return (text or body).replace(b": keep-alive\n\n", b"")


async def rolling_restart(world: World, callers: int) -> Outcome:
    """Restart one replica after the other under load; no call fails, and every one is booked once."""
    outcome, done = Outcome(f"rolling restart, {callers} callers"), asyncio.Event()
    payer = await world.payer(cap=10**12)
    await world.known(payer)
    await asyncio.sleep(CHANGED_S)
    statuses: Counter[int] = Counter()
    ids: list[str] = []

    async def load() -> None:
        while not done.is_set():
            reply = await ask(world.balancer.port, payer.keys[0][1], CALL, order())
            statuses[reply.status] += 1
            ids.append(reply.request_id)
            await asyncio.sleep(0.01)

    began = time.monotonic()
    loads = [asyncio.create_task(load()) for _ in range(callers)]
    for each in world.fleet.replicas:
        await asyncio.sleep(0.5)
        outcome.expect(await each.stop() == 0, f"exit code of {each.folder.name}: {each.say()}")
        each.ready = False
        await each.start()
        await world.balancer.all_ready()
    done.set()
    finished = await asyncio.gather(*loads, return_exceptions=True)
    for fault in finished:
        outcome.expect(fault is None, f"a call failed: {fault!r}")
    outcome.expect(set(statuses) == {200}, f"statuses {statuses}")
    outcome.figures = {"calls": float(statuses[200]), "seconds": time.monotonic() - began}
    await _all_booked(world, payer, set(ids), outcome)
    return outcome


async def _all_booked(world: World, payer: Payer, due: set[str], outcome: Outcome) -> None:
    until = time.monotonic() + 20
    while True:
        booked = await asyncio.to_thread(world.fleet.money.charges, payer)
        if booked.keys() == due or time.monotonic() > until:
            break
        await asyncio.sleep(0.1)
    outcome.expect(booked.keys() == due, f"{len(booked)} calls booked of {len(due)}")


async def killed(world: World) -> Outcome:
    """Kill a replica with calls open, and start it again: nothing is lost, and what it had comes back."""
    outcome = Outcome("a replica is killed")
    k = 60
    payer = await world.payer(cap=k * TOKENS * PRICE)
    await world.known(payer)
    await asyncio.sleep(CHANGED_S)
    victim = world.fleet.replicas[-1]
    orders = [Order(TOKENS, gap_ms=600)] * 10
    calls = [asyncio.create_task(call(victim.port, payer.keys[0][1], each)) for each in orders]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(victim.kill)
    await asyncio.gather(*calls, return_exceptions=True)
    others = world.fleet.replicas[:-1]
    for each in others:
        [seen] = await asyncio.gather(call(each.port, payer.keys[0][1], Order(TOKENS, gap_ms=0)))
        outcome.expect(seen.status == 200, f"{each.folder.name} answers {seen.status} while another is dead")
    await victim.start()
    await world.balancer.all_ready()
    await asyncio.sleep(CHANGED_S)
    booked = sum((await asyncio.to_thread(world.fleet.money.charges, payer)).values())
    rest = k - booked // (TOKENS * PRICE)
    orders = [Order(TOKENS, gap_ms=0)] * (rest + 5)
    seen = await asyncio.gather(*(call(world.balancer.port, payer.keys[0][1], each) for each in orders))
    counts = Counter(each.status for each in seen)
    outcome.expect(counts[200] == rest, f"{counts}, {rest} were left")
    outcome.figures = {"booked before": booked / (TOKENS * PRICE), "granted after": float(counts[200])}
    return outcome


async def play(
    folder: Path,
    *,
    replicas: int = 3,
    rounds: int = 50,
    calls: int = 200,
    changes: int = 10,
    statements: str = "",
    redis: str = "",
) -> list[Outcome]:
    """Play all of it on one fleet; then stop it and prove its books at every replica."""
    shared = f'redis = "{redis}"\nredis_prefix = "replicas-{secrets.token_hex(4)}"\n' if redis else ""
    more = f"{shared}[server]\n{RESTART}"
    outcomes = []
    async with (
        OwnPostgres(logging="all" if statements else "") as server,
        Provider() as provider,
        Fleet(folder, server.url, provider.port, replicas, more) as fleet,
        Balancer(fleet.replicas) as balancer,
    ):
        world = World(fleet, balancer, random.Random(2))
        outcomes.append(tell(await revocation(world, changes, SILENT_S if redis else CHANGED_S)))
        outcomes.append(tell(await caps(world, rounds, calls)))
        outcomes.append(tell(await once(world, min(rounds, 20))))
        outcomes.append(tell(await killed(world)))
        outcomes.append(tell(await rolling_restart(world, 8)))
        outcomes.append(tell(await _end(fleet)))
        if statements:
            Path(statements).write_text("\n".join(server.statements()) + "\n", encoding="utf-8")
    return outcomes


def tell(outcome: Outcome) -> Outcome:
    """Print what came of a round."""
    print(outcome.report(), flush=True)
    return outcome


async def _end(fleet: Fleet) -> Outcome:
    last = Outcome("at the end")
    last.expect(set(await fleet.stop()) == {0}, "exit codes")
    for each in fleet.replicas:
        findings = await asyncio.to_thread(each.findings)
        last.expect(findings == [], f"{each.folder.name}: {findings}")
    last.figures = {"replicas whose books hold": float(0 if last.wrong else len(fleet.replicas))}
    return last
