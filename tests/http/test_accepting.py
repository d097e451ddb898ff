"""How soon clients are let in who connect at the same moment."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.http.served import Echo, Served, get

uvloop = pytest.importorskip("uvloop", reason="there is none for this system")


async def turns_until_all_are_in(count: int) -> int:
    async with Served({"/e": Echo()}) as served:
        clients = [socket.create_connection(served.server.addresses[0]) for _ in range(count)]
        turns = 0
        while served.edge.open_connections < count:
            turns += 1
            assert turns < 10 * count
            await asyncio.sleep(0)
        assert len(served.server.addresses) == 1
        answer = await (await served.connect()).ask(get("/e"))
        assert answer.status == 200
        for client in clients:
            client.close()
    return turns


def test_many_who_connect_at_once_are_let_in_within_a_few_turns_of_the_loop() -> None:
    assert uvloop.run(turns_until_all_are_in(100)) <= 25


def test_when_it_has_closed_nobody_gets_in() -> None:
    async def play() -> tuple[str, int]:
        async with Served({"/e": Echo()}) as served:
            return served.server.addresses[0]

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(uvloop.run(play()), timeout=5)
