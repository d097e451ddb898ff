"""A key that may call no more: known within a second, and what it has running ends, charged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
from tests.faults.worker import COUNTED, MODELS, Reply, Worker, chat, parse, worker
from tests.upstream import HANG, ScriptedUpstream, chat_frames, chunk, http_head

from headgate.ops.accounts import AccountChange, change_account
from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk
from headgate.ops.keyrules import KeyChange, KeyOrder
from headgate.ops.keys import CreatedKey, change_key, create_key, revoke_key, rotate_key
from headgate.ops.projects import archive_project
from headgate.ports import SystemClock
from headgate.stores.sql.admin import SqlAdminStore
from headgate.stores.sql.bootstrap import prepare

pytestmark = pytest.mark.anyio

SSE = [("content-type", "text/event-stream")]
FRAMES = chat_frames(("one", " two", " three"))
# the head, the role and one word; then nothing more
STUCK = [http_head(200, SSE), *(chunk(frame) for frame in FRAMES[:2]), HANG]
KNOWN_WITHIN_S, ENDED_WITHIN_S = 1.0, 10.0
SLOW = 8.0  # the machine is shared


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    clock = SystemClock()
    pepper = prepare(folder / "data", clock.wall(), None).pepper
    with closing(SqlAdminStore(folder / "data")) as store:
        yield Desk(store, clock, pepper)


class Stream:
    """A streamed call, read until its first word."""

    def __init__(self, reader: asyncio.StreamReader, got: bytes) -> None:
        self._reader, self._got = reader, got

    async def rest(self, within_s: float) -> Reply:
        """Read all that comes."""
        async with asyncio.timeout(within_s):
            return parse(self._got + await self._reader.read())


@asynccontextmanager
async def streaming(gateway: Worker, key: str) -> AsyncIterator[Stream]:
    gateway.key = key
    reader, writer = await asyncio.open_connection(*gateway.address)
    try:
        writer.write(gateway.request(chat(stream=True)))
        async with asyncio.timeout(10):
            yield Stream(reader, await reader.readuntil(b'"one"'))
    finally:
        writer.close()


def expire(on: Desk, made: CreatedKey) -> None:
    change_key(LOCAL, on, made.record.id, KeyChange(expires_at=on.clock.wall() + 500_000))


ENDINGS: dict[str, Callable[[Desk, CreatedKey], object]] = {
    "revoked": lambda on, made: revoke_key(LOCAL, on, made.record.id),
    "expired": expire,
    "rotated": lambda on, made: rotate_key(LOCAL, on, made.record.id),
    "suspended": lambda on, made: change_account(
        LOCAL, on, made.record.account, AccountChange(status="suspended")
    ),
    "archived": lambda on, made: archive_project(LOCAL, on, made.record.project),
}
CODES = {"suspended": "account_deactivated", "archived": "not_authorized_invalid_project"}


@pytest.mark.parametrize("how", ENDINGS)
async def test_a_running_stream_ends_in_band_and_is_charged(tmp_path: Path, how: str) -> None:
    async with ScriptedUpstream(STUCK) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        with desk(tmp_path) as on:
            made = create_key(LOCAL, on, KeyOrder(name="a"))
            await known(gateway, made.text)
            async with streaming(gateway, made.text) as stream:
                ENDINGS[how](on, made)
                reply = await stream.rest(ENDED_WITHIN_S)
        assert reply.status == 200
        assert reply.whole
        error = json.loads(reply.events[-1])["error"]
        assert error["code"] == CODES.get(how, "invalid_api_key")
        assert error["type"] == "invalid_request_error"
        booked = await gateway.booked(reply)
        assert booked is not None
        given, first = COUNTED[MODELS[0]]
        assert (booked.status, booked.input, booked.output, booked.estimated) == (401, given, first, True)
        assert booked.charge > 0
        await upstream.closed(0)


async def test_a_stream_of_another_key_goes_on(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    rest_of_it = [*(chunk(frame) for frame in FRAMES[2:]), chunk(b"")]
    answer = [*STUCK[:-1], go_on, *rest_of_it]
    async with ScriptedUpstream(answer) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        with desk(tmp_path) as on:
            made = create_key(LOCAL, on, KeyOrder(name="a"))
            kept = create_key(LOCAL, on, KeyOrder(name="b"))
            await known(gateway, kept.text)
            async with streaming(gateway, kept.text) as stream:
                revoke_key(LOCAL, on, made.record.id)
                await unknown(gateway, made.text)
                go_on.set()
                reply = await stream.rest(10)
        assert reply.events[-1] == b"[DONE]"


async def test_a_call_without_a_byte_so_far_is_answered_with_the_refusal(tmp_path: Path) -> None:
    async with ScriptedUpstream([HANG]) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        with desk(tmp_path) as on:
            made = create_key(LOCAL, on, KeyOrder(name="a"))
            await known(gateway, made.text)
            gateway.key = made.text
            asking = asyncio.create_task(gateway.ask(chat()))
            await upstream.received(1)
            revoke_key(LOCAL, on, made.record.id)
        reply = await asking
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (401, "invalid_api_key")
        booked = await gateway.booked(reply)  # the provider was asked, and may bill
        assert booked is not None
        assert booked.status == 401


async def answers(gateway: Worker, key: str, wanted: set[int]) -> None:
    """Ask for the models until the answer has one of some statuses."""
    gateway.key = key
    async with asyncio.timeout(KNOWN_WITHIN_S * SLOW):
        while (await ask_models(gateway)).status not in wanted:
            await asyncio.sleep(0.02)


async def known(gateway: Worker, key: str) -> None:
    await answers(gateway, key, {200})


async def unknown(gateway: Worker, key: str) -> None:
    await answers(gateway, key, {401})


async def ask_models(gateway: Worker, more: str = "") -> Reply:
    reader, writer = await asyncio.open_connection(*gateway.address)
    head = f"GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {gateway.key}\r\n{more}"
    try:
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        async with asyncio.timeout(10):
            return parse(await reader.read())
    finally:
        writer.close()


async def test_what_a_key_may_is_what_it_gets(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        with desk(tmp_path) as on:
            made = create_key(LOCAL, on, KeyOrder(name="ci", models=("gpt-4o-mini",), endpoints=("chat",)))
            await known(gateway, made.text)
            listed = json.loads((await ask_models(gateway)).body)["data"]
            assert [row["id"] for row in listed] == ["gpt-4o-mini"]
            assert (await gateway.ask(chat())).status == 200
            for body, path, code in (
                (chat(model="gpt-4o"), "/v1/chat/completions", "model_not_found"),
                (b'{"model": "gpt-4o-mini", "input": "x"}', "/v1/embeddings", "insufficient_permissions"),
            ):
                reply = await gateway.ask(body, path)
                error = json.loads(reply.body)["error"]
                assert (reply.status, error["code"]) == (403, code)
                assert "headgate keys change 'ci'" in error["message"]
            assert (await gateway.ask(chat(model="gpt-4o"), "/v1/messages")).status == 403
            change_key(LOCAL, on, made.record.id, KeyChange(networks=("203.0.113.0/24",)))
            await unknown(gateway, made.text)
            reply = await gateway.ask(chat())
            assert (reply.status, json.loads(reply.body)["error"]["code"]) == (401, "ip_not_authorized")
            change_key(LOCAL, on, made.record.id, KeyChange(networks=("127.0.0.0/8",)))
            await known(gateway, made.text)
            reply = await ask_models(gateway, "X-Forwarded-For: 203.0.113.9\r\n")
            assert reply.status == 200  # nobody is a proxy here: the peer counts
