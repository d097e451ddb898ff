"""The providers of the settings: where they are, and the keys that they are asked with.

A key that begins with `sk-hg-` is our own and never a provider's. What is read here was given: only
`config` looks at the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from headgate.buckets import Handover
from headgate.credentials import AccessKeys, Bearer, Signing, TokenSource
from headgate.providers.buckets import Said
from headgate.providers.grants import signing_key
from headgate.providers.registry import (
    ADDRESSES,
    CODECS,
    DEPLOYED,
    ONE_ANSWER,
    OURS,
    REGIONS,
    TOKENS,
    KnownHost,
)
from headgate.settings.batching import (
    bucket_of,
    check_account,
    check_hosts,
    check_models,
    no_bounds,
    unready,
    usual_hosts,
)
from headgate.transport.egress import parse_origin
from headgate.transport.proxy import parse_proxy
from headgate.values import (
    BatchRunner,
    Host,
    Place,
    RoomTerms,
    Schemas,
)
from headgate.vaults import VaultError, fetch, is_reference

OWN_KEY = "sk-hg-"
_MOST_KEYS = 10  # of one provider
STORED = "stored:"
_URL_SCHEMES = ("http://", "https://")


class ConfigError(Exception):
    """A setting that cannot be used: names it and says what to do."""

    place: tuple[str | int, ...] = ()  # where in the settings file it stands, if there: see `places`


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider of the TOML file. What is not given comes from the row of `hosts.toml` of that name."""

    name: str  # yours, or one of the table below, whose row it then changes
    kind: str = ""  # the wire that it speaks; empty: its row's, else `openai`; `headgate`: another gateway
    base_url: str = ""  # such as `https://llm.example/v1`
    api_key: str = ""  # `env:NAME`, `file:PATH`, `stored:NAME`, of a secret manager, or itself
    api_keys: tuple[str, ...] = ()  # or several, at most ten, which share the calls
    models: tuple[str, ...] | None = None  # patterns of the names that it serves; else all of them
    extras: Literal["pass", "refuse"] | None = None  # members of a request that OpenAI does not have
    stream_usage: bool | None = None  # it understands `stream_options.include_usage`
    hangup: Literal["cancel", "drain"] | None = None  # `drain`: it bills also when the client has gone
    local: bool | None = None  # on this machine or network: costs nothing
    organization: str = ""  # sent as `openai-organization`
    project: str = ""  # sent as `openai-project`; at Vertex AI the project that pays
    location: str = ""  # Vertex AI's: such as `europe-west4`; empty: `global`. AWS's region
    api_version: str = ""  # Azure OpenAI's: a date has deployments in the path; empty: `/openai/v1`
    deployments: Mapping[str, str] = {}  # Azure OpenAI's: the model of each, for its price and its facts
    service_account: str = ""  # a file with a service account's key: tokens are fetched for it
    token_command: tuple[str, ...] = ()  # or a program that prints a token, and its arguments
    client_id: str = ""  # or a client (an app registration) that shows a secret,
    client_secret: str = ""  # which is given like `api_key`,
    tenant: str = ""  # of this tenant of Entra ID,
    authority: str = ""  # which is here, instead of where the cloud of `base_url` has it
    token_url: str = ""  # where tokens are asked for, instead of the file's or the authority's own
    token_scope: str = ""  # what they are good for, instead of the host's usual
    access_key_id: str = ""  # AWS's, which sign every request; as `api_key`, but not stored
    secret_access_key: str = ""  # of the same
    session_token: str = ""  # of keys that expire
    profile: str = ""  # or where AWS's own files say what signs; without any: as AWS's tools find it
    headers: Mapping[str, str] = {}  # sent with every request
    proxy: str = ""  # instead of those of the environment, on this machine, too; `direct`: none
    several: bool | None = None  # it gives as many answers as `n` says; if not, it is asked so many times
    schema: Schemas | None = None  # what it does for an answer's JSON schema; for other wires it is known
    schema_models: tuple[str, ...] | None = None  # patterns of the models that keep to a schema all the same
    region: str = ""  # where it is, such as `eu` or `eu-de`; see docs/routing.md
    data: tuple[str, ...] = ()  # its policies for data, such as `no_training` and `zero_retention`
    drops: tuple[str, ...] | None = None  # members that it does not take; see docs/models.md
    renames: Mapping[str, str] | None = None  # members that it knows by another name
    batch: BatchRunner = "own"  # who runs batches: we, or its own API; see docs/batches.md
    batch_lines: int = 0  # requests of one batch there; 0: as many as its API takes
    batch_least: int = 0  # a batch of fewer is not passed on; 0: as its API has it
    batch_account: str = ""  # Fireworks': the account there in which batches are made
    batch_hosts: tuple[str, ...] | None = None  # at which answers of batches may lie: `*.host.example`
    batch_models: Mapping[str, str] = {}  # Volcengine's: by a model, its endpoint for batches, `ep-bi-…`
    batch_bucket: str = ""  # `gs://BUCKET/FOLDER`, `s3://…`: through which batches go to Vertex AI or Bedrock
    batch_endpoint: str = ""  # where that is asked; empty: where the provider's cloud has its buckets
    batch_role: str = ""  # Bedrock's: the ARN of the role in which it reads and writes the bucket
    max_concurrent: int = 0  # calls that are there at once; 0: as many as come
    max_waiting: int = 1_000  # calls in a line for that, or until it allows more; others are refused
    longest_wait_s: float = 10.0  # of each of them; 0: none waits


