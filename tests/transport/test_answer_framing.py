from __future__ import annotations

import itertools
import zlib

import pytest
from tests.upstream import chat_frames, chat_json, chat_stream, chunk, http_answer, http_head

from headgate.transport.faults import Malformed
from headgate.transport.framing import Answer, Bounds

BOUNDS = Bounds(body_bytes=100_000)
OK = b"HTTP/1.1 200 OK\r\n"


def fed(*pieces: bytes) -> Answer:
    answer = Answer(BOUNDS)
    for piece in pieces:
        answer.feed(piece)
    return answer


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def malformed(*pieces: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        fed(*pieces).end()
    return str(caught.value)


ANSWERS = {
    "json": (chat_json(), None),
    "stream": (chat_stream(), b"".join(chat_frames())),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + chat_json(), None),
    "trailers": (http_head(200) + chunk(b"abc") + b"0\r\nX-T: 1\r\nX-U: 2\r\n\r\n", b"abc"),
    "extensions": (http_head(200) + b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n', b"abc"),
    "gzip": (http_answer(gzipped(b"x" * 99), headers=[("Content-Encoding", "gzip")]), b"x" * 99),
    "deflate": (http_answer(zlib.compress(b"yz"), headers=[("content-encoding", "deflate")]), b"yz"),
    "empty": (http_answer(b""), b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x"),
    "error": (http_answer(b"{}", 429, [("retry-after", "2")]), b"{}"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_the_same_cut_at_every_byte(name: str) -> None:
    data, body = ANSWERS[name]
    whole = fed(data)
    assert whole.complete
    assert whole.reusable
    head, expected = whole.head, whole.take()
    assert body is None or expected == body
    for cut in range(1, len(data)):
        answer = fed(data[:cut], data[cut:])
        assert answer.complete
        assert answer.head == head
        assert answer.take() == expected
        assert answer.reusable
    answer = fed(*(data[i : i + 1] for i in range(len(data))))
    assert answer.complete
    assert answer.head == head
    assert answer.take() == expected
    assert answer.reusable


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_cut_short_is_refused_at_every_byte(name: str) -> None:
    data, _ = ANSWERS[name]
    for cut in range(len(data)):
        answer = fed(data[:cut])
        assert not answer.complete
        with pytest.raises(Malformed):
            answer.end()


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\n", chat_json("theirs"), b"\x00", b" "])
def test_bytes_after_the_end_spoil_the_connection_and_are_not_given_out(name: str, surplus: bytes) -> None:
    data, _ = ANSWERS[name]
    expected = fed(data)
    for cut in (0, len(data) // 2, len(data) - 1, len(data)):
        answer = fed(data[:cut], data[cut:] + surplus) if cut else fed(data + surplus)
        assert answer.complete
        assert not answer.reusable
        assert answer.head == expected.head
        assert answer.take() == fed(data).take()
    later = fed(data, surplus)
    assert not later.reusable


@pytest.mark.parametrize("name", ["json", "stream", "empty"])
def test_empty_lines_after_the_end_are_surplus_too(name: str) -> None:
    data, _ = ANSWERS[name]
    assert not fed(data + b"\r\n").reusable


def test_a_length_that_is_too_long_is_refused_when_the_connection_ends() -> None:
    assert "mid-answer" in malformed(http_head(200, length=10) + b"12345")


@pytest.mark.parametrize(
    "head",
    [
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        OK + b"Content-Length: 3, 3\r\n\r\nabc",
        OK + b"Content-Length: -3\r\n\r\nabc",
        OK + b"Content-Length: +3\r\n\r\nabc",
        OK + b"Content-Length: 0x3\r\n\r\nabc",
        OK + b"Content-Length: 3 3\r\n\r\nabc",
        OK + b"Content-Length:\r\n\r\nabc",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, identity\r\n\r\nabc",
        OK + b"Transfer-Encoding: xchunked\r\n\r\nabc",
        OK + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
        OK + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
        OK + b": a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"\r\n\r\n" + chat_json(),
        b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + chat_json(),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>not HTTP at all</html>",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_broken_framing_is_refused(head: bytes) -> None:
    assert malformed(head)
    assert malformed(*(head[i : i + 1] for i in range(len(head))))


def test_a_head_and_its_headers_are_bounded() -> None:
    long = OK + b"X: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n"
    many = OK + b"X: a\r\n" * 10_000 + b"Content-Length: 0\r\n\r\n"
    some = OK + b"X: a\r\n" * 201 + b"Content-Length: 0\r\n\r\n"
    endless = itertools.repeat(b"a" * 1000)
    assert "head is longer" in malformed(long)
    assert "headers" in malformed(many)
    assert "headers" in malformed(some)
    assert "too long" in malformed(OK + b"X: ", *itertools.islice(endless, 100))
    assert fed(OK + b"X: a\r\n" * 199 + b"Content-Length: 0\r\n\r\n").complete


def test_trailers_and_chunk_extensions_are_bounded() -> None:
    begun = http_head(200) + chunk(b"abc")
    endless = (b"a" * 1000 for _ in range(100))
    assert "too long" in malformed(begun + b"0\r\nX: ", *endless)
    assert "too long" in malformed(begun + b"0\r\n", *(b"X: a\r\n" * 500 for _ in range(100)))
    assert "too long" in malformed(begun + b"3;x=", *(b"a" * 1000 for _ in range(100)))


def test_interim_answers_are_skipped_and_bounded() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    answer = fed(interim * 10 + chat_json())
    assert answer.head is not None
    assert answer.head.status == 200
    assert "without end" in malformed(interim * 11 + chat_json())


def test_a_body_without_framing_ends_with_the_connection_and_is_not_pooled() -> None:
    answer = fed(OK + b"Content-Type: application/json\r\n\r\n", b'{"a":', b"1}")
    assert not answer.complete
    answer.end()
    assert answer.complete
    assert not answer.reusable
    assert answer.take() == b'{"a":1}'


@pytest.mark.parametrize(
    "head",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
        OK + b"Connection: foo, Close\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_a_connection_that_will_close_is_not_reusable(head: bytes) -> None:
    answer = fed(head + b"ab")
    assert answer.complete
    assert not answer.reusable


def test_a_body_is_bounded_unless_it_is_a_stream() -> None:
    assert "longer than" in malformed(http_head(200, length=200_000_000))
    assert "longer than" in malformed(http_head(200), *(chunk(b"a" * 10_000) for _ in range(11)))
    stream = http_head(200, [("content-type", "text/event-stream")])
    answer = fed(stream, *(chunk(b"a" * 10_000) for _ in range(50)), chunk(b""))
    assert answer.complete


def test_compressed_answers_are_decoded_and_the_head_says_so() -> None:
    answer = fed(ANSWERS["gzip"][0])
    assert answer.head is not None
    assert answer.head.get(b"content-encoding") is None
    assert answer.head.get(b"content-length") is None


def test_a_compressed_stream_is_decoded_as_it_comes() -> None:
    packer = zlib.compressobj(wbits=31)
    answer = fed(http_head(200, [("content-type", "text/event-stream"), ("content-encoding", "gzip")]))
    for frame in chat_frames():
        answer.feed(chunk(packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH)))
        assert answer.take() == frame


def bombs() -> list[bytes]:
    zeros = zlib.compressobj(9, wbits=31)
    bomb = zeros.compress(b"\0" * 50_000_000) + zeros.flush()
    text = gzipped(b"some text that will be cut" * 100)
    return [
        bomb,
        text[:-9],
        text[:-1],
        text + b"more",
        text + text,
        b"not gzip at all",
        text[:40] + text[50:],
    ]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("chunked", [False, True])
def test_a_bomb_and_broken_compression_are_refused(number: int, chunked: bool) -> None:
    data = bombs()[number]
    headers = [("content-type", "application/json"), ("content-encoding", "gzip")]
    bounds = Bounds()
    answer = Answer(bounds)
    wire = (
        http_head(200, headers) + chunk(data) + chunk(b"")
        if chunked
        else http_head(200, headers, len(data)) + data
    )
    with pytest.raises(Malformed, match="compressed"):
        answer.feed(wire)
    assert answer.unread <= 5_100_000


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "x-unknown"])
def test_other_content_codings_are_refused(coding: str) -> None:
    assert "content coding" in malformed(http_answer(b"{}", headers=[("content-encoding", coding)]))


def test_a_reason_quotes_no_byte_of_the_answer() -> None:
    secret = b"sk-proj-canary"
    for data in (
        OK + b"X\x00" + secret + b": 1\r\n\r\n",
        secret,
        OK + b"Content-Length: " + secret + b"\r\n\r\n",
        http_head(200) + secret,
    ):
        assert "canary" not in malformed(data)
