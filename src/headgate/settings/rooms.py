"""How much room providers and targets have: whether the settings say it right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.routing.rooms import rooms_of
from headgate.settings.places import named_in, placed
from headgate.settings.upstreams import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.routing.settings import Route
    from headgate.values import Host, RoomTerms


def check_rooms(hosts: Mapping[str, Host], routes: Mapping[str, Route], workers: int) -> None:
    """See that each bound is one, and enough for the workers that share it.

    Raises:
        ConfigError: naming the provider or the target.
    """
    try:
        rooms = rooms_of(hosts, routes)
    except ValueError as fault:
        with placed(*named_in("models", routes, fault)):
            raise ConfigError(f"{fault}.") from fault
    for host in hosts.values():
        with placed("providers", host.name):
            _check(f"provider {host.name!r}", host.room, workers)
    for (provider, model), room in rooms.items():
        with placed("models", _bounding(routes, provider)):
            _check(f"target {provider}/{model}", room, workers)


def _bounding(routes: Mapping[str, Route], provider: str) -> str:
    """Return the first model with a target at a provider that has bounds of its own."""
    for name, route in routes.items():
        if any(target.provider == provider and target.max_concurrent for target in route.targets):
            return name
    return ""


def _check(where: str, room: RoomTerms, workers: int) -> None:
    if said := room.wrong():
        raise ConfigError(f"{where}: {said}.")
    if 0 < room.max_concurrent < workers:
        raise ConfigError(
            f"{where}: max_concurrent {room.max_concurrent} is below the {workers} workers, of which "
            "each has its share: give it more, or run fewer workers."
        )
