"""Stores of shared meters, and workers on them: overshoot is none, whatever happens in which order."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from tests.limits.contract import MINUTE, SECOND, SharedMetersContract

from headgate.admission.entrance import Entrance
from headgate.admission.limits import LimitRow, LimitSettings, LimitTable
from headgate.admission.rate import Rates
from headgate.admission.sharing import Shares
from headgate.errors import Unavailable
from headgate.ports import SharedMeters
from headgate.stores.live import MemoryMeters, SqliteMeters, bury, start_anew
from headgate.values import Limits, Principal

pytestmark = pytest.mark.anyio
WORKERS = 3
WHO = Principal(key=1, project=1, account=1)


class TestMemory(SharedMetersContract):
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def store(self) -> SharedMeters:
        return MemoryMeters(WORKERS)


class TestSqlite(SharedMetersContract):
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SharedMeters]:
        start_anew(tmp_path, [], 0)
        opened = SqliteMeters(tmp_path, WORKERS)
        yield opened
        await opened.close()


async def test_the_file_is_made_anew_from_what_was_kept(tmp_path: Path) -> None:
    start_anew(tmp_path, [("old", 1, 0)], 0)
    start_anew(tmp_path, [("key:1::rpm", 90_000_000, 20 * SECOND)], 100 * SECOND)
    opened = SqliteMeters(tmp_path, WORKERS)
    shares = Shares(0, opened, Hand())
    Hand.now = 100 * SECOND
    bucket = (
        Rates(LimitTable([LimitRow("key", 1, "", Limits(rpm=60))]), shares=shares)
        .gate(WHO, "m", 0)
        .requests[0]
    )
    shares.touch(bucket)
    await shares.tell()
    assert bucket.remaining(Hand.now) == 20  # 60 at most were used, and 20 s have passed since
    bury(tmp_path, 0, 0)
    await opened.close()
    assert {path.suffix for path in tmp_path.iterdir()} == {
        ".sqlite"
    }  # no file in memory: a disk may be full


class Breaking(MemoryMeters):
    """A store that does not answer when it is told so."""

    broken = False

    async def exchange(self, slot, asks, now):
        if self.broken:
            raise Unavailable("gone")
        return await super().exchange(slot, asks, now)


class Hand:
    """A clock that a test moves, the same for all workers."""

    now = 0

    def monotonic(self) -> int:
        return Hand.now

    def wall(self) -> int:
        return Hand.now // 1000


class Team:
    """Some workers on one store; each takes what it has in hand, and asks when told to."""

    def __init__(self, limits: Limits, store: SharedMeters, workers: int = WORKERS) -> None:
        Hand.now = 0
        self.table = LimitTable([LimitRow("account", 1, "", limits)])
        self.shares = [Shares(slot, store, Hand()) for slot in range(workers)]
        self.rates = [Rates(self.table, shares=each) for each in self.shares]

    def gate(self, slot: int):
        return self.rates[slot].gate(WHO, "m", Hand.now)

    def admit(self, slot: int, tokens: int = 0):
        return self.gate(slot).admit(tokens, Hand.now)


Events = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "wish", "tell", "end", "die"]),
        st.integers(0, WORKERS - 1),
        st.integers(0, 20 * SECOND),
        st.integers(0, 12),
    ),
    min_size=40,
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(Events, st.integers(1, 40), st.integers(1, 4))
def test_workers_together_let_through_what_one_would(events, rpm: int, concurrency: int) -> None:
    asyncio.run(_play(events, rpm, concurrency))


async def _play(events, rpm: int, concurrency: int) -> None:
    store = MemoryMeters(WORKERS)
    team = Team(Limits(rpm=rpm, concurrency=concurrency), store)
    passed: list[int] = []
    calls: list[list] = [[] for _ in range(WORKERS)]
    for what, slot, gap, number in events:
        Hand.now += gap
        if what == "call":
            ticket = team.admit(slot)
            if ticket is not None:
                passed.append(Hand.now)
                calls[slot].append(ticket)
        elif what == "wish":
            team.shares[slot].wish(team.gate(slot), 0, Hand.now)
        elif what == "tell":
            await team.shares[slot].tell()
        elif what == "end" and calls[slot]:
            team.rates[slot].settle(calls[slot].pop(number % len(calls[slot])), 0, Hand.now)
        elif what == "die":
            await store.forget(slot, Hand.now)
            team.shares[slot] = Shares(slot, store, Hand())
            team.rates[slot] = Rates(team.table, shares=team.shares[slot])
            calls[slot] = []
        assert sum(map(len, calls)) <= concurrency
        nobody_holds_more_than_is_known(team, store)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert (last - first + 1) * MINUTE <= rpm * MINUTE + rpm * (passed[last] - passed[first])


async def _rounds(team: Team, calls: list[int]) -> list[int]:
    """Play a tenth of a second for each number of calls; return the rounds in which a call had to wait."""
    waited = []
    for number, count in enumerate(calls):
        Hand.now += SECOND // 10
        await team.shares[0].tell()
        for _ in range(count):
            ticket = team.admit(0)
            if ticket is None:
                waited.append(number)
                assert team.shares[0].wish(team.gate(0), 0, Hand.now)
                await team.shares[0].tell()
                ticket = team.admit(0)
            team.rates[0].settle(ticket, 0, Hand.now)
    return waited


async def test_a_steady_flow_does_not_wait_for_the_store_and_what_is_not_used_goes_back() -> None:
    store = MemoryMeters(1)
    team = Team(Limits(rpm=1_000_000, concurrency=1000), store, workers=1)
    waited = await _rounds(team, [40 + number % 9 for number in range(30)])
    assert set(waited) <= {0}
    hand = team.gate(0).requests[0].hand
    assert 0 < hand.spare < 10_000
    await _rounds(team, [0, 0])
    assert not hand.held
    assert not store._hands.get(hand.name, {}).get(0, 0)


async def test_where_little_is_free_nobody_takes_ahead() -> None:
    team = Team(Limits(rpm=1_000), MemoryMeters(1), workers=1)
    await _rounds(team, [20] * 30)
    hand = team.gate(0).requests[0].hand
    assert hand.free < 32 * 20
    assert not hand.pace
    await team.shares[0].tell(leaving=True)
    assert not hand.held


def nobody_holds_more_than_is_known(team: Team, store: MemoryMeters) -> None:
    for slot in range(WORKERS):
        for meter in team.gate(slot).meters():
            hand = meter.hand
            assert 0 <= hand.spare <= hand.held <= store._hands.get(hand.name, {}).get(slot, 0)


Sights = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "call", "tell", "fail", "die"]),
        st.integers(0, WORKERS - 1),
        st.integers(0, SECOND // 50),
    ),
    min_size=40,
    max_size=120,
)


@settings(max_examples=50, deadline=None)
@given(Sights)
def test_what_is_told_of_a_limit_is_true_whichever_worker_tells_it(events) -> None:
    asyncio.run(_tell_all(events))


async def _tell_all(events) -> None:
    limit, used = 10_000, 0
    store = Breaking(WORKERS)
    team = Team(Limits(rpd=limit), store)
    Hand.now = 1440 * MINUTE

    def meet(slot: int) -> None:
        team.shares[slot] = Shares(slot, store, Hand(), sight=store.sight(slot))
        team.rates[slot] = Rates(team.table, shares=team.shares[slot])

    for slot in range(WORKERS):
        meet(slot)
    for what, slot, gap in events:
        Hand.now += gap
        if what == "call":
            while team.admit(slot) is None:
                store.broken = False
                team.shares[slot].wish(team.gate(slot), 0, Hand.now)
                await team.shares[slot].tell()
            used += 1
            (meter,) = team.gate(slot).requests
            assert abs(limit - used - meter.remaining(Hand.now)) <= 1
        elif what == "tell":
            await team.shares[slot].tell()
        elif what == "fail":
            store.broken = not store.broken
        elif what == "die":
            (meter,) = team.gate(slot).requests
            used += store._hands.get(meter.hand.name, {}).get(slot, 0) - meter.hand.spent  # for all we know
            await store.forget(slot, Hand.now)
            meet(slot)
        seen = [rates.lines(WHO, "m", Hand.now) for rates in team.rates]
        told = [int(lines.split(b"remaining-requests: ")[1].split(b"\r")[0]) for lines in seen]
        assert all(abs(limit - used - left) <= 1 for left in told), (used, told)


TokenEvents = st.lists(
    st.tuples(
        st.sampled_from(["fetch", "call", "end", "tell", "fail"]),
        st.integers(0, 1),
        st.sampled_from([0, SECOND // 5, 5 * SECOND]),
        st.sampled_from([5, 20, 60]),
    ),
    min_size=40,
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(TokenEvents, st.integers(50, 200))
def test_what_is_used_otherwise_than_reserved_makes_no_hand_larger(events, tpm: int) -> None:
    asyncio.run(_spend(events, tpm))


async def _spend(events, tpm: int) -> None:
    store = Breaking(WORKERS)
    team = Team(Limits(tpm=tpm), store)
    calls: list[list] = [[] for _ in range(WORKERS)]
    for what, slot, gap, number in events:
        Hand.now += gap
        if what == "call" and (ticket := team.admit(slot, number)) is not None:
            calls[slot].append(ticket)
        elif what == "fetch":
            store.broken = False
            team.shares[slot].wish(team.gate(slot), number, Hand.now)
            await team.shares[slot].tell()
        elif what == "end" and calls[slot]:  # with less, or more
            team.rates[slot].settle(calls[slot].pop(0), number, Hand.now)
        else:
            store.broken = what == "fail"
            await team.shares[slot].tell()
        nobody_holds_more_than_is_known(team, store)


async def test_tokens_are_corrected_through_the_store() -> None:
    team = Team(Limits(tpm=1000), MemoryMeters(WORKERS))
    await asyncio.gather(team.shares[0].fetch(team.gate(0), 800), team.shares[0].tell())
    ticket = team.admit(0, 800)
    assert ticket is not None
    await asyncio.gather(team.shares[1].fetch(team.gate(1), 300), _tell_often(team.shares[1]))
    assert team.admit(1, 300) is None
    team.rates[0].settle(ticket, 100, Hand.now)
    await team.shares[0].tell(leaving=True)
    Hand.now += SECOND // 10
    await asyncio.gather(team.shares[1].fetch(team.gate(1), 300), _tell_often(team.shares[1]))
    assert team.admit(1, 300) is not None
    team.gate(1).close()
    assert team.gate(1).tokens[0].remaining(Hand.now) in range(550, 610)


async def _tell_often(shares: Shares) -> None:
    for _ in range(4):
        await asyncio.sleep(0.01)
        await shares.tell()


async def test_a_store_that_does_not_answer_lets_nothing_through_and_forgets_nothing() -> None:
    store = Breaking(WORKERS)
    team = Team(Limits(rpm=5), store)
    await asyncio.gather(team.shares[0].fetch(team.gate(0), 0), team.shares[0].tell())
    assert team.admit(0) is not None
    store.broken = True
    await team.shares[0].tell()
    assert team.shares[0].trouble == "gone"
    store.broken = False
    await team.shares[0].tell()
    assert await store.lacks(0, Hand.now) == [("account:1::rpm", 1_000_000)]


async def test_calls_wait_in_line_for_what_other_workers_leave() -> None:
    from headgate.ports import SystemClock

    store, clock = MemoryMeters(2), SystemClock()
    table = LimitTable([LimitRow("account", 1, "", Limits(concurrency=1))])
    who = Principal(key=1, project=1, account=1, queue_ms=3_000)
    teams = []
    for slot in range(2):
        shares = Shares(slot, store, clock)
        rates = Rates(table, shares=shares)
        teams.append((rates, Entrance(rates, clock, LimitSettings()), asyncio.create_task(shares.run())))

    class Nobody:
        gone = False

        def on_gone(self, callback) -> None:
            """Stay."""

    async def call(slot: int):
        rates, entrance, _ = teams[slot]
        gate = rates.gate(who, "m", clock.monotonic())
        return entrance.enter(gate, 0, clock.monotonic()) or await entrance.stand(gate, 0, "m", Nobody())

    first = await call(0)
    second = asyncio.create_task(call(1))
    await asyncio.sleep(0.3)
    assert not second.done()
    teams[0][0].settle(first, 0, clock.monotonic())
    assert (await second).queued_ns > 0
    for *_, task in teams:
        task.cancel()


HAMMER = """
import asyncio, json, sys, time
from pathlib import Path
from headgate.admission.sharing import Shares
from headgate.admission.limits import LimitRow, LimitTable
from headgate.admission.rate import Rates
from headgate.ports import SystemClock
from headgate.stores.live import SqliteMeters
from headgate.values import Limits, Principal

