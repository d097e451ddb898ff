"""A client that makes one call after the other, each for another tenant, and leaves some of them in the middle."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from dataclasses import dataclass
from random import Random

CANARY = re.compile(rb"canary-[a-z0-9-]+")


@dataclass(frozen=True)
class Tenant:
    """Who calls."""

    account: int
    key: str
    name: str


@dataclass
class Seen:
    """What came of one call."""

    tenant: Tenant
    canary: str
    stream: bool
    status: int = 0
    request_id: str = ""
    whole: bool = False
    left: bool = False
    raw: bytes = b""

    @property
    def foreign(self) -> list[bytes]:
        """The canaries that are not its own; of one that was cut, its beginning is."""
        return [found for found in CANARY.findall(self.raw) if not self.canary.startswith(found.decode())]

    @property
    def text(self) -> str:
        """What an answer says."""
        body = self.raw.partition(b"\r\n\r\n")[2]
        if not self.stream:
            return str(json.loads(body)["choices"][0]["message"]["content"])
        events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
        return "".join(event["choices"][0]["delta"]["content"] for event in events)


class Caller:
    """One client, on one connection while it lasts."""

    def __init__(self, port: int, chance: Random) -> None:
        self._port = port
        self._chance = chance
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader

    async def call(self, seen: Seen, *, leaves: bool) -> Seen:
        """Make a call; whoever leaves does it after a moment, in order or not."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        message = {"role": "user", "content": seen.canary}
        body = {"model": "gpt-4o-mini", "messages": [message], "max_tokens": 50, "stream": seen.stream}
        raw = json.dumps(body).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {seen.tenant.key}\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        self._writer.write(head.encode() + raw)
        try:
            async with asyncio.timeout(self._chance.random() * 0.04 if leaves else 30):
                await self._read(seen)
        except TimeoutError:
            assert leaves, f"no answer within 30 s: {seen}"
            seen.left = True
            self._leave()
        except (asyncio.IncompleteReadError, ConnectionError) as fault:
            seen.raw += getattr(fault, "partial", b"")
            self._leave()
        return seen

    async def _read(self, seen: Seen) -> None:
        head = await self._reader.readuntil(b"\r\n\r\n")
        seen.raw = head
        headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
        seen.status, seen.request_id = int(head.split()[1]), headers["x-request-id"]
        if "content-length" in headers:
            seen.raw += await self._reader.readexactly(int(headers["content-length"]))
        else:
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                seen.raw += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)
        seen.whole = True
        if headers.get("connection") == "close":
            self._leave()

    def _leave(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if self._chance.random() < 0.5:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()

    def close(self) -> None:
        """Go."""
        if self._writer is not None:
            self._writer.close()
