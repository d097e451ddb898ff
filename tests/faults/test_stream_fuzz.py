"""Streams with every liberty of their format, cut at random places of their wire: the same comes out, and is paid.

`make stream-fuzz` draws 200 streams and 500 cuts of each. A failure names the stream and the cuts by numbers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.answers import SSE, chat_frames, chunk, http_head
from tests.faults.worker import INPUT, MODELS, OUTPUT, Reply, chat, worker
from tests.upstream import Peer, Received, ScriptedUpstream

pytestmark = pytest.mark.anyio
STREAMS = int(os.environ.get("HEADGATE_STREAMS", "12"))
CUTS = int(os.environ.get("HEADGATE_CUTS", "60"))  # of each
OF_A_CALL = 20  # cuts; a call is one way to cut its stream
AT_ONCE = 16
CLOSED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WORDS = (
    "\u2028",
    "\u2029",
    "\u0085",
    " 世界",
    "\r\n",
    "\n\ndata: [DONE]\n\n",
    "é",
    "🚪",
    '"\\',
    " a",
    ": ",
    "\x00",
)
LONG = 1_000_000  # bytes of one line, in one stream of ten
Liberty = Callable[[bytes], bytes]
LIBERTIES: tuple[Liberty, ...] = (
    lambda frame: frame,
    lambda frame: frame.replace(b"\n", b"\r\n"),
    lambda frame: frame.replace(b"\n", b"\r"),
    lambda frame: b": ping\n\n" + frame,
    lambda frame: b":\r\n\r\n" + frame.replace(b"data: ", b"data:", 1),
    lambda frame: b"event: chunk\nid: 7\nretry: 9\n" + frame,
    lambda frame: frame.replace(b', "object"', b',\ndata:  "object"'),
)


class Drawn:
    """One stream: what it says, and its wire."""

    def __init__(self, number: int) -> None:
        draw = random.Random(number)
        self.tokens = ["".join(draw.choices(WORDS, k=draw.randint(1, 3))) for _ in range(draw.randint(1, 12))]
        frames = [draw.choice(LIBERTIES)(frame) for frame in chat_frames(self.tokens)]
        if number % 10 == 0:
            long = '"obfuscation": "%s", "choices"' % ("界" * (LONG // 3))
            frames[1] = frames[1].replace(b'"choices"', long.encode())
        if draw.random() < 0.3:
            frames[0] = b"\xef\xbb\xbf" + frames[0]
        if draw.random() < 0.3:  # and no line end behind the last line
            frames[-1] = frames[-1].rstrip(b"\r\n")
            self.wire = CLOSED + b"".join(frames)
        else:
            self.wire = http_head(200, SSE) + b"".join(map(chunk, (*frames, b"")))

    def cuts(self, number: int) -> list[int]:
        """Where one call's answer is cut: anywhere, within characters and line ends, and byte for byte."""
        draw = random.Random(number)
        odd = [at for at, byte in enumerate(self.wire[:20_000], 1) if byte >= 0x80 or byte == 0x0D]
        start = draw.randrange(1, len(self.wire))
        places = [draw.randrange(1, len(self.wire)) for _ in range(OF_A_CALL // 2)]
        places += draw.choices(odd, k=OF_A_CALL // 4)
        places += range(start, min(start + OF_A_CALL // 4, len(self.wire)))
        return sorted(set(places))


class Cutter:
    """A provider that answers request `seed` with a stream in pieces."""

    def __init__(self, streams: list[Drawn]) -> None:
        self._streams = streams

    async def __call__(self, peer: Peer, request: Received) -> None:
        number = request.json()["seed"]
        stream = self._streams[number % len(self._streams)]
        start = 0
        for at in (*stream.cuts(number), len(stream.wire)):
            await peer.send(stream.wire[start:at])
            await asyncio.sleep(0)
            start = at
        if stream.wire.startswith(CLOSED):
            peer.fin()


def said(reply: Reply) -> str:
    *events, last = reply.events
    assert last == b"[DONE]"
    chunks = [json.loads(event)["choices"][0] for event in events]
    assert chunks[-1]["finish_reason"] == "stop"
    return "".join(each["delta"].get("content") or "" for each in chunks)


@pytest.mark.parametrize("model", MODELS)
async def test_a_drawn_stream_cut_anywhere_is_the_same(model: str, tmp_path: Path) -> None:
    streams = [Drawn(number) for number in range(STREAMS)]
    calls = STREAMS * CUTS // OF_A_CALL // len(MODELS)
    due: dict[str, int] = {}
    async with (
        ScriptedUpstream(Cutter(streams)) as upstream,
        worker(tmp_path, upstream.base_url, cap="500/month") as gateway,
    ):
        await gateway.warm()
        for start in range(0, calls, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, calls))
            asked = (gateway.ask(chat(stream=True, model=model, seed=number)) for number in numbers)
            for number, reply in zip(numbers, await asyncio.gather(*asked), strict=True):
                stream = streams[number % STREAMS]
                assert (reply.status, reply.whole) == (200, True), (number, reply.body[:500])
                assert said(reply) == "".join(stream.tokens), number
                due[reply.request_id] = 19 * INPUT + len(stream.tokens) * OUTPUT
        books = await gateway.books()
        assert {name: row.charge for name, row in books.items()} == due
        assert not any(row.estimated for row in books.values())
