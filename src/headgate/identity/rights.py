"""What one key may do at most, compared and narrowed: a key never has a right that its maker lacks. Pure.

Patterns of models have one wildcard, `*`, for any characters. So one is within another exactly when the
other matches it with its wildcards taken for a letter that stands nowhere else.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

from headgate.values import Ceiling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Network: TypeAlias = IPv4Network | IPv6Network
LIMITS: Final = ("rpm", "tpm", "rpd", "tpd", "concurrency")
_ANY: Final = "\x00"  # no name of a model has it
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@lru_cache(4096)
def matcher(patterns: tuple[str, ...]) -> Callable[[str], object]:
    """Return what says of a model's name whether one of some patterns matches all of it."""
    parts = ("(?:" + ".*".join(map(re.escape, pattern.split("*"))) + ")" for pattern in patterns)
    return re.compile("|".join(parts), re.DOTALL).fullmatch


def parse_network(text: str) -> Network:
    """Return an address or CIDR, IPv4 out of its IPv6 form.

    Raises:
        ValueError: it is none, has a zone, or bits behind its prefix.
    """
    if "%" in text:
        raise ValueError("a zone has no meaning here")
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        inner = network.network_address.ipv4_mapped
        return IPv4Network((inner or 0, network.prefixlen - 96))
    return network


def exceeding(wanted: Ceiling, limit: Ceiling) -> str:
    """Return the first member in which a ceiling goes beyond another one; empty if none does."""
    if limit.models and not (wanted.models and _covered(wanted.models, limit.models)):
        return "models"
    if limit.endpoints and not (wanted.endpoints and set(wanted.endpoints) <= set(limit.endpoints)):
        return "endpoints"
    if limit.networks and not (wanted.networks and len(_inside(wanted, limit)) == len(wanted.networks)):
        return "networks"
    return next(
        (name for name in ("expires_at", *LIMITS) if _above(getattr(wanted, name), getattr(limit, name))), ""
    )


def narrow(own: Ceiling, limit: Ceiling) -> Ceiling | None:
    """Return what two ceilings both allow; None when that is nothing.

    Patterns of models that only overlap count as nothing: safe, and simple to say.
    """
    models = _both(own.models, limit.models, lambda a, b: [p for p in a if _covered((p,), b)])
    endpoints = _both(own.endpoints, limit.endpoints, lambda a, b: [name for name in a if name in b])
    networks = _both(
        own.networks, limit.networks, lambda a, b: _inside(Ceiling(networks=a), Ceiling(networks=b))
    )
    if models is None or endpoints is None or networks is None:
        return None
    bounds = {
        name: min(filter(None, (getattr(own, name), getattr(limit, name))), default=0)
        for name in ("expires_at", *LIMITS)
    }
    return Ceiling(models, endpoints, networks, **bounds)


def ceiling_of(record: object) -> Ceiling:
    """Return the ceiling of what has all its members: a key's record, a principal."""
    return Ceiling(*(getattr(record, name) for name in Ceiling.__struct_fields__))


def _above(wanted: int, limit: int) -> bool:
    return bool(limit) and not 0 < wanted <= limit


def _covered(inner: Iterable[str], outer: tuple[str, ...]) -> bool:
    matches = matcher(outer)
    return all(matches(pattern.replace("*", _ANY)) for pattern in inner)


def _inside(inner: Ceiling, outer: Ceiling) -> list[str]:
    limits = [parse_network(text) for text in outer.networks]
    return [text for text in inner.networks if any(_within(parse_network(text), one) for one in limits)]


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _both(
    own: tuple[str, ...],
    limit: tuple[str, ...],
    part: Callable[[tuple[str, ...], tuple[str, ...]], list[str]],
) -> tuple[str, ...] | None:
    """Return what is in both lists, of which an empty one means all; None: nothing."""
    if not (own and limit):
        return own or limit
    return tuple(dict.fromkeys([*part(own, limit), *part(limit, own)])) or None
