"""A worker's side alone: what it tells the store, what it takes, and when it may not spend."""

import asyncio

import pytest
from tests.leases.funded import WHO
from tests.leases.memory import MemoryLeases
from tests.leases.simloop import SimLoop
from tests.leases.world import Plan, World

from headgate.admission.budget import Budgets, Hold
from headgate.admission.purse import LEASE_NS, Purse
from headgate.admission.teller import Teller
from headgate.errors import Unavailable
from headgate.money.pots import Batch, BudgetTerms, Lot, Outcome, Pot, PotName, Want, grant_size
from headgate.ports import SystemClock
from headgate.values import Book, Principal

NOW = 1_790_000_000_000_000
SECOND = 1_000_000_000


class Time:
    def __init__(self) -> None:
        self.ns = 10 * SECOND

    def __call__(self) -> int:
        return self.ns


def lot(name: PotName, granted: int, free: int = 0, others: int = 0, over: int = 0) -> Lot:
    return Lot(name, 7, granted, free, others, over, 0, 0)


class Side:
    """A purse with one budget of 100, in the hands of a test."""

    def __init__(self, guarded: bool = True) -> None:
        self.time = Time()
        self.purse = Purse("slot-0", self.time)
        self.budgets = Budgets(self.purse, guarded=guarded)
        self.budgets.replace([BudgetTerms(1, "account", WHO.account, Book.REAL, 100, "total")])
        self.found = self.budgets.covering(WHO)
        self.budgets.reserve(self.found, 2**62, NOW)
        self.own = self.found.slices[0]

    def say(self, *lots: Lot, recalled: dict[int, int] | None = None, wants: list[Want] | None = None):
        batch = self.purse.collect(wants or [], NOW, self.time.ns)
        outcome = Outcome(lots, recalled or {}, max((recalled or {0: 0}).values()), {"slot-0": self.time.ns})
        self.purse.apply(batch, outcome, self.time.ns)
        self.purse.answer(outcome)
        return batch


@pytest.mark.parametrize(
    ("free", "need", "live", "size"),
    [
        (900, 10, 1, 900),
        (79, 10, 2, 10),
        (80, 10, 2, 10 + 20),
        (10_000, 10, 2, 10 + 320),
        (80, 10, 4, 10 + 10),
    ],
)
def test_how_much_is_granted(free: int, need: int, live: int, size: int) -> None:
    assert grant_size(free, need, live) == size <= free


