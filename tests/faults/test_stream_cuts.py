"""An answer cut or split at every byte of its wire.

Cut: the caller gets the whole events that came, then an error event (or an error answer when there were
none), and pays for the prompt and those. Split: nothing changes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.faults.conftest import RUNS
from tests.faults.worker import COUNTED, INPUT, MODELS, OUTPUT, Booked, Reply, Worker, chat, worker
from tests.upstream import (
    Peer,
    Received,
    ScriptedUpstream,
    chat_frames,
    chat_json,
    stream_steps,
)

pytestmark = pytest.mark.anyio

AT_ONCE = 25
TOKENS = ("Hello", "\u2028\u0085", " 世界")
EXACT = 19 * INPUT + len(TOKENS) * OUTPUT
CLOSED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def unframed(frames: list[bytes]) -> bytes:
    """A stream that ends where its connection does."""
    return CLOSED + b"".join(frames)


def odd(frames: list[bytes]) -> list[bytes]:
    """The same frames with every liberty that the format allows."""
    liberties = [
        lambda frame: b"\xef\xbb\xbf" + frame,
        lambda frame: b": ping\r\n\r\n" + frame.replace(b"\n", b"\r\n"),
        lambda frame: frame.replace(b"data: ", b"event: chunk\nid: 7\ndata:").replace(b"\n", b"\r"),
        lambda frame: frame.replace(b', "object"', b',\ndata:  "object"'),
    ]
    return [liberties[i % len(liberties)](frame) for i, frame in enumerate(frames)]


FRAMES = chat_frames(TOKENS)
WIRES = {
    "chunked": b"".join(step for step in stream_steps(FRAMES) if isinstance(step, bytes)),
    "until it closes": unframed(FRAMES),
    "odd": b"".join(step for step in stream_steps(odd(FRAMES)) if isinstance(step, bytes)),
}


class Cutter:
    """Answer request `seed` with the wire up to that byte, then close; or with the whole in two pieces."""

    def __init__(self, wire: bytes, *, close: bool) -> None:
        self._wire = wire
        self._close = close

    async def __call__(self, peer: Peer, request: Received) -> None:
        at = request.json()["seed"]
        await peer.send(self._wire[:at])
        if not self._close:
            await asyncio.sleep(0.001)
            await peer.send(self._wire[at:])
        if self._close or self._wire.startswith(CLOSED):
            peer.fin()


def places(cuts: range, model: str) -> Sequence[int]:
    """Return those of a model: all in the long form, else every other byte for each of the two, and the ends."""
    return [at for at in cuts if RUNS > 1 or at % 2 == MODELS.index(model) or at in {cuts[0], cuts[-1]}]


async def replies(
    gateway: Worker, cuts: Sequence[int], *, stream: bool, model: str
) -> list[tuple[int, Reply]]:
    await gateway.warm()
    found: list[Reply] = []
    for start in range(0, len(cuts), AT_ONCE):
        some = cuts[start : start + AT_ONCE]
        found += await asyncio.gather(
            *(gateway.ask(chat(stream=stream, model=model, seed=at)) for at in some)
        )
    return list(zip(cuts, found, strict=True))


def contents(events: list[bytes]) -> list[str]:
    """The text of each chunk, and the end of each choice."""
    chunks = [json.loads(event)["choices"][0] for event in events]
    return [chunk["delta"].get("content", chunk["finish_reason"]) for chunk in chunks]


ALL = ["", *TOKENS, "stop"]


def assert_cut(reply: Reply, booked: Booked | None, model: str, at: int) -> bool:
    """See that a cut answer says and costs what was whole of it; return whether it was complete."""
    assert reply.whole, at
    prompt, _ = COUNTED[model]
    assert booked is not None, (at, reply.body)
    if reply.status != 200:
        assert reply.status == 502, at
        assert json.loads(reply.body)["error"]["code"] == "upstream_interrupted"
        assert booked.charge == 0
        return False
    *events, last = reply.events
    assert contents(events) == ALL[: len(events)]
    if last == b"[DONE]":
        assert contents(events) == ALL
        return True
    assert json.loads(last)["error"]["code"] == "upstream_interrupted"
    if not booked.estimated:  # the count had come, and is as good as ever
        assert booked.charge == EXACT
        return False
    assert booked.input == prompt
    assert booked.charge == prompt * INPUT + booked.output * OUTPUT
    # What came without its final line end is charged and not shown: at most one event.
    assert TOKENS_OF[model][len(events)] <= booked.output <= TOKENS_OF[model][len(events) + 1]
    return False


# The tokens in the first k events, counted exactly, and estimated.
TOKENS_OF = {MODELS[0]: [0, 0, 1, 4, 5, 5, 5], MODELS[1]: [0, 0, 2, 3, 5, 5, 5]}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_cut_at_any_byte_says_and_costs_what_was_whole(
    wire: str, model: str, tmp_path: Path
) -> None:
    data = WIRES[wire]
    cuts = places(range(len(data) + 1), model)
    async with (
        ScriptedUpstream(Cutter(data, close=True)) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        answered = await replies(gateway, cuts, stream=True, model=model)
        books = await gateway.books()
        complete = [at for at, reply in answered if assert_cut(reply, books.get(reply.request_id), model, at)]
        assert len(books) == len(cuts)
        assert complete[-1] == len(data)
        if wire != "until it closes":  # where a compatible host may also end without [DONE], between events
            assert complete == [at for at in cuts if at >= complete[0]]


@pytest.mark.parametrize("framed", [True, False], ids=["sized", "until it closes"])
async def test_json_cut_at_any_byte_is_an_error_that_costs_nothing(framed: bool, tmp_path: Path) -> None:
    wire = chat_json()
    if not framed:
        wire = b"HTTP/1.1 200 OK\r\n\r\n" + wire.partition(b"\r\n\r\n")[2]
    cuts = range(len(wire))
    async with (
        ScriptedUpstream(Cutter(wire, close=True)) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        for at, reply in await replies(gateway, cuts, stream=False, model=MODELS[0]):
            assert reply.status == 502, at
            assert json.loads(reply.body)["error"]["code"] == "upstream_interrupted"
        books = await gateway.books()
        assert len(books) == len(cuts)
        assert {row.charge for row in books.values()} == {0}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_split_at_any_byte_is_the_same(wire: str, model: str, tmp_path: Path) -> None:
    data = WIRES[wire]
    cuts = places(range(1, len(data)), model)
    async with (
        ScriptedUpstream(Cutter(data, close=False)) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        for at, reply in await replies(gateway, cuts, stream=True, model=model):
            assert reply.whole, at
            *events, last = reply.events
            assert last == b"[DONE]", at
            assert contents(events) == ALL, at
        books = await gateway.books()
        assert len(books) == len(cuts)
        assert {(row.charge, row.estimated) for row in books.values()} == {(EXACT, False)}
