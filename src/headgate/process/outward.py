"""What of a process faces the providers: its routes, its connections, and what it knows of their health."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from headgate import __version__
from headgate.attempts import Attempts
from headgate.money.catalogue import Catalogue
from headgate.money.pricedata import PriceData
from headgate.money.prices import PriceBook
from headgate.process.accesskeys import AccessKeyKeeper
from headgate.process.tokens import TokenKeeper
from headgate.providers.registry import book_names, constant_headers, known_hosts, nicknames
from headgate.routing.doors import Doors
from headgate.routing.health import Health
from headgate.routing.makers import Makers
from headgate.routing.retries import Active
from headgate.routing.routes import Routes
from headgate.routing.trials import Trials
from headgate.settings.upstreams import ConfigError
from headgate.steering import Steering
from headgate.transport.http import HttpSettings, HttpTransport
from headgate.transport.proxy import ProxySettings
from headgate.values import Host
from headgate.vitals import ADVICE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from headgate.config import Config
    from headgate.observe.log import Log
    from headgate.observe.metrics import Metrics
    from headgate.ports import Clock
    from headgate.process.background import Background, Calls
    from headgate.routing.health import News, Place
    from headgate.values import Target

SIMULATOR = Host(
    name="simulator",
    base_url="http://simulator.invalid/v1",
    extras="refuse",
    deviates=False,
    completion_tokens=16,
)


def build_routes(config: Config, instance: str) -> Routes:
    """Return the table of models that a configuration describes."""

    def headers(host: Host) -> tuple[tuple[str, str], ...]:
        return constant_headers(host, {"user-agent": f"headgate/{__version__}", "x-headgate-hop": instance})

    def base_path(host: Host) -> str:
        return urlsplit(host.base_url).path.rstrip("/")

    data, prices = PriceData.load(), config.prices
    names = book_names(config.hosts, data)
    try:
        book = PriceBook.load(prices.rows, prices.margins, prices.book, data, names)
    except ValueError as fault:
        raise ConfigError(f"prices: {fault}") from fault
    known = filter(None, map(book.data.provider_id, known_hosts()))
    sellers = tuple(dict.fromkeys((*known, *book.data.providers)))
    makers = Makers(
        Catalogue.load(book.data),
        book,
        names,
        headers,
        base_path,
        config.deadlines,
        sellers,
        config.key_rules,
        config.demands,
        config.batch,
    )
    aliases = {**nicknames(config.hosts, config.routes), **config.aliases}
    return Routes(config.hosts, config.routes, aliases, SIMULATOR, makers)


_EVENTS: Final[Mapping[News, tuple[str, str]]] = {
    "out": ("warning", "a target is taken out"),
    "well": ("info", "a target is well again"),
    "denied": ("error", "a provider refuses this gateway"),
}


class _Kept(NamedTuple):
    """A host whose credential expires, and the task that renews it."""

    host: Host
    task: asyncio.Task[None]

    def lend(self, host: Host) -> Host:
        """Return a host with what is kept here, where it is the same but for that."""
        lent = msgspec.structs.replace(host, bearer=self.host.bearer, signing=self.host.signing)
        return lent if lent == self.host else host


def _expires(host: Host) -> bool:
    return host.tokens is not None or (host.signing is not None and not host.signing.given)


class Outward:
    """Connections, health and attempts of one process.

    Args:
        config: the settings.
        clock: for deadlines and times out.
        log: hears which targets are taken out.
        calls: the open ones.
        metrics: counts what becomes of canaries.
    """

    def __init__(self, config: Config, clock: Clock, log: Log, calls: Calls, metrics: Metrics) -> None:
        self._log = log
        self._clock = clock
        self._calls = calls
        self.transport = HttpTransport(clock, outbound(config))
        draw = SystemRandom().random
        self.health = Health(config.breaker, draw, self._changed)
        self.doors = Doors(clock, config.server.workers, draw)
        self.attempts = Attempts(config.retries, self.health, self.doors, clock, draw, self._active)
        self.trials = Trials(metrics, alone=config.server.workers == 1)
        self.steering = Steering(clock, draw, self.trials)
        self._kept: dict[str, _Kept] = {}
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Take in whether a provider or a target has bounds."""
        targets = [target for route in config.routes.values() for target in route.every_target]
        limited = any(host.room.max_concurrent for host in config.hosts) or any(
            target.max_concurrent for target in targets
        )
        self.doors.follow(limited=limited)

    def known(self, hosts: tuple[Host, ...]) -> tuple[Host, ...]:
        """Return hosts with the credentials that are kept for them already, where they are the same."""
        return tuple(self._kept[host.name].lend(host) if host.name in self._kept else host for host in hosts)

    def keep_credentials(self, hosts: tuple[Host, ...], background: Background) -> None:
        """Fetch and renew what expires, of these hosts and no others."""
        wanted = {host.name: host for host in hosts if _expires(host)}
        for name in [name for name, kept in self._kept.items() if wanted.get(name) != kept.host]:
            self._kept.pop(name).task.cancel()
        for name, host in wanted.items():
            if name not in self._kept:
                keeper = (
                    TokenKeeper(host, self.transport, self._clock, self._trouble)
                    if host.tokens is not None
                    else AccessKeyKeeper(host, self._trouble)
                )
                self._kept[name] = _Kept(host, background.spawn(f"credential of {name}", keeper.run()))

    def _trouble(self, said: str) -> None:
        self._log.line("error", "a credential cannot be had", said=said)

    def _active(self, target: Target) -> Active:
        in_all = len(self._calls.runs)
        return Active(in_all if target.simulated else self.transport.busy(target.host), in_all)

    def _changed(self, place: Place, news: News) -> None:
        level, event = _EVENTS[news]
        tally = self.health.tallies.get(place)
        kind = news if tally is None or news == "denied" else tally.last
        names = {"provider": place.provider, "model": place.model, "key": place.credential}
        said = "" if tally is None else tally.said
        why = {} if news == "well" else {"error": kind, "said": said, "says": ADVICE.get(kind, "")}
        self._log.line(level, event, **{name: value for name, value in {**names, **why}.items() if value})


def outbound(config: Config) -> HttpSettings:
    """Return how the process goes out."""
    bypass = tuple(filter(None, config.proxies.no_proxy.replace(" ", "").split(",")))
    proxies = ProxySettings(http=config.proxies.http, https=config.proxies.https, no_proxy=bypass)
    return HttpSettings(proxies=proxies, ca_file=config.ca_file)
