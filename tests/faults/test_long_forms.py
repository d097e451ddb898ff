"""Long files on their way to a provider: kept in a file, sent as fast as it takes them, and again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.faults.worker import ONE_ATTEMPT, Reply, Worker, parse, worker
from tests.upstream import ScriptedUpstream, error_json, json_answer

from headgate.wire.forms import Part, parts_of, written

pytestmark = pytest.mark.anyio

SOUND = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0" + random.Random(
    4
).randbytes(3_000_000)
TRIES = ONE_ATTEMPT.replace("attempts = 1", "attempts = 3\nbase_s = 0.01")
HEARD = json_answer(
    {
        "text": "Hello.",
        "usage": {"type": "tokens", "input_tokens": 40, "output_tokens": 3, "total_tokens": 43},
    }
)


def form(sound: bytes = SOUND) -> bytes:
    """The file before the fields, as curl sends it."""
    parts = (Part("file", sound, "talk.wav", "audio/wav"), Part("model", b"gpt-4o-mini-transcribe"))
    return b"".join(written(parts, "XYZ"))


def asking(gateway: Worker, *, chunked: bool = False, sound: bytes = SOUND) -> bytes:
    body = form(sound)
    framing = f"Content-Length: {len(body)}"
    if chunked:
        framing = "Transfer-Encoding: chunked"
        cut = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut) + b"0\r\n\r\n"
    head = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
        f"Authorization: Bearer {gateway.key}\r\n{framing}\r\n"
        "Content-Type: multipart/form-data; boundary=XYZ\r\n\r\n"
    )
    return head.encode() + body


async def ask(gateway: Worker, request: bytes) -> Reply:
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(request)
        raw = await reader.read()
        writer.close()
    return parse(raw)


def sound_of(upstream: ScriptedUpstream, number: int) -> bytes:
    request = upstream.requests[number]
    kind = request.get("content-type")
    assert kind is not None
    found = {part.name: part.data for part in parts_of(kind.encode(), request.body)}
    assert found["model"] == b"gpt-4o-mini-transcribe"
    return bytes(found["file"])


def kept(folder: Path) -> int:
    """How many files without a name are open in a folder."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder's own
            link = os.readlink(f"/proc/self/fd/{name}")
            found += link.startswith(str(folder)) and link.endswith("(deleted)")
    return found


async def gone(folder: Path) -> None:
    """Wait until no file without a name is open there."""
    async with asyncio.timeout(10):
        while kept(folder):
            await asyncio.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_long_file_arrives_as_it_was_sent_and_is_kept_nowhere(chunked: bool, tmp_path: Path) -> None:
    async with ScriptedUpstream(HEARD) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        for _ in range(3):
            reply = await ask(gateway, asking(gateway, chunked=chunked))
            assert (reply.status, json.loads(reply.body)["text"]) == (200, "Hello.")
        assert all(sound_of(upstream, number) == SOUND for number in range(3))
        assert kept(tmp_path) == 0
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.status, booked.input, booked.output) == (200, 40, 3)


async def test_a_retry_sends_the_whole_file_again(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(error_json(500, "boom"), HEARD) as upstream,
        worker(tmp_path, upstream.base_url, more=TRIES) as gateway,
    ):
        reply = await ask(gateway, asking(gateway))
        assert reply.status == 200
        assert [sound_of(upstream, number) == SOUND for number in range(2)] == [True, True]


@contextlib.asynccontextmanager
async def unread(answer: bytes) -> AsyncIterator[str]:
    """A provider that reads no more than the head, and perhaps answers; its base URL."""
    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()
    for writer in served:
        writer.transport.abort()
    await asyncio.sleep(0.01)


async def test_a_provider_may_refuse_before_it_has_read_the_file(tmp_path: Path) -> None:
    async with (
        unread(error_json(413, "too long for me")) as base_url,
        worker(tmp_path, base_url) as gateway,
    ):
        reply = await ask(gateway, asking(gateway, sound=SOUND * 5))
        assert reply.status == 413
        assert b"too long for me" in reply.body
        booked = await gateway.booked(reply)
        assert booked is None or booked.charge == 0
        assert gateway.app.outward.transport.idle == 0  # half a request is on that connection


async def test_a_provider_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    async with unread(b"") as base_url, worker(tmp_path, base_url, short=True) as gateway:
        reply = await ask(gateway, asking(gateway, sound=SOUND * 5))
        assert reply.status == 504
        assert b"first_byte_s" in reply.body


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_caller_that_leaves_in_a_file_leaves_nothing(tmp_path: Path) -> None:
    async with ScriptedUpstream(HEARD) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        _reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(asking(gateway)[:-1000])
        await writer.drain()
        async with asyncio.timeout(10):
            while not kept(tmp_path):
                await asyncio.sleep(0.001)
            writer.transport.abort()
            while kept(tmp_path):
                await asyncio.sleep(0.001)
        assert upstream.requests == []


async def test_without_room_for_a_file_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    async with ScriptedUpstream(HEARD) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        monkeypatch.setattr("tempfile.TemporaryFile", full)
        reply = await ask(gateway, asking(gateway).replace(gateway.key.encode(), b"sk-hg-wrong"))
        assert reply.status == 401  # nothing is kept of a stranger's
        reply = await ask(gateway, asking(gateway))
        assert reply.status == 503
        assert json.loads(reply.body)["error"]["message"].startswith(
            "The gateway cannot keep the files of this request now: No space left on device."
        )
        assert upstream.requests == []
        monkeypatch.undo()
        assert (await ask(gateway, asking(gateway))).status == 200


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["fails", "is refused", "is answered again"])
async def test_nothing_of_a_file_is_left_to_the_garbage_collector(how: str, tmp_path: Path) -> None:
    """Which looks after such things seldom in a server: until then the file would take room on the disk."""
    answers = {"fails": error_json(500, "boom"), "is refused": error_json(400, "not this")}
    async with (
        ScriptedUpstream(answers.get(how, HEARD)) as upstream,
        worker(tmp_path, upstream.base_url, more=TRIES) as gateway,
    ):
        request = asking(gateway)
        if how == "is answered again":
            request = request.replace(b"\r\nHost", b"\r\nIdempotency-Key: once\r\nHost", 1)
        gc.collect()
        gc.disable()
        try:
            answered = [(await ask(gateway, request)).status for _ in range(2)]
            await gone(tmp_path)
        finally:
            gc.enable()
        assert answered == [{"fails": 500, "is refused": 400}.get(how, 200)] * 2