async def main(folder, slot, rpm, until):
    clock, store = SystemClock(), SqliteMeters(Path(folder), 4)
    shares = Shares(slot, store, clock)
    rates = Rates(LimitTable([LimitRow("account", 1, "", Limits(rpm=rpm, concurrency=400))]), shares=shares)
    who, passed, asked = Principal(key=1, project=1, account=1), [], 0
    run = asyncio.create_task(shares.run())
    while (now := clock.monotonic()) < until:
        gate = rates.gate(who, "m", now)
        ticket = gate.admit(0, now)
        if ticket is None:
            await shares.fetch(gate, 0)
            ticket = gate.admit(0, clock.monotonic())
        asked += 1
        if ticket is not None:
            passed.append(now)
            rates.settle(ticket, 0, clock.monotonic())
        await asyncio.sleep(0.001)
    run.cancel()
    await shares.tell(leaving=True)
    await store.close()
    print(json.dumps([passed, asked]))

asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
"""


def test_four_processes_on_one_folder_keep_the_limit_and_use_it(tmp_path: Path) -> None:
    start_anew(tmp_path, [], time.monotonic_ns())
    rpm = 1_200  # 20 a second, after 1,200 at once
    until = time.monotonic_ns() + 6 * SECOND
    command = [sys.executable, "-c", HAMMER, str(tmp_path)]
    runs = [
        subprocess.Popen([*command, str(slot), str(rpm), str(until)], stdout=subprocess.PIPE)
        for slot in range(4)
    ]
    passed: list[int] = []
    asked = 0
    for run in runs:
        out, _ = run.communicate(timeout=60)
        times, count = json.loads(out)
        passed += times
        asked += count
    passed.sort()
    allowed = rpm + rpm * (passed[-1] - passed[0]) / MINUTE
    assert len(passed) <= allowed * 1.01, (len(passed), allowed)
    assert len(passed) >= min(allowed, asked) * 0.9, (len(passed), allowed, asked)
