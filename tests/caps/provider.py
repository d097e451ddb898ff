"""A provider that notes what it did. A call says what it wants: `plan TOKENS GAP_MS MODE`.

It counts no input and as many tokens of output as were asked for, so a call costs what its `max_tokens` costs.
Under `/a` it fails the calls of mode `fail`, under `/b` it serves everything.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass

TOKEN = "tok "
PIECES = 4  # events of a stream


@dataclass
class Note:
    """What the provider knows of one call."""

    attempts: int = 0
    tokens: int = 0  # written
    whole: bool = False
    failed: int = 0


class Provider:
    """The upstream, in the loop of the test."""

    def __init__(self) -> None:
        self.notes: dict[str, Note] = {}
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Provider:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split()[1]
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                request = json.loads(await reader.readexactly(int(headers["content-length"])))
                note = self.notes.setdefault(headers["x-client-request-id"], Note())
                note.attempts += 1
                await self._answer(path, request, note, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, path: str, request: dict, note: Note, writer: asyncio.StreamWriter) -> None:  # type: ignore[type-arg]
        _, made, gap_ms, mode = request["messages"][-1]["content"].split()
        await asyncio.sleep(int(gap_ms) / 1000)
        if mode == "fail" and path.startswith("/a"):
            note.failed += 1
            body = b'{"error": {"message": "planned", "type": "server_error"}}'
            writer.write(
                b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            return
        tokens = min(int(made), request["max_tokens"])
        usage = {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}
        if request.get("stream"):
            await self._stream(tokens, int(gap_ms) / 1000, usage, note, writer)
            return
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": TOKEN * tokens},
            "finish_reason": "stop",
        }
        body = json.dumps(envelope("chat.completion", choices=[choice], usage=usage)).encode()
        note.tokens, note.whole = tokens, True
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
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
