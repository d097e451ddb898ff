"""Slow, silent and vanished clients; back-pressure; the end of the server."""

from __future__ import annotations

import asyncio

import pytest
from tests.at_once import Beside
from tests.http.served import EVENTS, JSON, Client, Echo, Gated, Scripted, Served, get, post, send_echo, until

from headgate.http.edge import Incoming
from headgate.ports import Sink

ROUTES_BODY = get("/e", "Content-Length: 100000", method="POST")


async def moves(served: Served, seconds: float) -> None:
    """Move the time and let the ticker see it."""
    served.clock.advance(seconds)
    now = served.clock.ns
    await until(lambda: served.edge.now >= now or not served.edge.open_connections)


async def begins(served: Served, data: bytes) -> Client:
    """Send a part of a request and wait until it has been read."""
    client = await served.connect()
    client.send(data)
    connection = await served.only_connection()
    intake = connection._intake
    await until(lambda: intake.in_head or intake.partial is not None)
    return client


@pytest.mark.anyio
async def test_a_head_that_stalls_gets_408() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await begins(served, get("/e", "X: y")[:-5])
        await moves(served, 9.9)
        client.send(b"x")  # a byte now and then does not help
        await moves(served, 0.2)
        answer = await client.answer()
        assert answer.status == 408
        assert answer.error["type"] == "invalid_request_error"
        assert await client.rest() == b""


@pytest.mark.anyio
async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        await served.only_connection()
        await moves(served, 9.9)
        assert served.edge.open_connections == 1
        await moves(served, 0.2)
        assert await client.ends()


@pytest.mark.anyio
async def test_a_body_that_comes_too_slowly_gets_408() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await begins(served, ROUTES_BODY)
        await moves(served, 9.0)
        client.send(b"x" * 5000)
        connection = await served.only_connection()
        await until(lambda: connection._intake.received >= 5000)
        await moves(served, 1.1)
        answer = await client.answer()
        assert answer.status == 408
        assert await client.ends()


@pytest.mark.anyio
async def test_a_slow_body_above_the_least_rate_is_served() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await begins(served, ROUTES_BODY)
        connection = await served.only_connection()
        for sent in range(2000, 100_001, 2000):
            client.send(b"x" * 2000)
            await until(
                lambda sent=sent: connection._intake.partial is None or connection._intake.received >= sent
            )
            await moves(served, 1.5)
        assert (await client.answer()).status == 200


@pytest.mark.anyio
async def test_an_idle_connection_is_kept_for_75_s() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        await client.ask(get("/e"))
        await moves(served, 74.0)
        await client.ask(get("/e"))
        await moves(served, 74.0)
        assert served.edge.open_connections == 1
        await moves(served, 1.5)
        assert await client.rest() == b""


@pytest.mark.anyio
async def test_a_call_may_take_as_long_as_it_takes() -> None:
    slow = Gated()
    async with Served({"/slow": slow}) as served:
        client = await served.connect()
        client.send(get("/slow"))
        await slow.begun.wait()
        await moves(served, 3600.0)
        slow.gate.set()
        assert (await client.answer()).status == 200


@pytest.mark.anyio
async def test_the_next_request_in_part_behind_an_answer_has_its_own_deadline() -> None:
    slow = Gated()
    async with Served({"/slow": slow, "/e": Echo()}) as served:
        client = await served.connect()
        client.send(get("/slow") + ROUTES_BODY)
        await slow.begun.wait()
        await moves(served, 60.0)
        slow.gate.set()
        assert (await client.answer()).status == 200
        await moves(served, 9.0)
        assert served.edge.open_connections == 1
        await moves(served, 1.5)
        assert (await client.answer()).status == 408


@pytest.mark.anyio
async def test_a_refused_client_that_goes_on_sending_is_cut() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        assert (await client.ask(b"GARBAGE\r\n\r\n")).status == 400
        assert served.edge.open_connections == 1
        await moves(served, 2.5)
        await until(lambda: served.edge.open_connections == 0)


