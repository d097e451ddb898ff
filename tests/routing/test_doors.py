"""Who gets to a target that has too little room, in time that only the test moves."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import msgspec
import pytest
from tests.leases.simloop import SimLoop
from tests.path.fakes import ListSink, target

from headgate.errors import CallerGone, Crowded, GatewayError, RateLimited
from headgate.routing.doors import Doors, Seat
from headgate.routing.turns import TURNS, Turns, Waiter
from headgate.values import Call, Principal, RoomTerms, Target
from headgate.waits import Deadline
from headgate.wire.limits import Left, Told

S = 1_000_000_000


class LoopClock:
    """The loop's own time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def wall(self) -> int:
        return round(self._loop.now * 1_000_000)

    def monotonic(self) -> int:
        return round(self._loop.now * S)


class Hall:
    """Doors in a loop without real time."""

    def __init__(self, seed: int = 1, workers: int = 1) -> None:
        self.loop = SimLoop(seed)
        self.doors = Doors(LoopClock(self.loop), workers, lambda: 0.5)
        self.doors.follow(limited=True)
        self.now = self.most = 0
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    async def take(
        self,
        *targets: Target,
        who: Principal | None = None,
        tokens: int = 1,
        sink: ListSink | None = None,
        until_s: float | None = None,
    ) -> Seat:
        call = Call(b"0" * 16, "chat", 0)
        if until_s is not None:
            call.deadline = Deadline(int(until_s * S), until_s, lambda: None)
        call.principal = who or caller(1)
        return await self.doors.enter(call, targets, tokens, sink or ListSink())

    async def call(self, name: str, who: Principal, took_s: float, *targets: Target) -> None:
        try:
            seat = await self.take(*targets, who=who)
        except Crowded:
            self.refused[name] += 1
            return
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(took_s)
        self.now -= 1
        self.served[name] += 1
        self.doors.leave(seat)


def caller(key: int, account: int = 0, **more: object) -> Principal:
    return Principal(key=key, project=1, account=account or key, **more)  # type: ignore[arg-type]


