"""Shared meters in Redis: the contract, the same answers as those of the rule in Python, and the dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.limits.contract import MINUTE, SECOND, SharedMetersContract, ask, told
from tests.redis.heard import STEM, opened
from tests.redis.server import RedisServer

from headgate.money.shares import Ask
from headgate.ports import Forgotten, SharedMeters
from headgate.stores.live import MemoryMeters
from headgate.stores.redis.meters import RedisMeters

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
WORKERS = 3


class TestRedis(SharedMetersContract):
    @pytest.fixture
    async def store(self, redis: RedisServer) -> AsyncIterator[SharedMeters]:
        link = await opened(redis)
        store = RedisMeters(link, "node", by_hand=True, silent_us=3600 * 1_000_000)
        for slot in range(WORKERS):
            await store.exchange(slot, [], 0)
        yield store
        await link.close()


Asks = st.builds(
    lambda number, spent, keep, want, limit: Ask(
        f"key:{number}::rpm", limit, MINUTE if number else 0, spent if number else 0, keep, want
    ),
    st.integers(0, 2),
    st.integers(-3, 40),
    st.integers(0, 9),
    st.integers(0, 40),
    st.sampled_from([60, 60, 60, 6, 1200]),  # in 10 us all of them refill whole millionths
)
Exchanges = st.lists(
    st.tuples(
        st.integers(0, WORKERS - 1),
        st.integers(0, SECOND // 10_000),
        st.lists(Asks, min_size=1, max_size=4, unique_by=lambda one: one.name),
        st.booleans(),
    ),
    min_size=10,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(Exchanges)
def test_the_script_says_what_the_rule_in_python_says(redis: RedisServer, exchanges) -> None:
    redis.ask("FLUSHALL")
    asyncio.run(_compare(redis, exchanges))


async def _compare(redis: RedisServer, exchanges) -> None:
    link = await opened(redis)
    ours, truth, now = RedisMeters(link, "node", by_hand=True), MemoryMeters(WORKERS), 0
    for slot in range(WORKERS):
        await ours.exchange(slot, [], 0)
    for slot, gap, asks, dies in exchanges:
        now += gap * 10_000  # nobody is silent for long
        for other in range(WORKERS):
            await ours.exchange(other, [], now)
        expected = [answer[:5] for answer in await truth.exchange(slot, asks, now)]
        found = [answer[:5] for answer in await ours.exchange(slot, asks, now)]
        for (granted, free, others, wait, left), other in zip(expected, found, strict=True):
            assert (granted, free, others, left) == other[:3] + other[4:]
            assert abs(wait - other[3]) <= 1000
        if dies:
            await truth.forget(slot, now)
            await ours.forget(slot, now)
            await ours.exchange(slot, [], now)
    asked = sorted(await ours.lacks(0, now))
    assert asked == sorted(await truth.lacks(0, now))
    await link.close()


async def test_a_worker_that_says_nothing_is_buried_by_the_next_one(redis: RedisServer) -> None:
    link = await opened(redis)
    mine, other = (RedisMeters(link, name, by_hand=True) for name in ("mine", "other"))
    count = {"name": "key:1::concurrency", "limit": 5, "window": 0}
    await told(mine, 0, 0, ask(30))
    await told(mine, 0, 0, ask(5, **count))
    assert (await told(other, 0, 4 * SECOND, ask(1, **count))).granted == 0
    assert other.workers == 2
    assert (await told(other, 0, 6 * SECOND, ask(5, **count))).granted == 5
    assert (await told(other, 0, 6 * SECOND, ask(60))).granted == 30  # what it had in hand is spent
    assert other.workers == 1
    with pytest.raises(Forgotten):  # it was only frozen
        await mine.exchange(0, [ask(keep=30), ask(keep=5, **count)], 7 * SECOND)
    (calls,) = await mine.exchange(0, [ask(1, keep=5, **count)], 7 * SECOND)  # they are open all the same
    assert (calls.granted, calls.others) == (0, 5)
    await link.close()


async def test_after_a_flush_a_worker_says_anew_what_it_has(redis: RedisServer) -> None:
    link = await opened(redis)
    store = RedisMeters(link, "mine", by_hand=True)
    await told(store, 0, 0, ask(5, name="key:1::concurrency", limit=5, window=0))
    redis.ask("FLUSHALL")
    with pytest.raises(Forgotten):
        await store.exchange(0, [ask(1)], 0)
    assert (await told(store, 0, 0, ask(1))).granted > 0
    await link.close()


async def test_who_leaves_gives_back_what_it_has(redis: RedisServer) -> None:
    link = await opened(redis)
    store = RedisMeters(link, "mine", by_hand=True)
    await told(store, 0, 0, ask(60))
    await store.leave(0, 0)
    assert (await told(store, 0, 0, ask(60))).granted == 60
    await link.close()


async def test_a_redis_whose_clock_goes_back_gives_nothing_and_locks_nobody_out(redis: RedisServer) -> None:
    link = await opened(redis)
    store = RedisMeters(link, "mine", by_hand=True)
    hour = 60 * MINUTE
    await told(store, 0, hour, ask(60))
    await told(store, 0, hour, ask(spent=60))
    assert (await told(store, 0, MINUTE, ask(1))).granted == 0
    assert (await told(store, 0, MINUTE + 2 * SECOND, ask(9))).granted == 2
    await link.close()


async def test_everything_that_is_kept_ends_of_itself(redis: RedisServer) -> None:
    link = await opened(redis)
    store = RedisMeters(link, "mine")
    count = {"name": "key:1::concurrency", "limit": 5, "window": 0}
    await store.exchange(0, [ask(1), ask(1, **count), ask(1, name="d", window=1440 * MINUTE)], 0)
    names = await link.call("KEYS", "*")
    assert isinstance(names, list)
    left = {name.decode(): await link.call("PTTL", name) for name in names}
    assert all(name.startswith(STEM) for name in left)
    assert all(ms > 0 for ms in left.values()), left  # type: ignore[operator]
    assert 119_000 < left[f"{STEM}pool:key:1::rpm"] <= 120_000
    await link.close()


def test_scripts_are_in_the_package() -> None:
    import headgate.stores.redis as package

    folder = Path(package.__file__).parent
    assert {path.stem for path in folder.glob("*.lua")} == {"common", "exchange", "leave", "lacks"}
