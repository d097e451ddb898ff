"""Where a request comes from, and whether a key may be used from there.

The socket's peer counts. What forwarding headers say is believed only from the proxies that the
configuration lists, from right to left: the first address that is no proxy of ours is the client, and
what stands left of it could have been written by anybody.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

from headgate.identity.rights import parse_network

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.identity.rights import Network

Address: TypeAlias = IPv4Address | IPv6Address
UNKNOWN: Final = ""  # an address that is malformed or missing: inside no network
_LONGEST: Final = 64  # characters of an address, with brackets and port
_MOST_HOPS: Final = 32


@lru_cache(4096)
def parse_address(text: str) -> Address | None:
    """Return an address in its one strict form, IPv4 out of its IPv6 form; None for anything else."""
    if "%" in text or len(text) > _LONGEST:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@lru_cache(4096)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(parse_network(text) for text in networks)


@lru_cache(65_536)
def inside(address: str, networks: tuple[str, ...]) -> bool:
    """Say whether an address is in one of some networks; never, when it is none."""
    found = parse_address(address)
    return found is not None and any(found in network for network in _parsed(networks))


def client_address(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: tuple[str, ...]) -> str:
    """Return the address that a request comes from; `UNKNOWN` where a trusted proxy says nothing sound.

    Args:
        peer: of the socket.
        headers: in order, names in lower case.
        trusted: networks of the proxies whose word counts; (): the peer is the client.
    """
    if not trusted or not inside(peer, trusted):
        return _text(peer)
    headers = list(headers)
    told = [
        hops
        for hops in (
            _listed([value for name, value in headers if name == b"x-forwarded-for"]),
            _forwarded([value for name, value in headers if name == b"forwarded"]),
        )
        if hops is not None
    ]
    if not told:
        return _text(peer)  # the proxy asks for itself
    clients = {_client(hops, trusted) for hops in told}
    return clients.pop() if len(clients) == 1 else UNKNOWN  # two headers that differ: one is forged


def _client(hops: Sequence[str], trusted: tuple[str, ...]) -> str:
    """Return the rightmost hop that is no proxy of ours; all that is right of it was written by them."""
    if not hops or len(hops) > _MOST_HOPS:
        return UNKNOWN
    for hop in reversed(hops):
        address = _text(_without_port(hop))
        if not address or not inside(address, trusted):
            return address
    return _text(_without_port(hops[0]))


def _text(address: str) -> str:
    found = parse_address(address)
    return UNKNOWN if found is None else str(found)


def _listed(values: list[bytes]) -> list[str] | None:
    """Return the hops of `X-Forwarded-For`, all its lines together; None where there is none."""
    if not values:
        return None
    return [hop.strip(" \t") for hop in b",".join(values).decode("latin-1").split(",")]


def _forwarded(values: list[bytes]) -> list[str] | None:
    """Return the hops of `Forwarded` (RFC 7239); one without `for` is an empty text."""
    if not values:
        return None
    hops = []
    for element in b",".join(values).decode("latin-1").split(","):
        pairs = [pair.strip(" \t").partition("=") for pair in element.split(";")]
        named = [value for name, _, value in pairs if name.lower() == "for"]
        text = named[0] if len(named) == 1 else ""
        quoted = len(text) > 1 and text[0] == text[-1] == '"'
        hops.append(text[1:-1] if quoted else text)
    return hops


def _without_port(hop: str) -> str:
    """Return the address of `a.b.c.d:port`, `[v6]` or `[v6]:port`; other forms as they are."""
    if hop.startswith("["):
        address, bracket, port = hop[1:].partition("]")
        fits = bracket and ":" in address and (not port or (port[0] == ":" and _is_port(port[1:])))
        return address if fits else UNKNOWN
    if hop.count(":") == 1:
        address, _, port = hop.partition(":")
        return address if _is_port(port) and "." in address else UNKNOWN
    return hop


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 65_536


def neighbourhood(address: str) -> str:
    """Return what counts as one place of a client: its address, or the /64 that an IPv6 client has whole."""
    found = parse_address(address)
    if found is None:
        return address
    return str(found) if found.version == 4 else str(ip_network((found, 64), strict=False))