def bounded(name: str = "a", provider: int = 0, model: str = "m", **terms: float) -> Target:
    plain = target(name)
    return msgspec.structs.replace(
        plain,
        host=msgspec.structs.replace(plain.host, room=RoomTerms(provider)),
        model=msgspec.structs.replace(plain.model, name=model),
        room=RoomTerms(**terms),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("overload", [2, 10])
def test_who_has_one_per_cent_of_the_load_loses_nothing(overload: int) -> None:
    hall, chance = Hall(), Random(overload)
    busy = bounded(max_concurrent=10, max_waiting=100, longest_wait_s=2.0)

    async def main() -> None:
        tasks = []
        for index in range(100 * overload * 3):  # 100 a second fit
            name = "small" if index % 100 == 0 else "large"
            who = caller(1 if name == "small" else chance.randrange(2, 5), 1 if name == "small" else 2)
            tasks.append(asyncio.ensure_future(hall.call(name, who, 0.1, busy)))
            await asyncio.sleep(chance.random() * 2 / (100 * overload))
        await asyncio.gather(*tasks)

    hall.loop.run(main())
    assert hall.refused["small"] <= 0.05 * (hall.served["small"] + hall.refused["small"])
    assert hall.served["large"] > 250  # nothing of the room was left unused
    assert hall.refused["large"] > 50
    assert hall.most == 10
    assert (hall.doors.waiting, hall.doors._lines) == (0, {})


def test_of_eight_calls_one_is_of_the_batch_that_waits_for_the_others() -> None:
    turns, order = Turns(), []
    for _ in range(20):
        turns.join(Waiter(caller(1, priority="batch"), 0, 0))
        turns.join(Waiter(caller(2), 0, 0))
    while (head := turns.head()) is not None:
        order.append(head.batch)
        turns.served(head)
    assert order[: 2 * TURNS] == ([False] * (TURNS - 1) + [True]) * 2
    assert sum(order) == 20


def test_accounts_take_turns_and_in_each_its_keys() -> None:
    turns, order = Turns(), []
    for key, account, times in ((1, 1, 4), (2, 1, 2), (3, 2, 3)):
        for _ in range(times):
            turns.join(Waiter(caller(key, account), 0, 0))
    while (head := turns.head()) is not None:
        order.append(head.key)
        turns.served(head)
    assert order == [1, 3, 2, 3, 1, 3, 2, 1, 1]


def test_a_full_line_has_room_for_who_has_fewer_in_it_and_batch_gives_way_first() -> None:
    turns = Turns()
    for key, account, more in ((1, 1, {}), (1, 1, {}), (2, 1, {}), (3, 2, {}), (4, 3, {"priority": "batch"})):
        turns.join(Waiter(caller(key, account, **more), 0, 0))

    def gives_way(key: int, account: int, **more: object) -> tuple[int, bool] | None:
        found = turns.yielding(Waiter(caller(key, account, **more), 0, 0))
        return None if found is None else (found.key, found.batch)

    assert gives_way(9, 9) == (4, True)
    turns.leave(turns._batch.head())  # type: ignore[arg-type]
    assert gives_way(9, 9) == (1, False)
    assert gives_way(9, 1) == (1, False)  # within an account its keys are compared
    assert gives_way(1, 1) is None
    assert gives_way(9, 9, priority="batch") is None


def test_room_of_a_provider_is_for_all_its_models_and_that_of_a_target_for_whoever_asks_it() -> None:
    hall = Hall()
    one, two = bounded(provider=3, model="one", max_concurrent=2), bounded(provider=3, model="two")

    async def main() -> None:
        calls = [hall.call("one", caller(1), 1.0, one) for _ in range(4)]
        calls += [hall.call("two", caller(2), 1.0, two) for _ in range(4)]
        tasks = [asyncio.ensure_future(each) for each in calls]
        await asyncio.sleep(0.5)
        rooms = hall.doors._rooms
        assert (rooms["a", ""].open, rooms["a", "one"].open) == (3, 2)
        await asyncio.gather(*tasks)

    hall.loop.run(main())
    assert hall.most == 3
    assert hall.served == {"one": 4, "two": 4}


def test_a_fallback_with_room_comes_before_a_wait_and_who_waits_takes_the_first_that_frees() -> None:
    hall = Hall()
    both = (bounded("a", max_concurrent=1), bounded("b", max_concurrent=1))

    async def main() -> None:
        first, second = await hall.take(*both), await hall.take(*both)
        assert (first.index, second.index) == (0, 1)
        third = asyncio.ensure_future(hall.take(*both))
        await asyncio.sleep(1)
        assert not third.done()
        hall.doors.leave(second)
        assert (await third).index == 1
        hall.doors.leave(first)
        hall.doors.leave(first)  # once
        fourth = await hall.take(*both)
        assert fourth.index == 0

    hall.loop.run(main())


def test_who_waits_too_long_or_finds_the_line_full_is_told_when_to_come_back() -> None:
    hall = Hall()
    busy = bounded(max_concurrent=1, max_waiting=1, longest_wait_s=2.0)

    async def main() -> None:
        seat = await hall.take(busy)
        waiting = asyncio.ensure_future(hall.take(busy))
        await asyncio.sleep(0.1)
        with pytest.raises(Crowded) as full:
            await hall.take(busy)
        assert full.value.retry_after_s == 1.5
        assert "x-headgate-queued-ms" not in full.value.headers
        with pytest.raises(Crowded) as late:
            await waiting
        assert late.value.headers == {"x-headgate-queued-ms": "2000"}
        hall.doors.leave(seat)
        hall.doors.leave(await hall.take(busy))

    hall.loop.run(main())
    assert hall.doors._lines == {}


def test_calls_for_the_same_targets_in_another_order_stand_in_one_line() -> None:
    hall = Hall()
    one, other = (
        bounded("one", max_concurrent=1, max_waiting=1),
        bounded("other", max_concurrent=1, max_waiting=1),
    )

    async def main() -> None:
        first, second = await hall.take(one, other), await hall.take(one, other)
        waiting = asyncio.ensure_future(hall.take(other, one))
        await asyncio.sleep(0)
        with pytest.raises(Crowded) as full:
            await hall.take(one, other)
        assert "x-headgate-queued-ms" not in full.value.headers  # it found no place
        hall.doors.leave(first)
        seat = await waiting
        assert seat.index == 1  # of its own order
        hall.doors.leave(second)
        hall.doors.leave(seat)

    hall.loop.run(main())
    assert (hall.doors.waiting, hall.doors._lines) == (0, {})


def test_none_waits_where_none_may() -> None:
    hall, strict = Hall(), bounded(max_concurrent=1, longest_wait_s=0.0)

    async def main() -> None:
        await hall.take(strict)
        with pytest.raises(Crowded):
            await hall.take(strict)

    hall.loop.run(main())


@pytest.mark.parametrize("how", ["hangs up", "is cut", "is cut as it is let in"])
def test_a_waiting_call_that_goes_leaves_its_place_to_the_next(how: str) -> None:
    hall, busy, sink = Hall(), bounded(max_concurrent=1), ListSink()

    async def main() -> None:
        seat = await hall.take(busy)
        first = asyncio.ensure_future(hall.take(busy, sink=sink))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(hall.take(busy))
        await asyncio.sleep(0.1)
        if how == "hangs up":
            sink.hang_up()
        elif how == "is cut":
            first.cancel()
        else:
            hall.doors.leave(seat)
            first.cancel()
        with pytest.raises((CallerGone, asyncio.CancelledError)):
            await first
        if how != "is cut as it is let in":
            assert not second.done()
            hall.doors.leave(seat)
        hall.doors.leave(await second)

    hall.loop.run(main())
    assert hall.doors.waiting == 0
    assert not hall.doors._rooms.get(("a", "m"))


def test_workers_share_what_there_is() -> None:
    hall = Hall(workers=3)

    async def main() -> None:
        targets = bounded(max_concurrent=10, longest_wait_s=0.0)
        for _ in range(3):
            await hall.take(targets)
        with pytest.raises(Crowded):
            await hall.take(targets)

    hall.loop.run(main())


@pytest.mark.parametrize(("most", "share"), [(7, 2), (2, 1), (0, 0)])
def test_workers_share_how_many_may_wait(most: int, share: int) -> None:
    hall = Hall(workers=3)
    busy = bounded(max_concurrent=3, max_waiting=most, longest_wait_s=60.0)

    async def main() -> None:
        calls = [asyncio.ensure_future(hall.call("one", caller(1), 1.0, busy)) for _ in range(5)]
        await asyncio.sleep(0.5)
        assert hall.doors.waiting == share
        await asyncio.gather(*calls)

    hall.loop.run(main())
    assert (hall.served["one"], hall.refused["one"]) == (1 + share, 4 - share)


def test_nothing_is_kept_where_nothing_bounds_anything() -> None:
    hall = Hall()
    hall.doors.follow(limited=False)
    assert hall.doors.idle
    plain = bounded()

    async def main() -> None:
        hall.doors.told(plain, Told(Left(10_000, 9_000, S), Left(10**6, 10**6, S)), None, served=True)
        assert hall.doors.idle
        hall.doors.told(plain, Told(Left(10_000, 5, S)), None, served=True)
        assert not hall.doors.idle
        hall.doors.leave(await hall.take(plain))
        assert not hall.doors.idle
        await asyncio.sleep(2)
        hall.doors.leave(await hall.take(plain))
        assert hall.doors.idle

    hall.loop.run(main())
    assert hall.doors._doors == hall.doors._lines == {}


class Provider:
    """One that allows so many calls in a window, or refills evenly, and says what is left."""

    def __init__(self, hall: Hall, limit: int, window_s: float, *, evenly: bool = False) -> None:
        self._hall = hall
        self._limit = limit
        self._window_s = window_s
        self._evenly = evenly
        self._left: float = limit
        self._at = 0.0
        self.refused = self.served = 0

    def ask(self) -> tuple[bool, Told]:
        now = self._hall.loop.now
        if self._evenly:
            self._left = min(self._limit, self._left + (now - self._at) * self._limit / self._window_s)
            self._at = now
        elif now >= self._at + self._window_s:
            self._left, self._at = self._limit, now - now % self._window_s
        served = self._left >= 1
        if served:
            self._left -= 1
            self.served += 1
        else:
            self.refused += 1
        lacking = (self._limit - self._left) * self._window_s / self._limit
        reset_s = lacking if self._evenly else self._at + self._window_s - now
        return served, Told(Left(self._limit, int(self._left), int(reset_s * S)))


async def ask_until_served(hall: Hall, provider: Provider, to: Target) -> None:
    while True:
        seat = await hall.take(to)
        await asyncio.sleep(0.01)
        served, told = provider.ask()
        await asyncio.sleep(0.01)
        hall.doors.told(to, told, seat, served=served)
        await asyncio.sleep(0.05)
        hall.doors.leave(seat)
        if served:
            return
        hall.doors.refused(to, None, round(hall.loop.now * S))  # a second, and what its head said


@pytest.mark.parametrize("evenly", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_provider_that_says_what_is_left_refuses_nothing_and_serves_all(evenly: bool, seed: int) -> None:
    hall = Hall(seed)
    hall.doors.follow(limited=False)
    provider, patient = Provider(hall, 5, 2.0, evenly=evenly), bounded(longest_wait_s=60.0)

    async def main() -> None:
        await ask_until_served(hall, provider, patient)
        await asyncio.gather(*(ask_until_served(hall, provider, patient) for _ in range(60)))

    hall.loop.run(main())
    assert (provider.served, provider.refused) == (61, 0)
    assert hall.loop.now < 1.5 * 61 / 5 * 2.0  # and is not left waiting either


def test_another_key_is_asked_where_one_has_nothing_left() -> None:
    hall = Hall()
    host = bounded().host
    first, second = (
        msgspec.structs.replace(bounded(), host=msgspec.structs.replace(host, credential=each))
        for each in "12"
    )

    async def main() -> None:
        hall.doors.told(first, Told(Left(5, 0, S)), None, served=True)
        assert (await hall.take(first, second)).index == 1

    hall.loop.run(main())


def test_tokens_are_waited_for_and_a_call_above_the_limit_gets_all_of_it() -> None:
    hall, one = Hall(), bounded()

    async def main() -> None:
        hall.doors.told(one, Told(None, Left(1_000, 100, 9 * S)), None, served=True)
        began = hall.loop.now
        hall.doors.leave(await hall.take(one, tokens=100))
        assert hall.loop.now == began
        hall.doors.leave(await hall.take(one, tokens=200))
        assert hall.loop.now - began == pytest.approx(9.0)
        hall.doors.told(one, Told(None, Left(1_000, 200, 9 * S)), None, served=True)
        hall.doors.leave(await hall.take(one, tokens=5_000))
        assert hall.loop.now - began == pytest.approx(18.0)

    hall.loop.run(main())


def test_what_a_refusal_forbids_for_too_long_is_told_with_its_time_and_tested_once_in_a_minute() -> None:
    hall, one = Hall(), bounded()

    async def main() -> None:
        hall.doors.refused(one, 600.0, 0)
        with pytest.raises(RateLimited) as told:
            await hall.take(one)
        assert told.value.retry_after_s == 600.0
        await asyncio.sleep(61)
        seat = await hall.take(one)
        with pytest.raises(GatewayError):
            await hall.take(one)  # one at a time
        hall.doors.told(one, Told(), seat, served=True)
        hall.doors.leave(seat)
        for _ in range(5):  # it was wrong
            hall.doors.leave(await hall.take(one))

    hall.loop.run(main())


def test_a_wait_beyond_the_callers_deadline_is_told_at_once() -> None:
    hall, one = Hall(), bounded()

    async def main() -> None:
        hall.doors.refused(one, 5.0, 0)
        with pytest.raises(RateLimited) as told:
            await hall.take(one, until_s=4.9)
        assert (told.value.retry_after_s, hall.loop.now) == (5.0, 0)
        hall.doors.leave(await hall.take(one, until_s=5.1))
        assert hall.loop.now >= 5.0

    hall.loop.run(main())


def test_headers_that_forbid_what_is_served_are_not_believed() -> None:
    hall, one = Hall(), bounded()
    nothing = Told(Left(100, 0, 3600 * S))

    async def main() -> None:
        hall.doors.told(one, nothing, None, served=True)
        seat = await hall.take(one)
        with pytest.raises(RateLimited):
            await hall.take(one)
        hall.doors.told(one, nothing, seat, served=True)
        assert [(await hall.take(one)).index for _ in range(10)] == [0] * 10

    hall.loop.run(main())


def test_after_a_refusal_one_call_goes_first_and_each_that_is_served_lets_one_more_go() -> None:
    hall, one = Hall(), bounded(longest_wait_s=60.0)
    at_once = []

    async def ask() -> None:
        seat = await hall.take(one)
        hall.now += 1
        await asyncio.sleep(1)
        at_once.append(hall.now)
        await asyncio.sleep(0.5)
        hall.now -= 1
        hall.doors.leave(seat)

    async def main() -> None:
        hall.doors.refused(one, 2.0, 0)
        await asyncio.gather(*(ask() for _ in range(31)))

    hall.loop.run(main())
    assert at_once == [1] + [2] * 2 + [4] * 4 + [8] * 8 + [16] * 16
    assert hall.loop.now == pytest.approx(2.0 + 5 * 1.5)
