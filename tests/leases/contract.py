"""What every store of leases does. A store's own test module only gives the fixture `shared`.

class TestSqlLeases(LeasesContract):
    @pytest.fixture
    async def shared(self, tmp_path): ...
"""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

import pytest

from headgate.admission.purse import Purse
from headgate.money.periods import FOREVER
from headgate.money.pots import Batch, Lot, Outcome, PotName, Want
from headgate.ports import Leases

NOW = 1_790_000_000_000_000


class Shared(Protocol):
    """A store, and the side of it that people and the drain have."""

    store: Leases

    def budget(self, amount: int, spent: int = 0) -> PotName:
        """Make a budget of the account, in a period in which so much is in the books."""
        ...

    def grant(self, amount: int, expires_at: int = 0) -> PotName:
        """Make a grant in money."""
        ...

    def tokens(self, amount: int) -> PotName:
        """Make a grant in tokens."""
        ...

    def spend(self, slot: str, pot: int, charge: int) -> None:
        """Book a call of a slot that was held in a pot."""
        ...

    def resize(self, name: PotName, amount: int) -> None:
        """Change a budget."""
        ...

    def remove(self, name: PotName) -> None:
        """Remove a budget."""
        ...

    def bury(self, slot: str) -> None:
        """Give back what a dead worker had."""
        ...

    def standing(self, name: PotName) -> tuple[int, int, int, dict[str, int]]:
        """Return a pot's amount, what is over, what is spent, and its slices."""
        ...


class Worker:
    """A slot of a store, as a purse would speak for it."""

    def __init__(self, shared: Shared, slot: str, epoch: int) -> None:
        self.shared, self.slot, self.epoch = shared, slot, epoch
        self.live = frozenset([slot])
        self.seen = self.turn = 0

    async def say(self, *, again: bool = False, **said: Any) -> Outcome:
        self.turn += not again
        batch = Batch(self.slot, self.epoch, NOW, self.turn, live=self.live, seen=self.seen, **said)
        outcome = await self.shared.store.exchange(batch)
        self.seen = max(self.seen, outcome.seen)
        return outcome

    async def take(self, amount: int, *names: PotName) -> Lot:
        outcome = await self.say(wants=[Want(amount, names)])
        return next(lot for lot in outcome.lots if lot.name == names[0])


