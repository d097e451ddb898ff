"""The providers of the settings: where they are, and the keys that they are asked with.

A key that begins with `sk-hg-` is our own and never a provider's. What is read here was given: only
`config` looks at the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from headgate.providers.grants import signing_key
from headgate.providers.registry import ADDRESSES, CODECS, OURS, KnownHost
from headgate.transport.egress import parse_origin
from headgate.transport.proxy import parse_proxy
from headgate.values import Bearer, Host, TokenSource
from headgate.vaults import VaultError, fetch, is_reference

OWN_KEY = "sk-hg-"
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
    location: str = ""  # Vertex AI's: such as `europe-west4`; empty: `global`
    service_account: str = ""  # a file with a service account's key: tokens are fetched for it
    token_command: tuple[str, ...] = ()  # or a program that prints a token, and its arguments
    token_url: str = ""  # where tokens are asked for, instead of the file's own
    token_scope: str = ""  # what they are good for, instead of the host's usual
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
        provider = Provider(name=name, base_url=_local_url(url) if url else "")
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
    if not provider.api_key and row is not None:
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
    return _host(provider, row, key)


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