class ServiceAccount(msgspec.Struct, frozen=True):
    """What we read of a service account's file."""

    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = ""


def secret(
    value: str, where: str, env: Mapping[str, str], dotenv: Mapping[str, str], *, ours: bool = False
) -> str:
    """Return a secret that is written as it is, or where it is.

    That is `env:NAME`, `file:PATH`, or a secret manager's (`vaults`). `stored:NAME` stays as it is: only who
    has the data folder can open that. `ours`: a variable may hold one of Headgate's own keys.

    Raises:
        ConfigError: it cannot be had.
    """
    if value.startswith("env:"):
        return lookup(value[4:], env, dotenv, ours=ours)
    if is_reference(value):
        try:
            return fetch(value)
        except VaultError as fault:
            raise ConfigError(f"{where}: {fault}") from fault
    if not value.startswith("file:"):
        return value
    try:
        return Path(value[5:]).read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise ConfigError(f"{where}: cannot read {value}: {fault.strerror}.") from fault
    except ValueError:  # the fault quotes what is in the file
        raise ConfigError(f"{where}: {value!r} is no file of UTF-8 text.") from None


def lookup(name: str, env: Mapping[str, str], dotenv: Mapping[str, str], *, ours: bool = False) -> str:
    """Return a provider's key: of the environment, else of `.env`; one of our own only on purpose."""
    for source in (env, dotenv):
        value = source.get(name, "").strip()
        if value and (ours or not value.startswith(OWN_KEY)):
            return value
    return ""


def discover(
    known: Mapping[str, KnownHost],
    env: Mapping[str, str],
    dotenv: Mapping[str, str],
    hosts: dict[str, Host],
    found: list[str],
) -> list[str]:
    """Switch on each host whose usual names are set; return the names of keys without an address."""
    lost = []
    for name, row in known.items():
        if name in hosts:
            continue
        key_name = next((key for key in row.keys if lookup(key, env, dotenv)), "")
        url = lookup(row.url_env, env, dotenv) if row.url_env else ""
        if not key_name and not (row.local and url):
            continue
        if url and row.kind not in ADDRESSES:
            url = _local_url(url)
        provider = _informed(Provider(name=name, base_url=url), row, env, dotenv)
        if not (provider.base_url or row.base_url):
            lost.append(f"{key_name} (without {' or '.join(row.env.get('base_url', ()))})")
            continue
        key = lookup(key_name, env, dotenv) if key_name else ""
        hosts[name] = _host(provider, row, key)
        found.append(f"{name} (from {key_name or row.url_env})")
    return lost


