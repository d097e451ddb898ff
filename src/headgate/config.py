"""One frozen tree of settings, parsed and validated once; the only reader of the environment.

Sources, the later winning: defaults, the TOML file, `.env` and the environment (providers' own names),
flags. `OPENAI_BASE_URL` is the client's and is never read; a key that begins with `sk-hg-` is our own and
never a provider's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from headgate.admission.limits import LimitSettings
from headgate.identity.rights import parse_network
from headgate.money.amounts import parse_cap
from headgate.money.batchterms import BatchSettings
from headgate.money.ownprices import PriceOverride
from headgate.money.periods import zone
from headgate.money.prices import Margin
from headgate.money.terms import ModeName, ModeSettings, PaymentSettings, Terms, terms_of
from headgate.money.tiers import Tier, TierRow, find_tier, load_tiers
from headgate.providers.registry import known_hosts
from headgate.routing.breaker import BreakerTerms
from headgate.routing.demands import DemandSettings, wrong_tags
from headgate.routing.probes import ProbeTerms
from headgate.routing.retries import RetryTerms
from headgate.routing.settings import Route
from headgate.settings.aliases import given_aliases, resolved
from headgate.settings.batching import unready
from headgate.settings.files import FileSettings, file_settings
from headgate.settings.places import Place, named_in, placed, read_source
from headgate.settings.recordings import RecordingSettings
from headgate.settings.rooms import check_rooms
from headgate.settings.storage import Storage, database_url, storage_of
from headgate.settings.upstreams import (
    OWN_KEY,
    ConfigError,
    Provider,
    configured,
    discover,
    secret,
)
from headgate.transport.mail import MailSettings
from headgate.transport.proxy import parse_proxy
from headgate.values import Deadlines, Host, KeyRules
from headgate.vaults.envelope import SealError, parse_kek


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `headgate serve`; None or empty: not given."""

    host: str | None = None
    port: int | None = None
    data: str | None = None
    database: str | None = None
    config: str | None = None
    workers: int | None = None
    cap: str | None = None
    mode: ModeName | None = None
    prices: str | None = None
    aliases: tuple[str, ...] = ()
    env_file: str = ".env"
    worker: bool = False  # `headgate worker`: batches are run, and no calls are taken
    simulate: bool = False  # `headgate sim`: the simulator serves everything


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how we listen."""

    host: str = "127.0.0.1"  # address to listen on; `0.0.0.0` is every one of this machine
    port: int = 8787  # 0 takes a free one
    workers: int = 1  # processes, one for each core that calls may use
    max_body_bytes: int = 10 * 1024 * 1024  # of a request; above it is 413
    max_image_body_bytes: int = 50 * 1024 * 1024  # of a request of chat, or one that brings files
    max_calls: int = 0  # open at once, in all workers (batch keys': 9 in 10); 0: as half of the memory holds
    drain_s: float = 30.0  # how long open calls may go on after Ctrl-C or SIGTERM
    leave_s: float = 0.0  # before that: calls are taken while `/readyz` says no; until a balancer has seen it
    heartbeat_s: float = 15.0  # a stream that is silent so long is sent a comment; 0: never
    trusted_proxies: tuple[str, ...] = ()  # networks of proxies whose forwarding headers are believed
    monitor_port: int = 0  # a second listener for health and metrics; 0: none


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cap of the default account."""

    cap: str = ""  # most that is spent: `20/month`, `5/day`, `100/total`; empty: no cap
    timezone: str = "UTC"  # where days, weeks and months begin


class KeySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says of the keys of one name."""

    name: str  # as in `keys create --name`
    deadlines: Deadlines | None = None  # of their calls
    parameters: Literal["", "strict", "lenient"] = ""  # what a target cannot honour; before that of the model


class PriceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price book and what is laid over it."""

    book: str = "default"  # `default`, `guide-2025`, or a TOML file of your own
    rows: tuple[PriceOverride, ...] = ()  # your own prices, before those of the book
    margins: tuple[Margin, ...] = ()  # what customers pay on top


class StatusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who sees how the providers do."""

    public: bool = True  # `/status` answers everybody, without a key; else only the second listener has it


class SecretSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stored keys of providers are sealed with."""

    kek: str = "env:HEADGATE_KEK"  # 32 bytes in hex or base64; `file:PATH` reads them from outside `data`
    kek_old: str = "env:HEADGATE_KEK_OLD"  # the one before, while secrets are being rewrapped


Numbers = TypeVar("Numbers", RetryTerms, BreakerTerms, ProbeTerms, RecordingSettings, BatchSettings)


class Proxies(msgspec.Struct, frozen=True, kw_only=True):
    """The proxies of the environment."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    server: Server = Server()
    storage: Storage = Storage()
    budget: Budget = Budget()
    providers: tuple[Provider, ...] = ()
    models: tuple[Route, ...] = ()
    aliases: Mapping[str, str] = {}
    prices: PriceSettings = PriceSettings()
    deadlines: Deadlines = Deadlines()
    keys: tuple[KeySettings, ...] = ()
    demands: tuple[DemandSettings, ...] = ()
    tiers: tuple[TierRow, ...] = ()
    mode: ModeSettings = ModeSettings()
    payments: PaymentSettings = PaymentSettings()
    mail: MailSettings = MailSettings()
    limits: LimitSettings = LimitSettings()
    secrets: SecretSettings = SecretSettings()
    recordings: RecordingSettings = RecordingSettings()
    retries: RetryTerms = RetryTerms()
    breaker: BreakerTerms = BreakerTerms()
    status: StatusSettings = StatusSettings()
    probes: ProbeTerms = ProbeTerms()
    files: FileSettings = FileSettings()
    batch: BatchSettings = BatchSettings()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of a process."""

    server: Server
    storage: Storage
    budget: Budget
    hosts: tuple[Host, ...]
    routes: Mapping[str, Route]
    aliases: Mapping[str, str]
    prices: PriceSettings
    deadlines: Deadlines
    key_rules: Mapping[str, KeyRules]  # by the key's name
    demands: tuple[DemandSettings, ...]  # of targets
    proxies: Proxies
    tiers: tuple[Tier, ...]  # the cheapest first
    terms: Terms
    payments: PaymentSettings
    mail: MailSettings
    limits: LimitSettings
    recordings: RecordingSettings
    retries: RetryTerms
    breaker: BreakerTerms
    status: StatusSettings
    probes: ProbeTerms
    files: FileSettings
    batch: BatchSettings
    keks: tuple[bytes, ...] = ()  # of stored secrets, the present one first
    failpoints: str = ""
    ca_file: str = ""
    has_file: bool = False
    tables: frozenset[str] = frozenset()  # that the file has
    simulate: bool = False
    found: tuple[str, ...] = ()  # where each provider came from, for people
    ignored: tuple[str, ...] = ()  # names in the environment that belong to the client
    options: ServeOptions = ServeOptions()  # what it was made of


def load(options: ServeOptions, environment: Mapping[str, str] | None = None) -> Config:
    """Return the settings of flags, environment, `.env` and file.

    Raises:
        ConfigError: naming the file, the line, the setting and what to do.
    """
    env = dict(os.environ if environment is None else environment)
    if options.config is None:
        return _settled(_File(), options, env)
    file, source = read_source(options.config, _File)
    try:
        return msgspec.structs.replace(_settled(file, options, env), tables=source.tables)
    except ConfigError as fault:
        raise source.located(fault, _by_flags(options)) from fault


def _by_flags(options: ServeOptions) -> set[Place]:
    """Return the places of settings that flags give instead of the file."""
    flags = {
        ("server", "host"): options.host,
        ("server", "port"): options.port,
        ("server", "workers"): options.workers,
        ("storage", "data"): options.data,
        ("storage", "database"): options.database,
        ("budget", "cap"): options.cap,
        ("mode", "name"): options.mode,
        ("prices", "book"): options.prices,
    }
    return {place for place, given in flags.items() if given is not None}


