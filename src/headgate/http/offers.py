"""Which models a key may use: what `GET /v1/models` lists. Other names may still be routable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from headgate.errors import GatewayError
from headgate.identity.standing import may_use
from headgate.money.pricedata import day_micros
from headgate.values import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headgate.routing.routes import Routes
    from headgate.values import Principal, Target, WallMicros

_SERVED: Final = frozenset(get_args(Operation))


class Offer(NamedTuple):
    """A model as a caller may name it."""

    name: str
    owner: str
    shutdown: str  # the day on which the model behind it is shut down; empty: not known


def offers(routes: Routes, principal: Principal, now: WallMicros) -> Iterator[Offer]:
    """Yield exactly what a key may use of all that is known by name."""
    for name, owner in routes.named(principal.book).items():
        if not may_use(principal, name):
            continue
        try:
            targets = routes.candidates(name, principal.book, now)
        except GatewayError:  # an alias of something that nobody here serves
            continue
        usable = [target for target in targets if _usable(target, principal, now)]
        if usable:
            yield Offer(name, owner, usable[0].shutdown)


def offer(routes: Routes, principal: Principal, name: str, now: WallMicros) -> Offer:
    """Return what a name stands for, also one that is routable and not listed.

    Raises:
        NotFound: nobody here serves it, or not for this key.
    """
    if not may_use(principal, name):
        raise routes.not_found(name, principal.book)
    targets: Sequence[Target] = routes.candidates(name, principal.book, now)
    owner = routes.named(principal.book).get(name, targets[0].host.name)
    return Offer(name, owner, targets[0].shutdown)


def _usable(target: Target, principal: Principal, now: WallMicros) -> bool:
    """Say whether a key's call may reach a target that answers."""
    operations = _SERVED.intersection(target.model.operations)
    if principal.endpoints:
        operations &= frozenset(principal.endpoints)
    if not operations or (principal.prepaid and target.prices is None):
        return False
    return not target.shutdown or day_micros(target.shutdown) > now
