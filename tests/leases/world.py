"""A small world of workers that share pots: real admission, real SQL, a simulated loop, and who knows the truth.

`World(seed).run()` plays calls, settlements, drains, changed caps, the end of a day, crashes, frozen workers,
a locked database, answers that are lost and steps of the clock in an order that the seed decides, and raises at the first moment at
which something was spent that was not there. At the end everything that is left must be spendable, and no
more than that.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.leases.simloop import SimLoop
from tests.leases.truth import Cap, Given, Spent, Waiting

from headgate.admission.budget import Budgets, Hold
from headgate.admission.purse import Purse
from headgate.admission.reserve import Reservations
from headgate.admission.teller import Teller
from headgate.errors import QuotaExceeded, Unavailable
from headgate.money.periods import FOREVER
from headgate.money.pots import Batch, Outcome
from headgate.ports import Open, Settle
from headgate.stores.journal.cursor import Settled
from headgate.stores.journal.segments import Position
from headgate.stores.sql import pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import last_change, load_budgets, load_grants, schema
from headgate.stores.sql.leases import SqlLeases
from headgate.stores.sql.ledger import Books
from headgate.stores.sql.postings import Grant, add_grant
from headgate.stores.sql.sqlite import SqliteConnection
from headgate.values import Book, Call, Host, Model, Prices, Principal, Target, Usage

MIDNIGHT = 1_790_035_200_000_000  # 2026-09-22 00:00 UTC
DAY = 86_400_000_000
PRICES = Prices(0, 1_000, 0, 0, 1_000, 0, 1_000)  # one nano-USD per token of output
TARGET = Target(host=Host(name="h", base_url="http://h"), model=Model(name="m"), prices=PRICES)
CALM_S = 1.0  # within this time a change of a cap has reached everybody


class NoCount:
    """There is nothing to count."""

    async def input_bound(self, call: Call, target: Target) -> int:
        raise AssertionError("no tokenizer is known")


@dataclass
class Plan:
    """What may happen in a world."""

    workers: int
    calls: int
    crashes: bool = False
    freezes: bool = False
    locks: bool = False
    resizes: bool = False
    steps: bool = False  # of the clock
    prepaid: bool = False
    losses: bool = False  # of answers: what was said is done, and who said it does not know

    @property
    def calm(self) -> bool:
        """Say whether every worker answers at once."""
        return not (self.crashes or self.freezes or self.falters)

    @property
    def falters(self) -> bool:
        """Say whether the store may not answer."""
        return self.locks or self.losses


@dataclass(eq=False)
class Worker:
    """One life of a worker."""

    world: World
    slot: str
    dead: bool = False
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    opened: dict[bytes, tuple[Open, Spent]] = field(default_factory=dict)  # the journal
    undrained: list[Settled] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.world
        self.purse = Purse(self.slot, world.monotonic)
        self.budgets = Budgets(self.purse, guarded=world.plan.workers > 1)
        self.teller = Teller(self.purse, self, world, self.budgets)
        self.reservations = Reservations(self.budgets, self.teller, world, NoCount())
        self.seen = -1
        self.reload()

    def start(self) -> None:
        self.spawn(self.teller.run())
        self.spawn(self.drain_on())
        self.spawn(self.reload_on())

    def spawn(self, run: Any) -> asyncio.Task[Any]:
        task = self.world.loop.spawn(self.slot, run)
        self.tasks.append(task)
        return task

    # ── ports.Leases: the real store behind a slow line ──────────────────────────────────────────

    async def join(self, slot: str, now: int) -> int:
        await self.line()
        self.answering()
        epoch = self.world.store._join(self.world.sql, slot, now)
        self.told()
        return epoch

    async def exchange(self, batch: Batch) -> Outcome:
        await self.line()
        self.answering()
        outcome = self.world.store._exchange(self.world.sql, batch)
        self.world.check_pots()
        await self.line()
        self.told()
        return outcome

    async def line(self) -> None:
        await asyncio.sleep(self.world.chance.choice([0, 0, 0.001, 0.02]))

    def answering(self) -> None:
        if self.dead or self.world.locked:
            raise Unavailable("The database is locked.")

    def told(self) -> None:
        if self.world.plan.losses and self.world.chance.random() < 0.1:
            raise Unavailable("The connection was lost in this transaction.")

    # ── what runs beside calls ───────────────────────────────────────────────────────────────────

    async def drain_on(self) -> None:
        while True:
            await asyncio.sleep(self.world.chance.uniform(0.01, 0.3))
            if not self.world.locked:
                self.drain()

    def drain(self) -> None:
        if self.undrained:
            batch, self.undrained = self.undrained, []
            self.world.book(batch, self.slot)

    async def reload_on(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            if not self.world.locked and last_change(self.world.sql) != self.seen:
                self.reload()

    def reload(self) -> None:
        self.seen = last_change(self.world.sql)
        self.budgets.replace(load_budgets(self.world.sql), load_grants(self.world.sql))

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, who: Principal, amount: int, *, charge: int | None = None) -> bool:
        """Serve one call; say whether it was granted."""
        world = self.world
        call = Call(world.next_id(), "chat", 0)
        call.model, call.principal, call.max_output = "m", who, amount
        waiting = Waiting(who, amount, world.free(who))
        world.waiting.add(waiting)
        before = world.freezes[self.slot]
        try:
            hold = await self.reservations.reserve(call, (TARGET,))
        except QuotaExceeded:
            world.refused(waiting)
            return False
        except Unavailable:
            slept = world.freezes[self.slot] != before  # its own time was over when it woke
            assert world.plan.falters or slept or self.dead
            return False
        finally:
            world.waiting.discard(waiting)
        spent = world.hold(who, hold)
        opened = Open(
            call.id, 0, hold.at, who.book, who.account, who.project, who.key, 0, "chat", "m", "h", "m",
            PRICES, PRICES, hold.amount, 0, b"", False, hold.pots, hold.sources,
        )  # fmt: skip
        self.opened[call.id] = (opened, spent)
        await asyncio.sleep(world.chance.choice([0, 0.01, 0.3, 1.0, 3.0]))
        if self.dead:
            return True
        part = world.chance.choice([0.0, 0.3, 1.0]) if charge is None else 0.0
        self.settle(call.id, charge if charge is not None else int(amount * part))
        return True

    def settle(self, call: bytes, charge: int) -> None:
        opened, spent = self.opened.pop(call)
        tokens = 0
        if opened.sources and opened.sources[0].tokens:
            charge, tokens = 0, min(charge, opened.sources[0].tokens)
        self.budgets.close(spent.hold, charge, tokens)
        self.undrained.append(Settled([opened], bill(opened, charge, tokens)))
        self.world.settled(spent, charge)


def bill(opened: Open, charge: int, tokens: int = 0) -> Settle:
    return Settle(opened.call, 0, opened.at, 200, Usage(0, charge), charge, 0, (0,), tokens=tokens)


class World:
    """Everything. Also the clock of its workers."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.plan = plan
        self.chance = Random(seed)
        self.loop = SimLoop(self.chance.randrange(2**32))
        self.base = MIDNIGHT - self.chance.choice([0, 2_000_000, 5_000_000, 3_600_000_000])
        self.skew = 0
        self.locked = False
        self.sql = sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection)
        self.sql.executescript(schema())
        self.sql.execute(
            "INSERT INTO accounts (id, public_id, name, created_at) VALUES (1, 'acct_1', 'a', 0)"
        )
        self.store = SqlLeases(lambda: self.sql)
        self.books = Books(self.sql)
        self.caps = self._make_caps()
        self.grants = self._make_grants() if plan.prepaid else {}
        self.keys = [
            Principal(key=n, project=1 + n % 2, account=1, prepaid=plan.prepaid) for n in range(1, 4)
        ]
        self.spent: list[Spent] = []
        self.waiting: set[Waiting] = set()
        self.freezes: Counter[str] = Counter()  # by slot: how often it was stopped
        self.workers: list[Worker] = []
        self.served = self.refusals = 0
        self._ids = 0

    def _make_caps(self) -> list[Cap]:
        caps = []
        rows = [("account", 1, "day"), ("account", 1, "total"), ("project", 1, "day"), ("key", 1, "total")]
        for number, (scope, ref, unit) in enumerate(rows, 1):
            amount = self.chance.choice([150, 400, 1_000])
            self.sql.execute(
                "INSERT INTO budgets (id, public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
                " VALUES (?, ?, ?, ?, 0, ?, ?, 'UTC', 'test', 0)",
                (number, f"budget_{number}", scope, ref, amount, unit),
            )
            caps.append(Cap(number, scope, ref, unit, [(0.0, amount)]))
        return caps

    def _make_grants(self) -> dict[int, Given]:
        """Return one grant that ends in the middle, and the balance."""
        made = {}
        for kind, expires_at in (
            ("gift", self.wall() + self.chance.choice([1_000_000, 4_000_000])),
            ("balance", 0),
        ):
            amount = self.chance.choice([100, 300])
            with writing(self.sql):
                number, _ = add_grant(self.sql, Grant(1, int(Book.REAL), kind, 0, expires_at=expires_at))
                self.sql.execute(
                    "UPDATE pots SET amount = ? WHERE kind = 'grant' AND ref = ?", (amount, number)
                )
            made[number] = Given(amount, expires_at or FOREVER)
        return made

    # ── ports.Clock ──────────────────────────────────────────────────────────────────────────────

    def wall(self) -> int:
        return self.base + self.skew + int(self.loop.now * 1e6)

    def monotonic(self) -> int:
        return int(self.loop.now * 1e9)

    def next_id(self) -> bytes:
        self._ids += 1
        return (self.wall() // 1000).to_bytes(6) + self._ids.to_bytes(10)

    # ── the truth ────────────────────────────────────────────────────────────────────────────────

    def exposure(self, cap: Cap, at: int) -> int:
        """Return what is charged and held of a cap in the period of an instant."""
        day = at // DAY
        return sum(
            each.amount
            for each in self.spent
            if cap.covers(each.who) and (cap.unit == "total" or each.hold.at // DAY == day)
        )

    def credit(self, at: int) -> int:
        """Return what is neither charged nor held of the grants that are in force."""
        used = dict.fromkeys(self.grants, 0)
        for each in self.spent:
            for number, part in each.paid.items():
                used[number] += part
        for number, amount in used.items():
            given = self.grants[number].amount
            assert amount <= given, f"{amount} of grant {number}, which is {given}"
        return sum(given.amount - used[n] for n, given in self.grants.items() if given.until > at)

    def free(self, who: Principal, floor: int = 0) -> int:
        at = max(self.wall(), floor)
        rests = [cap.history[-1][1] - self.exposure(cap, at) for cap in self.caps if cap.covers(who)]
        return min(rests + ([self.credit(at)] if who.prepaid else []))

    def hold(self, who: Principal, hold: Hold) -> Spent:
        parts = {source.grant: source.amount for source in hold.sources}
        assert sum(parts.values()) == (hold.amount if who.prepaid else 0), hold.sources
        assert all(self.grants[number].until > hold.at for number in parts), f"{parts} at {hold.at}"
        made = Spent(who, hold, hold.amount, parts)
        self.spent.append(made)
        window = CALM_S if self.plan.calm else 12.0
        for cap in self.caps:
            if cap.covers(who) and hold.amount:  # who holds nothing passes nothing
                out, most = self.exposure(cap, hold.at), cap.most(self.loop.now - window)
                assert out <= most, f"{out} out of {cap.scope} {cap.unit} {most} at {self.loop.now}"
        self.credit(hold.at)
        self.served += 1
        self.moved()
        return made

    def settled(self, spent: Spent, charge: int) -> None:
        assert charge <= spent.amount
        spent.amount, spent.settled, rest = charge, True, charge
        for number in sorted(spent.paid, key=lambda number: self.grants[number].until):
            part = spent.paid[number] = min(rest, spent.paid[number])  # first to expire, first spent
            rest -= part
        self.moved()

    def moved(self) -> None:
        for each in self.waiting:
            each.least_free = min(each.least_free, self.free(each.who))

    def refused(self, waiting: Waiting) -> None:
        self.refusals += 1
        lately = any(at > self.loop.now - CALM_S for cap in self.caps for at, _ in cap.history[1:])
        if self.plan.calm and not self.plan.steps and not lately:
            waiting.least_free = min(waiting.least_free, self.free(waiting.who))  # a grant may have ended
            assert waiting.least_free < waiting.amount, (
                f"{waiting} was refused although it fitted all the while"
            )

    def check_pots(self) -> None:
        for row in self.sql.execute(
            "SELECT id, amount, over, spent, (SELECT coalesce(sum(amount), 0) FROM slices WHERE pot = pots.id)"
            " FROM pots"
        ).fetchall():
            number, amount, over, spent, out = row
            assert spent + out <= amount + over, f"pot {number}: {row}"

    def book(self, batch: list[Settled], slot: str) -> None:
        self.books.post(batch, slot, Position(1, self._ids))
        self.check_pots()

    # ── what happens ─────────────────────────────────────────────────────────────────────────────

    def add_worker(self, slot: str) -> None:
        worker = Worker(self, slot)
        worker.start()
        self.workers.append(worker)

    async def crash(self) -> None:
        """Kill a worker, replay its journal a little later, start its slot again."""
        if not self.workers:
            return
        victim = self.chance.choice(self.workers)
        self.workers.remove(victim)
        victim.dead = True
        for task in victim.tasks:
            task.cancel()
        await asyncio.sleep(self.chance.uniform(0, 0.5))
        while self.locked:
            await asyncio.sleep(0.05)
        cut = [
            Settled([opened], bill(opened, opened.hold), recovered=True)
            for opened, _ in victim.opened.values()
        ]
        for _, spent in victim.opened.values():
            spent.settled = True
        self.book(victim.undrained + cut, victim.slot)
        with writing(self.sql):
            pots.clear(self.sql, victim.slot)
        self.check_pots()
        self.add_worker(victim.slot)

    async def freeze(self) -> None:
        slot = f"slot-{self.chance.randrange(self.plan.workers)}"
        self.loop.frozen.add(slot)
        self.freezes[slot] += 1
        await asyncio.sleep(self.chance.choice([0.2, 1.5, 4.0]))
        self.loop.frozen.discard(slot)

    async def lock(self) -> None:
        self.locked = True
        await asyncio.sleep(self.chance.choice([0.3, 3.0]))
        self.locked = False

    async def resize(self) -> None:
        if self.locked:
            return
        cap = self.chance.choice(self.caps)
        amount = int(cap.history[-1][1] * self.chance.choice([0.5, 0.9, 1.5]))
        with writing(self.sql):
            self.sql.execute("UPDATE budgets SET amount = ? WHERE id = ?", (amount, cap.id))
            pots.resize(self.sql, "budget", cap.id, amount)
            self.sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('budget', '', 0)")
        cap.history.append((self.loop.now, amount))
        self.moved()

    async def step(self) -> None:
        self.skew += self.chance.choice([3_600_000_000, -3_600_000_000, 10_000_000])

    def deeds(self) -> list[Any]:
        plan = self.plan
        chosen = [
            (plan.crashes, self.crash), (plan.freezes, self.freeze), (plan.locks, self.lock),
            (plan.resizes, self.resize), (plan.steps, self.step),
        ]  # fmt: skip
        return [deed for wanted, deed in chosen if wanted]

    async def play(self) -> None:
        for number in range(self.plan.workers):
            self.add_worker(f"slot-{number}")
        deeds, under_way = self.deeds(), []
        for _ in range(self.plan.calls):
            await asyncio.sleep(self.chance.choice([0, 0, 0.01, 0.2]))
            if deeds and self.chance.random() < 0.06:
                under_way.append(self.loop.create_task(self.chance.choice(deeds)()))
            if self.workers:
                worker, who = self.chance.choice(self.workers), self.chance.choice(self.keys)
                under_way.append(worker.spawn(worker.serve(who, self.chance.randrange(1, 120))))
        for task in under_way:
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
        await asyncio.sleep(CALM_S if self.plan.calm else 4.0)
        await self.spend_the_rest()
        await self.leave()

    async def spend_the_rest(self) -> None:
        """Everything that is left can be spent, from any worker, and nothing beyond it."""
        for who in self.chance.sample(self.keys, len(self.keys)):
            for beyond in (1, 0):
                worker = self.chance.choice(self.workers)
                rest, before = self.free(who, worker.budgets._floor), self.loop.now
                granted = await worker.serve(who, max(rest, 0) + beyond, charge=0)
                assert granted == (not beyond and rest >= 0) or rest < 0, f"{rest} + {beyond}: {granted}"
                assert (
                    beyond or rest <= 0 or self.loop.now - before < 1.0 + 3.0
                )  # of which 3 s are the call's
                await asyncio.sleep(0.5)

    async def leave(self) -> None:
        """Stop in order: nothing stays away."""
        for worker in self.workers:
            await asyncio.sleep(0.4)
            worker.drain()
            await worker.teller.close(5.0)
        (out,) = self.sql.execute("SELECT coalesce(sum(amount), 0) FROM slices").fetchone()
        assert out == 0, f"{out} is in slices although everybody has left"
        for number, kind, ref, since, until, spent in self.sql.execute(
            "SELECT id, kind, ref, since, until, spent FROM pots"
        ).fetchall():
            assert spent == self.truth(kind, ref, since, until), f"pot {number}"
        for worker in self.workers:
            for task in worker.tasks:
                task.cancel()

    def truth(self, kind: str, ref: int, since: int, until: int) -> int:
        if kind == "budget":
            cap = next(cap for cap in self.caps if cap.id == ref)
            return sum(s.amount for s in self.spent if cap.covers(s.who) and since <= s.hold.at < until)
        return sum(each.paid.get(ref, 0) for each in self.spent)

    def run(self) -> None:
        self.loop.run(self.play())
        faults = [fault for fault in self.loop.faults if "exception" in fault]
        assert not faults, faults
        self.sql.close()
