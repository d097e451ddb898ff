"""What is not one clear HTTP request gets one 400 (or 413, 415, 431) and the end of the connection."""

from __future__ import annotations

import asyncio

import pytest
from tests.http.served import Client, Echo, Served, get, post, post_chunked, until

HOST = b"POST /e HTTP/1.1\r\nHost: gate\r\n"
CHUNKS = b"\r\n5\r\nhello\r\n0\r\n\r\n"
# A second request that must never be seen.
SECOND = b"GET /e?smuggled HTTP/1.1\r\nHost: gate\r\n\r\n"

CODINGS = [
    b"xchunked", b"chunked, identity", b"identity, chunked", b"gzip, chunked", b"chunked, chunked",
    b"identity", b'"chunked"', b"chunked;q=1", b"chunked\x0b", b"", b"chunke", b", chunked", b"chunked,",
    b"\x00chunked", b"chunked\r\n identity", b"chunked\r\nTransfer-Encoding: identity",
    b"chunked\r\nTransfer-Encoding: chunked",
]  # fmt: skip
LENGTHS = [
    b"+5", b"-5", b"0x5", b"5,5", b"5, 5", b"5 5", b"", b"99999999999999999999999", b"5;", b"5.0", b"\x0b5",
    b"5e0", b"5\r\nContent-Length: 5", b"5\r\nContent-Length: 6", b"5_0", b"\xd9\xa5",
]  # fmt: skip
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK_FORMS = [
    b"5;a=\nb\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n", b"fffffffffffffffff\r\nhello", b"0x5\r\nhello\r\n0\r\n\r\n", b"-5\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"\r\nhello\r\n", b"5\r\nhello\n0\n\n",
    b"5\r\nhello\r\n0\r\n\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    b"g\r\n", b"+5\r\nhello\r\n",
]  # fmt: skip
HEAD_FORMS = {
    "length and chunks": HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    "chunks and length": HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" + CHUNKS,
    "space before colon": HOST + b"Transfer-Encoding : chunked\r\n" + CHUNKS,
    "tab before colon": HOST + b"Content-Length\t: 5\r\n\r\nhello",
    "chunks in HTTP/1.0": b"POST /e HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    "folded line": HOST + b"X: a\r\n b\r\n\r\n",
    "folded first line": b"GET /e HTTP/1.1\r\n Host: gate\r\n\r\n",
    "bare LF after the request line": b"GET /e HTTP/1.1\nHost: gate\r\n\r\n",
    "bare LF after a header": b"GET /e HTTP/1.1\r\nHost: gate\nX: b\r\n\r\n",
    "bare LF at the end": b"GET /e HTTP/1.1\r\nHost: gate\r\n\n",
    "bare CR in a header": b"GET /e HTTP/1.1\r\nHost: gate\rX: b\r\n\r\n",
    "two CRs": b"GET /e HTTP/1.1\r\nHost: gate\r\r\n\r\n",
    "empty header name": HOST + b": b\r\n\r\n",
    "tab in a name": HOST + b"X\ty: b\r\n\r\n",
    "NUL in a name": HOST + b"X\0y: b\r\n\r\n",
    "NUL in a value": HOST + b"Xy: b\0c\r\n\r\n",
    "control character in a value": HOST + b"Xy: b\x01c\r\n\r\n",
    "no colon": HOST + b"Xy\r\n\r\n",
    "two hosts": b"GET /e HTTP/1.1\r\nHost: gate\r\nHost: other\r\n\r\n",
    "no host": b"GET /e HTTP/1.1\r\nX: y\r\n\r\n",
    "two keys": b"GET /e HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    "HTTP/0.9": b"GET /e\r\n\r\n",
    "HTTP/1.2": b"GET /e HTTP/1.2\r\nHost: gate\r\n\r\n",
    "HTTP/2.0": b"GET /e HTTP/2.0\r\nHost: gate\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "space in the target": b"GET /e f HTTP/1.1\r\nHost: gate\r\n\r\n",
    "raw byte in the target": b"GET /\xe4 HTTP/1.1\r\nHost: gate\r\n\r\n",
    "lower-case method": b"get /e HTTP/1.1\r\nHost: gate\r\n\r\n",
    "unknown method": b"FOO /e HTTP/1.1\r\nHost: gate\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
FORMS = {
    **HEAD_FORMS,
    **{f"coding {c!r}": HOST + b"Transfer-Encoding: " + c + b"\r\n" + CHUNKS for c in CODINGS},
    **{f"length {n!r}": HOST + b"Content-Length: " + n + b"\r\n\r\nhello" for n in LENGTHS},
    **{f"chunk {c!r}": CHUNKED + c for c in CHUNK_FORMS},
}


@pytest.mark.anyio
@pytest.mark.parametrize("form", FORMS)
async def test_an_ambiguous_request_gets_one_400_and_the_end(form: str) -> None:
    echo = Echo()
    async with Served({"/e": echo}) as served:
        client = await served.connect()
        answer = await client.ask(FORMS[form] + SECOND)
        assert answer.status == 400
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""
        assert echo.seen == []
        assert len(served.log.refusals) == 1


@pytest.mark.anyio
async def test_what_came_in_order_before_garbage_is_answered_first() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        client.send(get("/e?1") + get("/e?2") + b"GARBAGE\r\n\r\n" + SECOND)
        assert (await client.answer()).json()["query"] == "1"
        assert (await client.answer()).json()["query"] == "2"
        assert (await client.answer()).status == 400
        assert await client.rest() == b""


@pytest.mark.anyio
@pytest.mark.parametrize("end", [b"end", b""], ids=["more behind it", "nothing behind it"])
async def test_a_request_in_a_body_that_comes_in_pieces_is_not_served(end: bytes) -> None:
    echo, inner = Echo(), post("/e", b"smuggled")
    async with Served({"/e": echo}) as served:
        client = await served.connect()
        for _ in range(2):  # its head is known
            await client.ask(inner)
        echo.seen.clear()
        body = inner + end
        client.send(post("/e", body)[: -len(body)])
        connection = await served.only_connection()
        await until(lambda: connection._intake.partial is not None)
        client.send(inner)
        await asyncio.sleep(0.01)
        answer = await client.ask(end) if end else await client.answer()
        assert answer.json()["body"] == body.decode()
        assert [seen.body for seen in echo.seen] == [body]


@pytest.mark.anyio
async def test_what_follows_a_last_request_is_ignored() -> None:
    echo = Echo()
    async with Served({"/e": echo}) as served:
        client = await served.connect()
        answer = await client.ask(get("/e", "Connection: close") + SECOND)
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await client.ends()
        assert len(echo.seen) == 1


VALID = [
    post("/e?a=b", b'{"a": 1}'),
    post_chunked("/e", b"he", b"llo", b"x" * 300),
    HOST
    + b"Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-Trailer: host\r\nHost: evil\r\n\r\n",
    b"\r\n" + get("/e?z"),
    HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
    HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    HOST + b"Content-Length: 5 \r\nX-Empty:\r\n\r\nhello",
]
BODIES = [b'{"a": 1}', b"hello" + b"x" * 300, b"hello", b"", b"hello", b"hello", b"hello"]


async def check_all(client: Client) -> None:
    for body in BODIES:
        answer = await client.answer()
        assert answer.status == 200
        assert answer.json()["body"].encode() == body


@pytest.mark.anyio
async def test_requests_cut_at_every_byte_are_the_same_requests() -> None:
    echo = Echo()
    whole = b"".join(VALID)
    async with Served({"/e": echo}) as served:
        client = await served.connect()
        connection = await served.only_connection()
        for byte in whole:  # given by hand: the kernel would join them
            connection.data_received(bytes([byte]))
        await check_all(client)


@pytest.mark.anyio
async def test_requests_cut_once_at_any_byte_are_the_same_requests() -> None:
    whole = b"".join(VALID)
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        connection = await served.only_connection()
        for cut in range(1, len(whole)):
            connection.data_received(whole[:cut])
            connection.data_received(whole[cut:])
            await check_all(client)


@pytest.mark.anyio
@pytest.mark.parametrize("form", FORMS)
async def test_an_ambiguous_request_is_refused_however_it_is_cut(form: str) -> None:
    echo = Echo()
    data = FORMS[form] + SECOND
    async with Served({"/e": echo}) as served:
        for size in (1, 7):
            client = await served.connect()
            connection = await served.only_connection()
            for at in range(0, len(data), size):
                connection.data_received(data[at : at + size])
            assert (await client.answer()).status == 400
            assert await client.rest() == b""
            await client.close()
            await served.edge.empty()
        assert echo.seen == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(get("/e", "X: " + "y" * 64_000), id="one header of 64 KB"),
        pytest.param(get("/e", *[f"X-{i}: {'y' * 1000}" for i in range(64)]), id="64 headers of 1 KB"),
        pytest.param(get("/e", *[f"X-{i}: y" for i in range(101)]), id="102 headers"),
        pytest.param(get("/e?" + "y" * 17_000), id="a target of 17 KB"),
        pytest.param(b"GET /" + b"y" * 70_000, id="a target without end"),
        pytest.param(get("/e")[:-2] + b"X: " + b"y" * 70_000, id="a header without end"),
    ],
)
async def test_a_head_above_the_limits_gets_431(request_bytes: bytes) -> None:
    echo = Echo()
    async with Served({"/e": echo}) as served:
        client = await served.connect()
        answer = await client.ask(request_bytes)
        assert answer.status == 431
        assert "too large" in answer.error["message"]
        assert await client.rest() == b""
        assert echo.seen == []


