"""What the transport tests share: a clock moved by hand, targets, and one way to ask."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from headgate.errors import GatewayError
from headgate.ports import Head, Request, SystemClock
from headgate.transport.exchange import HttpExchange
from headgate.transport.http import HttpSettings, HttpTransport
from headgate.values import Deadlines, Host, Model, Target

HEADERS = (("authorization", "Bearer sk-secret"), ("content-type", "application/json"))
TICK_S = 0.005
TLS = Path(__file__).parent / "tls"
CA = str(TLS / "ca.pem")


def served_as(name: str) -> ssl.SSLContext:
    """What a server presents: `local` fits this machine, `elsewhere` does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / f"{name}.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


class HandClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall(self) -> int:
        return int(self.now_s * 1e6)

    def monotonic(self) -> int:
        return int(self.now_s * 1e9)


def target(base_url: str, *, proxy: str = "", **deadlines: float) -> Target:
    return Target(
        host=Host(name="scripted", base_url=base_url, proxy=proxy),
        model=Model(name="gpt-4o-mini"),
        prices=None,
        deadlines=Deadlines(**({"connect_s": 5.0} | deadlines)),
    )


def said(error: GatewayError, place: str) -> str:
    """What a caller is told; where it happened is nothing for one, and stands beside."""
    assert error.place == place
    assert "provider 'scripted'" in error.message.replace("Provider", "provider")
    for label in place.split(" through "):
        host, _, port = label.rpartition(":")
        assert host not in error.message
        assert f":{port}" not in error.message
    assert error.in_full == f"{error.message} (at {place})"
    return error.message


def request(body: bytes = b"{}", request_id: str = "req_1") -> Request:
    return Request("POST", "/v1/chat/completions", HEADERS, body, request_id)


@contextlib.asynccontextmanager
async def http(clock: Any = None, **settings: Any) -> AsyncIterator[HttpTransport]:
    """A transport; when it closes, it has no connection left and watches nothing."""
    more = {key: settings.pop(key) for key in ("resolve", "tls") if key in settings}
    transport = HttpTransport(clock or SystemClock(), HttpSettings(**({"tick_s": TICK_S} | settings)), **more)
    try:
        yield transport
    finally:
        await transport.close()
        assert transport.open == 0
        assert not transport.watched


async def body_of(exchange: HttpExchange) -> bytes:
    parts = []
    while part := await exchange.read():
        parts.append(part)
    return b"".join(parts)


async def ask(transport: HttpTransport, to: Target, body: bytes = b"{}") -> tuple[Head, bytes]:
    """One whole exchange, given back at its end."""
    exchange = await transport.acquire(to)
    try:
        exchange.send(request(body))
        return await exchange.head(), await body_of(exchange)
    finally:
        exchange.release()


async def turns(count: int = 10) -> None:
    """Let the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Any, within_s: float = 5.0) -> None:
    """Wait for something that the loop will bring about."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.001)