def _local_url(url: str) -> str:
    """Return a base URL of what local servers take for an address: `host:port`, with or without `/v1`."""
    full = url if url.startswith(_URL_SCHEMES) else f"http://{url}"
    full = full.rstrip("/").replace("//0.0.0.0", "//127.0.0.1")
    return full if full.count("/") > 2 else f"{full}/v1"


def configured(
    provider: Provider, known: Mapping[str, KnownHost], env: Mapping[str, str], dotenv: Mapping[str, str]
) -> Host:
    """Return a provider of the file, with its key; with its first, which has the others beside it.

    Raises:
        ConfigError: naming it and what is wrong.
    """
    if not provider.api_keys:
        return _configured(provider, known, env, dotenv)
    where = f"provider {provider.name!r}: api_keys"
    if provider.api_key or len(provider.api_keys) > _MOST_KEYS:
        raise ConfigError(f"{where}: give one api_key, or up to {_MOST_KEYS} here.")
    hosts = []
    for number, key in enumerate(provider.api_keys, 1):
        one = msgspec.structs.replace(provider, api_key=key, api_keys=())
        host = _configured(one, known, env, dotenv)
        if not host.api_key:
            raise ConfigError(f"{where}: number {number} is empty, or its variable is not set.")
        hosts.append(msgspec.structs.replace(host, credential=str(number)))
    return msgspec.structs.replace(hosts[0], spares=tuple(hosts[1:]))


def _configured(
    provider: Provider, known: Mapping[str, KnownHost], env: Mapping[str, str], dotenv: Mapping[str, str]
) -> Host:
    row, ours, where = known.get(provider.name), provider.kind == OURS, f"provider {provider.name!r}"
    key = secret(provider.api_key, where, env, dotenv, ours=ours)
    signs = provider.access_key_id or provider.profile
    if provider.api_key and signs:
        raise ConfigError(f"{where}: give one of api_key, access_key_id and profile.")
    asks = signs or provider.client_id or provider.service_account or provider.token_command
    if not (provider.api_key or asks) and row is not None:
        key = next((value for name in row.keys if (value := lookup(name, env, dotenv))), "")
    if key.startswith(OWN_KEY) and not ours:
        raise ConfigError(
            f"{where}: api_key is a Headgate key; give the provider's own, or say kind = "
            f'"{OURS}" where another Headgate is the provider.'
        )
    if row is None and not provider.base_url:
        raise ConfigError(f"{where}: base_url is missing and the name is not a known host.")
    if provider.kind and provider.kind not in CODECS:
        kinds = ", ".join(CODECS)
        raise ConfigError(f"{where}: kind {provider.kind!r} is none of {kinds}.")
    return _host(_informed(provider, row or known.get(provider.kind), env, dotenv), row, key)


_KEYS = ("access_key_id", "secret_access_key", "session_token")


def _informed(
    provider: Provider, row: KnownHost | None, env: Mapping[str, str], dotenv: Mapping[str, str]
) -> Provider:
    """Return a provider with what the environment says of it where the file does not, and its keys.

    Raises:
        ConfigError: a key cannot be had.
    """
    where = f"provider {provider.name!r}"
    keys = (*_KEYS, "client_secret")
    given = {name: secret(getattr(provider, name), where, env, dotenv) for name in keys}
    if row is not None:
        usual = {
            name: next((value for each in names if (value := lookup(each, env, dotenv))), "")
            for name, names in row.env.items()
        }
        given["location"] = provider.location or usual.get("location", "")
        if provider.kind in {"", row.kind}:
            given["batch_account"] = provider.batch_account or usual.get("batch_account", "")
        if not (provider.base_url or row.base_url):  # an address and the version of its API go together
            given["base_url"] = usual.get("base_url", "")
            given["api_version"] = provider.api_version or usual.get("api_version", "")
        if not (provider.api_key or provider.access_key_id or provider.profile):
            signs = {name: usual.get(name, "") for name in _KEYS}  # all of one place, or none
            given |= signs if signs["access_key_id"] else {"profile": usual.get("profile", "")}
    return msgspec.structs.replace(provider, **given)


