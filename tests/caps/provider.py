"""A provider that notes what it did. A call says what it wants: `plan TOKENS GAP_MS MODE`.

It counts one token of input, which costs nothing, and as many of output as were asked for, so a call costs what
its `max_tokens` costs. (A count of no input would not be believed.)
Under `/a` it fails the calls of mode `fail`, under `/b` it serves everything.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from tests.local import LocalProvider, send_json

TOKEN = "tok "
GIVEN = 1  # tokens of input
PIECES = 4  # events of a stream


@dataclass
class Note:
    """What the provider knows of one call."""

    attempts: int = 0
    tokens: int = 0  # written
    whole: bool = False
    failed: int = 0


class Provider(LocalProvider):
    """The upstream, in the loop of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, Note] = {}

    async def answer(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        note = self.notes.setdefault(headers["x-client-request-id"], Note())
        note.attempts += 1
        _, made, gap_ms, mode = asked["messages"][-1]["content"].split()
        await asyncio.sleep(int(gap_ms) / 1000)
        if mode == "fail" and path.startswith("/a"):
            note.failed += 1
            send_json(writer, b'{"error": {"message": "planned", "type": "server_error"}}', "500 No")
            return
        tokens = min(int(made), asked["max_tokens"])
        usage = {"prompt_tokens": GIVEN, "completion_tokens": tokens, "total_tokens": GIVEN + tokens}
        if asked.get("stream"):
            await self._stream(tokens, int(gap_ms) / 1000, usage, note, writer)
            return
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": TOKEN * tokens},
            "finish_reason": "stop",
        }
        body = json.dumps(envelope("chat.completion", choices=[choice], usage=usage)).encode()
        note.tokens, note.whole = tokens, True
        send_json(writer, body)
        await writer.drain()

    async def _stream(
        self, tokens: int, gap_s: float, usage: object, note: Note, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        written = 0
        for piece in range(1, PIECES + 1):
            until = tokens * piece // PIECES
            delta = {"content": TOKEN * (until - written)}
            choice = {"index": 0, "delta": delta, "finish_reason": "stop" if piece == PIECES else None}
            event(writer, envelope("chat.completion.chunk", choices=[choice]))
            written = note.tokens = until
            await writer.drain()
            await asyncio.sleep(gap_s / PIECES)
        event(writer, envelope("chat.completion.chunk", choices=[], usage=usage))
        chunk(writer, b"data: [DONE]\n\n")
        note.whole = True
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def envelope(kind: str, **rest: object) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "m", **rest}


def event(writer: asyncio.StreamWriter, value: object) -> None:
    chunk(writer, b"data: " + json.dumps(value).encode() + b"\n\n")


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
