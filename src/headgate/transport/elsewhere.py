"""What a provider keeps at other addresses than its own: where that is, and what is asked there. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.transport.egress import parse_origin
from headgate.values import Host

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.values import Target

_URL: Final = re.compile(r"(https?://[^/?#]{1,300})([/?][!-\"$-~]{0,8192})?", re.ASCII)
_PATTERN: Final = re.compile(r"(\*\.)?((?:[a-z0-9_-]+\.)*[a-z0-9_-]+)(?::[0-9]{1,5})?")
_NONE: Final = "The provider leads to what is no https address."


def at_origin(target: Target, origin: str) -> Target:
    """Return a target at another origin, which gets no credential of ours."""
    host = Host(name=target.host.name, base_url=origin, proxy=target.host.proxy)
    return msgspec.structs.replace(target, host=host, headers=(), base_path="")


def check_pattern(pattern: str) -> None:
    """Check the pattern of a host's name: `name`, `name:port`, or `*.name` for all that end so.

    Raises:
        ValueError: it is none, or it names a whole top-level domain.
    """
    found = _PATTERN.fullmatch(pattern)
    if found is None or (found[1] and "." not in found[2]):
        raise ValueError(f"{pattern!r} is not host.example, host.example:8443 or *.host.example")


def among(host: str, patterns: Collection[str]) -> bool:
    """Say whether patterns name a host, with its port where that is not the usual one."""
    return any(host.endswith(each[1:]) if each.startswith("*.") else host == each for each in patterns)


def answers_at(url: str, target: Target) -> tuple[Target, str]:
    """Return who is asked for answers that a provider keeps at an address, and the path there.

    Raises:
        UpstreamInterrupted: it is no https address, or one at a host that is not known to keep them.
    """
    own = target.host.base_url
    origin, path = place_of(url, own)
    place = parse_origin(origin)
    if place != parse_origin(own) and not among(place.authority, target.host.batch_hosts):
        raise UpstreamInterrupted(
            f"The provider says that answers lie at {place.authority}, which batch_hosts of provider "
            f"{target.host.name!r} does not name. Add it there if it is one that the provider keeps them at."
        )
    return at_origin(target, origin), path


def host_of(url: str) -> str:
    """Return the host of an https address, with its port where it has one; empty: it is none."""
    try:
        return place_of(url)[0].partition("://")[2]
    except UpstreamInterrupted:
        return ""


def place_of(url: str, own: str = "") -> tuple[str, str]:
    """Return the origin and the path of what a provider has named.

    Args:
        url: that it gave.
        own: the URL of the provider itself, which need not be https.

    Raises:
        UpstreamInterrupted: it is no https address, nor one of the provider's own.
    """
    found = _URL.fullmatch(url)
    try:
        origin = parse_origin(found[1] if found is not None else "")
        ours = bool(own) and parse_origin(own) == origin
    except ValueError as fault:
        raise UpstreamInterrupted(_NONE) from fault
    if origin.scheme != "https" and not ours:
        raise UpstreamInterrupted(_NONE)
    path = (found and found[2]) or "/"
    return origin.url, path if path.startswith("/") else f"/{path}"
