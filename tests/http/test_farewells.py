"""Whoever hangs up is known to be gone at once; what follows of it is done for a hundred in a turn of the loop."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from tests.http.served import EVENTS, Served, get

from headgate.http.edge import Incoming
from headgate.http.farewells import Farewells
from headgate.ports import Sink

pytestmark = pytest.mark.anyio


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.now = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self.now += 1
        self._loop.call_soon(self._next)


class Answer:
    def __init__(self, turns: Turns, told: list[int]) -> None:
        self.gone = False
        self._turns = turns
        self._told = told

    def leave(self) -> None:
        self.gone = True

    def tell(self) -> None:
        assert self.gone
        self._told.append(self._turns.now)


async def until(told: list[int], count: int) -> None:
    async with asyncio.timeout(10):
        while len(told) < count:
            await asyncio.sleep(0)


async def test_of_thousands_who_go_together_a_hundred_are_told_in_a_turn() -> None:
    farewells, turns, told = Farewells(), Turns(), list[int]()
    answers = [Answer(turns, told) for _ in range(2_345)]
    for answer in answers:
        farewells.lost(answer)
    assert all(answer.gone for answer in answers)
    assert (len(told), len(farewells)) == (100, 2_245)
    await asyncio.sleep(0)
    late = Answer(turns, told)
    farewells.lost(late)
    assert late.gone
    await until(told, 2_346)
    assert max(Counter(told).values()) <= 100
    assert len(Counter(told)) == 24, "and none is left out between"
    assert told == sorted(told)


async def test_a_few_are_told_at_once_in_each_turn() -> None:
    farewells, turns, told = Farewells(), Turns(), list[int]()
    for count in range(1, 8):
        for _ in range(90):
            farewells.lost(Answer(turns, told))
        assert (len(told), len(farewells)) == (90 * count, 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class Held:
    """A route whose answers never end; notes who has gone."""

    max_body_bytes = 100

    def __init__(self) -> None:
        self.gone = 0
        self.sinks: list[Sink] = []

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        sink.start(200, EVENTS, None)
        sink.write(b"data: {}\n\n")
        sink.on_gone(self._left)
        self.sinks.append(sink)

    def _left(self) -> None:
        self.gone += 1


async def test_each_call_is_told_once_and_what_is_sent_to_nobody_is_dropped() -> None:
    route = Held()
    async with Served({"/v1/held": route}) as served:
        clients = [await served.connect() for _ in range(150)]
        for client in clients:
            client.send(get("/v1/held"))
        async with asyncio.timeout(10):
            while len(route.sinks) < 150:
                await asyncio.sleep(0)
        for client in clients:
            client.reset()
        async with asyncio.timeout(10):
            while route.gone < 150:
                await asyncio.sleep(0)
        for sink in route.sinks:
            sink.write(b"data: {}\n\n")
            sink.finish()
        await asyncio.sleep(0.05)
        assert route.gone == 150
