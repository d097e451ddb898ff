"""Which limits a call passes: those of its key, project and account, and of their models' patterns. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headgate.admission.meters import Place
from headgate.values import Book, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headgate.money.tiers import Tier
    from headgate.values import Principal

_NONE = Limits()


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How limits are counted; what they are is said of keys, projects, accounts and tiers."""

    count_failed: bool = True  # calls that fail at their provider count as requests
    queue_per_key: int = 100  # calls of one key that may wait for a limit, where it or its tier says how long
    queue_total: int = 10_000  # and of all keys


class LimitRow(NamedTuple):
    """A stored limit: of everything in a scope, or of the models that a pattern means."""

    scope: str  # account, project, key
    ref: int
    model: str  # empty: all models
    limits: Limits


class Bound(NamedTuple):
    """Limits that hold for a call, and whose they are."""

    place: Place
    limits: Limits


class LimitTable:
    """All limits in force.

    A call passes those of each scope as a whole and those of the first pattern that means its model; a
    name stands before a pattern, a longer pattern before a shorter one. Of an account, a tier gives what
    no row says, and a tier's limits of a model stand in for its other ones.
    """

    __slots__ = ("_patterns", "_tiers", "_whole")

    def __init__(self, rows: Iterable[LimitRow] = (), tiers: Sequence[Tier] = ()) -> None:
        self._tiers = {tier.name: tier for tier in tiers}
        self._whole: dict[tuple[str, int], Limits] = {}
        self._patterns: dict[tuple[str, int], list[tuple[str, Limits]]] = {}
        for row in sorted(rows, key=_rank):
            if row.model:
                self._patterns.setdefault((row.scope, row.ref), []).append((row.model, row.limits))
            else:
                self._whole[row.scope, row.ref] = row.limits

    def by_model(self, principal: Principal) -> bool:
        """Say whether a principal's limits depend on the model."""
        tier = self._tiers.get(principal.tier)
        return bool(tier is not None and tier.models) or any(
            (scope, ref) in self._patterns for scope, ref in _scopes(principal)
        )

    def queue_ms(self, principal: Principal) -> int:
        """Return how long a principal's calls may wait for a limit; 0: not at all."""
        tier = self._tiers.get(principal.tier)
        return principal.queue_ms or (tier.queue_ms if tier is not None else 0)

    def bounds(self, principal: Principal, model: str) -> list[Bound]:
        """Return the limits of a principal's calls for a model, the key's own first."""
        sim = principal.book == Book.SIM
        found: dict[Place, Limits] = {}
        for scope, ref in _scopes(principal):
            whole = self._whole.get((scope, ref), _NONE)
            if scope == "key":
                whole = _tightest(whole, _own(principal))
            elif scope == "account":
                pattern, given = self._given(principal, model)
                if pattern:
                    found[Place(scope, ref, pattern, sim)] = given
                else:
                    whole = _over(whole, given)
            found[Place(scope, ref, "", sim)] = whole
            pattern, own = _first(self._patterns.get((scope, ref), ()), model)
            if pattern:
                place = Place(scope, ref, pattern, sim)
                found[place] = _over(own, found.get(place, _NONE))
        return [Bound(place, limits) for place, limits in found.items() if limits != _NONE]

    def _given(self, principal: Principal, model: str) -> tuple[str, Limits]:
        """Return what the tier allows for a model, with the pattern if it is for some models only."""
        tier = self._tiers.get(principal.tier)
        if tier is None:
            return "", _NONE
        pattern, own = _first(tier.models, model)
        return (pattern, own) if pattern else ("", tier.limits)


def _scopes(principal: Principal) -> Iterator[tuple[str, int]]:
    yield "key", principal.key
    yield "project", principal.project
    yield "account", principal.account


def _rank(row: LimitRow) -> tuple[bool, int, str]:
    return any(char in row.model for char in "*?["), -len(row.model), row.model


def _first(patterns: Sequence[tuple[str, Limits]], model: str) -> tuple[str, Limits]:
    return next(((p, own) for p, own in patterns if fnmatchcase(model, p)), ("", _NONE))


def _own(principal: Principal) -> Limits:
    return Limits(principal.rpm, principal.tpm, principal.rpd, principal.tpd, principal.concurrency)


def _numbers(limits: Limits) -> tuple[int, ...]:
    return (limits.rpm, limits.tpm, limits.rpd, limits.tpd, limits.concurrency)


def _over(upper: Limits, lower: Limits) -> Limits:
    """Return what the upper row says, and the lower one where it says nothing."""
    return Limits(*(a or b for a, b in zip(_numbers(upper), _numbers(lower), strict=True)))


def _tightest(one: Limits, other: Limits) -> Limits:
    pairs = zip(_numbers(one), _numbers(other), strict=True)
    return Limits(*(min(a, b) if a and b else a or b for a, b in pairs))
