"""Caps hold, and nothing stays away, where a worker is killed or frozen, or the database is locked."""

import asyncio
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from tests.caps.callers import Order, Seen, call
from tests.caps.money import PRICE, Payer
from tests.caps.provider import Provider
from tests.caps.rounds import DAY_US, KNOWN_S, Rounds
from tests.caps.serving import CONFIG, Gateway, MovedClock, processes, start, workers_here

from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
TOKENS, K = 50, 40
HOUR_US = DAY_US // 24


async def called(rounds: Rounds, payer: Payer, orders: list[Order]) -> list[Seen]:
    """Make calls at once; one whose worker dies is seen as nothing."""
    calls = [call(rounds.gateway.port, payer.keys[0][1], order) for order in orders]
    seen = await asyncio.gather(*calls, return_exceptions=True)
    return [each if isinstance(each, Seen) else Seen(TOKENS) for each in seen]


async def settled(rounds: Rounds, payer: Payer) -> int:
    """Wait until nothing is open or undrained any more; return what was spent."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 1.5:
        spent = sum(rounds.money.charges(payer).values())
        if spent != before:
            before, since = spent, time.monotonic()
        await asyncio.sleep(0.05)
    return before


async def spendable(rounds: Rounds, payer: Payer, rest: int) -> None:
    tokens = rest // PRICE
    assert tokens
    [last] = await called(rounds, payer, [Order(tokens, gap_ms=0)])
    assert last.status == 200, last
    [beyond] = await called(rounds, payer, [Order(1, gap_ms=0)])
    assert beyond.status == 429


def budgeted(gateway: Gateway, provider: Provider) -> tuple[Rounds, Payer, int]:
    rounds, amount = Rounds(gateway, provider, Random(1)), K * TOKENS * PRICE
    payer = rounds.money.payer()
    rounds.money.budget("key", payer.keys[0][0], amount)
    return rounds, payer, amount


async def test_a_killed_worker_gives_back_what_it_had(tmp_path: Path) -> None:
    async with Provider() as provider, processes(tmp_path, provider.port, 3) as gateway:
        rounds, payer, amount = budgeted(gateway, provider)
        await asyncio.sleep(KNOWN_S)
        orders = [Order(TOKENS, made=TOKENS // 3, gap_ms=400, stream=True)] * 30
        under_way = asyncio.create_task(called(rounds, payer, orders))
        await asyncio.sleep(0.25)
        os.kill(gateway.workers[0], signal.SIGKILL)
        seen = await under_way
        assert any(not each.status or not each.whole for each in seen), "it had none of the calls"
        spent = await settled(rounds, payer)
        assert spent <= amount
        while len(gateway.workers) < 3:
            await asyncio.sleep(0.05)
        await asyncio.sleep(KNOWN_S)
        await spendable(rounds, payer, amount - spent)


async def test_a_frozen_worker_spends_nothing_twice_and_gives_back_when_it_wakes(tmp_path: Path) -> None:
    async with Provider() as provider, processes(tmp_path, provider.port, 2) as gateway:
        rounds, payer, amount = budgeted(gateway, provider)
        await asyncio.sleep(KNOWN_S)
        under_way = asyncio.create_task(called(rounds, payer, [Order(TOKENS, gap_ms=300)] * 20))
        await asyncio.sleep(0.15)
        frozen = gateway.workers[0]
        os.kill(frozen, signal.SIGSTOP)
        try:
            more = asyncio.create_task(called(rounds, payer, [Order(TOKENS, gap_ms=100)] * 60))
            await asyncio.sleep(3.0)  # beyond its lease
        finally:
            os.kill(frozen, signal.SIGCONT)
        seen = await under_way + await more
        assert sum(each.status == 200 for each in seen) <= K
        assert {each.status for each in seen} <= {200, 429}
        spent = await settled(rounds, payer)
        assert spent <= amount
        if amount - spent >= PRICE:
            await spendable(rounds, payer, amount - spent)


async def test_a_locked_database_stops_takes_with_503_and_nothing_else(tmp_path: Path) -> None:
    async with Provider() as provider, workers_here(tmp_path, provider.port, 1, MovedClock(0)) as gateway:
        rounds, rich, _ = budgeted(gateway, provider)
        fresh = rounds.money.payer()
        rounds.money.budget("key", fresh.keys[0][0], K * TOKENS * PRICE)
        await asyncio.sleep(KNOWN_S)
        [first] = await called(rounds, rich, [Order(TOKENS)])
        assert first.status == 200
        with closing(connect(gateway.data)) as sql:
            sql.execute("BEGIN IMMEDIATE")
            known, unknown = await asyncio.gather(
                called(rounds, rich, [Order(TOKENS)] * 5), called(rounds, fresh, [Order(TOKENS)] * 5)
            )
            sql.execute("ROLLBACK")
        assert {each.status for each in known} == {200}
        assert {each.status for each in unknown} == {503}
        assert "database does not answer" in unknown[0].message
        assert {each.status for each in await called(rounds, fresh, [Order(TOKENS)] * K)} == {200}


async def test_fewer_workers_go_on_where_more_were_killed(tmp_path: Path) -> None:
    async with Provider() as provider:
        process, gateway = await start(tmp_path, CONFIG.format(port=provider.port), 4)
        try:
            rounds, payer, amount = budgeted(gateway, provider)
            await asyncio.sleep(KNOWN_S)
            orders = [Order(TOKENS, gap_ms=10)] * 8 + [Order(TOKENS, gap_ms=400, stream=True)] * 16
            under_way = asyncio.create_task(called(rounds, payer, orders))
            await asyncio.sleep(0.5)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
        seen = await under_way
        assert any(not each.whole for each in seen), "none was cut"
        async with processes(tmp_path, provider.port, 2) as gateway:
            rounds.gateway = gateway
            spent = sum(rounds.money.charges(payer).values())
            left = (amount - spent) // (TOKENS * PRICE)
            assert 0 < left < K
            seen = await called(rounds, payer, [Order(TOKENS)] * (K + 20))
            assert sum(each.status == 200 for each in seen) == left
            spent = await settled(rounds, payer)
            assert spent <= amount
            if amount - spent >= PRICE:
                await spendable(rounds, payer, amount - spent)


async def test_steps_of_the_clock_lock_nobody_out_and_grant_no_day_twice(tmp_path: Path) -> None:
    half_past_ten = DAY_US - time.time_ns() // 1000 % DAY_US - 3 * HOUR_US // 2
    clock = MovedClock(half_past_ten)
    async with Provider() as provider, workers_here(tmp_path, provider.port, 2, clock) as gateway:
        rounds = Rounds(gateway, provider, Random(1))
        payer = rounds.money.payer(keys=2)
        rounds.money.budget("account", payer.account, K * TOKENS * PRICE, "day")
        await asyncio.sleep(KNOWN_S)

        async def served(hours: int, calls: int) -> int:
            clock.ahead += hours * HOUR_US
            seen = await called(rounds, payer, [Order(TOKENS, gap_ms=20)] * calls)
            assert {each.status for each in seen} <= {200, 429}
            return sum(each.status == 200 for each in seen)

        assert await served(0, 10) == 10
        assert await served(1, 10) == 10  # half past eleven
        assert await served(-1, K) == K - 20  # and half past ten again: the rest of the day
        assert await served(2, K + 10) == K  # half past midnight: another day
        assert [await served(hours, 10) for hours in (-1, -1, 1, 1)] == [0, 0, 0, 0]
        assert await served(24, K + 10) == K
        assert await settled(rounds, payer) == 3 * K * TOKENS * PRICE
        assert check(gateway.data, clock.wall()).findings == []
