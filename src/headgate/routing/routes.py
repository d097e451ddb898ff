"""Which targets could serve a model's name, in order, with their prices. Pure; results are kept per name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import GatewayError, NotFound, Unavailable
from headgate.money.batchterms import cost_in_tier, in_tier
from headgate.money.prices import scaled
from headgate.routing.rooms import rooms_of
from headgate.routing.settings import CHOSEN
from headgate.values import (
    BUILT_IN,
    LEXICAL,
    Book,
    Host,
    Model,
    Prices,
    Target,
    WallMicros,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headgate.routing.hedging import HedgeTerms
    from headgate.routing.makers import Makers, Priced
    from headgate.routing.settings import Route, RouteTarget, Shadow
    from headgate.routing.trials import Trial
    from headgate.values import Deadlines, Demand, Principal, When

_DAY_US = 86_400_000_000
_BUILT_IN = Target(
    host=Host(name="headgate", kind=BUILT_IN, base_url="http://headgate.invalid/v1", local=True),
    model=Model(name=LEXICAL, operations=("moderations",)),
    prices=Prices(),
    costs=Prices(),
    simulated=True,
    base_path="/v1",
)
UPLOADED = ("image_edits", "image_variations", "transcriptions", "translations")
_EVERYTHING = ("chat", "completions", "embeddings", "moderations", "images", "speech", *UPLOADED)
_SHARES = 5040  # a weight in parts that up to ten keys share without a rest
_SIM_LIKE = "gpt-4o-mini"  # what the simulator's own models are priced like


class _Known(msgspec.Struct, frozen=True):
    since: WallMicros
    until: WallMicros
    targets: tuple[Target, ...]


class _Wanted:
    """A question for targets, and the span around `at` in which the answer stays true."""

    __slots__ = ("at", "book", "group", "name", "since", "tier", "until")

    def __init__(self, book: Book, at: WallMicros, tier: str, name: str) -> None:
        self.book = book
        self.name = name  # as the caller has it
        self.at = at
        self.tier = tier
        self.group = 0  # of the targets that are found now
        self.since = at // _DAY_US * _DAY_US
        self.until = self.since + _DAY_US

    def narrow(self, span: tuple[WallMicros, WallMicros]) -> None:
        """Take in that a price holds only within a span."""
        self.since = max(self.since, span[0])
        self.until = min(self.until, span[1])


def bounded(host: Host, names: Iterable[str]) -> Iterable[str]:
    """Return the models that a host is given to serve: of those that are known, and those given in full."""
    if not host.limited:
        return names
    exact = (pattern for pattern in host.models if not {*"*?["}.intersection(pattern))
    known = (name for name in names if any(fnmatchcase(name, pattern) for pattern in host.models))
    return dict.fromkeys((*known, *exact))


def _steered(target: Target) -> bool:
    return bool(target.whens or target.choice or target.canary)


class Routes:
    """Resolve model names for the real book and for the simulator's.

    Args:
        hosts: the configured providers, in order of preference.
        routes: the models that the configuration names, by name.
        aliases: other names of models.
        simulator: the in-process host, or None where it must not serve.
        makers: prices, facts and wire details.
    """

    def __init__(
        self,
        hosts: Iterable[Host],
        routes: Mapping[str, Route],
        aliases: Mapping[str, str],
        simulator: Host,
        makers: Makers,
    ) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.routes = routes
        self.aliases = aliases
        self.key_rules = makers.key_rules
        self._simulator = simulator
        self._makers = makers
        self._rooms = rooms_of(self.hosts, routes)
        self._known: dict[tuple[str, Book, str], _Known] = {}
        self._resold: dict[tuple[int, int], tuple[tuple[Target, ...], tuple[Target, ...]]] = {}
        self._offered: dict[str, frozenset[str]] = {}

    def candidates(self, model: str, book: Book, at: WallMicros, tier: str = "") -> tuple[Target, ...]:
        """Return the targets for a name, at least one, with the prices in force at `at`.

        Raises:
            NotFound: nobody here serves it; the message says who is here and what would help.
        """
        known = self._known.get((model, book, tier))
        if known is not None and known.since <= at < known.until:
            return known.targets
        return self._find(model, _Wanted(book, at, tier, model))

    def _find(self, model: str, wanted: _Wanted) -> tuple[Target, ...]:
        """Resolve a name, and keep what it stands for."""
        targets = tuple(self._resolve(model, wanted, set())) if model.isprintable() else ()
        if not targets:
            raise self.not_found(model, wanted.book)
        targets = (*targets, *self._canary(model, wanted))
        if targets[-1].canary:
            targets = tuple(msgspec.structs.replace(each, trial=targets[-1].trial) for each in targets)
        if self._makers.demands or any(map(_steered, targets)) or self.extras_of(model) != (None, None):
            targets = tuple(msgspec.structs.replace(target, steered=True) for target in targets)
        if len(self._known) > 10_000:  # names come from callers: never let them fill memory
            self._known.clear()
        self._known[model, wanted.book, wanted.tier] = _Known(wanted.since, wanted.until, targets)
        return targets

    @property
    def trials(self) -> dict[str, Trial]:
        """Return the canaries of the settings, by their ids."""
        found = (route.trial for route in self.routes.values())
        return {trial.id: trial for trial in found if trial is not None}

    def demanded(self, caller: Principal) -> tuple[Demand, ...]:
        """Return what the settings demand of the calls of a key."""
        return tuple(each.demand for each in self._makers.demands if each.meets(caller))

    def key_of(self, host: Host) -> str:
        """Return the key that a host of the same name and credential has here; empty: none."""
        there = self.hosts.get(host.name, host)
        same = (each.api_key for each in (there, *there.spares) if each.credential == host.credential)
        return next(same, "") if there is not host else ""

    def resold(self, targets: tuple[Target, ...], ppm: int) -> tuple[Target, ...]:
        """Return targets at an account's own prices: so many millionths. What they cost us stays.

        Worked out once per answer of `candidates`, which is kept here so that its identity is its own.
        """
        known = self._resold.get((id(targets), ppm))
        if known is None:
            if len(self._resold) > 10_000:
                self._resold.clear()
            own = tuple(
                target
                if target.prices is None
                else msgspec.structs.replace(target, prices=scaled(target.prices, ppm))
                for target in targets
            )
            known = self._resold[id(targets), ppm] = (targets, own)
        return known[1]

    def _resolve(self, model: str, wanted: _Wanted, seen: set[str]) -> list[Target]:
        name = self.aliases.get(model, model)
        if name == LEXICAL:
            return [_BUILT_IN]
        if wanted.book is Book.SIM:
            return self._simulated(name, wanted) or self._played(name, wanted)
        route = self.routes.get(name)
        if route is None:
            host, upstream = self._host_of(name)
            wanted.group += 1
            return self._keyed(host, upstream, wanted, None, 0) if host is not None else []
        seen.add(name)
        found: list[Target] = []
        for index, target in enumerate(sorted(route.targets, key=lambda target: -target.weight)):
            # Those with a weight are one group, each other one its own, unless one is chosen of all.
            if not (index and (target.weight or route.choice in CHOSEN)):
                wanted.group += 1
            found += self._route_target(target, route, wanted)
        for other in route.fallback:
            if other not in seen:
                found += self._resolve(other, wanted, seen)
        return self._under(route.when, found)

    def name_of(self, model: str) -> str:
        """Return what a name stands for, where it is an alias."""
        return self.aliases.get(model, model)

    def extras_of(self, model: str) -> tuple[Shadow | None, HedgeTerms | None]:
        """Return what gets copies of a model's calls, and when they are sent to a second target, too."""
        route = self.routes.get(self.name_of(model))
        return (None, None) if route is None else (route.shadow, route.hedge)

    def shadow_target(self, model: str, at: WallMicros, tier: str) -> Target:
        """Return the target of a model's shadow, at what it takes itself."""
        route, wanted = self.routes[self.name_of(model)], _Wanted(Book.REAL, at, tier, model)
        assert route.shadow is not None
        plain = msgspec.structs.replace(route, choice="weights")
        found = self._under(route.when, self._route_target(route.shadow.target, plain, wanted))[0]
        return msgspec.structs.replace(found, prices=found.costs)

    def _canary(self, model: str, wanted: _Wanted) -> list[Target]:
        """Return the targets of a model's canary, which steering puts first or leaves out."""
        route = self.routes.get(self.name_of(model))
        if route is None or route.trial is None or wanted.book is Book.SIM:
            return []
        wanted.group += 1
        plain = msgspec.structs.replace(route, choice="weights")
        found = self._route_target(route.trial.canary.target, plain, wanted)
        return [
            msgspec.structs.replace(each, canary=True, trial=route.trial.id)
            for each in self._under(route.when, found)
        ]

    def _route_target(self, target: RouteTarget, route: Route, wanted: _Wanted) -> list[Target]:
        if target.provider == self._simulator.name:
            found = [
                msgspec.structs.replace(
                    each,
                    weight=target.weight * _SHARES,
                    group=wanted.group,
                    room=self._rooms.get((target.provider, target.model), each.room),
                )
                for each in self._simulated(target.model, wanted)
            ]
        else:
            host = self.hosts[target.provider]
            found = self._keyed(host, target.model, wanted, route, target.weight)
        said: dict[str, Any] = {}
        if target.region:
            said["region"] = target.region
        if target.data is not None:
            said["data"] = target.data
        if target.batch is not None:
            said["batch"] = target.batch
        if route.choice in CHOSEN:
            said |= {"choice": route.choice, "weight": 0}
        if said:
            found = [msgspec.structs.replace(each, **said) for each in found]
        return self._under(target.when, found)

    def _under(self, when: When | None, targets: list[Target]) -> list[Target]:
        """Return targets that are only for some calls; what `able` says is worked out for each."""
        if when is None:
            return targets
        return [
            msgspec.structs.replace(target, whens=(self._able(when, target), *target.whens))
            for target in targets
        ]

    def _able(self, when: When, target: Target) -> When:
        if not when.able or target.simulated:
            return when
        cannot = self._makers.facts.cannot(target.host, target.model.name)
        return msgspec.structs.replace(when, lacks=tuple(dict.fromkeys((*when.lacks, *cannot))))

    def _keyed(
        self, host: Host, name: str, wanted: _Wanted, route: Route | None, weight: int
    ) -> list[Target]:
        """Return a model at a host once for each of its keys, which share the weight."""
        hosts = (host, *host.spares)
        share = (weight or (len(hosts) > 1)) * _SHARES // len(hosts)
        found = [
            self._target(each, name, wanted, route.deadlines if route is not None else None) for each in hosts
        ]
        parameters = route.parameters if route is not None else ""
        return [
            msgspec.structs.replace(each, weight=share, group=wanted.group, parameters=parameters)
            for each in found
        ]

    def _host_of(self, name: str) -> tuple[Host | None, str]:
        """Return the host that serves a name: by prefix, catalogue, pattern, or because it takes all."""
        prefix, _, rest = name.partition("/")
        if rest and prefix in self.hosts:
            return self.hosts[prefix], rest
        for host in self.hosts.values():
            if name in self._names(host):
                return host, name
        for broad in (False, True):
            for host in self.hosts.values():
                if any((p in {"*", "*/*"}) is broad and fnmatchcase(name, p) for p in host.models):
                    return host, name
        return None, name

    def _names(self, host: Host) -> frozenset[str]:
        names = self._offered.get(host.name)
        if names is None:
            names = self._offered[host.name] = frozenset(self._listed(host))
        return names

    def _listed(self, host: Host) -> Iterable[str]:
        """Return the models of a host that are known by name: of deployments, those and what they are."""
        names: Iterable[str] = self._makers.facts.names(self._makers.price_names.get(host.name) or host.name)
        if host.deployments is not None:
            names = dict.fromkeys((*host.deployments, *host.deployments.values()))
        return bounded(host, names)

    def _target(self, host: Host, name: str, wanted: _Wanted, deadlines: Deadlines | None) -> Target:
        makers = self._makers
        book_name = makers.price_names.get(host.name) or host.name
        name, known_as = host.deployed(name)
        row = self._row(host.name, known_as, wanted)
        model = makers.facts.model(book_name, known_as)
        if name != known_as:
            model = msgspec.structs.replace(model, name=name)
        if row is not None and row.context_window and not model.context_window:
            model = msgspec.structs.replace(model, context_window=row.context_window)
        if host.local:
            prices: Prices | None = Prices()
            costs: Prices | None = Prices()
        else:
            prices = in_tier(row, wanted.tier, makers.batch, wanted.name)
            costs = cost_in_tier(makers.prices.find_cost(host.name, known_as, wanted.at), wanted.tier)
        shutdown, notice = makers.facts.end(host, known_as)
        return Target(
            host=host,
            model=model,
            prices=prices,
            costs=costs,
            shutdown=shutdown,
            notice=notice,
            deadlines=deadlines or makers.deadlines,
            headers=makers.headers(host),
            base_path=makers.base_path(host),
            region=host.region,
            data=host.data,
            batch=host.batch,
            by_unit=prices is not None and bool(prices.more),
            room=self._rooms.get((host.name, name)) or msgspec.structs.replace(host.room, max_concurrent=0),
        )

    def _row(self, provider: str, model: str, wanted: _Wanted) -> Priced | None:
        wanted.narrow(self._makers.prices.valid(provider, model, wanted.at))
        return self._makers.prices.find(provider, model, wanted.at)

    def _simulated(self, name: str, wanted: _Wanted) -> list[Target]:
        own = name.startswith("sim-")
        maker = self._maker(_SIM_LIKE if own else name, wanted.at)
        if maker is None:
            return []
        like = _SIM_LIKE if own else name
        prices = in_tier(self._row(maker, like, wanted), wanted.tier, self._makers.batch, name) or Prices()
        model = self._makers.facts.model(maker, like)
        if own:
            model = msgspec.structs.replace(model, name=name, operations=_EVERYTHING)
        return [
            Target(
                host=self._simulator,
                model=model,
                prices=prices,
                costs=prices,
                simulated=True,
                by_unit=bool(prices.more),
                base_path="/v1",
            )
        ]

    def _played(self, name: str, wanted: _Wanted) -> list[Target]:
        """Return the simulator in place of a model of the settings, for keys that reach no provider."""
        route = self.routes.get(name)
        if route is None:
            return []
        targets = sorted(route.targets, key=lambda target: -target.weight)
        known = next(filter(None, (self._simulated(each.model, wanted) for each in targets)), None)
        if known is not None:
            return known
        [like] = self._simulated(_SIM_LIKE, wanted)  # nobody knows what that model is
        first = targets[0]
        row = self._row(self._makers.price_names.get(first.provider) or first.provider, first.model, wanted)
        prices = in_tier(row, wanted.tier, self._makers.batch, name) or like.prices
        return [
            msgspec.structs.replace(
                like,
                model=msgspec.structs.replace(like.model, name=first.model, operations=_EVERYTHING),
                prices=prices,
                costs=prices,
                by_unit=prices is not None and bool(prices.more),
            )
        ]

    def _maker(self, name: str, at: WallMicros) -> str | None:
        """Return the provider whose model the simulator plays."""
        known = self._makers.facts.model("openai", name).context_window
        # Names come from callers: the long list is searched only for what some maker makes.
        sellers: Iterable[str] = self._makers.sellers if known else self._makers.price_names.values()
        for provider in ("openai", *sellers):
            if self._makers.prices.find(provider, name, at) is not None:
                return provider
        return "openai" if known else None

    def not_found(self, model: str, book: Book) -> GatewayError:
        """Return the refusal of a model that nobody here serves, or not for the caller."""
        if book is Book.REAL and not self.hosts and not self.routes:
            return Unavailable(
                "No provider is configured. Set OPENAI_API_KEY, DEEPSEEK_API_KEY or another provider's "
                "variable where the gateway runs, and start it again.",
                retry_after_s=None,
            )
        shown = model if len(model) <= 100 else model[:100] + "..."
        message = f"The model `{shown}` does not exist or you do not have access to it."
        if book is Book.SIM and self.hosts:
            message += (
                " This key is for tests: the simulator answers it, as any model that is widely known or"
            )
            message += " named under [[models]] in the settings."
        elif self.hosts:
            names = ", ".join(self.hosts)
            example = next((host.example for host in self.hosts.values() if host.example), "MODEL")
            message += f" Providers found here: {names}. To serve it by another model, start with"
            message += f" `--alias {shown}={example}`."
        return NotFound(message, code="model_not_found")

    def lists(self, provider: str, model: str) -> bool:
        """Say whether a target is known here by itself, not only because a caller has named it."""
        host = self.hosts.get(provider)
        if host is None:
            return provider == self._simulator.name
        named = (each for route in self.routes.values() for each in route.targets)
        return model in self._names(host) or any(
            (each.provider, each.model) == (provider, model) for each in named
        )

    def named(self, book: Book) -> dict[str, str]:
        """Return the names that are known here, with their owners; routes and aliases first."""
        rows: dict[str, str] = {}
        for name, route in self.routes.items():
            rows[name] = route.targets[0].provider
        for name in self.aliases:
            rows.setdefault(name, "headgate")
        if book is Book.SIM:
            for name in self._makers.facts.names("openai"):
                rows.setdefault(name, "openai")
        else:
            for host in self.hosts.values():
                for name in self._listed(host):
                    rows.setdefault(name, host.name)
        rows.setdefault(LEXICAL, _BUILT_IN.host.name)
        return rows
