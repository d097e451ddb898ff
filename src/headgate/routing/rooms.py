"""How much room the settings give to each target: a provider's model, whichever way leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.values import RoomTerms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.routing.settings import Route, RouteTarget
    from headgate.values import Host

Rooms = dict[tuple[str, str], RoomTerms]


def rooms_of(hosts: Mapping[str, Host], routes: Mapping[str, Route]) -> Rooms:
    """Return the room of each target that has bounds of its own, by its provider and its upstream model.

    Raises:
        ValueError: two routes say different things of one target.
    """
    rooms: Rooms = {}
    for route in routes.values():
        for target in route.targets:
            terms = _terms(target, hosts.get(target.provider))
            if terms is None:
                continue
            host = hosts.get(target.provider)
            place = (target.provider, host.deployed(target.model)[0] if host is not None else target.model)
            if rooms.setdefault(place, terms) != terms:
                raise ValueError(
                    f"model {route.name!r}: another model has other bounds (max_concurrent, max_waiting, "
                    f"longest_wait_s) for {target.provider}/{target.model}; say them once, or alike"
                )
    return rooms


def _terms(target: RouteTarget, host: Host | None) -> RoomTerms | None:
    """Return what is said of a target; what is not said is as at its provider."""
    if not target.max_concurrent and target.max_waiting is None and target.longest_wait_s is None:
        return None
    usual = host.room if host is not None else RoomTerms()
    waiting, longest = target.max_waiting, target.longest_wait_s
    return RoomTerms(
        target.max_concurrent,
        usual.max_waiting if waiting is None else waiting,
        usual.longest_wait_s if longest is None else longest,
    )