@pytest.mark.anyio
async def test_a_large_head_within_the_limits_is_served() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        headers = [f"X-{i}: {'y' * 300}" for i in range(90)]
        assert (await client.ask(get("/e?" + "q" * 16_000, *headers))).status == 200


@pytest.mark.anyio
async def test_an_announced_body_above_the_limit_is_refused_before_it_is_sent() -> None:
    async with Served({"/e": Echo(max_body_bytes=100)}) as served:
        client = await served.connect()
        answer = await client.ask(get("/e", "Content-Length: 101", "Expect: 100-continue", method="POST"))
        assert (answer.status, answer.interim) == (413, 0)
        assert "at most 100 bytes" in answer.error["message"]
        client.send(b"x" * 101)  # read and thrown away, so that the answer is not lost to a reset
        assert await client.rest() == b""


@pytest.mark.anyio
async def test_a_chunked_body_is_refused_when_it_grows_above_the_limit() -> None:
    async with Served({"/e": Echo(max_body_bytes=100)}) as served:
        client = await served.connect()
        answer = await client.ask(post_chunked("/e", b"x" * 60, b"x" * 60))
        assert answer.status == 413
        assert await client.rest() == b""
        client = await served.connect()
        assert (await client.ask(post_chunked("/e", b"x" * 60, b"x" * 40))).status == 200


