"""A caller who hangs up, at every point of an answer, in order (FIN) and not (RST).

The provider sees the end within 250 ms, the call is settled once for what was produced, and nothing is
left open.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_provider_faults import unreachable
from tests.faults.worker import COUNTED, INPUT, MODELS, OUTPUT, Booked, Pulse, Worker, chat, worker
from tests.longform import note
from tests.upstream import (
    RESET,
    Peer,
    Received,
    ScriptedUpstream,
    Step,
    chat_frames,
    chat_json,
    chunk,
    http_head,
    stream_steps,
)

pytestmark = pytest.mark.anyio

SEEN_WITHIN_S = 0.25
FREE_WITHIN_S = 1.0
HUNG_UP = 499
SSE = [("content-type", "text/event-stream")]
TOKENS = ("one", " two", " three", " four", " five")
FRAMES = chat_frames(TOKENS)
PROMPT = COUNTED[MODELS[0]][0]
OF_A_CALL = {"Call", "Tab", "Delivery", "HttpSink", "HttpExchange", "CallRun", "CallerGone", "Incoming"}


class Caller:
    """A client that reads what it wants and then leaves."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._got = b""

    @classmethod
    async def asking(cls, gateway: Worker, body: bytes, path: str = "/v1/chat/completions") -> Caller:
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, gateway.address)
        await loop.sock_sendall(sock, gateway.request(body, path))
        return cls(sock)

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(10):
            while text not in self._got:
                data = await asyncio.get_running_loop().sock_recv(self._sock, 65536)
                assert data, self._got
                self._got += data

    def leave(self, how: str) -> None:
        """Close."""
        if how == "rst":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


async def assert_seen(upstream: ScriptedUpstream, caller: Caller, how: str) -> None:
    """Let the caller leave; see that its provider learns of it in time."""
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0)
    caller.leave(how)
    left = time.monotonic()
    peer = await upstream.closed(0)
    beating.cancel()
    assert peer.closed_s is not None
    note("the provider is let go after, in ms", 1000 * (peer.closed_s - left))
    assert peer.closed_s - left < SEEN_WITHIN_S + pulse.kept_s


async def turns(count: int) -> None:
    """Let the loop look at its sockets so many times: the gateway, which lives in it, has seen what they had."""
    for _ in range(count):
        await asyncio.sleep(0.001)


async def only(gateway: Worker) -> Booked:
    """The one call in the books."""
    await gateway.idle(FREE_WITHIN_S)
    (booked,) = (await gateway.books()).values()
    return booked


async def held(gateway: Worker) -> None:
    """Wait until a call holds money."""
    async with asyncio.timeout(5):
        while not gateway.held:
            await asyncio.sleep(0.001)


# What the provider sends before it waits, what of it the caller reads before it leaves, and the tokens in it.
POINTS: dict[str, tuple[list[Step], bytes, int]] = {
    "before the head": ([], b"", 0),
    "before the first event": ([http_head(200, SSE)], b"", 0),
    "before the first token": ([http_head(200, SSE), chunk(FRAMES[0])], b"", 0),
    **{
        f"after token {i}": ([http_head(200, SSE), *map(chunk, FRAMES[: i + 1])], token.encode(), i)
        for i, token in enumerate(TOKENS, 1)
    },
    "after the last token": ([http_head(200, SSE), *map(chunk, FRAMES[:-2])], b'"stop"', 5),
    "inside an event": ([http_head(200, SSE), chunk(b"".join(FRAMES[:4])[:-9])], b" two", 2),
}


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_hang_up_in_a_stream_ends_the_upstream_and_is_charged_for_what_came(
    point: str, how: str, tmp_path: Path
) -> None:
    steps, seen, tokens = POINTS[point]
    sent, forever = asyncio.Event(), asyncio.Event()

    async def answer(peer: Peer, request: Received) -> None:
        for step in steps:
            assert isinstance(step, bytes)
            await peer.send(step)
        sent.set()
        await peer.wait(forever)

    async with ScriptedUpstream(answer) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        caller = await Caller.asking(gateway, chat(stream=True))
        await asyncio.wait_for(sent.wait(), 10)
        await caller.until(seen)
        await assert_seen(upstream, caller, how)
        booked = await only(gateway)
        assert (booked.status, booked.input, booked.output) == (HUNG_UP, PROMPT, tokens)
        assert booked.estimated
        assert booked.charge == PROMPT * INPUT + tokens * OUTPUT


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def kept() -> Counter[str]:
    """What there is of calls in this process."""
    return Counter(name for each in gc.get_objects() if (name := type(each).__name__) in OF_A_CALL)


