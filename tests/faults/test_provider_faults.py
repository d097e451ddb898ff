"""Every fault of a provider, as JSON and as a stream, through a whole worker.

Whatever the provider does: the request ends in time, with an error in OpenAI's shape and never our own
500; a stream that has begun ends with an error event and no `[DONE]`; the books have the call once, with
the right charge; and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.faults.worker import (
    COUNTED,
    GRACE_S,
    INPUT,
    LONG,
    MODELS,
    OUTPUT,
    TOTAL_S,
    Reply,
    Worker,
    chat,
    worker,
)
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
    stream_steps,
)

pytestmark = pytest.mark.anyio

JSON = [("content-type", "application/json")]
SSE = [("content-type", "text/event-stream")]
FRAMES = chat_frames()
BODY = chat_json().partition(b"\r\n\r\n")[2]
ERROR = {"message": "boom", "type": "server_error", "param": None, "code": None}
EVENT = b"data: " + json.dumps({"error": ERROR}).encode() + b"\n\n"
OK = b"HTTP/1.1 200 OK\r\n"
INTERRUPTED, TIMEOUT = (502, "upstream_interrupted"), (504, "upstream_timeout")


@dataclass(frozen=True, slots=True)
class Fault:
    """What the provider does, and what the caller must see of it.

    `json` and `stream` are (status, code) of the error answer; for a stream that has begun the status is
    200 and the code is that of the event, after its first token.
    """

    steps: Callable[[bool], list[Step]]
    json: tuple[int, str | None] = INTERRUPTED
    stream: tuple[int, str | None] = INTERRUPTED
    waits: bool = False  # for a deadline, although the answer does not say so
    again: bool = True  # another attempt at the same target may help

    @property
    def short(self) -> bool:
        """Does it end by a deadline?"""
        return self.waits or self.json == TIMEOUT


def head(stream: bool) -> bytes:
    return http_head(200, SSE if stream else JSON)


def begun(stream: bool) -> bytes:
    """A head and a part of its body; of a stream: one token."""
    if stream:
        return head(True) + chunk(FRAMES[0]) + chunk(FRAMES[1])
    return http_head(200, JSON, len(BODY)) + BODY[:100]


def whole(body: bytes, stream: bool) -> bytes:
    """A complete answer with this body."""
    return head(stream) + chunk(body) + chunk(b"")


def packed(stream: bool, data: bytes) -> bytes:
    coding = [*(SSE if stream else JSON), ("content-encoding", "gzip")]
    return http_head(200, coding) + chunk(data) + chunk(b"")


def after_one_token(stream: bool, tail: bytes) -> list[Step]:
    """A stream that goes wrong after its first token; as JSON: the same bytes instead of JSON."""
    if stream:
        return [begun(True), chunk(tail), chunk(b"")]
    return [whole(tail, False)]


def refusing(status: int, **more: Any) -> Callable[[bool], list[Step]]:
    return lambda s: [error_json(status, "scripted refusal", **more)]


BROKEN = (200, "upstream_interrupted")
SILENT = (200, "upstream_timeout")
CONTENT = FRAMES[1].replace(b'"Hello"', b"%b")

FAULTS: dict[str, Fault] = {
    "reset before the head": Fault(lambda s: [RESET]),
    "end before the head": Fault(lambda s: [FIN]),
    "reset in the head": Fault(lambda s: [OK + b"Content-Ty", RESET]),
    "reset after the head": Fault(lambda s: [head(s), RESET]),
    "end after the head": Fault(lambda s: [head(s), FIN]),
    "end in mid-answer": Fault(lambda s: [begun(s), FIN], stream=BROKEN),
    "an ordered end without [DONE]": Fault(
        lambda s: [begun(s), chunk(b"")] if s else [whole(BODY[:100], s)], stream=BROKEN
    ),
    "an end by closing without [DONE]": Fault(
        lambda s: (
            [OK + b"Content-Type: text/event-stream\r\n\r\n" + FRAMES[0] + FRAMES[1], FIN]
            if s
            else [OK + b"\r\n" + BODY[:100], FIN]
        ),
        stream=BROKEN,
    ),
    "silence before the head": Fault(lambda s: [HANG], TIMEOUT, TIMEOUT),
    "silence after the head": Fault(lambda s: [head(s), HANG], TIMEOUT, TIMEOUT),
    "silence in mid-answer": Fault(lambda s: [begun(s), HANG], TIMEOUT, SILENT),
    "a byte each second": Fault(lambda s: [Drip(begun(s) + b"x" * 9, 1.0)], TIMEOUT, TIMEOUT),
    "a drip that is never silent": Fault(
        lambda s: [head(s), Drip(b"1\r\n \r\n" * 99, 0.05)], TIMEOUT, TIMEOUT
    ),
    "comments without end": Fault(
        lambda s: [begun(s), *[Split(chunk(b": keep-alive\n\n"), every=3)] * 3, HANG], TIMEOUT, SILENT
    ),
    "HTML": Fault(
        lambda s: [http_answer(b"<html><h1>Welcome</h1></html>", 200, [("content-type", "text/html")])]
    ),
    "an empty body": Fault(lambda s: [http_answer(b"", 200, JSON)]),
    "no content": Fault(lambda s: [b"HTTP/1.1 204 No Content\r\n\r\n"]),
    "truncated JSON": Fault(lambda s: after_one_token(s, FRAMES[2][:-30] + b"\n\n"), stream=BROKEN),
    "JSON of another kind": Fault(lambda s: after_one_token(s, b"data: [1, 2]\n\n"), stream=BROKEN),
    "JSON with wrong types": Fault(
        lambda s: after_one_token(s, b'data: {"choices":[{"delta":"x","message":7}]}\n\n'),
        stream=BROKEN,
    ),
    "JSON without choices": Fault(lambda s: [whole(b'{"id":"x"}', s)]),
    "text that is not UTF-8": Fault(
        lambda s: (
            after_one_token(s, CONTENT % b'"\xff\xfe"')
            if s
            else [whole(BODY.replace(b"Hello", b"\xff\xfe"), s)]
        ),
        stream=BROKEN,
    ),
    "half of a surrogate pair": Fault(
        lambda s: (
            after_one_token(s, CONTENT % b'"\\ud83d"')
            if s
            else [whole(BODY.replace(b"Hello", b"\\ud83d"), s)]
        ),
        stream=BROKEN,
    ),
    "JSON of a depth beyond measure": Fault(
        lambda s: (
            after_one_token(s, b'data: {"x":' + b"[" * 9000 + b"]" * 9000 + b"}\n\n")
            if s
            else [whole(b'{"error":' + b"[" * 9000 + b"]" * 9000 + b"}", s)]
        ),
        stream=BROKEN,
    ),
    "an event that is no event": Fault(
        lambda s: after_one_token(s, b"\x00\x01nonsense\n\nid\ndata\n\nretry: soon\n\n"), stream=BROKEN
    ),
    "an event without an end": Fault(
        lambda s: (
            [begun(True), *[chunk(b"data: {" + b"x" * 60_000)] * 20, HANG]
            if s
            else [http_head(200, JSON, 200 << 20), HANG]
        ),
        stream=BROKEN,
    ),
    "an error as the first event": Fault(
        lambda s: [whole(EVENT if s else EVENT[6:], s)], (502, None), (500, None)
    ),
    "an error event in mid-stream": Fault(
        lambda s: after_one_token(s, EVENT) if s else [whole(EVENT[6:], s)], (502, None), (200, None)
    ),
    "a length that is too short": Fault(lambda s: [http_head(200, JSON, 50) + BODY, HANG]),
    "a length that is too long": Fault(lambda s: [http_head(200, JSON, 9999) + BODY, FIN]),
    "length beside chunked": Fault(
        lambda s: [OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
    ),
    "a bad chunk size": Fault(
        lambda s: [begun(True), b"xyz\r\n"] if s else [head(s) + b"-5\r\nabc\r\n"], stream=BROKEN
    ),
    "truncated gzip": Fault(lambda s: [packed(s, gzip.compress(BODY * 9)[:-9])]),
    "a gzip bomb": Fault(lambda s: [packed(s, gzip.compress(bytes(30_000_000)))]),
    "a body of 200 MB": Fault(lambda s: [http_head(200, JSON, 200 << 20), HANG]),
    "a head of 70 KB": Fault(lambda s: [OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n", HANG]),
    "10,000 headers": Fault(lambda s: [OK + b"X: a\r\n" * 10_000 + b"\r\n", HANG]),
    "a flood of interim answers": Fault(lambda s: [b"HTTP/1.1 103 Hints\r\n\r\n" * 500]),
    "another protocol": Fault(lambda s: [b"SSH-2.0-OpenSSH_9.2p1\r\n"]),
    "a redirect": Fault(
        lambda s: [http_answer(b"", 302, [("location", "http://169.254.169.254/secret")])], again=False
    ),
    "400": Fault(refusing(400, code="odd"), (400, "odd"), (400, "odd")),
    "401": Fault(refusing(401), (502, "provider_denied"), (502, "provider_denied")),
    "402": Fault(refusing(402), (502, "provider_denied"), (502, "provider_denied")),
    "403": Fault(refusing(403), (502, "provider_denied"), (502, "provider_denied")),
    "429": Fault(refusing(429), (429, "rate_limit_exceeded"), (429, "rate_limit_exceeded")),
    "500": Fault(refusing(500), (500, None), (500, None)),
    "502": Fault(refusing(502), (502, None), (502, None)),
    "503": Fault(refusing(503), (503, "server_is_overloaded"), (503, "server_is_overloaded")),
    "504": Fault(refusing(504), (504, None), (504, None)),
    "529": Fault(refusing(529), (503, "server_is_overloaded"), (503, "server_is_overloaded")),
    "500 with HTML that is not UTF-8": Fault(
        lambda s: [http_answer(b"<h1>\xff\xfe</h1>", 500)], (500, None), (500, None)
    ),
    "500 whose message is not UTF-8": Fault(
        lambda s: [http_answer(b'{"error":{"message":"\xff"}}', 500, JSON)], (500, None), (500, None)
    ),
    "500 with a depth beyond measure": Fault(
        lambda s: [http_answer(b'{"error":' + b"[" * 9000, 500, JSON)], (500, None), (500, None)
    ),
    "500 whose body never ends": Fault(
        lambda s: [http_head(500, JSON) + chunk(b'{"e'), HANG], (500, None), (500, None), waits=True
    ),
    "500 whose body breaks off": Fault(
        lambda s: [http_head(500, JSON) + chunk(b'{"e'), RESET], (500, None), (500, None)
    ),
}


def assert_error(error: Any) -> None:
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["code"] != "internal_error"
    assert "canary" not in error["message"]
    assert "secret" not in error["message"]


def assert_fails(reply: Reply, status: int, code: str | None) -> None:
    """See that an answer is the error, as a body or as the last event of a stream."""
    assert reply.whole
    deadline_s = TOTAL_S if code == TIMEOUT[1] else LONG["total_s"]
    assert reply.took_s < deadline_s + GRACE_S
    assert re.fullmatch("req_[0-9a-f]{32}", reply.request_id)
    assert reply.status == status, reply.body
    if status != 200:
        assert reply.headers["content-type"] == "application/json"
        body = json.loads(reply.body)
        assert list(body) == ["error"]
    else:
        *rest, last = reply.events
        assert b"[DONE]" not in rest
        assert last != b"[DONE]"
        assert all("choices" in json.loads(event) for event in rest)
        body = json.loads(last)
    assert_error(body["error"])
    assert body["error"]["code"] == code


async def assert_charged(gateway: Worker, reply: Reply, model: str) -> None:
    """Nothing, or what was produced when a stream broke off."""
    booked = await gateway.booked(reply)
    assert booked is not None
    if reply.status != 200:
        assert (booked.charge, booked.input, booked.output) == (0, 0, 0)
        assert booked.status == reply.status
        return
    assert booked.estimated
    assert booked.status >= 500
    assert (booked.input, booked.output) == COUNTED[model]
    assert booked.charge == booked.input * INPUT + booked.output * OUTPUT


@pytest.mark.parametrize(
    ("stream", "model"),
    [(False, MODELS[0]), (True, MODELS[0]), (True, MODELS[1])],
    ids=["json", "stream", "compatible stream"],
)
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_ends_in_an_error_of_the_api_and_the_right_charge(
    name: str, stream: bool, model: str, tmp_path: Path
) -> None:
    fault = FAULTS[name]
    async with (
        ScriptedUpstream(fault.steps(stream), chat_json()) as upstream,
        worker(tmp_path, upstream.base_url, short=fault.short) as gateway,
    ):
        await gateway.warm()
        reply = await gateway.ask(chat(stream=stream, model=model))
        assert_fails(reply, *(fault.stream if stream else fault.json))
        await assert_charged(gateway, reply, model)
        assert len(upstream.requests) == 1
        served = await gateway.ask(chat(model=model))  # and nothing is wrong with the next call
        assert served.status == 200
        assert len(await gateway.books()) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, fault in FAULTS.items()
        if fault.json[0] >= 500 and fault.json[1] != "provider_denied" and fault.again and not fault.short
    ],
)
async def test_a_fault_before_the_first_byte_is_mended_by_the_next_attempt(
    name: str, stream: bool, tmp_path: Path
) -> None:
    fault = FAULTS[name]
    good = chat_stream() if stream else chat_json()
    async with (
        ScriptedUpstream(fault.steps(stream), good) as upstream,
        worker(tmp_path, upstream.base_url, more="\n[retries]\nbase_s = 0.01\n") as gateway,
    ):
        reply = await gateway.ask(chat(stream=stream))
        if stream and fault.stream[0] == 200:  # its first token was shown
            assert_fails(reply, *fault.stream)
            assert len(upstream.requests) == 1
            return
        assert reply.status == 200, reply.body
        assert reply.whole
        assert reply.headers["x-headgate-attempts"] == "2"
        assert len(upstream.requests) == 2
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.charge, booked.estimated) == (booked.input * INPUT + booked.output * OUTPUT, False)
        assert len(await gateway.books()) == 1


async def test_a_pause_on_a_kept_connection_ends_in_the_next_attempt(tmp_path: Path) -> None:
    failing = [error_json(500)]
    async with (
        ScriptedUpstream(chat_json(), failing, chat_json()) as upstream,
        worker(tmp_path, upstream.base_url, more="\n[retries]\nbase_s = 0.1\n") as gateway,
    ):
        assert (await gateway.ask(chat())).status == 200
        again = await gateway.ask(chat())
        assert (again.status, again.headers["x-headgate-attempts"]) == (200, "2")


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_reset_in_mid_answer_is_charged_for_what_had_arrived(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([begun(stream), RESET]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        reply = await gateway.ask(chat(stream=stream))
        # A reset may overtake what was sent before it.
        assert_fails(reply, reply.status, "upstream_interrupted")
        assert reply.status in ({200, 502} if stream else {502})
        await assert_charged(gateway, reply, MODELS[0])


@contextlib.contextmanager
def unreachable(how: str) -> Iterator[str]:
    """A base URL where no exchange can begin."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        if how == "hang":
            listener.listen(0)
            for _ in range(4):
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
        yield {
            "refused": f"http://{host}/v1",
            "hang": f"http://{host}/v1",
            "no such name": "http://nobody.invalid/v1",
            "link-local": "http://169.254.169.254/v1",
        }[how]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("how", ["refused", "hang", "no such name", "link-local"])
