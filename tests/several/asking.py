"""A request on a connection of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What came back; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    port: int, key: str, path: str, body: object = None, method: str = "POST", once: str = ""
) -> Reply:
    """Make a request; return its answer. Raises OSError, and EOFError where the connection ends without one.

    `once` is its Idempotency-Key.
    """
    more = f"Idempotency-Key: {once}\r\n" if once else ""
    raw = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
            f"{more}Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        head, found, rest = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if not found:
        raise EOFError(f"{head!r} is no answer")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Reply(int(lines[0].split()[1]), headers, rest)
