"""Just enough of a gateway for the bench to measure: passes bytes, counts calls in a file.

`--lose N` leaves N calls out of the books; `--spoil N` breaks the Nth answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sqlite3
import sys
import tomllib
from pathlib import Path

KEY = "sk-hg-live-fake"
STALL = b"headgate_loop_stall_max_seconds 0.002\n"


def usage(data: Path, lost: int) -> dict[str, dict[str, int]]:
    kinds = (data / "calls").read_text() if (data / "calls").exists() else ""
    kinds = kinds[lost:]
    out = 48 * kinds.count("j") + 40 * kinds.count("s")
    return {"total": {"calls": len(kinds), "input_tokens": 19 * len(kinds), "output_tokens": out}}


class Gateway:
    def __init__(self, data: Path, upstream: int, spoiled: int) -> None:
        self.upstream = upstream
        self.spoiled = spoiled
        self.seen = 0
        self.book = (data / "calls").open("ab", buffering=0)
        self.database = sqlite3.connect(data / "books.db", timeout=0, isolation_level=None)
        self.database.execute("CREATE TABLE IF NOT EXISTS drained (calls INTEGER)")
        self.drained = 0

    async def drain(self) -> None:
        while True:
            calls = self.seen
            if calls > self.drained:
                try:
                    self.database.execute("INSERT INTO drained VALUES (?)", (calls,))
                    self.drained = calls
                except sqlite3.OperationalError:
                    pass  # locked: later
            await asyncio.sleep(0.02)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self.answer(head, reader, (up_reader, up_writer)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            up_writer.close()

    async def answer(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bytes:
        if head.startswith((b"GET /readyz", b"GET /healthz")):
            return plain(200, b"{}")
        if head.startswith(b"GET /metrics"):
            return plain(200, STALL + undrained(self.seen - self.drained))
        body = await reader.readexactly(length(head))
        if KEY.encode() not in head:
            return plain(401, b'{"error":{"message":"no such key"}}')
        up[1].write(head + body)
        answer = await up[0].readuntil(b"\r\n\r\n")
        chunked = b"chunked" in answer
        if chunked:
            answer += await up[0].readuntil(b"\r\n0\r\n\r\n")
        else:
            answer += await up[0].readexactly(length(answer))
        self.book.write(b"s" if chunked else b"j")
        self.seen += 1
        return answer.replace(b'"usage"', b'"abuse"') if self.seen == self.spoiled else answer


def undrained(records: int) -> bytes:
    return b"headgate_journal_undrained_records %d\n" % records


def plain(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def length(head: bytes) -> int:
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


async def serve(options: argparse.Namespace) -> None:
    settings = tomllib.loads(options.config.read_text())
    provider = settings["providers"][0]
    assert provider["name"] == provider["kind"] == "openai"
    upstream = int(provider["base_url"].removesuffix("/v1").rpartition(":")[2])
    options.data.mkdir(parents=True, exist_ok=True)
    gateway = Gateway(options.data, upstream, options.spoil)
    ports = {options.port, settings.get("server", {}).get("monitor_port", options.port)}
    servers = [await asyncio.start_server(gateway.serve, options.host, port) for port in ports]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    drain = asyncio.create_task(gateway.drain())
    await ended.wait()
    drain.cancel()
    for server in servers:
        server.close()
    gateway.database.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="version", version="headgate, the fake one")
    parser.add_argument("words", nargs="+")
    parser.add_argument("--json", action="store_true")
    for name in ("--data", "--config"):
        parser.add_argument(name, type=Path)
    for name in ("--port", "--rpm", "--tpm", "--rpd", "--tpd", "--workers", "--lose", "--spoil"):
        parser.add_argument(name, type=int, default=0)
    for name in ("--host", "--cap", "--name", "--key", "--project", "--account", "--reference", "--priority"):
        parser.add_argument(name)
    options = parser.parse_args()
    match options.words:
        case ["serve"]:
            asyncio.run(serve(options))
        case ["keys", "create"]:
            print(json.dumps({"key": KEY}))
        case ["usage"]:
            print(json.dumps(usage(options.data, options.lose)))
        case ["budgets", "create", _] | ["credit", "top-up", _]:
            print("done")
        case ["ledger", "check"]:
            print("the books hold")
        case _:
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
