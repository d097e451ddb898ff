"""Proxies: which one serves a host, and the tunnel through it.

HTTP proxies are asked to CONNECT, for `http` hosts too, so that the proxy never reads a key. The proxy
resolves names (as it must where a resolver beside it is wrong or absent), except SOCKS4, which takes an
IPv4 address only.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from headgate.transport.egress import literal
from headgate.transport.faults import Unreached, describe

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from headgate.transport.egress import Origin

DIRECT = "direct"  # a host's `proxy` that means: none, whatever the settings say
_MAX_REPLY = 16 * 1024
_URL = re.compile(
    r"(?:(?P<scheme>[A-Za-z0-9]+)://)?(?:(?P<user>[^:@/\s]*)(?::(?P<password>[^@/\s]*))?@)?"
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?"
)
_Kind = Literal["http", "socks4", "socks4a", "socks5"]
_KINDS: dict[str, tuple[_Kind, int]] = {
    "http": ("http", 80),
    "socks4": ("socks4", 1080),
    "socks4a": ("socks4a", 1080),
    "socks5": ("socks5", 1080),
    "socks5h": ("socks5", 1080),
    "socks": ("socks5", 1080),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """What HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say: URLs, empty for none.

    An entry of `no_proxy` is `*`, a name (its subdomains too), an address or a network (`10.0.0.0/8`),
    maybe with a port.
    """

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One proxy."""

    kind: _Kind
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def label(self) -> str:
        """Return host:port, as the log names it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """Return the proxy that a URL names; without a scheme it is an HTTP proxy.

    Raises:
        ValueError: not `scheme://[user:password@]host[:port]` with a scheme of http, socks4, socks4a,
            socks5 or socks5h. The text does not quote the URL.
    """
    match = _URL.fullmatch(url.strip())
    kind = _KINDS.get((match["scheme"] or "http").lower()) if match else None
    if match is None or kind is None:
        raise ValueError("a proxy is http|socks4|socks4a|socks5|socks5h://[user:password@]host[:port]")
    port = int(match["port"]) if match["port"] else kind[1]
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    return Proxy(
        kind=kind[0],
        host=match["host"].strip("[]").lower(),
        port=port,
        user=unquote(match["user"] or ""),
        password=unquote(match["password"] or ""),
    )


def choose(origin: Origin, own: str, settings: ProxySettings) -> Proxy | None:
    """Return the proxy for an origin: its own, else the settings', which are not for this machine.

    Raises:
        ValueError: the proxy's URL is none.
    """
    if own:
        return None if own == DIRECT else parse_proxy(own)
    if origin.loopback:
        return None
    url = settings.https if origin.scheme == "https" else settings.http
    if not url or any(_covers(entry.strip().lower(), origin) for entry in settings.no_proxy):
        return None
    return parse_proxy(url)


def _covers(entry: str, origin: Origin) -> bool:
    if entry == "*":
        return True
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.endswith("]")):
        if int(port) != origin.port:
            return False
        entry = name
    entry = entry.strip("[]")
    address = literal(origin.host)
    if address is None:
        entry = entry.removeprefix("*").removeprefix(".")
        return bool(entry) and (origin.host == entry or origin.host.endswith("." + entry))
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network


async def connect_http(sock: socket.socket, proxy: Proxy, origin: Origin) -> None:
    """Turn a connection to an HTTP proxy into a tunnel to the origin.

    Raises:
        Unreached: the proxy refused, or its answer is none.
        OSError: the connection broke.
    """
    loop = asyncio.get_running_loop()
    lines = [f"CONNECT {origin.label} HTTP/1.1", f"Host: {origin.label}"]
    if proxy.user or proxy.password:
        token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode())
    reply = b""
    while b"\r\n\r\n" not in reply:
        data = await loop.sock_recv(sock, 4096)
        reply += data
        if not data or len(reply) > _MAX_REPLY:
            raise _failed(proxy, origin, "its answer is not HTTP")
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})[ \r]", reply)
    if status is None:
        raise _failed(proxy, origin, "its answer is not HTTP")
    if status[1][:1] != b"2":
        raise _failed(proxy, origin, f"it answered {status[1].decode()}")
    if not reply.endswith(b"\r\n\r\n"):  # the origin speaks only when spoken to
        raise _failed(proxy, origin, "bytes follow its answer")


async def connect_socks(
    proxy: Proxy, addresses: Sequence[str], origin: Origin, destination: str
) -> socket.socket:
    """Connect to the first address of a SOCKS proxy that listens, and through it to `destination`.

    Raises:
        Unreached: the proxy refused, or its answer is none.
        OSError: no address of the proxy could be reached.
    """
    from python_socks import ProxyConnectionError, ProxyError, ProxyType
    from python_socks.async_.asyncio import Proxy as Socks

    kind = ProxyType.SOCKS5 if proxy.kind == "socks5" else ProxyType.SOCKS4
    failure: OSError = ConnectionRefusedError()
    for address in addresses:
        socks = Socks(
            kind,
            address,
            proxy.port,
            username=proxy.user or None,
            password=proxy.password or None,
            rdns=True,
            loop=asyncio.get_running_loop(),
        )
        try:
            return await socks.connect(destination, origin.port, timeout=3600)  # the caller's is shorter
        except ProxyConnectionError as error:
            failure = OSError(error.errno, "not reached")  # of the class that fits the number
        except ProxyError as error:
            raise _failed(proxy, origin, _reason(error)) from error
        except (UnicodeError, ValueError) as error:
            raise _failed(proxy, origin, "its user name, password or the host cannot be sent") from error
    raise failure


def _reason(error: Exception) -> str:
    code = getattr(error, "error_code", None)
    return "it refused" if code is None else f"it refused with code {int(code)}"


def _failed(proxy: Proxy, origin: Origin, what: str) -> Unreached:
    return Unreached(what, f"{origin.label} through {proxy.label}", " through its proxy")


def unreachable_proxy(proxy: Proxy, origin: Origin, error: BaseException) -> Unreached:
    """Return what a failure to reach the proxy means."""
    return _failed(proxy, origin, describe(error))
