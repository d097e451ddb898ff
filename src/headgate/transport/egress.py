"""Where the gateway may connect to: one URL parser, and a table of addresses that are never reached.

The parser's output builds the connection, so nothing else can read the URL differently. A name is
resolved once, every address is checked, and the connection goes to a checked address. The table is
our own: `ipaddress`'s flags miss embedded IPv4 addresses and change between Python releases.

An administrator may name a host on the LAN or on this machine (self-hosted models are a normal case),
so private addresses pass here. Link-local and metadata services, unspecified, broadcast and multicast
addresses hold no model and never pass.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TypeAlias

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED: tuple[tuple[_Network, str], ...] = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("100.100.100.200/32", "a cloud metadata service"),  # Alibaba Cloud
        ("168.63.129.16/32", "a cloud metadata service"),  # Azure's wire server
        ("169.254.0.0/16", "link-local"),  # and AWS, Azure, Google, OpenStack metadata
        ("192.0.0.192/32", "a cloud metadata service"),  # Oracle Cloud
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::/128", "unspecified"),
        ("fd00:ec2::254/128", "a cloud metadata service"),  # AWS over IPv6
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)

# Prefixes whose addresses carry an IPv4 address: the network, and the bits to its right.
_EMBEDDING = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::/96", 0),  # IPv4-compatible
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated (SIIT)
        ("64:ff9b::/96", 0),  # NAT64
        ("64:ff9b:1::/48", 0),  # NAT64, local use; in its common /96 form
        ("2002::/16", 80),  # 6to4
    )
)
_TEREDO = ipaddress.IPv6Network("2001::/32")  # the client's address, inverted, in the last 32 bits
_UNSPECIFIED = (ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1"))

_URL = re.compile(r"(https?)://([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?(/[!-~]*)?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider is: `http` or `https`, a lower-case host without brackets, a port."""

    scheme: str
    host: str
    port: int

    @property
    def label(self) -> str:
        """Return host:port, as the log names it."""
        return f"{self._bracketed}:{self.port}"

    @property
    def authority(self) -> str:
        """Return the value of the `host` header."""
        return self._bracketed if self.port == _PORTS[self.scheme] else self.label

    @property
    def url(self) -> str:
        """Return it as a URL without a path, always written in the same way."""
        return f"{self.scheme}://{self.authority}"

    @property
    def loopback(self) -> bool:
        """Say whether the host names this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        address = literal(self.host)
        return address is not None and address.is_loopback

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_origin(url: str) -> Origin:
    """Return the origin of a provider's `base_url`.

    Raises:
        ValueError: anything but `http(s)://host[:port][/path]`: user names and passwords, backslashes,
            queries, control characters, names outside ASCII, short or numeric forms of IPv4 addresses.
    """
    match = _URL.fullmatch(url)
    if match is None or any(mark in url for mark in "\\?#@"):
        raise ValueError("the URL is not http(s)://host[:port][/path]")
    scheme, host, port, _ = match.groups()
    if host.startswith("["):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    else:
        host = _name(host.lower().removesuffix("."))
    number = int(port) if port else _PORTS[scheme]
    if not 0 < number < 65536:
        raise ValueError(f"{number} is not a port")
    return Origin(scheme, host, number)


def _name(host: str) -> str:
    last = host.rpartition(".")[2]
    if not last or ".." in host:
        raise ValueError("the host is not a name")
    if (last.isdigit() or last.startswith("0x")) and literal(host) is None:
        # The resolver would read 2852039166, 0251.0376.0251.0376 or 127.1 as an address.
        raise ValueError("an IPv4 address must be written as four decimal numbers")
    return host


def literal(host: str) -> _Address | None:
    """Return the address that a host is written as, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def refusal(address: str) -> str | None:
    """Return why an address is never connected to ("link-local"), or None when it may be.

    Args:
        address: IPv4 or IPv6 in text, as the resolver gives it, maybe with a zone.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    for candidate in (parsed, *_embedded(parsed)):
        for network, why in _REFUSED:
            if candidate.version == network.version and candidate in network:
                return why
    return None


def _embedded(address: _Address) -> list[_Address]:
    """Return the IPv4 addresses that an IPv6 address leads to through a translator or tunnel."""
    if not isinstance(address, ipaddress.IPv6Address) or address in _UNSPECIFIED:
        return []
    number = int(address)
    found: list[_Address] = [
        ipaddress.IPv4Address(number >> shift & 0xFFFFFFFF)
        for network, shift in _EMBEDDING
        if address in network
    ]
    if address in _TEREDO:
        found += [
            ipaddress.IPv4Address(~number & 0xFFFFFFFF),
            ipaddress.IPv4Address(number >> 64 & 0xFFFFFFFF),
        ]
    return found
