"""What `headgate doctor` measures of the way to each provider: it asks for a list, which costs nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from ssl import SSLCertVerificationError
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import msgspec

from headgate.cli import compose
from headgate.errors import GatewayError, UpstreamDenied, UpstreamError, UpstreamRegion
from headgate.ports import Request
from headgate.process.outward import build_routes, outbound
from headgate.providers.registry import CODECS
from headgate.settings.upstreams import STORED
from headgate.transport.dial import system_resolve, system_tls
from headgate.transport.egress import literal, parse_origin, refusal
from headgate.transport.faults import describe
from headgate.transport.http import HttpTransport
from headgate.transport.proxy import choose
from headgate.values import Book, Deadlines
from headgate.vitals import ADVICE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from typing import TypeVar

    from headgate.config import Config
    from headgate.ports import Head
    from headgate.routing.routes import Routes
    from headgate.transport.dial import Resolve
    from headgate.transport.egress import Origin
    from headgate.values import Host, Target

    T = TypeVar("T")

State: TypeAlias = Literal["ok", "note", "warning", "fault"]
_STEP_S: Final = 5.0  # for each of the steps
_ADDRESSES: Final = 4
_MOST_BODY: Final = 256 * 1024
_DEADLINES: Final = Deadlines(
    connect_s=_STEP_S, first_byte_s=_STEP_S, between_frames_s=_STEP_S, total_s=3 * _STEP_S
)
_WAYS: Final = {
    "dns": "Check the name in its base_url and this machine's resolver; behind a proxy set HTTPS_PROXY or "
    "the provider's `proxy`.",
    "connect": "Check the port in its base_url and the firewall; behind a proxy set HTTPS_PROXY or the "
    "provider's `proxy`.",
    "tls": "Check this machine's clock; where a proxy opens TLS, name its certificate in SSL_CERT_FILE.",
    "handshake": "What answers there may speak no TLS: check port and scheme of its base_url.",
    "http": "What answers there speaks no HTTP, or too slowly: check port and scheme of its base_url.",
}
_NO_LIST: Final = (
    "It has no list of models there. If calls are answered by 404 as well, check the path of its base_url, "
    "which often ends in /v1."
)


class Reached(NamedTuple):
    """What was found out about one key of a provider."""

    host: Host
    state: State
    says: str
    advice: str
    measured: dict[str, float]  # milliseconds by step
    address: str = ""  # one of several that its name has; empty: the one that calls take first


class _Stuck(Exception):
    """A step that failed: which, and in words."""

    def __init__(self, step: str, says: str) -> None:
        super().__init__(says)
        self.step, self.says = step, says
        self.measured: dict[str, float] = {}  # until then


def reach(config: Config) -> list[Reached]:
    """Return how each provider of some settings is reached, with each of its keys."""
    hosts = tuple(_bare(host) for host in config.hosts)
    config = msgspec.structs.replace(config, hosts=hosts)
    try:
        routes = build_routes(config, "doctor")
    except GatewayError:  # told as the configuration's fault
        return []
    return asyncio.run(_all(config, routes))


def _bare(host: Host) -> Host:
    """Return a host without a key that only a server can open."""
    spares = tuple(_bare(spare) for spare in host.spares)
    key = "" if host.api_key.startswith(STORED) else host.api_key
    return msgspec.structs.replace(host, api_key=key, spares=spares)


async def _all(config: Config, routes: Routes) -> list[Reached]:
    transport = HttpTransport(compose.CLOCK, outbound(config))
    try:
        found = await asyncio.gather(
            *(_one(transport, routes, host, system_resolve) for host in config.hosts)
        )
    finally:
        await transport.close()
    return [each for group in found for each in group]


async def _one(transport: HttpTransport, routes: Routes, host: Host, resolve: Resolve) -> list[Reached]:
    """Return how a provider is reached with each key; behind these, each address of its name by itself."""
    measured: dict[str, float] = {}
    walked: dict[str, dict[str, float] | _Stuck] = {}
    try:
        origin = parse_origin(host.base_url)
        if choose(origin, host.proxy, transport.settings.proxies) is None:
            addresses, ca_file = await _addresses(origin, resolve, measured), transport.settings.ca_file
            ways = await asyncio.gather(*(_walk(origin, address, ca_file) for address in addresses))
            walked = dict(zip(addresses, ways, strict=True))
            measured |= _first_good(walked)
    except _Stuck as stuck:
        return [Reached(host, "fault", stuck.says, _WAYS[stuck.step], measured | stuck.measured)]
    now = compose.CLOCK.wall()
    keyed = routes.candidates(f"{host.name}/{host.example or 'model'}", Book.REAL, now)
    rows = [await _ask(transport, target, dict(measured)) for target in keyed]
    if len(walked) > 1:
        rows += [await _at(transport, keyed[0], address, way) for address, way in walked.items()]
    return rows


async def _at(
    transport: HttpTransport, target: Target, address: str, way: dict[str, float] | _Stuck
) -> Reached:
    """Return how one of several addresses is reached."""
    if isinstance(way, _Stuck):  # a call goes to the next one
        return Reached(target.host, "note", way.says, "", way.measured, address)

    async def resolve(_host: str, _port: int) -> list[str]:
        return [address]

    alone = HttpTransport(compose.CLOCK, transport.settings, resolve=resolve)
    try:
        return (await _ask(alone, target, dict(way)))._replace(address=address)
    finally:
        await alone.close()


def _first_good(walked: dict[str, dict[str, float] | _Stuck]) -> dict[str, float]:
    """Return what was measured of the first address that is reached. Raises `_Stuck`: none is."""
    ways = list(walked.values())
    good = next((way for way in ways if not isinstance(way, _Stuck)), ways[-1])
    if isinstance(good, _Stuck):
        raise good
    return good


async def _addresses(origin: Origin, resolve: Resolve, measured: dict[str, float]) -> list[str]:
    """Return the addresses of an origin, which calls take in this order. Raises `_Stuck`."""
    addresses = [origin.host]
    if literal(origin.host) is None:
        with _timed(measured, "dns_ms"):
            what = f"the name {origin.host} "
            addresses = list(await _step("dns", what, resolve(origin.host, origin.port)))
    why = next(filter(None, map(refusal, addresses)), None)
    if why is not None:
        raise _Stuck("dns", f"its address is {why}, where the gateway never connects to")
    return list(dict.fromkeys(addresses))[:_ADDRESSES]


async def _walk(origin: Origin, address: str, ca_file: str) -> dict[str, float] | _Stuck:
    """Go to an address; return how long each step took, or which one failed."""
    measured: dict[str, float] = {}
    try:
        await _connect(origin, address, ca_file, measured)
    except _Stuck as stuck:
        stuck.measured = measured
        return stuck
    return measured


async def _connect(origin: Origin, address: str, ca_file: str, measured: dict[str, float]) -> None:
    """Connect, with TLS where that is spoken. Raises `_Stuck`."""
    with _timed(measured, "connect_ms"):
        connecting = asyncio.open_connection(address, origin.port)
        _, writer = await _step("connect", f"{origin.label}: ", connecting)
    try:
        if origin.scheme == "https":
            context = await asyncio.to_thread(system_tls, ca_file)
            with _timed(measured, "tls_ms"):
                secured = writer.start_tls(context, server_hostname=origin.host)
                await _step("tls", f"{origin.label}: ", secured)
    finally:
        writer.transport.abort()


async def _step(step: str, what: str, doing: Awaitable[T]) -> T:
    """Wait for a step, but not for ever.

    Raises:
        _Stuck: it failed.
    """
    try:
        async with asyncio.timeout(_STEP_S):
            return await doing
    except TimeoutError as fault:
        step = "handshake" if step == "tls" else step
        raise _Stuck(step, f"{what}no answer within {_STEP_S:g} s") from fault
    except OSError as fault:
        if step == "tls" and not isinstance(fault, SSLCertVerificationError):
            step = "handshake"
        words = describe(fault)
        said = "does not resolve" if step == "dns" else words
        raise _Stuck(step, f"{what}{said}") from fault


@contextmanager
def _timed(measured: dict[str, float], name: str) -> Iterator[None]:
    """Note how long a block takes, if it succeeds."""
    began = time.monotonic()
    yield
    measured[name] = _ms(began)


async def _ask(transport: HttpTransport, target: Target, measured: dict[str, float]) -> Reached:
    """Ask for the list of models, with the provider's key where there is one."""
    host = target.host
    target = msgspec.structs.replace(target, deadlines=_DEADLINES)
    request = Request("GET", f"{target.base_path}/models", target.headers, b"", "headgate-doctor")
    try:
        began = time.monotonic()
        exchange = await transport.acquire(target)
        if "connect_ms" not in measured:
            measured["connect_ms"] = _ms(began)  # through a proxy, with TLS
        began = time.monotonic()
        exchange.send(request)
        head = await exchange.head()
        measured["first_byte_ms"] = _ms(began)
        body = b""
        while head.status >= 400 and len(body) < _MOST_BODY and (data := await exchange.read()):
            body += data
        exchange.release()
    except UpstreamError as fault:
        return Reached(host, "fault", fault.in_full, _WAYS["http"], measured)
    return _verdict(target, head, body, measured)


