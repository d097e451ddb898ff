"""A provider that notes what it did, in a process of its own: `python -m tests.crash.oracle FILE`.

A caller says what it wants in its message: `plan INPUT OUTPUT GAP_MS`. Each token is four bytes of
text, as the gateway's running count takes it. One line per step in FILE, each in one write:

    B id input output     the call has begun (id is x-client-request-id)
    T id tokens           so many tokens are written in all
    F id input output     it was answered to its end
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

TOKEN = "tok "
CHUNK = 8  # tokens in an event


class Notes:
    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())


class Answer:
    def __init__(self, notes: Notes, writer: asyncio.StreamWriter, call: str, request: dict) -> None:  # type: ignore[type-arg]
        _, given, made, gap_ms = request["messages"][0]["content"].split()
        self.notes, self.writer, self.call = notes, writer, call
        self.given, self.made, self.gap_s = int(given), int(made), int(gap_ms) / 1000
        self.stream = bool(request.get("stream"))
        self.usage = {
            "prompt_tokens": self.given,
            "completion_tokens": self.made,
            "total_tokens": self.given + self.made,
        }

    async def send(self) -> None:
        self.notes.write("B", self.call, self.given, self.made)
        await (self.send_stream() if self.stream else self.send_whole())
        self.notes.write("F", self.call, self.given, self.made)

    async def send_whole(self) -> None:
        await asyncio.sleep(10 * self.gap_s)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": TOKEN * self.made},
            "finish_reason": "stop",
        }
        body = json.dumps(self.envelope("chat.completion", choices=[choice], usage=self.usage)).encode()
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.notes.write("T", self.call, self.made)
        await self.writer.drain()

    async def send_stream(self) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.writer.write(head.encode())
        written = 0
        while written < self.made:
            await asyncio.sleep(self.gap_s)
            count = min(CHUNK, self.made - written)
            self.event(self.piece(TOKEN * count))
            written += count
            self.notes.write("T", self.call, written)
            await self.writer.drain()
        self.event(self.piece("", "stop"))
        self.event(self.envelope("chat.completion.chunk", choices=[], usage=self.usage))
        self.chunk(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def piece(self, text: str, reason: str | None = None) -> dict:  # type: ignore[type-arg]
        choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
        return self.envelope("chat.completion.chunk", choices=[choice])

    def envelope(self, kind: str, **rest: object) -> dict:  # type: ignore[type-arg]
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "crash-model", **rest}

    def event(self, value: object) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def converse(notes: Notes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve a connection until its client goes or dies."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            request = json.loads(await reader.readexactly(int(headers["content-length"])))
            await Answer(notes, writer, headers["x-client-request-id"], request).send()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def main(path: str) -> None:
    notes, stop = Notes(path), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(
        lambda reader, writer: converse(notes, reader, writer), "127.0.0.1", 0, backlog=512
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