async def flood(incoming: Incoming, sink: Sink) -> None:
    sink.start(200, EVENTS, None)
    while not sink.gone:
        sink.write(b"x" * 10_000)
        await sink.drained()


@pytest.mark.anyio
async def test_a_writer_waits_for_its_reader() -> None:
    route = Scripted(flood)
    async with Served({"/f": route}) as served:
        client = await served.connect(receive_buffer=4096)
        client.send(get("/f"))
        connection = await served.only_connection()
        await until(lambda: connection.write_paused)
        held = connection._transport.get_write_buffer_size()
        assert 0 < held <= 256 * 1024
        await client.head()
        for _ in range(200):
            assert await client.chunk() == b"x" * 10_000
        assert not route.gone.is_set()


@pytest.mark.anyio
async def test_a_reader_that_stops_is_cut_and_its_call_is_told() -> None:
    route = Scripted(flood)
    async with Served({"/f": route}) as served:
        client = await served.connect(receive_buffer=4096)
        client.send(get("/f"))
        connection = await served.only_connection()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: connection.write_paused)
        await asyncio.sleep(0.01)
        await moves(served, 1.0)
        await moves(served, 28.0)
        assert not route.gone.is_set()
        await moves(served, 1.5)
        await asyncio.wait_for(route.gone.wait(), 5)
        await asyncio.wait_for(route.tasks[0], 5)
        assert route.sinks[0].gone


@pytest.mark.anyio
async def test_a_reader_that_never_reads_a_finished_answer_is_cut() -> None:
    async def large(incoming: Incoming, sink: Sink) -> None:
        sink.start(200, JSON, 20_000_000)
        sink.write(b"x" * 20_000_000)
        sink.finish()

    async with Served({"/l": Scripted(large)}) as served:
        client = await served.connect(receive_buffer=4096)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(get("/l"))
        connection = await served.only_connection()
        await until(lambda: connection.write_paused)
        await asyncio.sleep(0.01)
        await moves(served, 1.0)
        await moves(served, 30.5)
        await until(lambda: served.edge.open_connections == 0)


@pytest.mark.anyio
async def test_no_request_is_served_to_a_client_that_does_not_read() -> None:
    class Large(Echo):
        def handle(self, incoming: Incoming, sink: Sink) -> None:
            self.seen.append(incoming)
            sink.start(200, JSON, 10_000_000)
            sink.write(b"x" * 10_000_000)
            sink.finish()

    route = Large()
    async with Served({"/l": route}) as served:
        client = await served.connect(receive_buffer=4096)
        client.send(get("/l") * 20)
        await until(lambda: route.seen)
        await asyncio.sleep(0.01)
        assert len(route.seen) == 1
        assert len((await client.answer()).body) == 10_000_000
        assert len((await client.answer()).body) == 10_000_000


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("when", ["before the head", "in a stream"])
async def test_a_call_is_told_soon_when_its_caller_goes(how: str, when: str) -> None:
    begun = asyncio.Event()

    async def hang(incoming: Incoming, sink: Sink) -> None:
        if when == "in a stream":
            sink.start(200, EVENTS, None)
            sink.write(b"data: 1\n\n")
        begun.set()
        await asyncio.Event().wait()

    route = Scripted(hang)
    async with Served({"/h": route}) as served:
        client = await served.connect()
        client.send(get("/h"))
        await begun.wait()
        if when == "in a stream":
            await client.head()
            await client.chunk()
        plain = Beside(0.2)
        if how == "reset":
            client.reset()
        else:
            client.writer.close()
        await asyncio.wait_for(route.gone.wait(), 5)
        took = plain.so_far()
        assert took < await plain.took() + 0.05
        await check_inert(route.sinks[0])
        route.tasks[0].cancel()


async def check_inert(sink: Sink) -> None:
    assert sink.gone
    sink.write(b"more")
    sink.finish()
    await sink.drained()
    told = []
    sink.on_gone(lambda: told.append(1))
    assert told == [1]


