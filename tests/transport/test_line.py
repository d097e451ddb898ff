"""Many who need a connection at once: a few dial in each turn of the loop, and what comes back is used first."""

from __future__ import annotations

import asyncio

import pytest
from tests.transport.asking import ask, body_of, http, request, target, turns, until
from tests.upstream import ScriptedUpstream, chat_json

from headgate.errors import UpstreamInterrupted
from headgate.transport.line import Line
from headgate.waits import Wait

pytestmark = pytest.mark.anyio


class Crowd:
    """Some who stand in line; in which order they went on."""

    def __init__(self, count: int) -> None:
        self.idle: list[int] = []
        self.told = 0  # that it is crowded
        self.line = Line(self.idle, self._tell)
        self.gone: list[int] = []
        self.tasks = [asyncio.create_task(self._stand(number)) for number in range(count)]

    def _tell(self) -> None:
        self.told += 1

    async def _stand(self, number: int) -> None:
        await self.line.stand()
        self.gone.append(number)

    async def end(self) -> None:
        await asyncio.wait(self.tasks)


async def test_a_few_go_on_in_each_turn_and_in_order() -> None:
    crowd = Crowd(50)
    most, before = 0, 0
    while len(crowd.gone) < 50:
        await turns(1)
        most, before = max(most, len(crowd.gone) - before), len(crowd.gone)
    assert most == 4
    assert crowd.told == 46
    assert crowd.gone == list(range(50))
    await crowd.end()


async def test_as_many_go_on_as_connections_came_back() -> None:
    crowd = Crowd(50)
    await turns(1)
    crowd.idle.extend(range(30))
    await turns(3)
    assert len(crowd.gone) >= 34
    await crowd.end()


async def test_who_stops_waiting_holds_nobody_up() -> None:
    crowd = Crowd(20)
    await turns(1)
    for task in crowd.tasks[5:18]:
        task.cancel()
    await crowd.end()
    assert crowd.gone == [0, 1, 2, 3, 4, 18, 19]
    assert not crowd.line.waiting
    await crowd.line.stand()  # at once again


async def test_who_breaks_on_going_on_stops_nobody_behind() -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    crowd, wait = Crowd(9), Wait(loop)
    await turns(1)
    wait.resume = broken
    crowd.line.waiting.appendleft((loop.time(), wait))
    await asyncio.wait_for(crowd.end(), 5)
    loop.set_exception_handler(None)
    assert (crowd.gone, [str(fault) for fault in faults]) == (list(range(9)), ["broken"])


async def test_it_is_known_how_long_somebody_has_waited() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        to, now_s = target(upstream.base_url), asyncio.get_running_loop().time
        assert transport.held_up_s(now_s()) == 0
        asked = [asyncio.create_task(ask(transport, to)) for _ in range(50)]
        await turns(1)
        began_s = now_s()
        assert 0.4 <= transport.held_up_s(began_s + 0.5) <= 0.6
        await asyncio.gather(*asked)
        assert transport.held_up_s(now_s()) == 0


async def test_calls_that_come_at_once_share_few_connections() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        to = target(upstream.base_url)
        answers = await asyncio.gather(*(ask(transport, to) for _ in range(200)))
        assert {head.status for head, _ in answers} == {200}
        assert len(upstream.requests) == 200
        assert len(upstream.connections) <= 150
        assert transport.idle == transport.open


async def test_everybody_has_a_connection_soon_where_none_comes_back() -> None:
    silent = asyncio.Event()
    async with ScriptedUpstream([silent, chat_json()]) as upstream, http() as transport:
        to = target(upstream.base_url)
        asked = [asyncio.create_task(ask(transport, to)) for _ in range(60)]
        await until(lambda: len(upstream.requests) == 60)
        silent.set()
        await asyncio.gather(*asked)
        assert transport.open == 60


async def test_who_comes_later_takes_no_connection_from_those_who_wait() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        to = target(upstream.base_url)
        first = await transport.acquire(to)
        first.send(request())
        await first.head()
        await body_of(first)
        asked = [asyncio.create_task(ask(transport, to)) for _ in range(12)]
        await turns(1)
        first.release()
        assert transport.idle == 1
        later = transport.acquire(to)
        later.send(None)  # it would end with the connection
        later.close()
        await asyncio.gather(*asked)
        assert len(upstream.requests) == 13


async def test_a_host_where_nobody_listens_fails_everybody_who_waits() -> None:
    async with ScriptedUpstream() as gone:
        to = target(gone.base_url)
    async with http() as transport:
        asked = [transport.acquire(to) for _ in range(40)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in ended} == {UpstreamInterrupted}
