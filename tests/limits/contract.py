"""What every store of shared meters promises. A new one adds a fixture `store` of its own, see `test_shared.py`.

Each test gets a store that three workers share, and moves the time by hand.
"""

from __future__ import annotations

import pytest

from headgate.money.shares import Answer, Ask
from headgate.ports import SharedMeters

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
NAME = "key:1::rpm"


def ask(
    want: int = 0, *, spent: int = 0, keep: int = 0, limit: int = 60, window: int = MINUTE, name: str = NAME
) -> Ask:
    return Ask(name, limit, window, spent, keep, want)


async def told(store: SharedMeters, slot: int, now: int, one: Ask) -> Answer:
    (answer,) = await store.exchange(slot, [one], now)
    return answer


class SharedMetersContract:
    """The tests."""

    async def test_all_hands_together_hold_no_more_than_the_limit(self, store: SharedMeters) -> None:
        first = await told(store, 0, 0, ask(50))
        second = await told(store, 1, 0, ask(50))
        assert (first.granted, first.wait_ns) == (50, 0)
        assert (second.granted, second.free, second.others) == (10, 0, 50)
        assert second.wait_ns == 40 * SECOND
        assert (await told(store, 2, 0, ask(1))).granted == 0

    async def test_what_is_spent_comes_back_and_what_is_held_does_not(self, store: SharedMeters) -> None:
        await told(store, 0, 0, ask(60))
        assert (await told(store, 1, 30 * SECOND, ask(1))).granted == 0
        await told(store, 0, 30 * SECOND, ask(spent=40, keep=20))
        later = await told(store, 1, 50 * SECOND, ask(60))
        assert later.granted == 20
        await told(store, 0, 50 * SECOND, ask(keep=0))
        assert (await told(store, 1, 50 * SECOND, ask(60, keep=20))).granted == 20

    async def test_what_is_given_back_is_free_again(self, store: SharedMeters) -> None:
        await told(store, 0, 0, ask(60))
        await told(store, 0, 0, ask(spent=60))
        await told(store, 0, 0, ask(spent=-15))
        assert (await told(store, 1, 0, ask(60))).granted == 15
        await told(store, 0, 0, ask(spent=-1000))  # never more than was used
        assert (await told(store, 1, 0, ask(60, keep=15))).granted == 45

    async def test_a_little_more_is_given_while_there_is_plenty(self, store: SharedMeters) -> None:
        answer = await told(store, 0, 0, ask(1, limit=600))
        assert 1 < answer.granted <= 600 // 12 + 1
        assert answer.free == 600 - answer.granted

    async def test_calls_at_once_are_only_ever_in_hands(self, store: SharedMeters) -> None:
        count = {"name": "key:1::concurrency", "limit": 5, "window": 0}
        assert (await told(store, 0, 0, ask(3, **count))).granted == 3
        full = await told(store, 1, MINUTE, ask(3, keep=0, **count))
        assert (full.granted, full.others) == (2, 3)
        assert full.wait_ns > 0
        await told(store, 0, MINUTE, ask(keep=1, **count))
        assert (await told(store, 1, MINUTE, ask(5, keep=2, **count))).granted == 2

    async def test_a_changed_limit_keeps_what_is_used(self, store: SharedMeters) -> None:
        await told(store, 0, 0, ask(50))
        await told(store, 0, 0, ask(spent=50))
        assert (await told(store, 1, 0, ask(90, limit=100))).granted == 50
        lower = await told(store, 0, 0, ask(1, limit=10))
        assert (lower.granted, lower.free) == (0, 0)

    async def test_a_dead_workers_hand_counts_as_spent_and_its_calls_are_over(
        self, store: SharedMeters
    ) -> None:
        count = {"name": "key:1::concurrency", "limit": 5, "window": 0}
        await told(store, 0, 0, ask(30))
        await told(store, 0, 0, ask(5, **count))
        await store.forget(0, 0)
        assert (await told(store, 1, 0, ask(60))).granted == 30
        assert (await told(store, 1, 0, ask(5, **count))).granted == 5
        assert (await told(store, 2, 30 * SECOND, ask(60))).granted == 30
        await store.forget(7, 0)

    async def test_what_lacks_is_told_for_the_next_start(self, store: SharedMeters) -> None:
        await told(store, 0, 10, ask(30))
        await told(store, 0, 10, ask(spent=12, keep=18))
        await told(store, 0, 10, ask(5, name="key:1::concurrency", limit=5, window=0))
        assert await store.lacks(0, 10) == [(NAME, 30_000_000)]
        assert await store.lacks(0, 10 + 4 * SECOND) == [(NAME, 26_000_000)]
        assert await store.lacks(11, 20) == []

    async def test_a_lost_meter_begins_as_the_worker_knows_it(self, store: SharedMeters) -> None:
        lost = ask(60)._replace(known=45_000_000)
        assert (await told(store, 0, 0, lost)).granted == 15
        assert (await told(store, 1, 0, lost)).granted == 0  # now the store has it
        (more,) = await store.exchange(1, [ask(60, name="other")._replace(known=90_000_000)], 0)
        assert (more.granted, more.wait_ns) == (0, MINUTE)

    async def test_a_clock_that_is_a_little_behind_takes_nothing_back(self, store: SharedMeters) -> None:
        await told(store, 0, MINUTE, ask(60))
        await told(store, 0, MINUTE, ask(spent=60))
        assert (await told(store, 1, MINUTE - SECOND, ask(1))).granted == 0
        assert (await told(store, 1, MINUTE + SECOND, ask(1))).granted == 1


pytestmark = pytest.mark.anyio