def _settled(file: _File, options: ServeOptions, env: Mapping[str, str]) -> Config:
    dotenv = _dotenv(options.env_file)
    known = known_hosts()
    hosts: dict[str, Host] = {}
    found: list[str] = []
    lost: list[str] = []
    if not options.simulate:
        for number, provider in enumerate(file.providers):
            with placed("providers", number):
                hosts[provider.name] = _named_once(provider, hosts, env, dotenv)
            found.append(f"{provider.name} (from {options.config})")
        lost = discover(known, env, dotenv, hosts, found)
    tiers = _tiers(file.tiers)
    server, routes = _server(file.server, options), _routes(file.models, hosts)
    check_rooms(hosts, routes, server.workers)
    return Config(
        server=server,
        storage=_storage(file.storage, options, env, dotenv),
        budget=_budget(file.budget, options),
        hosts=tuple(hosts.values()),
        routes=routes,
        aliases=resolved({**file.aliases, **given_aliases(options.aliases)}),
        prices=msgspec.structs.replace(file.prices, book=options.prices or file.prices.book),
        deadlines=placed("deadlines")(_deadlines)(file.deadlines),
        key_rules={key.name: _key_rules(key) for key in file.keys},
        demands=_demands(file.demands, hosts),
        proxies=_proxies(env),
        tiers=tiers,
        terms=_terms(file.mode, options, tiers),
        payments=_payments(file.payments, env, dotenv),
        mail=_mail(file.mail, env, dotenv),
        limits=file.limits,
        recordings=_right(file.recordings, "recordings"),
        retries=_right(file.retries, "retries"),
        breaker=_right(file.breaker, "breaker"),
        status=file.status,
        probes=_right(file.probes, "probes"),
        files=placed("files")(file_settings)(file.files, env, dotenv),
        batch=_right(file.batch, "batch"),
        keks=_keks(file.secrets, env, dotenv),
        failpoints=env.get("HEADGATE_FAILPOINTS", ""),
        ca_file=env.get("SSL_CERT_FILE", ""),
        has_file=options.config is not None,
        simulate=options.simulate,
        found=tuple(found),
        ignored=(*_clients_own(env, dotenv), *lost),
        options=options,
    )


def _named_once(
    provider: Provider, hosts: Mapping[str, Host], env: Mapping[str, str], dotenv: Mapping[str, str]
) -> Host:
    if provider.name in hosts:
        raise ConfigError(f"provider {provider.name!r} stands twice: its name was taken before.")
    return configured(provider, known_hosts(), env, dotenv)


def _dotenv(path: str) -> dict[str, str]:
    if not path or not Path(path).is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return {name: value for name, value in dotenv_values(path).items() if value}
    except OSError as fault:
        raise ConfigError(f"Cannot read {path}: {fault.strerror}.") from fault
    except UnicodeDecodeError:  # which quotes what is in the file
        raise ConfigError(f"Cannot read {path}: it is no file of UTF-8 text.") from None


