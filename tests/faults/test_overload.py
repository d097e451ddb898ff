"""A worker with more calls than it can serve or hold: what is refused, in which order, and what is not.

How late the loop is and how long it works is told it by hand, so nothing here depends on speed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.faults.worker import Reply, Worker, chat, parse, worker
from tests.limits.served import another_key, desk_of, known
from tests.upstream import ScriptedUpstream, chat_json

from headgate.ops.actors import LOCAL
from headgate.ops.keys import revoke_key
from headgate.process.background import Stalls
from headgate.wire.known import KnownHeads

pytestmark = pytest.mark.anyio
MS = 1_000_000


class Slow:
    """A gateway whose loop is as slow as a test says."""

    def __init__(self, gateway: Worker) -> None:
        self.gateway = gateway
        self._crowd = gateway.app.crowd
        self._shedder = gateway.app.shedder
        self._shedder._few = 0  # so that a test need not hold some calls
        self._crowd.lobby.patience_ns = 0  # who is not begun in its turn is late

    def works(self, step_ms: float) -> None:
        """Let each call that is read take so long."""
        clock: Iterator[int] = (int(step_ms * MS * number) + 1 for number in count())
        self._crowd._worked = clock.__next__

    def look(self, late_s: float = 0.0, times: int = 1) -> None:
        """Tell how late the loop was, at looks a hundredth of a second apart."""
        for _ in range(times):
            self._shedder.tick(late_s, 1.0, 1.0, 0.01 + late_s)

    async def fill(self) -> None:
        """Be late until calls are refused."""
        self.look(0.05)
        assert self._shedder.active
        assert not self._shedder.full
        self.look(0.05)
        assert self._shedder.full

    async def together(self, wants: dict[Worker, int]) -> dict[Worker, list[Reply]]:
        """Ask with several keys at once, in this order; all that is asked comes in one turn of the loop."""
        names = [who for who, times in wants.items() for _ in range(times)]
        links = [await asyncio.open_connection(*self.gateway.address) for _ in names]
        await asyncio.sleep(0.05)
        for who, (_, writer) in zip(names, links, strict=True):
            writer.write(who.request(chat()))
        replies: dict[Worker, list[Reply]] = {who: [] for who in wants}
        for who, (reader, writer) in zip(names, links, strict=True):
            replies[who].append(parse(await reader.read()))
            writer.close()
        self.look(times=6)
        return replies


class Kept:
    """A connection on which one asks again and again; what it asks first is refused, and may be read."""

    def __init__(self, slow: Slow, who: Worker) -> None:
        self._who = who
        self._app = slow.gateway.app
        self._shedder = slow._shedder

    async def open(self) -> Kept:
        self.reader, self.writer = await asyncio.open_connection(*self._who.address)
        self.send()
        while (await self.reply()).status == 200:
            self.none()
            self.send()
        assert self._app.server.edge.unread is not None
        return self

    def none(self) -> None:
        """Let no key have a call for now."""
        self._shedder._level = 0.0
        for want in self._shedder._wants.values():
            want.tokens, want.none_until_ns = 0.0, 1 << 62

    def all(self) -> None:
        """Let each key have all it asks for."""
        self._shedder._level = 1e6
        for want in self._shedder._wants.values():
            want.tokens, want.none_until_ns, want.lately = 100.0, 0, 1e9

    def send(self, times: int = 1, *, served: bool = False) -> None:
        asked = self._who.request(chat()).replace(b"Connection: close\r\n", b"")
        self.writer.write(asked * times)
        (self.all if served else self.none)()

    async def reply(self) -> Reply:
        head = await self.reader.readuntil(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100 "):  # asks whether we are still there
            head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return parse(head + await self.reader.readexactly(length))


def served(replies: list[Reply]) -> int:
    return sum(reply.status == 200 for reply in replies)


def all_of(replies: dict[Worker, list[Reply]]) -> list[Reply]:
    return [reply for each in replies.values() for reply in each]


async def test_the_heaviest_key_is_refused_first_and_the_books_know_only_what_was_served(
    tmp_path: Path,
) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        small, slow = await another_key(gateway, "small"), Slow(gateway)
        slow.works(0.04)
        await slow.fill()
        seen = [await slow.together({gateway: 100, small: 1}) for _ in range(4)]
        assert [served(replies[small]) for replies in seen] == [1] * 4
        heavy = [served(replies[gateway]) for replies in seen[1:]]
        assert 1 <= min(heavy) <= max(heavy) <= 30
        replies = [reply for each in seen for reply in all_of(each)]
        right = [reply for reply in replies if reply.status == 200]
        assert len(upstream.requests) == len(right)
        assert {reply.request_id for reply in right} == set(await gateway.books())
        assert gateway.app._gauges()["headgate_shed_share"] > 0.3


async def test_a_refusal_says_when_to_come_back_and_each_another_time(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        slow.works(50.0)
        await slow.fill()
        replies = all_of(await slow.together({gateway: 20}))
        refused = [reply for reply in replies if reply.status != 200]
        assert len(refused) >= 15
        for reply in refused:
            error = json.loads(reply.body)["error"]
            assert (reply.status, error["code"]) == (503, "server_is_overloaded")
            assert error["type"] == "service_unavailable_error"
            assert reply.headers["retry-after"] in {"1", "2"}
            assert 1000 <= int(reply.headers["retry-after-ms"]) <= 2000
            assert reply.headers["openai-project"].startswith("proj_")
            assert reply.whole
        assert len({reply.request_id for reply in replies}) == len(replies)
        assert len({reply.headers["retry-after-ms"] for reply in refused}) == len(refused)
        again = [reply.status for reply in all_of(await slow.together({gateway: 5}))]
        assert again.count(503) >= 2
        counted = gateway.app.metrics.refusals["chat", 503, "server_is_overloaded"]
        assert counted == len(refused) + again.count(503)


async def test_who_is_refused_unread_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        await slow.fill()
        kept = await Kept(slow, gateway).open()
        kept.send()
        read = await kept.reply()
        before = gateway.app.metrics.refusals["chat", 503, "server_is_overloaded"]
        monkeypatch.setattr("headgate.http.intake.Incoming", None)
        replies = []
        for _ in range(5):
            kept.send()
            replies.append(await kept.reply())
        monkeypatch.undo()
        for unread in replies:
            assert (unread.status, unread.body, unread.whole) == (503, read.body, True)
            assert list(unread.headers) == list(read.headers)
            same = set(read.headers) - {"x-request-id", "retry-after", "retry-after-ms", "date"}
            assert {name: unread.headers[name] for name in same} == {
                name: read.headers[name] for name in same
            }
        assert len({reply.request_id for reply in (read, *replies)}) == 6
        assert len({reply.headers["retry-after-ms"] for reply in (read, *replies)}) == 6
        assert gateway.app.metrics.refusals["chat", 503, "server_is_overloaded"] == before + 5
        kept.writer.close()


async def test_a_key_that_is_not_valid_any_more_is_not_refused_unread(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        other, slow = await another_key(gateway, "other"), Slow(gateway)
        await slow.fill()
        kept = await Kept(slow, other).open()
        before = gateway.app._notices._seen
        with desk_of(gateway) as desk:
            revoke_key(LOCAL, desk, "other")
        await known(gateway, before)
        kept.send()
        assert (await kept.reply()).status == 401
        kept.writer.close()


async def test_a_call_is_read_when_it_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow, crowd = Slow(gateway), gateway.app.crowd
        await slow.fill()
        kept, gone = await Kept(slow, gateway).open(), await Kept(slow, gateway).open()
        asked = len(upstream.requests)
        crowd._turning = True  # no turn begins any
        monkeypatch.setattr("headgate.http.intake.Incoming", None)
        for each in (kept, gone):
            each.send(served=True)
        while len(crowd.lobby) < 2:
            await asyncio.sleep(0.001)
        gone.writer.transport.abort()
        while gateway.app.server.edge.open_connections > 1:
            await asyncio.sleep(0.001)
        monkeypatch.undo()
        await asyncio.sleep(0.05)
        crowd._turn()
        reply = await kept.reply()
        assert reply.status == 200
        assert int(reply.headers["openai-processing-ms"]) >= 50
        assert not crowd.lobby
        assert len(upstream.requests) == asked + 1
        assert reply.request_id in await gateway.books()
        kept.writer.close()


async def test_a_call_whose_head_is_forgotten_while_it_waits_is_parsed(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow, crowd = Slow(gateway), gateway.app.crowd
        await slow.fill()
        kept = await Kept(slow, gateway).open()
        crowd._turning = True
        kept.send(served=True)
        while not crowd.lobby:
            await asyncio.sleep(0.001)
        gateway.app.server.edge.known = KnownHeads()
        crowd._turn()
        assert (await kept.reply()).status == 200
        kept.send(served=True)
        assert (await kept.reply()).status == 200
        kept.writer.close()


async def test_a_call_that_waits_too_long_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow, crowd = Slow(gateway), gateway.app.crowd
        await slow.fill()
        kept = await Kept(slow, gateway).open()
        crowd._turning = True
        before = gateway.app.metrics.refusals["chat", 503, "server_is_overloaded"]
        kept.send(served=True)
        while not crowd.lobby:
            await asyncio.sleep(0.001)
        monkeypatch.setattr("headgate.http.intake.Incoming", None)
        monkeypatch.setattr(type(crowd.lobby), "next", lambda *_: None)
        crowd._turn()
        crowd._turn()
        assert not crowd.lobby
        monkeypatch.undo()
        assert (await kept.reply()).status == 503
        assert gateway.app.metrics.refusals["chat", 503, "server_is_overloaded"] == before + 1
        kept.writer.close()


async def test_what_follows_a_call_that_is_refused_unread_waits_for_its_answer(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        await slow.fill()
        kept = await Kept(slow, gateway).open()
        kept.send()
        await asyncio.sleep(0.01)
        kept.send(2)
        assert [(await kept.reply()).status for _ in range(3)] == [503] * 3
        kept.writer.close()


async def test_who_hangs_up_before_it_is_refused_unread_leaves_nothing(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow, edge = Slow(gateway), gateway.app.server.edge
        await slow.fill()
        stays, goes = await Kept(slow, gateway).open(), await Kept(slow, gateway).open()
        goes.send()
        stays.send()
        while len(gateway.app.crowd._refusals) < 2:
            await asyncio.sleep(0.001)
        goes.writer.transport.abort()
        while edge.open_connections > 1:
            await asyncio.sleep(0.001)
        assert (await stays.reply()).status == 503
        assert not gateway.app.crowd._refusals
        stays.writer.close()


async def test_a_refusal_of_a_call_unread_says_that_the_connection_ends(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        await slow.fill()
        kept = await Kept(slow, gateway).open()
        kept.send()
        kept.writer.write_eof()
        reply = await kept.reply()
        assert (reply.status, reply.headers["connection"]) == (503, "close")
        assert await kept.reader.read() == b""
        kept.writer.close()


async def test_the_messages_of_anthropic_are_refused_in_their_own_form(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        slow.works(50.0)
        await slow.fill()
        await slow.together({gateway: 20})
        body = json.dumps(
            {"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
        ).encode()
        links = [await asyncio.open_connection(*gateway.address) for _ in range(4)]
        await asyncio.sleep(0.05)
        for _, writer in links:
            writer.write(gateway.request(body, "/v1/messages"))
        last = [parse(await reader.read()) for reader, _ in links][-1]
        for _, writer in links:
            writer.close()
        said = json.loads(last.body)
        assert (last.status, said["type"], said["error"]["type"]) == (503, "error", "overloaded_error")
        assert last.headers["request-id"] == last.request_id
        assert len(await gateway.books()) == len(upstream.requests)


async def test_batch_calls_are_refused_before_any_other(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        batch, slow = await another_key(gateway, "batch", priority="batch"), Slow(gateway)
        slow.works(0.1)
        await slow.fill()
        await slow.together({batch: 20, gateway: 4})  # nothing is known of either yet
        for _ in range(4):
            replies = await slow.together({batch: 20, gateway: 4})
            assert served(replies[gateway]) == 4
        assert served(replies[batch]) <= 4


async def test_a_call_that_waits_is_served_where_nobody_is_refused(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        slow.works(50.0)  # so one in each turn
        slow.look(0.05)
        assert gateway.app.shedder.active
        assert not gateway.app.shedder.full
        replies = all_of(await slow.together({gateway: 30}))
        assert served(replies) == 30
        assert len(upstream.requests) == 30
        assert not gateway.app.crowd.lobby


async def test_who_hangs_up_while_he_waits_is_not_begun(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow, app = Slow(gateway), gateway.app
        slow.look(0.05, 3)
        reader, writer = await asyncio.open_connection(*gateway.address)
        app.crowd._turning = True  # no turn begins any
        writer.write(gateway.request(chat()))
        while not app.crowd.lobby:
            await asyncio.sleep(0.001)
        assert app.crowd.held_up_s(0.0) > 0
        writer.transport.abort()
        while app.server.edge.open_connections:
            await asyncio.sleep(0.001)
        app.crowd._turn()
        assert not app.crowd.lobby
        assert not app.calls.runs
        assert not upstream.requests
        assert await reader.read() == b""


async def test_a_bug_of_ours_in_a_call_that_waited_is_a_500(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(run: Coroutine[None, None, None], _call: object) -> None:
        run.close()
        raise ZeroDivisionError

    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        slow.look(0.05)
        assert gateway.app.shedder.active
        monkeypatch.setattr(gateway.app, "start_call", breaks)
        reply = await gateway.ask(chat())
        assert (reply.status, reply.whole) == (500, True)
        monkeypatch.undo()
        slow.look(times=6)
        assert (await gateway.ask(chat())).status == 200


async def test_a_turn_that_begins_many_calls_is_watched_at_once(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        many = gateway.app.outward.transport.outbox.on_many
        assert many is not None
        assert not gateway.app.shedder.active
        many()
        assert gateway.app.shedder.active
        assert (await gateway.ask(chat())).status == 200
        Slow(gateway).look()
        assert not gateway.app.shedder.active


async def test_everybody_is_let_in_again_when_it_has_time(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        slow.works(50.0)
        await slow.fill()
        assert served(all_of(await slow.together({gateway: 10}))) < 5
        slow.look(times=200)
        assert not gateway.app.shedder.active
        assert served(all_of(await slow.together({gateway: 10}))) == 10


async def test_who_hangs_up_before_it_is_refused_leaves_nothing(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        slow = Slow(gateway)
        slow.works(50.0)
        await slow.fill()
        for _ in range(10):
            _, writer = await asyncio.open_connection(*gateway.address)
            writer.write(gateway.request(chat()))
            writer.close()
        crowd, edge = gateway.app.crowd, gateway.app.server.edge
        async with asyncio.timeout(5):
            await asyncio.sleep(0.1)
            while crowd._refusals or crowd.lobby or edge.open_connections:
                await asyncio.sleep(0.01)
        assert (await gateway.ask(chat())).status in {200, 503}


async def test_calls_beyond_the_most_are_refused_and_health_is_not(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        ScriptedUpstream([go, chat_json("hi")]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        shedder = gateway.app.shedder
        assert shedder._most >= 64  # by the memory of the machine
        shedder._most = 1
        first = asyncio.create_task(gateway.ask(chat()))
        await upstream.received(1)
        shedder.tick(0.0, 0.0, 0.0, 0.05)
        refused = await gateway.ask(chat())
        error = json.loads(refused.body)["error"]
        assert (refused.status, error["code"]) == (503, "server_is_overloaded")
        assert 1000 <= int(refused.headers["retry-after-ms"]) <= 2000
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert parse(await reader.read()).status == 200
        writer.close()
        go.set()
        assert (await first).status == 200
        assert (await gateway.ask(chat())).status == 200
        assert len(await gateway.books()) == 2


async def test_the_loop_is_as_late_as_what_it_puts_off_from_turn_to_turn() -> None:
    heard: list[float] = []

    def tell(late_s: float, _busy: float, _wanted: float, _took_s: float) -> float:
        heard.append(late_s)
        return 0.001

    watching = asyncio.create_task(Stalls(tell, lambda _now_s: 60.0).run())
    while not heard:
        await asyncio.sleep(0.01)
    watching.cancel()
    assert heard[0] == 60.0


async def test_a_turn_that_breaks_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        faults: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        lobby = gateway.app.crowd.lobby
        whole = type(lobby).next

        def broken(*_: object) -> None:
            monkeypatch.setattr(type(lobby), "next", whole)
            raise RuntimeError("broken")

        monkeypatch.setattr(type(lobby), "next", broken)
        gateway.app.shedder.watch()
        assert (await asyncio.wait_for(gateway.ask(chat()), 5)).status == 200
        loop.set_exception_handler(None)
        assert [str(fault) for fault in faults] == ["broken"]
