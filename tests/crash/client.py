"""Clients that keep their own record of what they got."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass


@dataclass
class Got:
    """One call as its client saw it."""

    request_id: str
    complete: bool
    stream: bool


async def keep_calling(port: int, key: str, seed: int, record: list[Got], stop: asyncio.Event) -> None:
    """Call until told to stop; a dead server is tried again."""
    chance = random.Random(seed)
    while not stop.is_set():
        try:
            record.append(await _call(port, key, stream=chance.random() < 0.6))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            await asyncio.sleep(0.02)


async def _call(port: int, key: str, *, stream: bool) -> Got:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps(
            {
                "model": "gpt-4o-mini",
                "max_tokens": 100,
                "stream": stream,
                "messages": [{"role": "user", "content": "Say words."}],
            }
        )
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if ": " in line)
        if " 200 " not in head.split("\r\n")[0]:
            raise ValueError(head)
        got = Got(fields["x-request-id"], False, stream)
        data = b""
        try:
            data = (
                await reader.read(-1) if stream else await reader.readexactly(int(fields["content-length"]))
            )
        except (OSError, asyncio.IncompleteReadError):
            return got
        got.complete = (
            data.endswith(b"0\r\n\r\n") and b"data: [DONE]" in data if stream else bool(json.loads(data))
        )
        return got
    finally:
        writer.close()
