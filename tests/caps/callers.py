"""One call on a connection of its own, as a client sees it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

MODEL = "caps-model"


@dataclass
class Seen:
    """What a client saw."""

    tokens: int  # asked for
    status: int = 0
    code: str = ""
    request_id: str = ""
    whole: bool = False
    message: str = ""


@dataclass(frozen=True)
class Order:
    """What a client wants."""

    tokens: int
    made: int = -1  # what the provider makes of it; -1: all
    gap_ms: int = 100
    mode: str = "ok"
    stream: bool = False
    hang_up: bool = False  # after the first bytes


async def call(port: int, key: str, order: Order) -> Seen:
    """Make one call to its end, or hang up in the middle."""
    seen = Seen(order.tokens)
    made = order.tokens if order.made < 0 else order.made
    plan = f"plan {made} {order.gap_ms} {order.mode}"
    body = {"model": MODEL, "messages": [{"role": "user", "content": plan}], "max_tokens": order.tokens}
    raw = json.dumps(body | ({"stream": True} if order.stream else {})).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        await _read(reader, seen, order)
    finally:
        writer.close()
    return seen


async def _read(reader: asyncio.StreamReader, seen: Seen, order: Order) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    seen.status, seen.request_id = int(head.split()[1]), headers["x-request-id"]
    if order.hang_up and seen.status == 200:
        await reader.read(1)
        return
    rest = await reader.read()
    if seen.status == 200:
        seen.whole = (b"data: [DONE]" in rest) if order.stream else bool(json.loads(rest)["usage"])
        return
    error = json.loads(rest)["error"]
    seen.code, seen.message = error["code"], error["message"]
    assert (error["type"], headers.get("x-should-retry")) == (
        "insufficient_quota",
        "false",
    ) or seen.status != 429