@pytest.mark.anyio
async def test_chunks_of_nothing_but_framing_are_refused() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        client.send(CHUNKED + b"1;" + b"x" * 400_000)
        assert (await client.answer()).status == 400
        client = await served.connect()
        client.send(CHUNKED + b"0\r\n" + b"X: y\r\n" * 100_000)
        assert (await client.answer()).status == 400


@pytest.mark.anyio
async def test_a_long_body_arrives_whole() -> None:
    async with Served({"/e": Echo(max_body_bytes=20_000_000)}) as served:
        client = await served.connect()
        for size in (65_535, 65_536, 200_000, 3_000_000):
            body = bytes(range(97, 123)) * (size // 26 + 1)
            assert (await client.ask(post("/e", body))).json()["body"].encode() == body


@pytest.mark.anyio
async def test_a_compressed_body_gets_415() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        answer = await client.ask(post("/e", b"\x1f\x8b", "Content-Encoding: gzip"))
        assert answer.status == 415
        assert answer.error["type"] == "invalid_request_error"
        assert (
            await (await served.connect()).ask(post("/e", b"{}", "Content-Encoding: identity"))
        ).status == 200


@pytest.mark.anyio
async def test_a_websocket_handshake_is_refused_in_words() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        answer = await client.ask(
            get("/e", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a")
        )
        assert answer.status == 400
        assert answer.error["code"] == "websocket_not_supported"
        assert await client.rest() == b""


@pytest.mark.anyio
async def test_connect_is_refused() -> None:
    async with Served({"/e": Echo()}) as served:
        client = await served.connect()
        answer = await client.ask(b"CONNECT e:443 HTTP/1.1\r\nHost: e:443\r\n\r\n")
        assert answer.status == 405
        assert answer.error["code"] == "method_not_supported"


@pytest.mark.anyio
async def test_the_target_is_split_and_decoded_but_not_normalised() -> None:
    echo = Echo()
    paths = ["/a/b", "/a/../b", "//a", "/caf%C3%A9", "/%ff", "/"]
    routes = dict.fromkeys(["/a/b", "/a/../b", "//a", "/café", "/\ufffd", "/"], echo)
    async with Served(routes) as served:
        client = await served.connect()
        for path in paths:
            assert (await client.ask(get(path + "?x=%20&y"))).json()["query"] == "x=%20&y"
        assert (await client.ask(get("http://other/a/b?c"))).json()["path"] == "/a/b"
        assert (await client.ask(get("http://other"))).json()["path"] == "/"
        assert [request.path for request in echo.seen[:6]] == list(routes)


@pytest.mark.anyio
async def test_headers_are_found_by_lower_case_name() -> None:
    echo = Echo()
    async with Served({"/e": echo}) as served:
        client = await served.connect()
        await client.ask(get("/e", "X-API-Key:  abc \t", "Accept: a", "ACCEPT: b"))
        (request,) = echo.seen
        assert request.head.header(b"x-api-key") == b"abc"
        assert request.head.header(b"nothing") is None
        assert request.headers[1:] == [(b"x-api-key", b"abc \t"), (b"accept", b"a"), (b"accept", b"b")]
        assert request.peer is not None
        assert request.peer[0] == "127.0.0.1"
        assert request.received_ns == served.clock.ns
        assert request.request_id == request.request_id