class LeasesContract:
    """The suite."""

    async def worker(self, shared: Shared, slot: str, *others: str) -> Worker:
        worker = Worker(shared, slot, await shared.store.join(slot, NOW))
        worker.live = frozenset([slot, *others])
        return worker

    @staticmethod
    def kept(shared: Shared, name: PotName) -> None:
        """The one thing that is always so."""
        amount, over, spent, slices = shared.standing(name)
        assert spent + sum(slices.values()) <= amount + over
        assert min(over, spent, *slices.values(), 0) == 0

    async def test_a_lone_worker_gets_all_that_is_left(self, shared: Shared) -> None:
        name = shared.budget(1_000, spent=300)
        worker = await self.worker(shared, "slot-0")
        lot = await worker.take(10, name)
        assert (lot.granted, lot.free, lot.others, lot.over) == (700, 0, 0, 0)
        assert shared.standing(name) == (1_000, 0, 300, {"slot-0": 700})

    async def test_one_of_many_gets_a_share_and_near_the_end_what_it_needs(self, shared: Shared) -> None:
        name = shared.budget(1_000)
        one = await self.worker(shared, "slot-0", "slot-1")
        assert (await one.take(10, name)).granted == 10 + 1_000 // 4
        assert (await one.take(200, name)).granted == 200  # less than eight needs are left
        assert (await one.take(541, name)).granted == 0
        assert (await one.take(540, name)).granted == 540
        self.kept(shared, name)

    async def test_no_share_is_larger_than_32_needs(self, shared: Shared) -> None:
        name = shared.budget(1_000_000)
        one = await self.worker(shared, "slot-0", "slot-1")
        assert (await one.take(10, name)).granted == 330

    async def test_ahead_of_calls_a_slot_gets_of_plenty_alone_and_from_nobody(self, shared: Shared) -> None:
        name, small = shared.budget(10_000), shared.budget(1_000)
        one = await self.worker(shared, "slot-0", "slot-1")
        two = await self.worker(shared, "slot-1", "slot-0")
        await two.take(600, small)
        granted = {lot.name: lot.granted for lot in (await one.say(ahead={name: 1_250, small: 51})).lots}
        assert granted == {name: 1_250, small: 0}
        outcome = await one.say(again=True, beat=True)  # its answer was lost, and nobody wants it any more
        assert outcome.repeated
        assert [lot.granted for lot in outcome.lots if lot.name == name] == [1_250]
        assert shared.standing(name)[3] == {"slot-0": 1_250}
        outcome = await two.say(wants=[Want(9_000, (name,))], ahead={name: 1})  # who lacks, recalls
        assert outcome.lots[0].granted == 0
        assert (await one.say(ahead={name: 1})).lots[0].granted == 0
        assert not (await two.say()).recalled
        self.kept(shared, name)
        self.kept(shared, small)

    async def test_several_pots_are_taken_from_together_or_not_at_all(self, shared: Shared) -> None:
        rich, poor = shared.budget(1_000), shared.budget(50)
        one = await self.worker(shared, "slot-0")
        assert (await one.take(51, rich, poor)).granted == 0
        assert shared.standing(rich)[3].get("slot-0", 0) == 0
        assert (await one.take(50, rich, poor)).granted == 1_000
        assert shared.standing(poor)[3] == {"slot-0": 50}

    async def test_many_pots_are_made_taken_from_and_watched_at_once(self, shared: Shared) -> None:
        names = [shared.budget(100 + n) for n in range(70)]
        one = await self.worker(shared, "slot-0")
        lots = (await one.say(wants=[Want(10, tuple(names))])).lots
        assert {lot.name: lot.granted for lot in lots} == {name: 100 + n for n, name in enumerate(names)}
        returns = {lot.pot: 7 for lot in lots}
        after = (await one.say(returns=returns, watched=tuple(returns))).lots
        assert {lot.name: lot.free for lot in after} == dict.fromkeys(names, 7)

    async def test_what_a_slot_has_already_counts_once(self, shared: Shared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0", "slot-1")
        await one.take(40, name)
        wants = [Want(60, (name,)), Want(40, (name,)), Want(1, (name,))]
        outcome = await one.say(wants=wants, free={name: 40})
        assert outcome.lots[0].granted == 60
        assert shared.standing(name)[3] == {"slot-0": 100}

    async def test_a_small_want_is_met_behind_one_that_is_too_large(self, shared: Shared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0", "slot-1")
        outcome = await one.say(wants=[Want(101, (name,)), Want(30, (name,))])
        assert outcome.lots[0].granted == 30

    async def test_grants_cover_a_want_together_in_their_order(self, shared: Shared) -> None:
        first, second = shared.grant(70, FOREVER - 1), shared.grant(100)
        one = await self.worker(shared, "slot-0", "slot-1")
        await one.say(wants=[Want(100, (), (first, second))])
        assert shared.standing(first)[3] == {"slot-0": 70}
        assert shared.standing(second)[3] == {"slot-0": 30}
        outcome = await one.say(wants=[Want(71, (), (first, second))])
        assert not any(lot.granted for lot in outcome.lots)

    async def test_a_later_grant_waits_for_what_others_have_of_an_earlier_one(self, shared: Shared) -> None:
        first, second = shared.grant(100, FOREVER - 1), shared.grant(100)
        one, two = [await self.worker(shared, f"slot-{n}", "slot-0", "slot-1") for n in range(2)]
        await one.say(wants=[Want(70, (), (first, second))])
        outcome = await two.say(wants=[Want(50, (), (first, second))])
        assert not any(lot.granted for lot in outcome.lots)
        recalled = (await one.say()).recalled
        assert len(recalled) == 1  # the later one is not asked for
        await one.say(answers=recalled)
        await two.say(wants=[Want(50, (), (first, second), in_order=False)])
        assert shared.standing(first)[3] == {"slot-0": 70, "slot-1": 30}
        assert shared.standing(second)[3] == {"slot-1": 20}

    async def test_tokens_cover_a_want_whole_or_money_does(self, shared: Shared) -> None:
        tokens, money = shared.tokens(500), shared.grant(100)
        one = await self.worker(shared, "slot-0", "slot-1")
        await one.say(wants=[Want(90, (), (tokens, money), 400)])
        assert (shared.standing(tokens)[3], shared.standing(money)[3]) == ({"slot-0": 400}, {})
        await one.say(wants=[Want(90, (), (tokens, money), 101)])
        assert (shared.standing(tokens)[3], shared.standing(money)[3]) == ({"slot-0": 400}, {"slot-0": 90})

    async def test_without_any_grant_nothing_is_covered(self, shared: Shared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0")
        lost = PotName("grant", 999)
        outcome = await one.say(wants=[Want(10, (name,), (lost,))])
        assert {lot.name: (lot.pot, lot.granted) for lot in outcome.lots}[lost] == (0, 0)
        assert shared.standing(name)[3].get("slot-0", 0) == 0

    async def test_a_removed_budget_limits_nothing(self, shared: Shared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0")
        lot = await one.take(10, name)
        shared.remove(name)
        assert (await one.take(10, name)).pot == 0
        await one.say(returns={lot.pot: 100})  # to nobody, and without harm

    async def test_what_is_given_back_can_be_taken_by_another(self, shared: Shared) -> None:
        name = shared.budget(100)
        one, two = await self.worker(shared, "slot-0"), await self.worker(shared, "slot-1", "slot-0")
        pot = (await one.take(10, name)).pot
        assert (await two.take(30, name)).granted == 0
        await one.say(returns={pot: 30})
        assert (await two.take(30, name)).granted == 30
        self.kept(shared, name)

    async def test_a_taker_recalls_and_hears_when_all_have_answered(self, shared: Shared) -> None:
        name = shared.budget(100)
        one, two = await self.worker(shared, "slot-0"), await self.worker(shared, "slot-1", "slot-0")
        pot = (await one.take(10, name)).pot
        lot = await two.take(30, name)
        assert (lot.granted, lot.others) == (0, 100)
        assert lot.heard < lot.required
        recalled = (await one.say()).recalled
        assert list(recalled) == [pot]
        assert lot.required == recalled[pot]
        assert (await one.say()).recalled == {}  # told once
        await one.say(answers=recalled)
        again = await two.take(30, name)
        assert again.heard >= lot.required
        assert (await two.say()).recalled == {}  # its own recalls are not for itself

    async def test_a_recall_under_way_does_not_count_for_a_later_want(self, shared: Shared) -> None:
        name = shared.budget(100)
        one, two, three = [
            await self.worker(shared, f"slot-{n}", "slot-0", "slot-1", "slot-2") for n in range(3)
        ]
        await one.take(100, name)
        earlier = await two.take(30, name)
        later = await three.take(30, name)
        assert later.required > earlier.required
        await one.say(answers=(await one.say()).recalled)
        assert (await two.take(30, name)).heard >= earlier.required  # and asks anew
        assert (await three.take(30, name)).heard < later.required
        await one.say(answers=(await one.say()).recalled)
        assert (await three.take(30, name)).heard >= later.required

    async def test_what_was_answered_stays_heard_while_others_ask_anew(self, shared: Shared) -> None:
        name = shared.budget(100)
        one, two, three = [
            await self.worker(shared, f"slot-{n}", "slot-0", "slot-1", "slot-2") for n in range(3)
        ]
        await one.take(100, name)
        required = (await two.take(30, name)).required
        await one.say(answers=(await one.say()).recalled)
        assert (await three.take(30, name)).required > required  # and is under way
        assert (await two.take(30, name)).heard >= required

    async def test_who_does_not_live_is_not_waited_for(self, shared: Shared) -> None:
        name = shared.budget(100)
        one, two = await self.worker(shared, "slot-0"), await self.worker(shared, "slot-1")
        await one.take(10, name)
        lot = await two.take(30, name)
        assert (lot.granted, lot.others) == (0, 100)
        assert (await two.take(30, name)).heard >= lot.required
        shared.bury("slot-0")
        assert (await two.take(30, name)).granted == 100

    async def test_the_drain_moves_money_from_the_slice_to_what_is_spent(self, shared: Shared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0")
        pot = (await one.take(10, name)).pot
        shared.spend("slot-0", pot, 25)
        assert shared.standing(name) == (100, 0, 25, {"slot-0": 75})
        shared.bury("slot-0")
        assert (await one.take(10, name)).granted == 75

    async def test_a_lowered_pot_grants_nothing_until_enough_has_come_back(self, shared: Shared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0")
        pot = (await one.take(10, name)).pot
        shared.spend("slot-0", pot, 20)
        shared.resize(name, 50)
        self.kept(shared, name)
        recalled = (await one.say()).recalled
        assert list(recalled) == [pot]
        lot = (await one.say(returns={pot: 30}, answers=recalled)).lots[0]
        assert (lot.over, lot.free) == (20, 0)
        lot = (await one.say(returns={pot: 30}, watched=[pot])).lots[0]
        assert (lot.over, lot.free) == (0, 10)
        shared.resize(name, 80)
        assert (await one.take(40, name)).granted == 40

    async def test_a_higher_epoch_fences_the_one_before(self, shared: Shared) -> None:
        name = shared.budget(100)
        old = await self.worker(shared, "slot-0")
        pot = (await old.take(10, name)).pot
        new = await self.worker(shared, "slot-0")
        assert new.epoch > old.epoch
        for said in ({"wants": [Want(1, (name,))]}, {"returns": {pot: 50}}, {"beat": True}, {}):
            assert (await old.say(**said)).fenced
        assert shared.standing(name)[3] == {"slot-0": 100}
        assert not (await new.say()).fenced

    async def test_what_is_given_back_again_in_one_turn_counts_once(self, shared: Shared) -> None:
        name = shared.budget(100)
        one = await self.worker(shared, "slot-0")
        pot = (await one.take(10, name)).pot
        assert not (await one.say(returns={pot: 30})).repeated
        again = await one.say(again=True, returns={pot: 30})
        assert (again.repeated, list(again.lots)) == (True, [])
        assert shared.standing(name)[3] == {"slot-0": 70}
        await one.say(returns={pot: 30})
        assert shared.standing(name)[3] == {"slot-0": 40}

    async def test_who_says_a_turn_again_hears_what_it_was_granted_and_gets_no_more(
        self, shared: Shared
    ) -> None:
        name, other = shared.budget(1_000), shared.budget(1_000)
        one = await self.worker(shared, "slot-0", "slot-1")
        lot = await one.take(10, name)
        again = await one.say(again=True, wants=[Want(500, (name,)), Want(5, (other,))])
        assert [(each.pot, each.name, each.granted) for each in again.lots] == [(lot.pot, name, 260)]
        assert again.repeated
        assert shared.standing(name)[3] == {"slot-0": 260}
        after = await one.say(wants=[Want(500, (name,))], free={name: 260})
        assert (after.lots[0].granted, after.repeated) == (240, False)

    @pytest.mark.parametrize("lost", ["wanted", "ahead"])
    async def test_what_was_granted_without_an_answer_reaches_the_purse_though_nobody_asks_any_more(
        self, shared: Shared, lost: str
    ) -> None:
        name, purse = shared.budget(10_000), Purse("slot-0")
        purse.epoch = await shared.store.join("slot-0", NOW)
        own, at, both = purse.slice(name), 10**12, frozenset(["slot-0", "slot-1"])
        purse.live = both
        first = purse.collect([Want(10, (name,))], NOW, at)
        purse.apply(first, await shared.store.exchange(first), at)
        purse.live = both
        wants = [Want(own.unused + 5, (name,))] if lost == "wanted" else []
        said = purse.collect(wants, NOW, at)
        await shared.store.exchange(said if wants else said._replace(ahead={name: 7}))
        assert own.granted < shared.standing(name)[3]["slot-0"]
        again = purse.collect([], NOW, at + 1)
        purse.apply(again, await shared.store.exchange(again), at + 1)
        assert own.granted == shared.standing(name)[3]["slot-0"]

    async def test_turns_begin_anew_with_each_epoch(self, shared: Shared) -> None:
        name = shared.budget(1_000)
        for _ in range(2):
            one = await self.worker(shared, "slot-0", "slot-1")
            assert (await one.take(10, name)).granted > 0

    async def test_a_turn_of_an_epoch_before_is_fenced_though_it_was_applied(self, shared: Shared) -> None:
        name = shared.budget(1_000)
        old = await self.worker(shared, "slot-0")
        await old.take(10, name)
        await self.worker(shared, "slot-0")
        assert (await old.say(again=True, wants=[Want(10, (name,))])).fenced

    async def test_who_lives_shows_until_it_leaves(self, shared: Shared) -> None:
        one, two = await self.worker(shared, "slot-0"), await self.worker(shared, "slot-1")
        before = (await two.say()).slots
        assert set(before) == {"slot-0", "slot-1"}
        await shared.store.exchange(Batch("slot-0", one.epoch, NOW + 5, 1, beat=True))
        after = (await two.say()).slots
        assert after["slot-0"] != before["slot-0"]
        assert after["slot-1"] == before["slot-1"]
        await one.say(leaving=True)
        assert set((await two.say()).slots) == {"slot-1"}

    @pytest.mark.parametrize("seed", range(20))
    async def test_no_order_of_anything_gives_out_more_than_there_is(self, shared: Shared, seed: int) -> None:
        chance = Random(seed)
        names = [shared.budget(1_000), shared.budget(700), shared.grant(400)]
        slots = [f"slot-{n}" for n in range(3)]
        workers = [await self.worker(shared, slot, *slots) for slot in slots]
        pots: dict[PotName, int] = {}
        for _ in range(60):
            worker = chance.choice(workers)
            what = chance.random()
            if what < 0.6:
                wanted = tuple(chance.sample(names[:2], chance.randrange(1, 3)))
                sources = (names[2],) if chance.random() < 0.5 else ()
                ahead = {chance.choice(names): chance.randrange(1, 60)} if chance.random() < 0.3 else {}
                wants = [Want(chance.randrange(1, 200), wanted, sources)]
                outcome = await worker.say(wants=wants, ahead=ahead)
                pots |= {lot.name: lot.pot for lot in outcome.lots}
            elif what < 0.95 and pots:
                name = chance.choice(list(pots))
                has = shared.standing(name)[3].get(worker.slot, 0)
                amount = chance.randrange(has + 1)
                if chance.random() < 0.5:
                    await worker.say(returns={pots[name]: amount})
                elif name.kind == "budget":
                    shared.spend(worker.slot, pots[name], amount)
            else:
                shared.resize(chance.choice(names[:2]), chance.randrange(300, 1_500))
            for name in pots:
                self.kept(shared, name)