class Steady(Side):
    """One of two workers, with calls of 10 a second on a budget with so much left in nobody's slice."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self.free = free
        self.say(lot(self.own.name, 330, free=free), wants=[Want(10, (self.own.name,))])

    def say(self, *lots: Lot, recalled: dict[int, int] | None = None, wants: list[Want] | None = None):
        batch = super().say(*lots, recalled=recalled, wants=wants)
        self.purse.live = frozenset(["slot-0", "slot-1"])
        return batch

    def spend(self, seconds: int) -> list[int]:
        """Return what was asked ahead of calls meanwhile, and granted."""
        asked = []
        for _ in range(10 * seconds):
            self.time.ns += SECOND // 10
            self.own.free -= 1
            self.own.drawn += 1
            if more := self.say().ahead.get(self.own.name):
                asked.append(more)
                self.say(lot(self.own.name, more, free=self.free))
        return asked


def test_a_slice_that_is_spent_is_filled_before_it_is_empty_to_last_a_minute() -> None:
    side = Steady(100_000)
    asked = side.spend(200)
    assert 2 <= len(asked) <= 10
    lasts_s = side.own.unused / 10
    assert 25 <= lasts_s <= 65
    assert not side.spend(5) or lasts_s < 35
    side.own.freeze(True)  # lowered, or wanted elsewhere
    assert side.spend(60) == []


def test_nobody_asks_ahead_near_the_end_or_alone_or_without_calls() -> None:
    side = Steady(1_000)
    assert side.spend(30) == []  # it would be more than an eighth of what is left
    side = Steady(100_000)
    side.time.ns += 100 * SECOND
    assert not side.say().ahead
    side.purse.live = frozenset(["slot-0"])
    side.own.drawn += 300
    side.own.free -= 300
    side.time.ns += 2 * SECOND
    assert not side.say().ahead


def test_what_is_recalled_leaves_the_slice_before_it_is_told() -> None:
    side = Side()
    side.say(lot(side.own.name, 100))
    hold = side.budgets.reserve(side.found, 30, NOW)
    side.say(recalled={7: 5})
    assert side.own.held == 30
    assert side.budgets.reserve(side.found, 1, NOW) is None
    batch = side.purse.collect([], NOW, side.time.ns)
    assert (batch.returns, batch.answers, batch.watched) == ({7: 70}, {7: 5}, (7,))
    side.say(lot(side.own.name, 0, free=70))  # it was not lowered
    assert (side.purse._returns, side.purse._answers) == ({}, {})
    side.budgets.close(hold, 10)
    assert side.budgets.reserve(side.found, 20, NOW) is not None


def test_what_is_freed_of_a_lowered_pot_goes_back_and_is_not_spent_again() -> None:
    side = Side()
    side.say(lot(side.own.name, 100))
    hold = side.budgets.reserve(side.found, 60, NOW)
    side.say(recalled={7: 5})
    side.say(lot(side.own.name, 0, over=10))
    side.budgets.close(hold, 20)
    assert side.budgets.reserve(side.found, 1, NOW) is None
    assert side.say(lot(side.own.name, 0, over=0)).returns == {7: 40}
    side.say(lot(side.own.name, 15))
    assert side.budgets.reserve(side.found, 15, NOW) is not None


def test_a_worker_that_lost_a_second_asks_before_it_spends() -> None:
    side = Side()
    side.say(lot(side.own.name, 100))
    side.time.ns += LEASE_NS
    assert side.budgets.reserve(side.found, 1, NOW) is not None
    side.time.ns += 1
    assert side.budgets.reserve(side.found, 1, NOW) is None
    side.purse.renew(side.time.ns)  # too late: it had stopped
    assert side.budgets.reserve(side.found, 1, NOW) is None
    side.say()
    assert side.budgets.reserve(side.found, 1, NOW) is not None
    for _ in range(20):  # while it runs it goes on, whether the store answers or not
        side.time.ns += LEASE_NS // 2
        side.purse.renew(side.time.ns)
        assert side.budgets.reserve(side.found, 1, NOW) is not None


def test_a_worker_that_nobody_can_replace_never_asks_for_that() -> None:
    side = Side(guarded=False)
    side.say(lot(side.own.name, 100))
    side.time.ns += 3600 * SECOND
    assert side.budgets.reserve(side.found, 1, NOW) is not None


def test_who_has_been_silent_for_two_seconds_is_not_waited_for_whatever_clocks_say() -> None:
    side = Side()
    stamps = {"slot-0": 1, "slot-1": 5_000}
    for second in range(4):
        batch = side.purse.collect([], NOW, side.time.ns)
        if second < 2:
            stamps["slot-1"] -= 1_000  # its clock goes backwards, and it lives
        side.purse.apply(batch, Outcome(slots=stamps), side.time.ns)
        assert ("slot-1" in side.purse.live) == (second < 3)
        side.time.ns += SECOND


def test_a_grant_that_comes_when_its_period_is_over_goes_back() -> None:
    side = Side()
    name = PotName("budget", 1, "2026-09-21@UTC")
    assert side.purse._returns == {}
    side.say(lot(name, 40))
    assert side.purse.collect([], NOW, side.time.ns).returns == {7: 40}


def test_what_was_told_without_an_answer_is_told_again_as_it_was() -> None:
    side = Side()
    side.say(lot(side.own.name, 100))
    hold = side.budgets.reserve(side.found, 60, NOW)
    assert hold is not None
    side.say(recalled={7: 5})
    lost = side.purse.collect([], NOW, side.time.ns)
    side.budgets.close(hold, 20)
    side.purse.closing = True
    again = side.purse.collect([Want(5)], NOW, side.time.ns)
    assert (again.turn, again.returns, again.answers) == (lost.turn, {7: 40}, {7: 5})
    assert (again.wants, again.leaving) == ((Want(5),), False)  # who leaves has given back everything
    side.purse.apply(again, Outcome(repeated=True), side.time.ns)
    last = side.purse.collect([], NOW, side.time.ns)
    assert (last.turn, last.returns, last.answers) == (lost.turn + 1, {7: 40}, {})
    assert last.leaving


class Losing(MemoryLeases):
    """A store that does what it is told, and whose first answers are lost."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers

    async def exchange(self, batch: Batch) -> Outcome:
        outcome = await super().exchange(batch)
        self.answers -= 1
        if self.answers >= 0:
            raise Unavailable("The connection was lost in this transaction.")
        return outcome