_FROM_ROW = (
    *("models", "extras", "stream_usage", "hangup", "local", "drops", "renames"),
    *("deviates", "completion_tokens", "schema", "schema_models", "several", "videos", "batch_hosts"),
)
_CHANGED = (*_FROM_ROW[:7], "schema", "schema_models", "several", "batch_hosts")


def _host(provider: Provider, row: KnownHost | None, key: str) -> Host:
    """Return a host, and how batches go there.

    Raises:
        ConfigError: naming the provider and what is wrong.
    """
    host, where = _asked_at(provider, row, key), f"provider {provider.name!r}"
    if provider.batch_lines < 0 or provider.batch_least < 0:
        raise ConfigError(f"{where}: batch_lines and batch_least begin at 0, which is no limit.")
    if wrong := no_bounds(host):
        raise ConfigError(f"{where}: {wrong}")
    try:
        bucket = bucket_of(host, Said(provider.batch_bucket, provider.batch_endpoint, provider.batch_role))
        host = msgspec.structs.replace(host, bucket=bucket)
        check_account(host)
        check_models(host)
        check_hosts(host, provider.batch_hosts)
    except ValueError as fault:
        raise ConfigError(f"{where}: {fault}.") from fault
    if provider.batch != "own" and (lacking := unready(host.kind, host, provider.batch)):
        raise ConfigError(f"{where}: {lacking}")
    return host


def _asked_at(provider: Provider, row: KnownHost | None, key: str) -> Host:
    base = row or KnownHost(title=provider.name, keys=(), base_url="", models=("*",), schema="tried")
    kind, url = provider.kind or base.kind, (provider.base_url or base.base_url).rstrip("/")
    try:
        if kind in ADDRESSES:
            url = ADDRESSES[kind](url, _place(provider))
    except ValueError as fault:
        raise ConfigError(f"provider {provider.name!r}: {fault}.") from fault
    try:
        parse_origin(url)
        if provider.proxy not in {"", "direct"}:
            parse_proxy(provider.proxy)
    except ValueError as fault:
        raise ConfigError(f"provider {provider.name!r}: base_url {url!r} or its proxy: {fault}.") from fault
    given = {name: value for name in _CHANGED if (value := getattr(provider, name)) is not None}
    rows = {name: getattr(base, name) for name in _FROM_ROW}
    rows["several"] = rows["several"] and kind not in ONE_ANSWER
    rows["batch_hosts"] = base.batch_hosts or usual_hosts(kind)
    tokens = _tokens(provider, base, kind, url)
    local = {**rows, **given}["local"]
    signing = None if key or tokens is not None else _signing(provider, kind, local=local)
    return Host(
        name=provider.name,
        kind=kind,
        base_url=url,
        api_key=key,
        organization=provider.organization,
        project=provider.project,
        headers=provider.headers,
        proxy=provider.proxy,
        example=next(iter(provider.deployments), base.example),
        limited=provider.models is not None,
        api_version=provider.api_version,
        region=provider.region,
        data=provider.data,
        deployments=provider.deployments if kind in DEPLOYED else None,
        tokens=tokens,
        bearer=Bearer() if tokens is not None else None,
        signing=signing,
        location=_region(provider, kind, url) if signing is not None else provider.location,
        batch=provider.batch,
        batches=base.batches if kind == base.kind else "",
        handover=Handover(
            provider.batch_lines, provider.batch_least, provider.batch_account, provider.batch_models
        ),
        room=RoomTerms(provider.max_concurrent, provider.max_waiting, provider.longest_wait_s),
        **{**rows, **given},
    )


def _place(provider: Provider) -> Place:
    return Place(project=provider.project, location=provider.location, api_version=provider.api_version)