def _verdict(target: Target, head: Head, body: bytes, measured: dict[str, float]) -> Reached:
    host, status = target.host, head.status
    times = ", ".join(f"{_STEPS[name]} {value:,.0f} ms" for name, value in measured.items())
    error = CODECS[host.kind]["chat"].error(head, body) if status >= 400 else None
    if isinstance(error, UpstreamRegion):
        return Reached(host, "fault", f"{times}; the country is not served", ADVICE["region"], measured)
    if isinstance(error, UpstreamDenied) and host.api_key:
        return Reached(host, "fault", f"{times}; it refuses the key ({status})", ADVICE["denied"], measured)
    if status >= 500:
        return Reached(host, "warning", f"{times}; it answers {status}", ADVICE["failed"], measured)
    if status == 429:
        return Reached(
            host, "warning", f"{times}; it limits the rate ({status})", ADVICE["limited"], measured
        )
    if status >= 400:
        state: State = "note" if status == 404 else "ok"
        advice = _NO_LIST if status == 404 else ""
        return Reached(host, state, f"{times}; reached, its key was not tried ({status})", advice, measured)
    says = "its key is accepted" if host.api_key else "reached, without a key"
    return Reached(host, "ok", f"{times}; {says}", "", measured)


_STEPS: Final = {"dns_ms": "DNS", "connect_ms": "connect", "tls_ms": "TLS", "first_byte_ms": "first byte"}


def _ms(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)