@pytest.mark.anyio
async def test_a_call_that_a_repeated_turn_did_not_look_at_is_looked_at_next() -> None:
    store, purse = Losing(1), Purse("slot-0")
    budgets = Budgets(purse)
    budgets.replace([BudgetTerms(n, "key", n, Book.REAL, 100, "total") for n in (1, 2)])
    teller = Teller(purse, store, SystemClock(), budgets)
    running = asyncio.create_task(teller.run())

    async def take(key: int) -> Hold | None:
        found = budgets.covering(Principal(key=key, project=1, account=1))
        assert budgets.reserve(found, 60, NOW) is None
        want = budgets.want(found, 60, None)
        store.pots[want.all_of[0]] = Pot(want.all_of[0], key, (100, 0, 0, 0), {})
        return await teller.take(want, lambda: budgets.reserve(found, 60, NOW))

    gone = asyncio.create_task(take(1))
    while store.answers:
        await asyncio.sleep(0.01)
    gone.cancel()
    hold = await take(2)
    assert hold is not None
    assert [own.granted for own in purse._slices.values()] == [100, 100]
    budgets.close(hold, 0)
    await teller.close(5)
    await running
    assert [pot.slices for pot in store.pots.values()] == [{"slot-0": (0, 0)}, {"slot-0": (0, 0)}]


def test_a_fenced_worker_refuses_and_says_why() -> None:
    """Another process has the slot: this one spends nothing any more, not even what it has."""
    world = World(1, Plan(2, 0))

    async def play() -> None:
        world.add_worker("slot-0")
        old = world.workers[0]
        assert await old.serve(world.keys[0], 10, charge=0)
        world.loop.frozen.add("slot-0")
        await asyncio.sleep(2)
        new_epoch = world.store._join(world.sql, "slot-0", world.wall())
        world.loop.frozen.discard("slot-0")
        assert new_epoch == old.purse.epoch + 1
        with pytest.raises(Unavailable):
            await old.teller.take(Want(1), lambda: None)
        assert old.purse.fenced
        assert old.budgets.reserve(old.budgets.covering(world.keys[0]), 1, world.wall()) is None
        for task in old.tasks:
            task.cancel()

    world.loop.run(play())


@pytest.mark.anyio
async def test_a_hold_that_comes_when_its_caller_has_just_gone_is_free_again() -> None:
    store, side = MemoryLeases(), Side(guarded=False)
    store.pots[side.own.name] = Pot(side.own.name, 7, (100, 0, 0, 0), {})
    teller = Teller(side.purse, store, SystemClock(), side.budgets)
    running = asyncio.create_task(teller.run())

    def reserve() -> Hold | None:
        asyncio.get_running_loop().call_soon(call.cancel)  # before the caller goes on
        return side.budgets.reserve(side.found, 60, NOW)

    call = asyncio.create_task(teller.take(side.budgets.want(side.found, 60, None), reserve))
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (side.own.granted, side.own.held) == (100, 0)
    await teller.close(5)
    await running
    assert store.standing(side.own.name)[3] == {"slot-0": 0}


def test_a_seed_plays_the_same_world_again() -> None:
    def trace(seed: int) -> list[tuple[int, int, bool]]:
        world = World(seed, Plan(3, 40, crashes=True, resizes=True))
        world.run()
        return [(each.hold.at, each.amount, each.settled) for each in world.spent]

    assert trace(5) == trace(5) != trace(6)
    assert SimLoop(1).time() == 0.0