async def test_a_provider_that_cannot_be_reached_costs_nothing(
    how: str, stream: bool, tmp_path: Path
) -> None:
    with unreachable(how) as base_url:
        async with worker(tmp_path, base_url, short=how in {"hang", "no such name"}) as gateway:
            reply = await gateway.ask(chat(stream=stream))
            silent = reply.status == 504 and how in {"hang", "no such name"}  # a resolver may hang
            assert_fails(reply, *(TIMEOUT if silent else INTERRUPTED))
            assert how != "hang" or silent
            assert await gateway.booked(reply) is None  # nothing was sent


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_tls_that_fails_costs_nothing(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as upstream,
        worker(tmp_path, upstream.base_url.replace("http:", "https:")) as gateway,
    ):
        reply = await gateway.ask(chat(stream=stream))
        assert_fails(reply, *INTERRUPTED)
        assert await gateway.booked(reply) is None


WAITS = {
    "2": ("2", "2000"), "0.5": ("1", "500"), "0": ("1", "1"), "-1": None, "1e9": None, "nan": None, "inf": None,
    "soon": None, "": None, "Sat, 01 Jan 2000 00:00:09 GMT": ("9", "9000"), "Fri, 31 Dec 1999 23:59:59 GMT": None,
    "Mon, 01 Jan 2024 00:00:00 +99999999999999999999": None, "Mon, 01 Jan 9999999999999999999999 00:00:00 GMT": None,
}  # fmt: skip


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_providers_wait_is_passed_on_when_it_makes_sense(
    status: int, wait: str, tmp_path: Path
) -> None:
    headers = [("retry-after", wait), ("date", "Sat, 01 Jan 2000 00:00:00 GMT")]
    async with (
        ScriptedUpstream(error_json(status, headers=headers)) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        reply = await gateway.ask(chat())
        assert_fails(reply, status, "rate_limit_exceeded" if status == 429 else "server_is_overloaded")
        said = reply.headers.get("retry-after"), reply.headers.get("retry-after-ms")
        assert said == (WAITS[wait] or (None, None))
        await assert_charged(gateway, reply, MODELS[0])


TAILS = {
    "[DONE] twice": chunk(FRAMES[-1]) * 2 + chunk(b""),
    "data after [DONE]": chunk(FRAMES[-1] + FRAMES[1]) + chunk(FRAMES[1]) + chunk(b""),
    "an error after [DONE]": chunk(FRAMES[-1]) + chunk(EVENT) + chunk(b""),
    "broken framing after [DONE]": chunk(FRAMES[-1]) + b"zzz\r\n",
    "an answer to nobody": chunk(FRAMES[-1]) + chunk(b"") + chat_json(),
    "no end after [DONE]": chunk(FRAMES[-1]),
}


@pytest.mark.parametrize("tail", TAILS)
async def test_what_follows_done_changes_nothing(tail: str, tmp_path: Path) -> None:
    steps: list[Step] = [*stream_steps(FRAMES[:-1])[:-1], TAILS[tail]]
    async with (
        ScriptedUpstream(steps, chat_json()) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        reply = await gateway.ask(chat(stream=True))
        assert reply.whole
        assert reply.events[-1] == b"[DONE]"
        assert reply.events.count(b"[DONE]") == 1
        assert len(reply.events) == len(FRAMES) - 1  # without the count that was not asked for
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.status, booked.charge, booked.estimated) == (200, 19 * INPUT + 3 * OUTPUT, False)
        assert (await gateway.ask(chat())).status == 200


async def test_a_stream_of_the_sdk_that_breaks_off_raises(tmp_path: Path) -> None:
    import openai

    async with (
        ScriptedUpstream([begun(True), FIN]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0)
        seen: list[str | None] = []

        async def read() -> None:
            async for part in await client.chat.completions.create(
                model=MODELS[0], messages=[{"role": "user", "content": "Say hello"}], stream=True
            ):
                seen.append(part.choices[0].delta.content)

        with pytest.raises(openai.APIError) as caught:
            await read()
        await client.close()
        assert seen == ["", "Hello"]
        assert caught.value.code == "upstream_interrupted"