@placed("server")
def _server(server: Server, options: ServeOptions) -> Server:
    given = {"host": options.host, "port": options.port, "workers": options.workers}
    server = msgspec.structs.replace(server, **{k: v for k, v in given.items() if v is not None})
    for name in ("port", "monitor_port"):
        if not 0 <= getattr(server, name) <= 65535:
            raise ConfigError(f"{name} {getattr(server, name)} is not between 0 and 65535.")
    if server.monitor_port and server.monitor_port == server.port:
        raise ConfigError(f"monitor_port {server.port} is the port of the calls: give it one of its own.")
    for name in ("max_body_bytes", "max_image_body_bytes", "max_calls", "drain_s", "leave_s"):
        if getattr(server, name) < 0:
            raise ConfigError(f"server.{name} is below 0.")
    if server.leave_s > 300:
        raise ConfigError(f"server.leave_s {server.leave_s:g} is above 300 seconds.")
    if server.heartbeat_s and not 0.5 <= server.heartbeat_s <= 300:
        raise ConfigError(
            f"server.heartbeat_s {server.heartbeat_s:g} is neither 0 (no heartbeat) nor 0.5 to 300 seconds."
        )
    if not 1 <= server.workers <= 64:
        raise ConfigError(f"workers {server.workers} is not between 1 and 64.")
    try:
        trusted = tuple(str(parse_network(text)) for text in server.trusted_proxies)
    except ValueError as fault:
        raise ConfigError(f"server.trusted_proxies: {fault}.") from fault
    return msgspec.structs.replace(server, trusted_proxies=trusted)


@placed("budget")
def _budget(budget: Budget, options: ServeOptions) -> Budget:
    try:
        zone(budget.timezone)
    except ValueError as fault:
        raise ConfigError(f"budget.timezone: {fault}.") from fault
    if budget.cap:
        try:
            parse_cap(budget.cap)
        except ValueError as fault:
            raise ConfigError(f"budget.cap: {fault}. With a period, it is such as 20/month.") from fault
    return msgspec.structs.replace(budget, cap=options.cap or budget.cap)


def _key_rules(key: KeySettings) -> KeyRules:
    with placed("keys", key.name):
        where = f"keys {key.name!r}: deadlines"
        return KeyRules(_deadlines(key.deadlines, where) if key.deadlines else None, key.parameters)


def _deadlines(deadlines: Deadlines, where: str = "deadlines") -> Deadlines:
    for name in deadlines.__struct_fields__:
        if getattr(deadlines, name) <= 0:
            raise ConfigError(f"{where}.{name} must be above 0 seconds.")
    return deadlines


def _right(terms: Numbers, where: str) -> Numbers:
    """Return terms whose numbers are right."""
    with placed(where):
        if said := terms.wrong():
            raise ConfigError(f"{where}: {said}.")
    return terms


def _tiers(rows: tuple[TierRow, ...]) -> tuple[Tier, ...]:
    try:
        return load_tiers(rows)
    except ValueError as fault:
        with placed(*named_in("tiers", (row.name for row in rows), fault)):
            raise ConfigError(f"{fault}.") from fault


@placed("mode")
def _terms(mode: ModeSettings, options: ServeOptions, tiers: tuple[Tier, ...]) -> Terms:
    mode = msgspec.structs.replace(mode, name=options.mode or mode.name)
    if mode.tier and find_tier(tiers, mode.tier) is None:
        names = ", ".join(tier.name for tier in tiers)
        raise ConfigError(f"mode.tier {mode.tier!r} is no tier: {names}, or empty for none.")
    try:
        return terms_of(mode)
    except ValueError as fault:
        raise ConfigError(f"{fault}.") from fault


@placed("payments")
def _payments(
    payments: PaymentSettings, env: Mapping[str, str], dotenv: Mapping[str, str]
) -> PaymentSettings:
    stripe = secret(payments.stripe_secret, "payments.stripe_secret", env, dotenv)
    return msgspec.structs.replace(payments, stripe_secret=stripe)


@placed("mail")
def _mail(mail: MailSettings, env: Mapping[str, str], dotenv: Mapping[str, str]) -> MailSettings:
    if mail.security not in {"starttls", "tls", "none"}:
        raise ConfigError(f"mail.security {mail.security!r} is none of starttls, tls and none.")
    if not 1 <= mail.port <= 65535:
        raise ConfigError(f"mail.port {mail.port} is not between 1 and 65535.")
    return msgspec.structs.replace(mail, password=secret(mail.password, "mail.password", env, dotenv))


