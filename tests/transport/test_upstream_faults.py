"""What an upstream may do wrong (reliability: the fault list), on a real socket, as JSON and as a stream.

Whatever happens, the wait ends with an error of ours, the connection is not used again, and the next
exchange is served. Faults of content (HTML, broken JSON or SSE, absurd usage) pass: codecs judge them.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
from tests.transport.asking import ask, body_of, http, request, said, target, turns
from tests.upstream import (
    FIN,
    HANG,
    RESET,
    Drip,
    ScriptedUpstream,
    Split,
    Step,
    chat_frames,
    chat_json,
    chat_stream,
    chunk,
    error_json,
    http_answer,
    http_head,
)

from headgate.errors import UpstreamError, UpstreamInterrupted, UpstreamTimeout
from headgate.transport.framing import Bounds

pytestmark = pytest.mark.anyio

JSON = [("content-type", "application/json")]
SSE = [("content-type", "text/event-stream")]
FRAMES = chat_frames()
BODY = chat_json().partition(b"\r\n\r\n")[2]
OK = b"HTTP/1.1 200 OK\r\n"
Steps: TypeAlias = list[Step]


def begun(stream: bool) -> bytes:
    """A head and a part of its body."""
    if stream:
        return http_head(200, SSE) + chunk(FRAMES[0]) + chunk(FRAMES[1])
    return http_head(200, JSON, len(BODY)) + BODY[:100]


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(data) + packer.flush()


def packed(stream: bool, data: bytes) -> bytes:
    headers = [*(SSE if stream else JSON), ("content-encoding", "gzip")]
    if stream:
        return http_head(200, headers) + chunk(data) + chunk(b"")
    return http_answer(data, headers=headers)


def flood(head: bytes, piece: bytes, times: int) -> Steps:
    return [head, *[piece] * times, HANG]


FAULTS: dict[str, tuple[Callable[[bool], Steps], str]] = {
    "reset before the head": (lambda s: [RESET], "before it answered"),
    "end before the head": (lambda s: [FIN], "before it answered"),
    "reset in the head": (lambda s: [OK + b"Content-Ty", RESET], "reset"),
    "end in the head": (lambda s: [OK + b"Content-Ty", FIN], "mid-answer"),
    "reset after the head": (lambda s: [http_head(200, SSE if s else JSON, None), RESET], "reset"),
    "end after the head": (lambda s: [http_head(200, SSE if s else JSON, None), FIN], "mid-answer"),
    "reset in the body": (lambda s: [begun(s), RESET], "reset"),
    "end in the body": (lambda s: [begun(s), FIN], "mid-answer"),
    "end in a chunk": (lambda s: [http_head(200, SSE) + b"40\r\ndata: {", FIN], "mid-answer"),
    "end before the last chunk": (lambda s: [chat_stream()[:-5], FIN], "mid-answer"),
    "a length that is too long": (lambda s: [http_head(200, JSON, 9999) + BODY, FIN], "mid-answer"),
    "length beside chunked": (
        lambda s: [OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
        "framing",
    ),
    "two lengths": (lambda s: [OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"], "framing"),
    "a bad chunk size": (lambda s: [begun(True) + b"xyz\r\n"], "framing"),
    "a chunk longer than it says": (lambda s: [http_head(200, SSE) + b"3\r\nabcdef\r\n"], "framing"),
    "another transfer coding": (lambda s: [OK + b"Transfer-Encoding: gzip\r\n\r\nabc"], "transfer coding"),
    "truncated gzip": (lambda s: [packed(s, gzipped(BODY * 9)[:-9])], "cut off"),
    "broken gzip": (lambda s: [packed(s, b"no gzip at all")], "broken"),
    "a gzip bomb": (lambda s: [packed(s, gzipped(bytes(30_000_000)))], "beyond all measure"),
    "an unknown coding": (
        lambda s: [http_answer(b"x", headers=[("content-encoding", "br")])],
        "content coding",
    ),
    "a body of 200 MB": (lambda s: [http_head(200, JSON, 200 << 20), HANG], "longer than"),
    "an endless body": (lambda s: flood(http_head(200, JSON), chunk(bytes(60_000)), 40), "longer than"),
    "a head of 70 KB": (lambda s: [OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n", HANG], "its head"),
    "an endless head": (lambda s: flood(OK + b"X: ", b"a" * 9000, 40), "too long"),
    "10,000 headers": (lambda s: [OK + b"X: a\r\n" * 10_000 + b"\r\n", HANG], "headers"),
    "an endless trailer": (lambda s: flood(begun(True) + b"0\r\n", b"X: a\r\n" * 999, 40), "too long"),
    "a flood of interim answers": (lambda s: [b"HTTP/1.1 103 Hints\r\n\r\n" * 500], "without end"),
    "another protocol": (lambda s: [b"SSH-2.0-OpenSSH_9.2p1\r\n"], "framing"),
    "an upgrade": (
        lambda s: [b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"],
        "another protocol",
    ),
    "a redirect": (
        lambda s: [http_answer(b"", 302, [("location", "http://u:pw@169.254.169.254/secret")])],
        "302, a redirect",
    ),
    "a moved host": (lambda s: [http_answer(b"", 308, [("location", "https://secret.example")])], "308"),
    "not modified": (lambda s: [http_head(304, (), 0)], "304"),
}


async def faulty(steps: Steps, **settings: object) -> UpstreamError:
    """Return what the fault raises; then see that the transport serves on."""
    bounds = Bounds(body_bytes=1 << 20)
    async with ScriptedUpstream(steps, chat_json("next")) as upstream, http(bounds=bounds) as transport:
        to = target(upstream.base_url)
        async with asyncio.timeout(5):
            with pytest.raises(UpstreamError) as caught:
                await ask(transport, to)
            assert transport.idle == 0
            assert (await upstream.closed(0)).how is not None
            assert b"next" in (await ask(transport, to))[1]
        message = said(caught.value, f"127.0.0.1:{upstream.port}")
        assert not any(word in message for word in ("secret", "pw", "169.254", "canary"))
        return caught.value


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_ends_the_exchange_and_nothing_else(fault: str, stream: bool) -> None:
    steps, words = FAULTS[fault]
    error = await faulty(steps(stream))
    assert isinstance(error, UpstreamInterrupted)
    assert words in error.message
    assert error.another_target
    assert not getattr(error, "not_processed", False)


@pytest.mark.parametrize("fault", ["two lengths", "a bad chunk size", "truncated gzip", "a redirect"])
async def test_a_fault_is_the_same_byte_for_byte(fault: str) -> None:
    steps, words = FAULTS[fault]
    (data,) = steps(False)
    assert isinstance(data, bytes)
    assert words in (await faulty([Split(data, every=1)])).message


SILENCE: dict[str, tuple[Callable[[bool], Steps], str]] = {
    "before the head": (lambda s: [HANG], "first_byte_s"),
    "in the head": (lambda s: [OK, HANG], "first_byte_s"),
    "after the head": (lambda s: [http_head(200, SSE if s else JSON), HANG], "between_frames_s"),
    "in the body": (lambda s: [begun(s), HANG], "between_frames_s"),
    "in the head, dripping": (lambda s: [Drip(OK + b"X: y" * 99, 0.004), HANG], "first_byte_s"),
    "in the body, dripping": (lambda s: [begun(True), Drip(chunk(b"a" * 999), 0.004), HANG], "total_s"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("where", SILENCE)
async def test_silence_ends_by_its_deadline(where: str, stream: bool) -> None:
    steps, names = SILENCE[where]
    async with ScriptedUpstream(steps(stream)) as upstream, http(tick_s=0.01) as transport:
        to = target(upstream.base_url, first_byte_s=0.1, between_frames_s=0.1, total_s=0.4)
        async with asyncio.timeout(5):
            with pytest.raises(UpstreamTimeout, match=names):
                await ask(transport, to)
            await upstream.closed(0)


PASSES: dict[str, tuple[bytes, int, bytes]] = {
    "HTML": (http_answer(b"<html>", 200, [("content-type", "text/html")]), 200, b"<html>"),
    "no body": (http_answer(b"", 200, JSON), 200, b""),
    "half of a JSON body": (http_answer(BODY[:50], 200, JSON), 200, BODY[:50]),
    "no end of the stream": (http_head(200, SSE) + chunk(FRAMES[0]) + chunk(b""), 200, FRAMES[0]),
    "data after [DONE]": (
        http_head(200, SSE) + chunk(FRAMES[-1] + FRAMES[0]) + chunk(b""),
        200,
        FRAMES[-1] + FRAMES[0],
    ),
    "an error": (error_json(503), 503, error_json(503).partition(b"\r\n\r\n")[2]),
}


@pytest.mark.parametrize("name", PASSES)
async def test_what_is_well_framed_passes_and_the_connection_is_kept(name: str) -> None:
    data, status, body = PASSES[name]
    async with ScriptedUpstream(data) as upstream, http() as transport:
        head, got = await ask(transport, target(upstream.base_url))
        assert (head.status, got) == (status, body)
        assert transport.idle == 1


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("after", [None, "-1", "1e9", "Wed, 21 Oct 2065 07:28:00 GMT"])
async def test_an_error_answer_is_given_out_with_its_headers(status: int, after: str | None) -> None:
    headers = [] if after is None else [("Retry-After", after)]
    async with ScriptedUpstream(error_json(status, headers=headers)) as upstream, http() as transport:
        head, body = await ask(transport, target(upstream.base_url))
        assert head.status == status
        assert head.get(b"retry-after") == (after.encode() if after else None)
        assert b"scripted" in body


async def test_a_length_that_is_too_short_gives_what_it_says_and_no_more() -> None:
    short = http_head(200, JSON, len(BODY) - 10) + BODY
    async with ScriptedUpstream(short, chat_json("next")) as upstream, http() as transport:
        to = target(upstream.base_url)
        assert (await ask(transport, to))[1] == BODY[:-10]
        assert transport.idle == 0
        assert b"next" in (await ask(transport, to))[1]


async def test_a_body_that_ends_with_the_connection_is_whole_and_a_reset_is_not() -> None:
    head = OK + b"Content-Type: application/json\r\n\r\n"
    async with ScriptedUpstream([head, BODY, FIN], [head, BODY, RESET]) as upstream, http() as transport:
        to = target(upstream.base_url)
        assert (await ask(transport, to))[1] == BODY
        with pytest.raises(UpstreamInterrupted, match="reset"):
            await ask(transport, to)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("end", [RESET, FIN])
async def test_what_came_before_a_fault_is_given_out_first(end: Step, stream: bool) -> None:
    whole = FRAMES[0] + FRAMES[1] if stream else BODY[:100]
    async with ScriptedUpstream([begun(stream), end]) as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())
        await exchange.head()
        got = b""
        while len(got) < len(whole):
            got += await exchange.read()
        assert got == whole
        with pytest.raises(UpstreamInterrupted):
            await exchange.read()
        exchange.release()


@pytest.mark.parametrize("data", [chat_json(), chat_stream()], ids=["json", "stream"])
async def test_an_answer_on_a_socket_is_the_same_cut_at_every_byte(data: bytes) -> None:
    whole = b"".join(FRAMES) if data == chat_stream() else BODY
    cuts: Sequence[Steps] = [[Split(data, cuts=(cut,))] for cut in range(1, len(data), 7)]
    async with ScriptedUpstream(*cuts, [Split(data, every=1)]) as upstream, http() as transport:
        to = target(upstream.base_url)
        for _ in range(len(cuts) + 1):
            assert (await ask(transport, to))[1] == whole
        assert len(upstream.connections) == 1


async def test_an_answer_before_the_request_was_taken_is_read_and_the_connection_closed() -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(error_json(413))
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()
        writer.close()

    done = asyncio.Event()
    server = await asyncio.start_server(hasty, "127.0.0.1", 0)
    async with server, http() as transport:
        exchange = await transport.acquire(target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        exchange.send(request(b"x" * 20_000_000))
        assert (await exchange.head()).status == 413
        await body_of(exchange)
        exchange.release()
        assert transport.idle == 0
        done.set()
        await turns()
