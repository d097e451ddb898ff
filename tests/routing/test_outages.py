"""Outages by a clock that is moved by hand: what callers see, how often who is down is asked, when it is back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
import pytest
from tests.path.fakes import Bench, ListSink, Script, target
from tests.path.test_pipeline import answer, make

from headgate.routing.retries import RetryTerms
from headgate.values import Target

pytestmark = pytest.mark.anyio
S = 1_000_000_000
FLEET = tuple(msgspec.structs.replace(target(name), weight=1) for name in "abc")


class World:
    """Three deployments behind a pipeline, each of which answers or fails as the test says."""

    def __init__(self, down: Callable[[Target, float], int], *, retries: RetryTerms | None = None) -> None:
        """`down` says by target and second with which status it fails; 0: it answers."""
        self.bench = bench = Bench(retries=retries or RetryTerms(base_s=0.0))
        bench.attempts._draw = Random(11).random
        self.down = down
        self.asked: list[tuple[float, str]] = []
        bench.transport.acquire = self.acquire  # type: ignore[method-assign]
        self.statuses = Counter[int]()

    @property
    def now_s(self) -> float:
        return self.bench.clock.now_ns / S

    async def acquire(self, to: Target) -> Script:
        self.asked.append((self.now_s, to.host.name + to.host.credential))
        status = self.down(to, self.now_s)
        return Script(status, [b"{}"]) if status else Script(200, [answer()])

    async def run(self, until_s: float, every_s: float = 0.5, targets: tuple[Target, ...] = FLEET) -> None:
        """Make calls up to a second."""
        while self.now_s < until_s:
            call = make()
            call.received_ns = self.bench.clock.now_ns
            sink = await self.bench.serve(call, ListSink(), *targets)
            self.statuses[sink.status] += 1
            self.bench.clock.now_ns += int(every_s * S)

    def asks(self, name: str, since_s: float, until_s: float) -> int:
        return sum(name == whom and since_s <= at < until_s for at, whom in self.asked)


def outage(name: str, since_s: float, until_s: float, status: int = 503) -> Callable[[Target, float], int]:
    return lambda to, now: status if to.host.name == name and since_s <= now < until_s else 0


@pytest.mark.parametrize("lasts_s", [20, 130, 600])
async def test_one_of_three_is_down_no_call_fails_and_its_share_is_back_soon(lasts_s: int) -> None:
    world = World(outage("a", 30, 30 + lasts_s))
    await world.run(30 + lasts_s + 35 + 60)
    assert set(world.statuses) == {200}
    # Five attempts to find out, then one for each half minute: all of them went on to another target.
    assert world.asks("a", 30, 30 + lasts_s) <= 5 + lasts_s // 30
    before, after = world.asks("a", 0, 30), world.asks("a", 65 + lasts_s, 95 + lasts_s)
    assert before > 10
    assert after > 10, "it has not its full share again, 35 s after it had recovered"


async def test_twenty_minutes_of_flapping_fail_no_call_and_waste_ever_fewer_attempts() -> None:
    world = World(lambda to, now: 502 if to.host.name == "a" and now % 20 < 10 else 0)
    await world.run(1200, every_s=0.25)
    assert set(world.statuses) == {200}
    failed = sum(whom == "a" and at % 20 < 10 for at, whom in world.asked)
    assert failed <= 10 * 1200 // 20  # at most ten for each time that it went down
    first, last = world.asks("a", 0, 300), world.asks("a", 900, 1200)
    assert last < first


async def test_a_lone_target_is_back_within_35_seconds_of_its_recovery() -> None:
    world = World(outage("a", 10, 400))
    await world.run(400, targets=FLEET[:1])
    world.statuses.clear()
    await world.run(435, targets=FLEET[:1])
    world.statuses.clear()
    await world.run(500, targets=FLEET[:1])
    assert set(world.statuses) == {200}


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_what_callers_do_wrong_takes_nothing_out(status: int) -> None:
    world = World(lambda _to, _now: status)
    await world.run(60)
    assert set(world.statuses) == {status}
    assert not world.bench.health.breakers
    [*signs] = world.bench.health.signs(world.bench.clock)
    assert {(sign.state, tuple(sign.errors)) for sign in signs} == {("well", ("refused",))}


async def test_a_bad_key_takes_out_that_key_alone() -> None:
    keys = tuple(
        msgspec.structs.replace(each, host=msgspec.structs.replace(target("a").host, credential=str(number)))
        for number, each in enumerate(FLEET[:2], 1)
    )
    world = World(lambda to, _now: 401 if to.host.credential == "2" else 0)
    await world.run(29, targets=keys)
    assert set(world.statuses) == {200}
    assert world.asks("a2", 0, 29) == 5
    signs = {sign.key: sign for sign in world.bench.health.signs(world.bench.clock)}
    assert (signs["1"].state, signs["1"].errors, signs["1"].served) == ("well", {}, 58)
    assert (signs["2"].state, signs["2"].errors, signs["2"].served) == ("out", {"denied": 5}, 0)


async def test_one_call_at_a_time_probes_however_many_come() -> None:
    world = World(outage("a", 0, 10))
    await world.run(15)
    opened = [at for at, whom in world.asked if whom == "a"]
    assert len(opened) == 5
    world.bench.clock.now_ns = 50 * S
    release = asyncio.Event()

    async def acquire(to: Target) -> Script:
        world.asked.append((world.now_s, to.host.name))
        if to.host.name == "a":
            await release.wait()
        return Script(200, [answer()])

    world.bench.transport.acquire = acquire  # type: ignore[method-assign]
    first = (FLEET[0], *(msgspec.structs.replace(each, weight=0) for each in FLEET[1:]))
    calls = [asyncio.ensure_future(world.bench.serve(make(), ListSink(), *first)) for _ in range(50)]
    await asyncio.sleep(0)
    while sum(call.done() for call in calls) < 49:
        await asyncio.sleep(0)
    assert world.asks("a", 50, 51) == 1
    [sign] = [sign for sign in world.bench.health.signs(world.bench.clock) if sign.provider == "a"]
    assert sign.state == "probing"
    release.set()
    assert {(await call).status for call in calls} == {200}
    assert world.bench.health.signs(world.bench.clock)[0].state == "well"


async def test_with_all_down_calls_are_refused_without_a_wait_or_an_attempt() -> None:
    world = World(lambda _to, _now: 503)
    await world.run(10)
    asked = len(world.asked)
    hang = asyncio.Event()

    async def acquire(to: Target) -> Script:
        world.asked.append((world.now_s, to.host.name))
        await hang.wait()
        return Script(503, [b"{}"])

    world.bench.transport.acquire = acquire  # type: ignore[method-assign]
    before = world.bench.clock.now_ns
    trying = [asyncio.ensure_future(world.bench.serve(make(), ListSink(), *FLEET)) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(100):
        sink = await world.bench.serve(make(), ListSink(), *FLEET)
        assert sink.status == 503
    assert world.bench.clock.now_ns == before
    assert len(world.asked) == asked + 3
    states = {sign.state for sign in world.bench.health.signs(world.bench.clock)}
    assert states == {"panic"}
    hang.set()
    await asyncio.gather(*trying)