@pytest.mark.anyio
async def test_a_half_closed_client_of_a_stream_sees_only_comments() -> None:
    gate = asyncio.Event()

    async def hold(incoming: Incoming, sink: Sink) -> None:
        sink.start(200, EVENTS, None)
        sink.write(b"data: 1\n\n")
        await gate.wait()
        sink.write(b"data: [DONE]\n\n")
        sink.finish()

    route = Scripted(hold)
    async with Served({"/h": route}) as served:
        client = await served.connect()
        client.send(get("/h"))
        client.shut_down()
        await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        assert await client.chunk() == b":\n\n"
        gate.set()
        while (chunk := await client.chunk()) == b":\n\n":
            pass
        assert chunk == b"data: [DONE]\n\n"
        assert await client.chunk() == b""
        assert await client.rest() == b""
        assert not route.gone.is_set()


@pytest.mark.anyio
async def test_a_call_that_ended_is_not_told_that_its_caller_went() -> None:
    async def serve(incoming: Incoming, sink: Sink) -> None:
        send_echo(incoming, sink)

    route = Scripted(serve)
    async with Served({"/e": route}) as served:
        client = await served.connect()
        await client.ask(get("/e"))
        client.reset()
        await served.edge.empty()
        assert not route.gone.is_set()


@pytest.mark.anyio
async def test_an_aborted_answer_is_cut_without_its_end() -> None:
    async def give_up(incoming: Incoming, sink: Sink) -> None:
        sink.start(200, EVENTS, None)
        sink.write(b"data: 1\n\n")
        await asyncio.sleep(0.005)
        sink.abort()

    route = Scripted(give_up)
    async with Served({"/a": route}) as served:
        client = await served.connect()
        client.send(get("/a"))
        await client.head()
        await client.chunk()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.chunk()
        assert not route.gone.is_set()


@pytest.mark.anyio
async def test_a_connection_beyond_the_limit_is_refused_in_words() -> None:
    async with Served({"/e": Echo()}, max_connections=2) as served:
        first, second = await served.connect(), await served.connect()
        await first.ask(get("/e"))
        await second.ask(get("/e"))
        third = await served.connect()
        answer = await third.answer()
        assert answer.status == 503
        assert answer.error["type"] == "service_unavailable_error"
        assert answer.headers["retry-after"] == "1"
        assert await third.rest() == b""
        await third.close()
        await first.close()
        await until(lambda: served.edge.open_connections == 1)
        assert (await (await served.connect()).ask(get("/e"))).status == 200


@pytest.mark.anyio
async def test_a_drain_ends_idle_connections_and_lets_answers_end() -> None:
    slow = Gated()
    async with Served({"/slow": slow, "/e": Echo()}) as served:
        idle, busy, late = await served.connect(), await served.connect(), await served.connect()
        await idle.ask(get("/e"))
        await late.ask(get("/e"))
        busy.send(get("/slow"))
        await slow.begun.wait()
        port = served.port
        drain = asyncio.ensure_future(served.server.drain(5.0))
        await asyncio.sleep(0)
        last = await late.ask(get("/e"))  # it was on its way
        assert last.headers["connection"] == "close"
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert not drain.done()
        slow.gate.set()
        answer = await busy.answer()
        assert answer.headers["connection"] == "close"
        assert await drain is True
        assert served.edge.open_connections == 0


@pytest.mark.anyio
async def test_a_drain_cuts_what_is_left_after_its_grace() -> None:
    slow = Gated()
    async with Served({"/slow": slow}) as served:
        client = await served.connect()
        client.send(get("/slow"))
        await slow.begun.wait()
        assert await served.server.drain(0.01) is False
        assert slow.gone.is_set()
        slow.gate.set()
        assert await client.ends()


@pytest.mark.anyio
async def test_the_ticker_stops_with_the_last_connection() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        await client.ask(post("/e"))
        await client.close()
        await until(lambda: served.edge._timer is None)
        assert (await (await served.connect()).ask(get("/e"))).status == 200