@placed("secrets")
def _keks(settings: SecretSettings, env: Mapping[str, str], dotenv: Mapping[str, str]) -> tuple[bytes, ...]:
    given = (
        secret(settings.kek, "secrets.kek", env, dotenv),
        secret(settings.kek_old, "secrets.kek_old", env, dotenv),
    )
    try:
        return tuple(parse_kek(text) for text in given if text)
    except SealError as fault:
        raise ConfigError(f"secrets: {fault}") from fault


@placed("storage")
def _storage(
    storage: Storage, options: ServeOptions, env: Mapping[str, str], dotenv: Mapping[str, str]
) -> Storage:
    if options.simulate:  # `headgate sim` keeps its books to itself
        return storage_of(storage, (options.data, None), {}, {})
    return storage_of(storage, (options.data, options.database), env, dotenv)


def data_folder(option: str | None) -> Path:
    """Return the data folder for a command: the flag, `HEADGATE_DATA`, else `./headgate-data`."""
    return Path(option or os.environ.get("HEADGATE_DATA") or Storage().data)


def database_url_of(option: str | None) -> str:
    """Return the database for a command: the flag, else `HEADGATE_DATABASE`; empty: the data folder knows."""
    return database_url(option or os.environ.get("HEADGATE_DATABASE", ""), os.environ, {})


def client_key() -> str:
    """Return the caller's own Headgate key from the environment, or an empty text."""
    key = os.environ.get("OPENAI_API_KEY", "")
    return key if key.startswith(OWN_KEY) else ""


def _routes(models: tuple[Route, ...], hosts: Mapping[str, Host]) -> dict[str, Route]:
    routes: dict[str, Route] = {}
    for number, route in enumerate(models):
        with placed("models", number):
            if route.name in routes:
                raise ConfigError(f"model {route.name!r} stands twice: its name was taken before.")
            _check_route(route, hosts)
        routes[route.name] = route
    return routes


def _check_route(route: Route, hosts: Mapping[str, Host]) -> None:
    if fault := route.wrong(hosts):
        raise ConfigError(f"model {route.name!r}: {fault}")
    if route.deadlines is not None:
        _deadlines(route.deadlines, f"model {route.name!r}: deadlines")
    for target in route.targets:
        host = hosts.get(target.provider)
        runner = target.batch or "own"
        kind = host.kind if host is not None else target.provider
        if runner != "own" and (fault := unready(kind, host, runner)):
            raise ConfigError(f"model {route.name!r}: {fault}")


def _demands(demands: tuple[DemandSettings, ...], hosts: Mapping[str, Host]) -> tuple[DemandSettings, ...]:
    for host in hosts.values():
        with placed("providers", host.name):
            if fault := wrong_tags((*([host.region] if host.region else ()), *host.data)):
                raise ConfigError(f"provider {host.name!r}: region or data: {fault}.")
    for number, demand in enumerate(demands):
        with placed("demands", number):
            if fault := demand.wrong():
                raise ConfigError(f"demands, row {number + 1}: {fault}.")
    return demands


def _proxies(env: Mapping[str, str]) -> Proxies:
    def value(name: str) -> str:
        url = env.get(name) or env.get(name.lower()) or ""
        if url and name != "NO_PROXY":
            try:
                parse_proxy(url)
            except ValueError as fault:
                raise ConfigError(f"{name}: {fault}.") from fault
        return url

    everything = value("ALL_PROXY")
    return Proxies(
        http=value("HTTP_PROXY") or everything,
        https=value("HTTPS_PROXY") or everything,
        no_proxy=value("NO_PROXY"),
    )


def _clients_own(env: Mapping[str, str], dotenv: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that are there for a client of ours and that we leave alone."""
    both = {**dotenv, **env}
    own = [name for name in ("OPENAI_API_KEY",) if both.get(name, "").startswith(OWN_KEY)]
    return (*own, *(name for name in ("OPENAI_BASE_URL",) if both.get(name)))