@pytest.mark.parametrize("end", ["left", "cut"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_nothing_of_a_call_that_broke_off_is_left_to_the_garbage_collector(
    stream: bool, end: str, tmp_path: Path
) -> None:
    """Which comes seldom in a server: until then each would keep its request, its answer and its frames."""
    part = http_head(200, SSE) + b"".join(map(chunk, FRAMES[:3])) if stream else chat_json()[:-40]
    async with (
        ScriptedUpstream([part, RESET] if end == "cut" else [part, asyncio.Event()]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        await gateway.warm()
        with uncollected():
            before = kept()
            for number in range(1, 4):
                caller = await Caller.asking(gateway, chat(stream=stream))
                await upstream.received(number)
                await caller.until(b'"error"' if end == "cut" else b" two" if stream else b"")
                caller.leave("rst")
                await gateway.idle()
            await turns(20)
            assert kept() == before


REASONED = chat_frames(TOKENS, reasoning_tokens=400)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("done", [False, True], ids=["open", "done"])
async def test_a_hang_up_after_the_text_costs_the_count_that_still_comes(
    how: str, done: bool, model: str, tmp_path: Path
) -> None:
    left, forever = asyncio.Event(), asyncio.Event()
    steps = [http_head(200, SSE), *map(chunk, REASONED[:-2]), left, chunk(REASONED[-2])]
    steps += [chunk(REASONED[-1]), chunk(b""), forever] if done else [forever]
    async with (
        ScriptedUpstream(steps) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        await gateway.warm()
        caller = await Caller.asking(gateway, chat(stream=True, model=model, max_tokens=1000))
        await caller.until(b'"stop"')
        if done:
            caller.leave(how)
            await turns(20)
            left.set()
        else:
            asyncio.get_running_loop().call_later(0.02, left.set)
            await assert_seen(upstream, caller, how)
        booked = await only(gateway)
        assert (booked.status, booked.input, booked.output) == (HUNG_UP, 19, 405)
        assert not booked.estimated
        assert booked.charge == 19 * INPUT + 405 * OUTPUT


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_hang_up_after_the_count_costs_the_count(how: str, tmp_path: Path) -> None:
    sent, forever = asyncio.Event(), asyncio.Event()

    async def answer(peer: Peer, request: Received) -> None:
        await peer.send(http_head(200, SSE) + b"".join(map(chunk, FRAMES[:-1])))
        sent.set()
        await peer.wait(forever)

    async with ScriptedUpstream(answer) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        caller = await Caller.asking(gateway, chat(stream=True, stream_options={"include_usage": True}))
        await sent.wait()
        await caller.until(b'"stop"')
        await assert_seen(upstream, caller, how)
        booked = await only(gateway)
        assert (booked.status, booked.input, booked.output) == (HUNG_UP, 19, 5)
        assert not booked.estimated


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("part", [0, 40, 400], ids=["before the head", "in the head", "in the body"])
async def test_a_hang_up_before_a_json_answer_costs_the_prompt(part: int, how: str, tmp_path: Path) -> None:
    steps: list[Step] = [chat_json()[:part], asyncio.Event()] if part else [asyncio.Event()]
    async with ScriptedUpstream(steps) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        caller = await Caller.asking(gateway, chat())
        await upstream.received(1)
        await assert_seen(upstream, caller, how)
        booked = await only(gateway)
        assert (booked.status, booked.charge, booked.estimated) == (HUNG_UP, PROMPT * INPUT, True)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("gap_s", [0.0, 0.002, 0.02])
async def test_a_hang_up_from_a_running_stream_costs_at_most_one_chunk_less(
    gap_s: float, how: str, tmp_path: Path
) -> None:
    emitted = 0

    async def answer(peer: Peer, request: Received) -> None:
        nonlocal emitted
        await peer.send(http_head(200, SSE) + chunk(FRAMES[0]))
        while peer.closed_s is None and emitted < 5_000:
            await peer.send(chunk(FRAMES[1].replace(b'"one"', b'" one"')))
            emitted += 1
            await asyncio.sleep(gap_s)

    async with ScriptedUpstream(answer) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        caller = await Caller.asking(gateway, chat(stream=True, max_tokens=16_000))
        await caller.until(b" one")
        await assert_seen(upstream, caller, how)
        booked = await only(gateway)
        assert booked.status == HUNG_UP
        in_flight = 2 if gap_s else 50  # a burst is taken off the socket in larger pieces
        assert emitted - in_flight <= booked.output <= emitted
        assert booked.charge == PROMPT * INPUT + booked.output * OUTPUT


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_hang_up_while_connecting_costs_nothing(how: str, tmp_path: Path) -> None:
    with unreachable("hang") as base_url:
        async with worker(tmp_path, base_url, short=True) as gateway:
            caller = await Caller.asking(gateway, chat())
            await held(gateway)
            caller.leave(how)
            await gateway.idle(FREE_WITHIN_S)
            assert await gateway.books() == {}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_provider_that_bills_anyway_is_read_to_its_end(
    how: str, stream: bool, tmp_path: Path
) -> None:
    go_on = asyncio.Event()
    whole = stream_steps(FRAMES) if stream else [chat_json()[:100], chat_json()[100:]]
    steps: list[Step] = [*whole[:3], go_on, *whole[3:]] if stream else [whole[0], go_on, whole[1]]
    async with (
        ScriptedUpstream(steps, chat_json()) as upstream,
        worker(tmp_path, upstream.base_url, hangup="drain") as gateway,
    ):
        caller = await Caller.asking(gateway, chat(stream=stream, model=MODELS[1]))
        if stream:
            await caller.until(b"one")
        await upstream.received(1)
        caller.leave(how)
        await asyncio.sleep(0.01)
        go_on.set()
        booked = await only(gateway)
        assert (booked.input, booked.output, booked.estimated) == (19, 5 if stream else 3, False)
        assert booked.charge == 19 * INPUT + booked.output * OUTPUT
        assert upstream.open == 1  # and its connection is used again
        assert (await gateway.ask(chat(model=MODELS[1]))).status == 200
        assert len(upstream.connections) == 1


def text_chunk(text: str) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
    return chunk(
        b"data: "
        + json.dumps({"id": "c", "object": "text_completion", "choices": [choice]}).encode()
        + b"\n\n"
    )


# Of the other routes: what is asked, what the provider sends before it waits, and the tokens in it.
ROUTES: dict[str, tuple[str, dict[str, Any], list[bytes], int]] = {
    "a completion, before its head": ("completions", {"prompt": "Say hello", "stream": True}, [], 0),
    "a completion, after two tokens": (
        "completions",
        {"prompt": "Say hello", "stream": True},
        [http_head(200, SSE), text_chunk("one"), text_chunk(" two")],
        2,
    ),
    "a whole completion": ("completions", {"prompt": "Say hello"}, [http_head(200, length=99), b'{"id":'], 0),
    "embeddings, before their head": ("embeddings", {"input": ["Say hello", "x"]}, [], 0),
    "embeddings, in their body": (
        "embeddings",
        {"input": "Say hello"},
        [http_head(200, length=99), b'{"data":'],
        0,
    ),
}


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("route", ROUTES)
async def test_a_hang_up_on_the_other_routes_is_seen_and_charged_alike(
    route: str, how: str, tmp_path: Path
) -> None:
    path, asked, steps, tokens = ROUTES[route]
    body = json.dumps({"model": MODELS[0], **asked}).encode()
    async with (
        ScriptedUpstream([*steps, asyncio.Event()]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        await gateway.warm()
        caller = await Caller.asking(gateway, body, f"/v1/{path}")
        await upstream.received(1)
        if tokens:
            await caller.until(b" two")
        await assert_seen(upstream, caller, how)
        booked = await only(gateway)
        assert (booked.status, booked.output, booked.estimated) == (HUNG_UP, tokens, True)
        assert booked.input > 0
        assert booked.charge == booked.input * INPUT + tokens * OUTPUT
