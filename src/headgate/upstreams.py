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

from headgate.providers.grants import signing_key
from headgate.providers.registry import ADDRESSES, CODECS, OURS, REGIONS, KnownHost
from headgate.transport.egress import parse_origin
from headgate.transport.proxy import parse_proxy
from headgate.values import AccessKeys, Bearer, Host, Signing, TokenSource
from headgate.vaults import VaultError, fetch, is_reference

OWN_KEY = "sk-hg-"
STORED = "stored:"
_URL_SCHEMES = ("http://", "https://")


class ConfigError(Exception):
    """A setting that cannot be used: names it and says what to do."""


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider of the TOML file. What is not given comes from the row of `hosts.toml` of that name."""

    name: str  # yours, or one of the table below, whose row it then changes
    kind: str = ""  # the wire that it speaks; empty: its row's, else `openai`; `headgate`: another gateway
    base_url: str = ""  # such as `https://llm.example/v1`
    api_key: str = ""  # `env:NAME`, `file:PATH`, `stored:NAME`, of a secret manager, or itself
    models: tuple[str, ...] | None = None  # patterns of the names that it serves; else all of them
    extras: Literal["pass", "refuse"] | None = None  # members of a request that OpenAI does not have
    stream_usage: bool | None = None  # it understands `stream_options.include_usage`
    hangup: Literal["cancel", "drain"] | None = None  # `drain`: it bills also when the client has gone
    local: bool | None = None  # on this machine or network: costs nothing
    organization: str = ""  # sent as `openai-organization`
    project: str = ""  # sent as `openai-project`; at Vertex AI the project that pays
    location: str = ""  # Vertex AI's: such as `europe-west4`; empty: `global`. AWS's region
    service_account: str = ""  # a file with a service account's key: tokens are fetched for it
    token_command: tuple[str, ...] = ()  # or a program that prints a token, and its arguments
    token_url: str = ""  # where tokens are asked for, instead of the file's own
    token_scope: str = ""  # what they are good for, instead of the host's usual
    access_key_id: str = ""  # AWS's, which sign every request; as `api_key`, but not stored
    secret_access_key: str = ""  # of the same
    session_token: str = ""  # of keys that expire
    profile: str = ""  # or where AWS's own files say what signs; without any: as AWS's tools find it
    headers: Mapping[str, str] = {}  # sent with every request
    proxy: str = ""  # instead of those of the environment; `direct`: none
    drops: tuple[str, ...] | None = None  # members that it refuses: left out, and named in a header
    renames: Mapping[str, str] | None = None  # members that it knows by another name


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
) -> None:
    """Switch on each host whose usual name is set."""
    for name, row in known.items():
        if name in hosts:
            continue
        key_name = next((key for key in row.keys if lookup(key, env, dotenv)), "")
        url = lookup(row.url_env, env, dotenv) if row.url_env else ""
        if not key_name and not (row.local and url):
            continue
        provider = _informed(Provider(name=name, base_url=_local_url(url) if url else ""), row, env, dotenv)
        key = lookup(key_name, env, dotenv) if key_name else ""
        hosts[name] = _host(provider, row, key)
        found.append(f"{name} (from {key_name or row.url_env})")


def _local_url(url: str) -> str:
    """Return a base URL of what local servers take for an address: `host:port`, with or without `/v1`."""
    full = url if url.startswith(_URL_SCHEMES) else f"http://{url}"
    full = full.rstrip("/").replace("//0.0.0.0", "//127.0.0.1")
    return full if full.count("/") > 2 else f"{full}/v1"


def configured(
    provider: Provider, known: Mapping[str, KnownHost], env: Mapping[str, str], dotenv: Mapping[str, str]
) -> Host:
    """Return a provider of the file, with its key.

    Raises:
        ConfigError: naming it and what is wrong.
    """
    row, ours = known.get(provider.name), provider.kind == OURS
    key = secret(provider.api_key, f"provider {provider.name!r}", env, dotenv, ours=ours)
    signs = provider.access_key_id or provider.profile
    if provider.api_key and signs:
        raise ConfigError(f"provider {provider.name!r}: give one of api_key, access_key_id and profile.")
    if not provider.api_key and row is not None and not signs:
        key = next((value for name in row.keys if (value := lookup(name, env, dotenv))), "")
    if key.startswith(OWN_KEY) and not ours:
        raise ConfigError(
            f"provider {provider.name!r}: api_key is a Headgate key; give the provider's own, or say kind = "
            f'"{OURS}" where another Headgate is the provider.'
        )
    if row is None and not provider.base_url:
        raise ConfigError(
            f"provider {provider.name!r}: base_url is missing and the name is not a known host."
        )
    if provider.kind and provider.kind not in CODECS:
        kinds = ", ".join(CODECS)
        raise ConfigError(f"provider {provider.name!r}: kind {provider.kind!r} is none of {kinds}.")
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
    given = {name: secret(getattr(provider, name), where, env, dotenv) for name in _KEYS}
    if row is not None:
        usual = {
            name: next((value for each in names if (value := lookup(each, env, dotenv))), "")
            for name, names in row.env.items()
        }
        given["location"] = provider.location or usual.get("location", "")
        if not (provider.api_key or provider.access_key_id or provider.profile):
            signs = {name: usual.get(name, "") for name in _KEYS}  # all of one place, or none
            given |= signs if signs["access_key_id"] else {"profile": usual.get("profile", "")}
    return msgspec.structs.replace(provider, **given)


_FROM_ROW = (
    *("models", "extras", "stream_usage", "hangup", "local", "drops", "renames"),
    *("deviates", "completion_tokens"),
)


def _host(provider: Provider, row: KnownHost | None, key: str) -> Host:
    base = row or KnownHost(title=provider.name, keys=(), base_url="", models=("*",))
    kind, url = provider.kind or base.kind, (provider.base_url or base.base_url).rstrip("/")
    try:
        if kind in ADDRESSES:
            url = ADDRESSES[kind](url, provider.project, provider.location)
    except ValueError as fault:
        raise ConfigError(f"provider {provider.name!r}: {fault}.") from fault
    try:
        parse_origin(url)
        if provider.proxy not in {"", "direct"}:
            parse_proxy(provider.proxy)
    except ValueError as fault:
        raise ConfigError(f"provider {provider.name!r}: base_url {url!r} or its proxy: {fault}.") from fault
    given = {
        name: value
        for name in ("models", "extras", "stream_usage", "hangup", "local", "drops", "renames")
        if (value := getattr(provider, name)) is not None
    }
    rows = {name: getattr(base, name) for name in _FROM_ROW}
    tokens = _tokens(provider, base)
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
        example=base.example,
        tokens=tokens,
        bearer=Bearer() if tokens is not None else None,
        signing=signing,
        location=_region(provider, kind, url) if signing is not None else provider.location,
        **{**rows, **given},
    )


def _tokens(provider: Provider, row: KnownHost) -> TokenSource | None:
    """Return where a provider's tokens come from, or None where it is asked with a key, or without any.

    Raises:
        ConfigError: naming the provider and what is wrong.
    """
    where = f"provider {provider.name!r}"
    path, command = provider.service_account, provider.token_command
    if not path and not command:
        return None
    if bool(path) + bool(command) + bool(provider.api_key) > 1:
        raise ConfigError(f"{where}: give one of api_key, service_account and token_command.")
    if command:
        return TokenSource(command=command)
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
