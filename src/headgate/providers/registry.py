"""The one place where providers have names: the table of hosts, and which codec speaks each wire."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from headgate.providers import openai

if TYPE_CHECKING:
    from headgate.providers.codec import Codec
    from headgate.values import Operation


class KnownHost(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `hosts.toml`."""

    title: str
    keys: tuple[str, ...]
    base_url: str
    url_env: str = ""
    models: tuple[str, ...] = ()
    example: str = ""
    extras: Literal["pass", "refuse"] = "pass"
    stream_usage: bool = True
    deviates: bool = True
    local: bool = False
    drops: tuple[str, ...] = ()
    renames: Mapping[str, str] = {}
    hangup: Literal["cancel", "drain"] = "cancel"
    completion_tokens: int = 0
    prices: str = ""


def known_hosts() -> dict[str, KnownHost]:
    """Return the rows of `hosts.toml` by name, in its order."""
    rows = tomllib.loads(Path(__file__).with_name("hosts.toml").read_text(encoding="utf-8"))
    return msgspec.convert(rows, dict[str, KnownHost])


CODECS: Mapping[str, Mapping[Operation, Codec]] = {"openai": openai.CODECS}