def _tokens(provider: Provider, row: KnownHost, kind: str, url: str) -> TokenSource | None:
    """Return where a provider's tokens come from, or None where it is asked with a key, or without any.

    Raises:
        ConfigError: naming the provider and what is wrong.
    """
    where = f"provider {provider.name!r}"
    path, command, client = provider.service_account, provider.token_command, provider.client_id
    if bool(path) + bool(command) + bool(client) + bool(provider.api_key) > 1:
        raise ConfigError(f"{where}: give one of api_key, client_id, service_account and token_command.")
    if command:
        return TokenSource(command=command)
    if path:
        return _account(provider, row, where)
    if client:
        return _client(provider, row, kind, url)
    if provider.client_secret or provider.tenant:
        raise ConfigError(f"{where}: client_id is missing: the id of the client that has the secret.")
    return None


def _account(provider: Provider, row: KnownHost, where: str) -> TokenSource:
    path = provider.service_account
    try:
        account = msgspec.json.decode(Path(path).read_bytes(), type=ServiceAccount)
        signing_key(account.private_key)
        url = provider.token_url or account.token_uri
        parse_origin(url)
    except OSError as fault:
        raise ConfigError(f"{where}: cannot read {path}: {fault.strerror}.") from fault
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as fault:
        raise ConfigError(f"{where}: {path} is no service account's key: {fault}.") from fault
    return TokenSource(
        account=account.client_email,
        private_key=account.private_key,
        key_id=account.private_key_id,
        url=url,
        audience=account.token_uri or url,
        scope=provider.token_scope or row.token_scope,
    )


def _signing(provider: Provider, kind: str, *, local: bool) -> Signing | None:
    """Return the keys that sign a provider's requests, or None where they are not signed.

    Raises:
        ConfigError: naming the provider and what is wrong.
    """
    where = f"provider {provider.name!r}"
    own = bool(provider.access_key_id or provider.secret_access_key)
    if kind not in REGIONS:
        if own or provider.profile:
            raise ConfigError(f"{where}: access_key_id and profile are not for kind {kind!r}.")
        return None
    if own and not (provider.access_key_id and provider.secret_access_key):
        raise ConfigError(f"{where}: give both access_key_id and secret_access_key.")
    if provider.secret_access_key.startswith(STORED):
        raise ConfigError(f"{where}: only api_key can be stored; give secret_access_key as env: or file:.")
    if local and not own and not provider.profile:
        return None
    if find_spec("botocore") is None:
        raise ConfigError(
            f"{where}: requests are signed with botocore, which is not installed: "
            "pip install 'headgate[bedrock]', or give an API key."
        )
    keys = AccessKeys(provider.access_key_id, provider.secret_access_key, provider.session_token)
    return Signing(keys if own else None, provider.profile)


def _region(provider: Provider, kind: str, url: str) -> str:
    try:
        return REGIONS[kind](url, provider.location)
    except ValueError as fault:
        raise ConfigError(f"provider {provider.name!r}: {fault}.") from fault


def _client(provider: Provider, row: KnownHost, kind: str, base_url: str) -> TokenSource:
    """Return the source of a client with a secret; its kind may know where tokens are, and what for."""
    where = f"provider {provider.name!r}"
    if not provider.client_secret:
        raise ConfigError(f"{where}: client_secret is missing, or the variable that it names is not set.")
    if provider.client_secret.startswith(STORED):
        raise ConfigError(f"{where}: client_secret cannot be a stored one: give env:, file: or a vault's.")
    url, scope = provider.token_url, provider.token_scope or row.token_scope
    usual = TOKENS.get(kind)
    if usual is not None:
        if not (url or provider.tenant):
            raise ConfigError(f"{where}: tenant is missing: the id or the domain of the client's tenant.")
        found = usual(base_url, provider.authority, provider.tenant)
        url, scope = url or found[0], scope or found[1]
    try:
        parse_origin(url)
    except ValueError as fault:
        raise ConfigError(f"{where}: token_url {url!r}: {fault}.") from fault
    return TokenSource(account=provider.client_id, secret=provider.client_secret, url=url, scope=scope)
