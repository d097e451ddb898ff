"""Small real proxies on loopback. Whatever they are asked for, they connect to one port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Pipes: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoopbackProxy:
    """`asked` holds the destinations, `users` the credentials, in the order of the connections."""

    def __init__(self, kind: str, to_port: int, *, replies: tuple[bytes, ...] = (), users: str = "") -> None:
        self.kind = kind
        self.to_port = to_port
        self.replies = replies  # sent instead of the usual answer, one write each
        self.needs = users
        self.asked: list[str] = []
        self.users: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> LoopbackProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _ in range(3):
            await asyncio.sleep(0)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        handshakes: dict[str, Callable[[Pipes], Awaitable[bytes | None]]] = {
            "http": self._http,
            "socks4": self._socks4,
            "socks5": self._socks5,
        }
        try:
            granted = await handshakes[self.kind]((reader, writer))
            for reply in self.replies:
                writer.write(reply)
                await asyncio.sleep(0.001)
            if not self.replies and granted is not None:
                await self._forward(reader, writer, granted)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: bytes
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        writer.write(hello)
        try:
            await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        finally:
            far_writer.close()

    async def _http(self, pipes: Pipes) -> bytes | None:
        head = (await pipes[0].readuntil(b"\r\n\r\n")).decode()
        line, *headers = head.split("\r\n")
        assert line.startswith("CONNECT ")
        assert line.endswith(" HTTP/1.1")
        self.asked.append(line.split(" ")[1])
        self.users += [h.partition(": ")[2] for h in headers if h.startswith("Proxy-Authorization")]
        if self.needs and self.users != [self.needs]:
            pipes[1].write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return None
        return b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"

    async def _socks4(self, pipes: Pipes) -> bytes | None:
        reader = pipes[0]
        _, command, *rest = await reader.readexactly(8)
        assert command == 1
        port, address = rest[0] << 8 | rest[1], rest[2:]
        self.users.append((await reader.readuntil(b"\0"))[:-1].decode())
        host = ".".join(map(str, address))
        if address[:3] == [0, 0, 0]:
            host = (await reader.readuntil(b"\0"))[:-1].decode()
        self.asked.append(f"{host}:{port}")
        return b"\0\x5a" + bytes(6)

    async def _socks5(self, pipes: Pipes) -> bytes | None:
        reader, writer = pipes
        methods = await reader.readexactly((await reader.readexactly(2))[1])
        wanted = 2 if self.needs else 0
        if wanted not in methods:
            writer.write(b"\x05\xff")
            return None
        writer.write(bytes([5, wanted]))
        if self.needs:
            user = await reader.readexactly((await reader.readexactly(2))[1])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            self.users.append(f"{user.decode()}:{password.decode()}")
            writer.write(b"\x01\x00" if self.users[-1] == self.needs else b"\x01\x01")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            packed = await reader.readexactly(4 if kind == 1 else 16)
            host = ".".join(map(str, packed)) if kind == 1 else packed.hex()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        return b"\x05\x00\x00\x01" + bytes(6)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    if writer.can_write_eof() and not writer.is_closing():
        with contextlib.suppress(OSError):
            writer.write_eof()
