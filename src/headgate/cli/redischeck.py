"""What `headgate doctor` and `config check` say of Redis."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headgate.program import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.cli.reach import State
    from headgate.settings.storage import Storage

_PATIENCE_S: Final = 1.0
_NEAR_MS: Final = 20.0
_SAFE: Final = "noeviction"


class Seen(NamedTuple):
    """How Redis is."""

    state: State
    says: str
    advice: str = ""
    measured: Mapping[str, float] = MappingProxyType({})  # milliseconds


def look(storage: Storage) -> Seen:
    """Ask Redis how it is; changes nothing."""
    from redis import Redis, RedisError

    place = without_password(storage.redis)
    try:
        with Redis.from_url(
            storage.redis, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S
        ) as client:
            client.ping()
            began = time.perf_counter()
            client.ping()
            took_ms = (time.perf_counter() - began) * 1000
            return _judged(place, took_ms, dict(client.info()))
    except (RedisError, OSError, ValueError) as fault:
        says = f"{place} cannot be used: {str(fault)[:200] or type(fault).__name__}"
        advice = "Until then each worker keeps to its share of every limit. Start it, or mend storage.redis."
        return Seen("fault", says, advice)


def _judged(place: str, took_ms: float, info: dict[str, Any]) -> Seen:
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    says = f"{place}, {name} {version}, {took_ms:.1f} ms away; nothing in it needs to be persistent"
    measured = {"ping": round(took_ms, 3)}
    policy, bound = str(info.get("maxmemory_policy", _SAFE)), int(info.get("maxmemory", 0))
    if info.get("role") not in {"master", "primary", None}:
        advice = "Name the one that takes writes."
        return Seen("fault", f"{place} is a replica, which takes no writes", advice, measured)
    if bound and policy != _SAFE:
        advice = (
            f"`maxmemory-policy {policy}` may drop what limits have counted: set {_SAFE}, "
            "or give Headgate a Redis of its own."
        )
        return Seen("warning", says, advice, measured)
    if took_ms > _NEAR_MS:
        advice = "What takes longer than 50 ms counts as away. Use one that is nearer."
        return Seen("warning", says, advice, measured)
    return Seen("ok", says, "", measured)


def place_of(storage: Storage) -> str:
    """Return where Redis is, for people."""
    if not storage.redis:
        return "none: limits are counted on this machine"
    return f"{without_password(storage.redis)}, names begin with {storage.redis_prefix}:"
