"""Clients that call for as long as the server lives, and remember what they saw."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from dataclasses import dataclass

from tests.crash.oracle import TOKEN

AT_ONCE = 50
STREAMING = 0.6
CRASH_MODEL = "crash-model"


@dataclass
class Seen:
    """What a client saw of one call."""

    life: int  # of the server
    given: int
    made: int
    streaming: bool
    request_id: str = ""  # "": not even the head arrived
    status: int = 0
    tokens: int = 0
    finished: bool = False  # the answer arrived whole


class Callers:
    """Fifty clients against one server."""

    def __init__(self, port: int, key: str, seed: int) -> None:
        self.port = port
        self.key = key
        self.random = random.Random(seed)
        self.calls: list[Seen] = []
        self.refused = 0  # by a machine that has too much else to do
        self.life = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.life += 1
        self._stopping = False
        self._tasks = [asyncio.create_task(self._call_on(index)) for index in range(AT_ONCE)]

    async def stop(self) -> None:
        """Let the calls under way end, or fail with their server."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _call_on(self, index: int) -> None:
        await asyncio.sleep(index * 0.002)
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:  # it is dead
                await asyncio.sleep(0.005)
                continue
            seen = self._plan()
            try:
                await self._call(seen, reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # killed in the middle: that is the point
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

    def _plan(self) -> Seen:
        long = self.random.random() < 0.4
        seen = Seen(
            self.life,
            given=self.random.randrange(5, 400),
            made=self.random.randrange(300, 1000) if long else self.random.randrange(1, 200),
            streaming=self.random.random() < STREAMING,
        )
        self.calls.append(seen)
        return seen

    async def _call(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gap_ms = self.random.randrange(5, 15)
        body = json.dumps(
            {
                "model": CRASH_MODEL,
                "messages": [{"role": "user", "content": f"plan {seen.given} {seen.made} {gap_ms}"}],
                "max_tokens": 1200,
                "stream": seen.streaming,
            }
        ).encode()
        writer.write(
            (
                "POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
                f"Authorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        seen.status, seen.request_id = int(first.split()[1]), headers["x-request-id"]
        if seen.streaming and seen.status == 200:
            await self._read_stream(seen, reader)
        else:
            answer = json.loads(await reader.readexactly(int(headers["content-length"])))
            if seen.status == 503 and answer["error"]["code"] == "server_is_overloaded":
                self.calls.remove(seen)  # it is no call: where the books have it, that is wrong
                self.refused += 1
                await asyncio.sleep(0.05)
                return
            assert seen.status == 200, answer
            seen.tokens, seen.finished = answer["usage"]["completion_tokens"], True

    async def _read_stream(self, seen: Seen, reader: asyncio.StreamReader) -> None:
        while not seen.finished:
            size = int(await reader.readuntil(b"\r\n"), 16)
            data = (await reader.readexactly(size + 2))[:-2]
            if not size:
                raise AssertionError(f"{seen.request_id}: the stream ended without [DONE]")
            seen.tokens += data.count(TOKEN[:-1].encode())
            seen.finished = b"data: [DONE]" in data
