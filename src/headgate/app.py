"""The composition root: a `Config` becomes a running process. Only this module names concrete parts."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headgate import __version__
from headgate.admission.budget import Budgets
from headgate.admission.limits import LimitTable
from headgate.admission.purse import Purse
from headgate.admission.reserve import Reservations
from headgate.admission.shedding import Shedder
from headgate.admission.teller import Teller
from headgate.errors import GatewayError, Unavailable
from headgate.failpoints import failpoints_of
from headgate.http.answers import HttpAnswers
from headgate.http.crowd import Crowd
from headgate.http.dataplane import DataPlane
from headgate.http.edge import Edge, EdgeLimits
from headgate.http.server import Server, call_limit, connection_limit
from headgate.identity.standing import ended
from headgate.money.tokens import Tokenizers
from headgate.observe.edge import EdgeLog
from headgate.observe.log import Log
from headgate.observe.metrics import Metrics
from headgate.ops.desk import Desk
from headgate.pipeline import Pipeline, Stages
from headgate.ports import CallIds, Clock, SystemClock, since_boot_ns
from headgate.process.admin import AdminSettings, admin_routes
from headgate.process.background import LAST_WORD_S, Background, Calls, Leave, Stalls
from headgate.process.batches import BatchParts
from headgate.process.configwatch import ConfigWatch
from headgate.process.counting import LocalCounter
from headgate.process.lookout import BOARDS, About, Lookout, Sights
from headgate.process.metering import Metering
from headgate.process.notices import News, Notices
from headgate.process.ondemand import OnDemand, SessionParts
from headgate.process.outward import Outward, build_routes
from headgate.process.probing import Means, Prober
from headgate.process.trials import TrialParts
from headgate.providers.registry import codecs_of
from headgate.settings.upstreams import ConfigError
from headgate.settle import Ledger
from headgate.stores.journal import JournalSettings, SlotJournal
from headgate.stores.sql.database import Database, connect
from headgate.stores.sql.directory import FOLLOWED
from headgate.stores.sql.drain import Drain
from headgate.stores.sql.leases import SqlLeases
from headgate.stores.sql.nodes import served_node, slot_name
from headgate.stores.sql.probes import probe_key
from headgate.stores.sql.secrets import STORED, open_secret
from headgate.stores.sql.upkeep import Upkeep
from headgate.transport.egress import parse_origin
from headgate.transport.simulator import Simulator
from headgate.values import LEXICAL, Book, Host
from headgate.vaults.envelope import SealError, SecretGone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.applications import Starlette

    from headgate.channels import Channel
    from headgate.config import Config
    from headgate.dashboard.site import Status
    from headgate.http.incoming import Route
    from headgate.ops.desk import AdminStore
    from headgate.ports import Sink
    from headgate.records import KeyRow
    from headgate.routing.routes import Routes
    from headgate.values import Call
    from headgate.vitals import Report

_EXAMPLE = "gpt-4o-mini"
_CHANGED_S = 1.0  # how long the answer to a change waits until it is in force here
_EXPIRY_EVERY_S, _FLUSH_S = 1.0, 10.0
_RETURN_S = 2.0  # beyond that the next start, or the supervisor, gives back what we had
_ARRIVING_S = 0.2  # for probes that are on their way


class App:
    """One worker process: everything that lives from start to stop.

    Args:
        config: the settings.
        pepper: under which keys are kept.
        simulating: the simulator answers live keys too, in play money.
        slot: of this worker; stable over restarts.
        clock: if not the machine's.
    """

    draining = False
    _upkeep: Upkeep | None = None  # in one worker of all
    _rows: Mapping[int, KeyRow | None] = {}  # the keys of calls that were open at the last change

    def __init__(
        self,
        config: Config,
        pepper: bytes,
        *,
        simulating: bool,
        slot: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.config, self.simulating = config, simulating
        self.clock: Clock = clock or SystemClock()
        self.ids, self.log, self.metrics = CallIds(self.clock), Log(), Metrics()
        self.failpoints = failpoints_of(config.failpoints)
        self.instance = secrets.token_hex(8)
        self.calls, self.background, self.crowd = Calls(), Background(self._task_ended), Crowd(self)
        self.shedder, self.start_call = self._open_shedder(), self.calls.start
        self._pepper, self._slot, self._data = pepper, slot, Path(config.storage.data)
        self._node = served_node(self._data, config.storage.database, config.storage.node)
        self._place, self.leave = Database(self._data, config.storage.database), Leave()
        self._notices = Notices(self._place, config.storage.keys_kept_s)
        self._metering = self._open_meters()
        self._leases = SqlLeases(lambda: connect(self._place))
        self._budgets, self._teller = self._open_purse(slot)
        self.keyring = self._notices.ring(self._pepper, playing=self.simulating)
        self.journal = self._open_journal(slot)
        self.drain, self.routes = self._open_drain(slot), self._open_routes(config)
        self.outward = Outward(config, self.clock, self.log, self.calls, self.metrics)
        self._stalls = Stalls(self.shedder.tick, self.outward.transport.held_up_s, self.crowd.held_up_s)
        self.lookout = self._open_lookout()
        tokenizers = Tokenizers()
        counter = LocalCounter(tokenizers)
        stages = Stages(
            ledger=Ledger(self.journal, self._budgets, self._metering.rates, self.metrics, self.clock),
            entrance=self._metering.entrance,
            reservations=Reservations(self._budgets, self._teller, self.clock, counter),
            transport=self.outward.transport,
            simulator=Simulator(self.clock, tokenizers),
            codecs=codecs_of(self.clock),
            counter=counter,
            answers=HttpAnswers(self.clock, self._metering.rates),
            attempts=self.outward.attempts,
            steering=self.outward.steering,
            failpoints=self.failpoints,
            fault=self.fault,
        )
        self._stages, self.pipeline = stages, Pipeline(stages)
        settings = self.outward.transport.settings
        self._on_demand = OnDemand(
            stages, self.pipeline, self._place, settings, lambda: self.routes, self._team
        )
        self._on_demand.furnish(
            self._node,
            SessionParts(stages, config, pepper, slot, self.log),
            BatchParts(self, stages, self._place, self._teller, self._notices.row),
        )
        self.videos, self.files, self.batches, self.recorder = self._on_demand.keepers(self.background)
        self.server, self.monitor = self._open_listeners()
        self.reload()

    @property
    def _most(self) -> int:
        return call_limit(self.config.server.max_calls, self.config.server.workers)

    @property
    def _team(self) -> tuple[int, int]:
        """Return the slot of this worker, and how many there are."""
        return self._slot, self.config.server.workers

    def _open_shedder(self) -> Shedder:
        return Shedder(self.calls.runs, self.crowd.lobby, self._most)

    def _open_meters(self) -> Metering:
        settings, trouble = self.config, self._database_trouble
        return Metering(settings, self._pepper, self._slot, self.clock, self.log, trouble)

    def _open_lookout(self) -> Lookout:
        sights = Sights(self.metrics, self.outward.health, self.outward.trials, self._gauges, self._about)
        return Lookout(self._place, self._team, self.clock, sights, self._database_trouble)

    def _open_listeners(self) -> tuple[Server, Server]:
        server = self.config.server
        bounds = (server.max_body_bytes, server.max_image_body_bytes)
        shows_status, largest = self.config.status.public, self.config.files.file_mb << 20
        plane = DataPlane(self, *bounds, max_file_bytes=largest, shows_status=shows_status)
        find = plane.find_health if self.config.options.worker else plane.find
        edge = self._edge(find)
        self.crowd.join(edge, self.outward.transport.outbox)
        return Server(edge), Server(self._edge(plane.find_health))

    def _open_purse(self, slot: int) -> tuple[Budgets, Teller]:
        purse = Purse(slot_name(self._node, f"slot-{slot}"), since_boot_ns)
        budgets = Budgets(purse, guarded=bool(self._node) or self.config.server.workers > 1)
        return budgets, Teller(purse, self._leases, self.clock, budgets)

    def _open_journal(self, slot: int) -> SlotJournal:
        storage = self.config.storage
        sizes = {
            "segment_bytes": storage.journal_segment_kb << 10,
            "bound_bytes": storage.journal_bound_mb << 20,
        }
        settings = JournalSettings(**sizes, bound_s=storage.journal_bound_s, sync=storage.sync)
        return SlotJournal(self._data / "journal" / f"slot-{slot}", self.clock, settings, self.failpoints)

    def _open_drain(self, slot: int) -> Drain:
        place, trouble = slot_name(self._node, f"slot-{slot}"), self._database_trouble
        return Drain(self.journal, lambda: connect(self._place), self.failpoints, trouble, slot=place)

    def _edge(self, find: Callable[[bytes, str], Route | None]) -> Edge:
        limits = EdgeLimits(
            max_body_bytes=self.config.server.max_body_bytes,
            max_connections=connection_limit(),
            spool_folder=self._data,
            heartbeat_s=self.config.server.heartbeat_s,
        )
        events = EdgeLog(self.metrics, self.log)
        return Edge(find, self._site, clock=self.clock, ids=self.ids, events=events, limits=limits)

    def _site(self) -> Starlette:
        from headgate.dashboard.site import build

        changed = partial(self._changes.now, _CHANGED_S)
        settings = self._admin_settings()
        return build(self, admin_routes(self._place, self._desk, settings, self.log.fault, changed))

    def _desk(self, store: AdminStore) -> Desk:
        return Desk(store, self.clock, self._pepper, self.config.terms, self.config.tiers)

    def _admin_settings(self) -> AdminSettings:
        config, server = self.config, self.config.server
        address = f"http://{server.host}:{server.port}"
        return AdminSettings(config.payments, config.mail, server.trusted_proxies, config.keks, address)

    # ── what the routes ask ──────────────────────────────────────────────────────────────────────

    @property
    def ready(self) -> str:
        """Return why calls cannot be served, or an empty text."""
        if self.leave.begun:
            return "shutting down"
        if self.background.failed:
            return f"{self.background.failed} has stopped"
        if not self.journal.accepting:
            return "the journal cannot be written"
        return ""

    def named(self, call: Call, own_id: str) -> None:
        """Log what a caller calls its request, beside our id."""
        ids = {"request_id": call.request_id, "client_request_id": own_id}
        self.log.line("info", "a call with its caller's id", **ids, model=call.model)

    def fault(self, call: Call, fault: BaseException) -> None:
        """Log a bug of ours."""
        self.log.fault(call.request_id, fault)

    def start_session(self, call: Call, sink: Sink, accept: Callable[[], Channel]) -> None:
        """Own a session over WebSocket as a call."""
        sessions = self._on_demand.sessions(self.ids.next, lambda: self.draining)
        self.calls.start(sessions.serve(call, sink, accept, self.routes), call)

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """Return the networks of the proxies that say truly for whom they ask."""
        return self.config.server.trusted_proxies

    def refused(self, operation: str, error: GatewayError, times: int = 1) -> None:
        """Count a refusal, or several that are alike."""
        self.metrics.refused(operation, error, times)

    def status(self) -> Status:
        """Return what the start page says."""
        from headgate.dashboard.site import Status

        book = Book.SIM if self.simulating else Book.REAL
        names = tuple(host.name for host in self.config.hosts)
        listed = len(self.routes.named(book))
        example, health = self.example_model(), self.config.status.public
        return Status(__version__, names, self.simulating, self.ready, listed, example, health)

    def example_model(self) -> str:
        """Return a model that can be called here, for the first try."""
        if self.simulating or not (self.config.routes or self.config.hosts):
            return _EXAMPLE
        named = [*self.config.routes, *(host.example for host in self.config.hosts)]
        listed = (name for name in self.routes.named(Book.REAL) if name != LEXICAL)
        patterns = (pattern for host in self.config.hosts for pattern in host.models)
        return next((name for name in (*named, *listed, *patterns) if name), _EXAMPLE)

    def exposition(self) -> bytes:
        """Return the exposition of all metrics, of all workers."""
        return self.lookout.exposition()

    async def report(self) -> Report:
        """Return how the providers do, for everybody: models that are not listed are not named."""
        return await self.lookout.report(self.routes.lists)

    def prober(self) -> Prober:
        """Return who makes our own probes."""
        notices = self._notices

        async def key() -> KeyRow | None:
            return await notices.row(await notices.ask(lambda: probe_key(notices.sql)))

        means = Means(lambda: self.routes, key, self.ids.next, self.calls.start, self.log)
        return Prober(self._stages, self.config.probes, means, self.lookout)

    def _about(self) -> About:
        named = (each for route in self.config.routes.values() for each in route.targets)
        targets = tuple(dict.fromkeys((target.provider, target.model) for target in named))
        return About(tuple(host.name for host in self.config.hosts), targets, self.simulating)

    def _gauges(self) -> dict[str, float]:
        return {
            "headgate_open_calls": len(self.calls.runs),
            "headgate_queued_calls": self._metering.entrance.waiting,
            "headgate_shed_share": self.shedder.share,
            "headgate_waiting_calls": self.outward.doors.waiting,
            "headgate_connections": self.server.edge.open_connections,
            "headgate_journal_undrained_records": self.journal.undrained_records,
            "headgate_journal_undrained_bytes": self.journal.undrained_bytes,
            "headgate_loop_stall_max_seconds": self._stalls.longest_s,
            "headgate_retries": self.outward.attempts.made,
            "headgate_targets_out": len(self.outward.health.unwell(self.clock.monotonic())),
            "headgate_ready": int(not self.ready),
            **self._metering.replicas.gauges(),
            **self._on_demand.gauges(),
            "headgate_keys_old": self._upkeep.ages.old if self._upkeep is not None else 0,
            "headgate_keys_overdue": self._upkeep.ages.overdue if self._upkeep is not None else 0,
        }

    def _open_routes(self, config: Config, *, running: bool = False) -> Routes:
        """Return the table of models, with the providers' stored keys opened."""
        hosts = tuple(self._with_key(host, running=running) for host in config.hosts)
        return build_routes(msgspec.structs.replace(config, hosts=hosts), self.instance)

    def _with_key(self, host: Host, *, running: bool) -> Host:
        if host.spares:
            spares = tuple(self._with_key(spare, running=running) for spare in host.spares)
            host = msgspec.structs.replace(host, spares=spares)
        if not host.api_key.startswith(STORED):
            return host
        name, origin = host.api_key.removeprefix(STORED), parse_origin(host.base_url).url
        try:
            key = open_secret(self._notices.sql, self.config.keks, name, origin, self.clock.wall())
        except SealError as fault:
            if not running:
                raise ConfigError(f"provider {host.name!r}: {fault}") from fault
            self.log.line("error", "a stored key cannot be opened", provider=host.name, fault=str(fault))
            # Rewrapped before we were given the new KEK: what was opened is still right.
            key = "" if isinstance(fault, SecretGone) else self.routes.key_of(host)
        return msgspec.structs.replace(host, api_key=key)

    # ── what changes while it runs ───────────────────────────────────────────────────────────────

    def reload(self) -> None:
        """Follow what has changed; budgets and limits that stay keep what is held and used in them."""
        self._take(self._notices.read())

    async def _refresh(self) -> None:
        """Do the same while calls are served. Raises `Unavailable`, and then follows it all again."""
        news = await self._notices.ask(self._notices.read)
        if "secret" in news.kinds:
            self.routes = await self._notices.ask(lambda: self._open_routes(self.config, running=True))
        self._take(news)
        if news.kinds & FOLLOWED:
            self._rows = await self._notices.rows(await self.calls.keys())
            await self._end_halted()
        self._notices.seen(news)

    def _take(self, news: News) -> None:
        self._notices.take(news)
        self.keyring = self._notices.ring(self._pepper, playing=self.simulating)
        self._budgets.replace(news.budgets, news.grants)
        self._metering.rates.replace(LimitTable(news.limits, self.config.tiers))

    async def _end_halted(self) -> None:
        """End the open calls whose key may call no more: it expired, or it or what is behind it changed."""
        now = self.clock.wall()

        def why(call: Call) -> GatewayError | None:
            principal = call.principal
            assert principal is not None
            began = int.from_bytes(call.id[:6]) * 1000  # its id is a UUIDv7
            return ended(self._rows.get(principal.key), principal, began, now)

        await self.calls.each(why)

    async def _reconfigure(self, config: Config) -> None:
        """Go on with other providers, models and prices; open calls end with those that they began with.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
        """
        config = msgspec.structs.replace(config, hosts=self.outward.known(config.hosts))
        try:
            routes = await self._notices.ask(lambda: self._open_routes(config, running=True))
        except Unavailable as fault:
            raise ConfigError(f"stored keys cannot be read: {fault}") from fault
        self.config, self.routes = config, routes
        self.outward.follow(config)
        await self._trial_parts.follow(config, routes)
        self.outward.keep_credentials(self.config.hosts, self.background)

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_EVERY_S)
            if self._notices.silent:  # a new ring lets nobody in before there are news
                self.keyring = self._notices.ring(self._pepper, playing=self.simulating)
            await self._end_halted()

    async def _follow(self) -> int:
        try:
            while await self._notices.behind():
                await self._write_down()  # so that a new budget begins with what was spent
                await self._refresh()
        except Unavailable as fault:  # what we know stays valid until it can be read again
            self._database_trouble(str(fault))
        return self._notices.last

    # ── start and stop ───────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen and serve. Raises OSError when the address cannot be had."""
        server = self.config.server
        await self.server.bind(server.host, server.port, reuse_port=server.workers > 1)
        parts = (self._place, self._stages, self.pipeline.shadows, self.metrics, self.log, self._refresh)
        self._trial_parts = TrialParts(*parts)
        await self._trial_parts.start(self.config, self.routes, self.background)
        self.background.spawn("drain", self.drain.run())
        self.background.spawn("leases", self._teller.run())
        self._changes = self._metering.replicas.watch(self._follow, self.background)
        await self._metering.start(self.background)
        self.background.spawn("expiry", self._watch_keys())
        self.background.spawn("loop watch", self._stalls.run())
        self.outward.keep_credentials(self.config.hosts, self.background)
        if self.config.options.config is not None:
            self.background.spawn("settings", ConfigWatch(self.config, self._reconfigure, self.log).run())
        if self._slot == 0:
            connection, days = partial(connect, self._place), self.config.storage.keep_calls_days
            self._upkeep = upkeep = Upkeep(
                connection, self.clock, self.config.tiers, self.failpoints, self._database_trouble, days
            )
            self.background.spawn("upkeep", upkeep.run())
        await self.lookout.start(self.background)
        if self._slot == 0 and self.config.probes.every_s:
            self.background.spawn("probes", self.prober().run())
        await self._on_demand.start(self.background)
        await self.server.start()
        if server.monitor_port:  # never full of calls, so it can be probed when the other one is
            await self.monitor.bind(server.host, server.monitor_port)
            await self.monitor.start()

    async def stop(self) -> int:
        """Take no more calls, let the open ones end, write everything; return how many were cut."""
        self.server.edge.draining = True  # answers say `connection: close` from now on
        await self.leave.take(self.config.server.leave_s)
        self.draining = True
        # Connections outlast the calls, so that each is told of its end.
        server = asyncio.create_task(self.server.drain(self.config.server.drain_s + 2 * LAST_WORD_S))
        cut = await self.calls.drain(self.config.server.drain_s)
        await self._trial_parts.close()
        await server
        await self.monitor.drain(_ARRIVING_S)
        await self._on_demand.rest()
        booked = await self._write_down()
        await self._teller.close(_RETURN_S, booked=booked)
        await self.background.stop()
        await self.lookout.close()
        await self._metering.close()
        await self._leases.close()
        await self.drain.close()
        await self._on_demand.close()
        await self.outward.transport.close()
        self.journal.close()
        await self._notices.close()
        return cut

    async def _write_down(self) -> bool:
        """Wait for the database to have everything; say whether it has. The journal keeps what it refuses."""
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self.drain.flush()
        except TimeoutError:
            self.log.line("warning", "the database is behind; the next start reads the journal")
            return False
        return self.drain.healthy  # not where copying has ended

    # ── trouble ──────────────────────────────────────────────────────────────────────────────────

    def _task_ended(self, name: str, fault: BaseException | None) -> None:
        if not self.draining:
            self.log.line("error", "a background task has stopped", task=name, fault=repr(fault))

    def _database_trouble(self, said: str) -> None:
        self.log.line("error", "the database refuses the books; the journal keeps them", said=said)


__all__ = ["BOARDS", "App"]