class Looked:
    """A connection that counts how often it is looked at."""

    def __init__(self) -> None:
        self.times = 0

    def check(self, _now: int) -> None:
        self.times += 1


@pytest.mark.anyio
async def test_many_connections_are_looked_at_in_parts_and_each_once_in_a_walk() -> None:
    async with Served({"/e": Echo()}, tick_s=0.05) as served:
        edge, many = served.edge, [Looked() for _ in range(1000)]
        edge._connections.update(many)  # type: ignore[arg-type]
        edge._tick()
        assert sum(each.times for each in many) == 100
        gone = next(each for each in many if not each.times)
        edge._connections.remove(gone)  # type: ignore[arg-type]
        await until(lambda: all(each.times for each in many if each is not gone))
        assert max(each.times for each in many) == 1, "none again before all others"
        assert gone.times == 0
        await until(lambda: all(each.times == 2 for each in many if each is not gone))
        edge._connections.clear()


class Quiet(Scripted):
    """Streams what it is given to say, and counts how often it was told that nothing was said."""

    def __init__(self) -> None:
        super().__init__(self._stream)
        self.says: asyncio.Queue[bytes] = asyncio.Queue()
        self.beats = 0

    async def _stream(self, incoming: Incoming, sink: Sink) -> None:
        sink.on_quiet(self._beat)
        sink.start(200, EVENTS, None)
        while said := await self.says.get():
            sink.write(said)
        sink.finish()

    def _beat(self) -> None:
        self.beats += 1


@pytest.mark.anyio
async def test_who_is_sent_nothing_for_a_while_is_told_so() -> None:
    route = Quiet()
    async with Served({"/s": route}, heartbeat_s=15.0) as served:
        client = await served.connect()
        client.send(get("/s"))
        await until(lambda: route.sinks)
        for seconds, beats in ((0.9, 0), (14.0, 0), (1.2, 1), (10.0, 1)):
            await moves(served, seconds)
            assert route.beats == beats
        route.says.put_nowait(b"data: 1\n\n")  # what was said begins the time anew
        await client.head()
        await client.chunk()
        for seconds, beats in ((0.9, 1), (14.0, 1), (1.2, 2), (15.1, 3)):
            await moves(served, seconds)
            assert route.beats == beats
        assert served.log.faults == []


@pytest.mark.anyio
async def test_an_answer_that_has_ended_is_not_told_anything() -> None:
    route = Quiet()
    async with Served({"/s": route, "/e": Echo()}, heartbeat_s=15.0) as served:
        client = await served.connect()
        client.send(get("/s"))
        route.says.put_nowait(b"")
        await client.answer()
        for _ in range(4):
            await moves(served, 16.0)
        assert route.beats == 0
        assert (await client.ask(get("/e"))).status == 200


@pytest.mark.anyio
async def test_no_heartbeat_where_none_is_wanted_nor_for_who_does_not_read() -> None:
    async def silent(incoming: Incoming, sink: Sink) -> None:
        sink.on_quiet(lambda: beats.append(incoming.path))
        sink.start(200, EVENTS, None)
        sink.write(b"x" * (10_000_000 if incoming.path == "/full" else 1))
        await gate.wait()

    beats: list[str] = []
    gate = asyncio.Event()
    routes = {"/full": Scripted(silent), "/off": Scripted(silent)}
    async with Served(routes, heartbeat_s=15.0, write_stall_s=1e6) as served:
        client = await served.connect(receive_buffer=4096)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(get("/full"))
        connection = await served.only_connection()
        await until(lambda: connection.write_paused)
        for _ in range(3):
            await moves(served, 16.0)
        assert beats == []
        gate.set()
    gate.clear()
    async with Served(routes, heartbeat_s=0) as served:
        client = await served.connect()
        client.send(get("/off"))
        await client.head()
        for _ in range(3):
            await moves(served, 16.0)
        assert beats == []
        gate.set()
