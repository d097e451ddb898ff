"""Callers of an in-process worker who want their answers recorded, and what the books say of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from tests.faults.worker import Reply, Worker, parse

from headgate.identity.keys import mint_key
from headgate.stores.sql.bootstrap import public_id, writing
from headgate.stores.sql.database import RECORDINGS, connect
from headgate.stores.sql.sqlite import open_file

CHAT = "/v1/chat/completions"


def request(
    gateway: Worker, body: bytes, headers: Mapping[str, str], path: str = CHAT, method: str = "POST"
) -> bytes:
    """The bytes of one request, after whose answer the connection closes."""
    lines = {
        "Host": "gateway",
        "Authorization": f"Bearer {gateway.key}",
        "Content-Type": "application/json",
        "Connection": "close",
        "Content-Length": str(len(body)),
        **{name.replace("_", "-").title(): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def ask(
    gateway: Worker,
    body: bytes = b"",
    path: str = CHAT,
    *,
    method: str = "POST",
    **headers: str,
) -> Reply:
    """One request, read to its end; `idempotency_key` is a header as every other."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*gateway.address)
        try:
            writer.write(request(gateway, body, headers, path, method))
            raw = await reader.read()
        finally:
            writer.close()
    return parse(raw)


class Caller:
    """A client that reads a part of its answer, and leaves."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.got = b""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def asking(cls, gateway: Worker, body: bytes, **headers: str) -> Caller:
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(request(gateway, body, headers))
        return cls(reader, writer)

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(10):
            while text not in self.got:
                data = await self._reader.read(65536)
                assert data, self.got
                self.got += data

    async def rest(self) -> Reply:
        """The whole answer, once it has ended."""
        async with asyncio.timeout(10):
            self.got += await self._reader.read()
        self._writer.close()
        return parse(self.got)

    async def leave(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def header(self, name: str) -> str:
        return parse(self.got.partition(b"\r\n\r\n")[0] + b"\r\n\r\n").headers[name]


async def replays(gateway: Worker) -> list[tuple[str, str, int]]:
    """The replays in the books: id, whose answer it was given, cost."""
    await gateway.books()
    sql = connect(gateway._folder, read_only=True)
    try:
        rows = sql.execute("SELECT call, parent, charge FROM calls WHERE flags & 16").fetchall()
    finally:
        sql.close()
    return [(f"req_{call.hex()}", f"req_{parent.hex()}", charge) for call, parent, charge in rows]


async def put_away(gateway: Worker) -> None:
    """Wait until the store knows how every recording ended."""
    await gateway.idle()
    await gateway.app.recorder().close()


def rows(gateway: Worker, what: str = "*") -> list[tuple[object, ...]]:
    """What is kept, as it stands in the file."""
    sql = open_file(gateway._folder / RECORDINGS, read_only=True)
    try:
        return sql.execute(f"SELECT {what} FROM recordings ORDER BY made_at").fetchall()
    finally:
        sql.close()


def another_project(gateway: Worker) -> str:
    """Make a key of another project of the account."""
    key, name = mint_key(gateway.app._pepper), public_id("key")
    sql = connect(gateway._folder)
    with writing(sql):
        sql.execute(
            "INSERT INTO projects (id, public_id, account, name, created_at) VALUES (9, 'proj_b', 1, 'b', 1)"
        )
        sql.execute(
            "INSERT INTO keys (public_id, digest, project, kind, name, shown, created_at)"
            " VALUES (?, ?, 9, 'live', 'other', 'x', 1)",
            (name, key.digest),
        )
        sql.execute(
            "INSERT INTO changes (kind, ref, at) VALUES ('project', 'proj_b', 1), ('key', ?, 1)", (name,)
        )
    sql.close()
    gateway.app.reload()
    return key.text
