"""One request at a time, in order, on a connection that ends when HTTP says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.http.served import (
    EVENTS,
    JSON,
    Client,
    Echo,
    Gated,
    Scripted,
    Served,
    get,
    post,
    until,
)

from headgate.http.edge import Incoming
from headgate.ports import Sink
from headgate.wire.headers import lines_of


async def app(scope: Any, receive: Any, send: Any) -> None:
    request = await receive()
    await asyncio.sleep(0)
    body = b'{"query": "%b", "body": "%b"}' % (scope["query_string"], request["body"])
    await send({"type": "http.response.start", "status": 200, "headers": JSON})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.anyio
@pytest.mark.parametrize(
    "order", ["slow native app", "slow app native", "app slow app", "app native slow", "slow slow"]
)
async def test_pipelined_requests_are_answered_in_order(order: str) -> None:
    slow = Gated()
    paths = {"slow": "/slow", "native": "/e", "app": "/app"}
    asked = [f"{paths[word]}?{at}" for at, word in enumerate(order.split())]
    async with Served({"/slow": slow, "/e": Echo()}, asgi=lambda: app) as served:
        client = await served.connect()
        client.send(b"".join(get(path) for path in asked[:-1]) + post(asked[-1], b"last"))
        await slow.begun.wait()
        slow.gate.set()
        answers = [(await client.answer()).json() for _ in asked]
        assert [answer["query"] for answer in answers] == [str(at) for at in range(len(asked))]
        assert answers[-1]["body"] == "last"


@pytest.mark.anyio
async def test_one_request_is_in_flight_per_connection() -> None:
    slow = Gated()
    async with Served({"/slow": slow}) as served:
        client = await served.connect()
        client.send(get("/slow?1") + get("/slow?2"))
        await slow.begun.wait()
        client.send(get("/slow?3"))
        await asyncio.sleep(0.005)
        assert len(slow.sinks) == 1
        slow.gate.set()
        assert [(await client.answer()).json()["query"] for _ in "123"] == ["1", "2", "3"]


@pytest.mark.anyio
async def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        client.send(b"".join(get(f"/e?{at}", "X: " + "y" * (at % 200)) for at in range(1000)))
        assert [(await client.answer()).json()["query"] for _ in range(1000)] == [str(i) for i in range(1000)]


@pytest.mark.anyio
async def test_what_waits_behind_an_answer_is_bounded() -> None:
    slow = Gated()
    async with Served({"/slow": slow, "/e": Echo()}) as served:
        client = await served.connect()
        await client_begins(client, slow)
        asked = 0
        while client.writer.transport.get_write_buffer_size() < 100_000:  # until nothing moves any more
            client.send(get("/e", "X: " + "y" * 20_000))
            asked += 1
            await asyncio.sleep(0)
        connection = await served.only_connection()
        assert len(connection._held) <= 64 * 1024 + 256 * 1024
        slow.gate.set()
        assert (await client.answer()).status == 200
        for _ in range(asked):
            assert (await client.answer()).status == 200


async def client_begins(client: Client, slow: Gated) -> None:
    client.send(get("/slow"))
    await slow.begun.wait()


@pytest.mark.anyio
async def test_a_body_is_asked_for_when_the_client_waits_for_our_word() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        client.send(get("/e", "Content-Length: 5", "Expect: 100-Continue", method="POST"))
        assert await client.head() == (100, {})
        answer = await client.ask(b"hello")
        assert (answer.json()["body"], answer.interim) == ("hello", 0)
        # sent without waiting: no word is needed
        answer = await client.ask(post("/e", b"hello", "Expect: 100-continue"))
        assert (answer.json()["body"], answer.interim) == ("hello", 0)


@pytest.mark.anyio
async def test_our_word_waits_for_the_answers_before_it() -> None:
    slow = Gated()
    async with Served({"/slow": slow, "/e": Echo()}) as served:
        client = await served.connect()
        client.send(
            get("/slow") + get("/e") + get("/e", "Content-Length: 2", "Expect: 100-continue", method="POST")
        )
        await slow.begun.wait()
        slow.gate.set()
        assert [(await client.answer()).interim for _ in "12"] == [0, 0]
        assert (await client.head())[0] == 100
        assert (await client.ask(b"hi")).json()["body"] == "hi"


async def stream_three(incoming: Incoming, sink: Sink) -> None:
    sink.start(200, EVENTS, None)
    for word in (b"one ", b"two ", b"three"):
        sink.write(word)
        await sink.drained()
    sink.finish()


@pytest.mark.anyio
async def test_head_has_the_head_of_get_and_no_body() -> None:
    async with Served({"/e": Echo(), "/s": Scripted(stream_three)}, asgi=lambda: app) as served:
        client = await served.connect()
        for path in ("/e", "/s", "/app"):
            whole = await client.ask(get(path))
            only_head = await client.ask(get(path, method="HEAD"), head=True)
            assert only_head.status == 200
            own = {"content-length", "x-request-id"}
            expected = {k: v for k, v in whole.headers.items() if k not in own}
            assert {k: v for k, v in only_head.headers.items() if k not in own} == expected
        assert int((await client.ask(get("/e", method="HEAD"), head=True)).headers["content-length"]) > 40


@pytest.mark.anyio
async def test_each_write_of_a_stream_is_a_chunk_and_the_connection_lives_on() -> None:
    async with Served({"/s": Scripted(stream_three), "/e": Echo()}) as served:
        client = await served.connect()
        client.send(get("/s"))
        status, headers = await client.head()
        assert status == 200
        assert headers["transfer-encoding"] == "chunked"
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert [await client.chunk() for _ in range(4)] == [b"one ", b"two ", b"three", b""]
        assert (await client.ask(get("/e"))).status == 200


@pytest.mark.anyio
async def test_an_http_1_0_stream_ends_with_the_connection() -> None:
    async with Served({"/s": Scripted(stream_three)}) as served:
        client = await served.connect()
        client.send(get("/s", "Connection: keep-alive", version="1.0"))
        _, headers = await client.head()
        assert "transfer-encoding" not in headers
        assert headers["connection"] == "close"
        assert await client.rest() == b"one two three"


@pytest.mark.anyio
async def test_an_http_1_0_connection_is_kept_only_when_asked() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        answer = await client.ask(b"GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert answer.headers["connection"] == "keep-alive"
        answer = await client.ask(b"GET /e HTTP/1.0\r\n\r\n")
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


@pytest.mark.anyio
async def test_a_client_that_closed_its_sending_side_is_answered() -> None:
    slow = Gated()
    async with Served({"/slow": slow, "/s": Scripted(stream_three), "/e": Echo()}) as served:
        client = await served.connect()
        client.send(get("/slow") + get("/e?2") + get("/s"))
        await slow.begun.wait()
        client.shut_down()
        await asyncio.sleep(0.01)
        assert not slow.gone.is_set()
        slow.gate.set()
        first = await client.answer()
        assert first.status == 200
        assert "connection" not in first.headers
        assert (await client.answer()).json()["query"] == "2"
        last = await client.answer()
        assert last.body == b"one two three"
        assert last.headers["connection"] == "close"
        assert await client.rest() == b""


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize("meanwhile", ["nothing", "another request", "no more to come", "a drain"])
async def test_a_whole_answer_leaves_the_connection_as_it_must_be(meanwhile: str, status: int) -> None:
    gate = asyncio.Event()

    async def answer(incoming: Incoming, sink: Sink) -> None:
        await gate.wait()
        sink.whole(status, lines_of(JSON), incoming.body if status == 200 else b"")

    route = Scripted(answer)
    async with Served({"/w": route, "/e": Echo()}) as served:
        client = await served.connect()
        gate.set()
        assert (await client.ask(post("/w", b"[1]"))).status == status
        gate.clear()
        client.send(post("/w", b"[2]"))  # its head is known: it comes alone
        await until(lambda: len(route.sinks) == 2)
        if meanwhile == "another request":
            client.send(get("/e?behind"))
        elif meanwhile == "no more to come":
            client.shut_down()
        served.edge.draining = meanwhile == "a drain"
        await asyncio.sleep(0.01)
        gate.set()
        told = await client.answer()
        assert (told.status, told.body) == (status, b"[2]" if status == 200 else b"")
        assert ("content-length" in told.headers) == (status == 200)
        ends = meanwhile in {"no more to come", "a drain"}
        assert told.headers.get("connection") == ("close" if ends else None)
        if meanwhile == "another request":
            assert (await client.answer()).json()["query"] == "behind"
        if ends:
            assert await client.rest() == b""
        else:
            assert (await client.ask(get("/e?next"))).json()["query"] == "next"


@pytest.mark.anyio
async def test_a_request_cut_off_by_the_end_of_sending_is_refused() -> None:
    async with Served({"/e": Echo()}) as served:
        for part in (post("/e", b"hello")[:-2], get("/e")[:20]):
            client = await served.connect()
            client.send(part)
            client.shut_down()
            assert (await client.answer()).status == 400
            assert await client.rest() == b""
        client = await served.connect()
        client.shut_down()
        assert await client.rest() == b""


@pytest.mark.anyio
async def test_a_refused_body_still_in_flight_does_not_reset_the_answer() -> None:
    async with Served({"/e": Echo(max_body_bytes=1000)}) as served:
        client = await served.connect()
        client.send(get("/e", "Content-Length: 30000000", method="POST"))
        for _ in range(300):
            client.send(b"x" * 100_000)
            await asyncio.sleep(0)
        assert (await client.answer()).status == 413


@pytest.mark.anyio
async def test_an_answer_without_a_body_has_no_length() -> None:
    async def no_content(incoming: Incoming, sink: Sink) -> None:
        sink.start(204, [], 0)
        sink.finish()

    async with Served({"/n": Scripted(no_content)}) as served:
        client = await served.connect()
        answer = await client.ask(get("/n"))
        assert answer.status == 204
        assert "content-length" not in answer.headers
        assert (await client.ask(get("/n"))).status == 204


@pytest.mark.anyio
async def test_a_header_value_cannot_begin_another_header() -> None:
    async def hostile(incoming: Incoming, sink: Sink) -> None:
        sink.start(200, [*JSON, (b"x-note", b"a\r\nset-cookie: b\r\n\r\nHTTP/1.1 200 OK\0")], 2)
        sink.write(b"{}")
        sink.finish()

    async with Served({"/h": Scripted(hostile)}) as served:
        client = await served.connect()
        answer = await client.ask(get("/h"))
        assert answer.body == b"{}"
        assert "set-cookie" not in answer.headers
        assert answer.headers["x-note"].startswith("a  set-cookie: b")
        assert answer.headers["server"] == "headgate"
        assert answer.headers["date"] == "Tue, 14 Nov 2023 22:13:21 GMT"


@pytest.mark.anyio
async def test_a_route_that_fails_gives_a_500_and_the_connection_lives_on() -> None:
    class Broken:
        max_body_bytes = 1000

        def handle(self, incoming: Incoming, sink: Sink) -> None:
            if incoming.query == b"late":
                sink.start(200, JSON, 10)
                sink.write(b"{")
            raise ValueError("a bug")

    async with Served({"/b": Broken(), "/e": Echo()}) as served:
        client = await served.connect()
        answer = await client.ask(get("/b"))
        assert answer.status == 500
        assert answer.error["code"] == "internal_error"
        assert "a bug" not in answer.error["message"]
        assert (await client.ask(get("/e"))).status == 200
        client.send(get("/b?late"))
        assert not (await client_rest(client)).endswith(b"}")
        assert [where for where, _ in served.log.faults] == ["/b", "/b"]


async def client_rest(client: Client) -> bytes:
    try:
        return await client.rest()
    except ConnectionError:
        return b""


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"short", b"longer than ten"])
async def test_a_body_of_another_length_than_said_cuts_the_connection(body: bytes) -> None:
    class Wrong:
        max_body_bytes = 1000

        def handle(self, incoming: Incoming, sink: Sink) -> None:
            sink.start(200, JSON, 10)
            sink.write(body)
            sink.finish()

    async with Served({"/w": Wrong()}) as served:
        client = await served.connect()
        client.send(get("/w"))
        assert len(await client_rest(client)) < 200
        await until(lambda: served.edge.open_connections == 0)
        assert len(served.log.faults) == 1
