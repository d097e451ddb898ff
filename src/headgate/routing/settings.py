"""The models that the configuration names, as the file says them."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from headgate.money.amounts import parse_cap
from headgate.routing.canary import TrialTerms
from headgate.routing.demands import wrong_tags
from headgate.routing.hedging import HedgeTerms
from headgate.routing.trials import Trial
from headgate.values import BatchRunner, Deadlines, When

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from headgate.values import Host

Choice: TypeAlias = Literal["weights", "order", "least_cost", "least_latency"]
CHOSEN: Final = frozenset({"least_cost", "least_latency"})  # for each call anew
SIMULATOR: Final = "simulator"  # the provider that is built in
_MOST_WEIGHT: Final = 1_000_000


class RouteTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One target of a configured model."""

    provider: str  # its name; `simulator` is the built-in one
    model: str  # as the provider calls it
    weight: int = 0  # its share of the calls among those that have one; 0: tried after them, in order
    when: When | None = None  # which calls it is for; not given: all
    region: str = ""  # where it is; empty: where its provider is
    data: tuple[str, ...] | None = None  # its policies for data; not given: those of its provider
    max_concurrent: int = 0  # calls that are there at once, whoever sends them; 0: as many as come
    max_waiting: int | None = None  # calls in a line for that; else as at its provider
    longest_wait_s: float | None = None  # of each; else as at its provider
    batch: BatchRunner | None = None  # who runs its batches; not given: as at its provider


class Canary(TrialTerms, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A target that takes the calls of a part of the callers, until it proves to be worse than the others."""

    target: RouteTarget  # as one of `targets`, without a weight
    share_percent: float  # of the callers; a larger one takes none of them back
    sticky_by: str = "key"  # who a caller is: `key`, `user` or `metadata.NAME`, else the key

    def wrong(self) -> str:
        """Return what is wrong with it, or an empty text."""
        if not 0 < self.share_percent < 100:
            return f"share_percent {self.share_percent:g} is not between 0 and 100"
        if self.sticky_by not in {"key", "user"} and not self.sticky_by.startswith("metadata."):
            return f"sticky_by {self.sticky_by!r} is none of key, user and metadata.NAME"
        if self.target.weight:
            return "its target has a weight: share_percent says its share"
        return super().wrong()


class Shadow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A target that gets copies of answered calls; nobody sees what it answers."""

    target: RouteTarget  # as one of `targets`, without a weight
    share_percent: float  # of the calls
    budget: str  # most that the house pays for them: `1/day`, `20/month`, `100/total`

    def wrong(self) -> str:
        """Return what is wrong with it, or an empty text."""
        if not 0 < self.share_percent <= 100:
            return f"share_percent {self.share_percent:g} is not above 0 and at most 100"
        if self.target.weight:
            return "its target has a weight: share_percent says its share"
        try:
            parse_cap(self.budget)
        except ValueError as fault:
            return f"budget: {fault}"
        return ""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that the configuration names: its targets, then the models to fall back to."""

    name: str  # as callers call it
    targets: tuple[RouteTarget, ...]  # one is chosen as `choice` says; then each until one answers
    choice: Choice = "weights"  # else the first in `order`, or the one of `least_cost` or `least_latency`
    fallback: tuple[str, ...] = ()  # other models, when no target answers
    canary: Canary | None = None  # a target that is tried out
    shadow: Shadow | None = None  # a target that gets copies
    hedge: HedgeTerms | None = None  # when a slow call is sent to a second target, too
    deadlines: Deadlines | None = None  # of its calls, instead of the general ones
    parameters: Literal["", "strict", "lenient"] = ""  # what becomes of those that a target cannot honour
    when: When | None = None  # which calls it is for, with what it falls back to; not given: all

    @property
    def trial(self) -> Trial | None:
        """Return its canary under these settings; None: it has none."""
        if self.canary is None:
            return None
        said = msgspec.json.encode((self.name, self.canary))
        return Trial(blake2b(said, digest_size=6).hexdigest(), self.name, self.canary)

    @property
    def every_target(self) -> tuple[RouteTarget, ...]:
        """Return its targets, and what it tries out."""
        others = (each.target for each in (self.canary, self.shadow) if each is not None)
        return (*self.targets, *others)

    @property
    def simulated(self) -> bool:
        """Say whether the simulator may answer its calls."""
        return any(target.provider == SIMULATOR for target in self.targets)

    def wrong(self, providers: Mapping[str, Host]) -> str:
        """Return the first thing that is wrong with it, or an empty text.

        Args:
            providers: those that are configured, by name.
        """
        return next(self._faults(providers), "")

    def _faults(self, providers: Mapping[str, Host]) -> Iterator[str]:
        if not self.targets:
            yield "targets is empty."
        if self.when is not None and (fault := self.when.wrong()):
            yield f"when: {fault}."
        if self.canary is not None and (fault := self.canary.wrong()):
            yield f"canary: {fault}."
        if self.shadow is not None and (fault := self.shadow.wrong()):
            yield f"shadow: {fault}."
        if self.hedge is not None and (fault := self.hedge.wrong()):
            yield f"hedge: {fault}."
        if self.hedge is not None and self.canary is not None:
            yield "hedge and canary: of two targets at once none can be compared. Leave one out."
        for target in self.every_target:
            yield from self._faults_of(target, providers)
        if self.hedge is not None and not self.fallback and self._askable(providers) < 2:
            yield (
                "hedge: there is no second target to ask. Give the model another one (not of a provider with "
                'hangup = "drain", which bills what nobody reads), a fallback, or its provider a second key; '
                "or leave hedge out."
            )

    def _askable(self, providers: Mapping[str, Host]) -> int:
        """Return how many targets may be asked beside another: with each key of a provider that lets go."""
        hosts = [providers.get(target.provider) for target in self.targets]
        return sum(
            1 if host is None else (host.hangup == "cancel") * (1 + len(host.spares)) for host in hosts
        )

    def _faults_of(self, target: RouteTarget, providers: Collection[str]) -> Iterator[str]:
        if not 0 <= target.weight <= _MOST_WEIGHT:
            yield f"weight {target.weight} is not 0 to {_MOST_WEIGHT}."
        if target.weight and self.choice != "weights":
            yield f"weight {target.weight} means nothing with choice {self.choice!r}: leave one out."
        if target.provider not in providers and target.provider != SIMULATOR:
            there = ", ".join(providers) or "none"
            yield f"provider {target.provider!r} is not configured; configured: {there}."
        if fault := wrong_tags((*([target.region] if target.region else ()), *(target.data or ()))):
            yield f"region or data of {target.provider}/{target.model}: {fault}."
        if target.when is not None and (fault := target.when.wrong()):
            yield f"when of {target.provider}/{target.model}: {fault}."
