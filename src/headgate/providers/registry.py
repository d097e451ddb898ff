"""The one place where providers have names: the table of hosts, and which codec speaks each wire."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from headgate.providers import anthropic, azure, bedrock, cohere, gemini, openai, plain
from headgate.providers.azurebatches import AzureBatches
from headgate.providers.batchcalls import BatchCalls
from headgate.providers.batches import OpenAIBatches
from headgate.providers.codec import Absent
from headgate.providers.edits import checked_headers
from headgate.providers.fireworksbatches import FireworksBatches
from headgate.providers.hostbatches import HostBatches
from headgate.providers.mistral import MistralBatches
from headgate.providers.ours import PassingOn
from headgate.providers.siliconflowbatches import SiliconFlowBatches
from headgate.providers.togetherbatches import TogetherBatches
from headgate.providers.videos import OpenAIVideos
from headgate.providers.xai import XaiVideos
from headgate.providers.xaibatches import XaiBatches
from headgate.values import BUILT_IN, Operation, Schemas

if TYPE_CHECKING:
    from headgate.money.pricedata import PriceData
    from headgate.ports import Clock, Face
    from headgate.providers.batches import BatchWire
    from headgate.providers.codec import Codec
    from headgate.providers.videos import VideoWire
    from headgate.values import Call, Host, Place, Target


# Makes a face of what returns a request header by its lower-case name.
FaceMaker: TypeAlias = "Callable[[Callable[[bytes], bytes | None]], Face]"


class KnownHost(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `hosts.toml`."""

    title: str
    kind: str = "openai"  # the wire that it speaks
    keys: tuple[str, ...]
    base_url: str  # empty: each customer has one
    url_env: str = ""
    models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    example: str = ""
    videos: str = ""
    batches: str = ""
    batch_hosts: tuple[str, ...] = ()
    extras: Literal["pass", "refuse"] = "pass"
    stream_usage: bool = True
    deviates: bool = True
    local: bool = False
    drops: tuple[str, ...] = ()
    renames: Mapping[str, str] = {}
    hangup: Literal["cancel", "drain"] = "cancel"
    several: bool = True
    schema: Schemas = "enforced"
    schema_models: tuple[str, ...] = ()
    completion_tokens: int = 0
    prices: str = ""
    token_scope: str = ""
    env: Mapping[str, tuple[str, ...]] = {}  # settings of the file, and the usual names of what they say


@cache
def known_hosts() -> Mapping[str, KnownHost]:
    """Return the rows of `hosts.toml` by name, in its order; it is read once."""
    rows = tomllib.loads(Path(__file__).with_name("hosts.toml").read_text(encoding="utf-8"))
    return msgspec.convert(rows, dict[str, KnownHost])


OURS: Final = "headgate"  # the kind of another gateway of this make, which is asked with a key of its own

_WIRES: Mapping[str, Mapping[Operation, Codec]] = {
    "openai": openai.CODECS,
    OURS: openai.CODECS,
    "anthropic": anthropic.CODECS,
    "gemini": gemini.STUDIO,
    "vertex": gemini.VERTEX,
    "vertex-claude": anthropic.AT_VERTEX,
    "bedrock": bedrock.CODECS,
    "cohere": cohere.CODECS,
    "azure": azure.CODECS,
    BUILT_IN: {"moderations": plain.CODECS["moderations"]},
}
CODECS: Mapping[str, Mapping[Operation, Codec]] = {
    kind: {operation: codecs.get(operation) or Absent() for operation in get_args(Operation)}
    for kind, codecs in _WIRES.items()
}


def codecs_of(clock: Clock) -> Mapping[str, Mapping[Operation, Codec]]:
    """Return the codecs of a process: one tells its provider how much time is left."""
    ours = {operation: PassingOn(codec, clock) for operation, codec in CODECS[OURS].items()}
    return {**CODECS, OURS: ours}


# How a host's key is presented: the constant headers of its requests that are not the configuration's own.
CREDENTIALS: Mapping[str, Callable[[Host], Mapping[str, str]]] = {
    "openai": openai.credentials,
    OURS: openai.credentials,
    "anthropic": anthropic.credentials,
    "gemini": gemini.credentials,
    "vertex": gemini.credentials,
    "vertex-claude": gemini.credentials,
    "azure": azure.credentials,
    "bedrock": bedrock.credentials,
    "cohere": openai.credentials,
}
# What a host of this wire does for the JSON that a call's answer shall be; of others it is taken on trial.
SCHEMAS: Mapping[str, Callable[[Call, Target], Schemas]] = {
    "openai": openai.keeps_schema,
    OURS: openai.keeps_schema,
    "azure": openai.keeps_schema,
    "anthropic": anthropic.keeps_schema,
    "gemini": gemini.keeps_schema,
    "vertex": gemini.keeps_schema,
    "vertex-claude": anthropic.keeps_schema_at_vertex,
    "bedrock": bedrock.keeps_schema,
    "cohere": cohere.keeps_schema,
}
# Wires of which an answer has one choice.
ONE_ANSWER: Final = frozenset({"anthropic", "bedrock", "cohere", "vertex-claude"})
# Where a host is, as its base URL and what else is said of its place have it; raises ValueError.
ADDRESSES: Mapping[str, Callable[[str, Place], str]] = {
    "vertex": gemini.located,
    "vertex-claude": gemini.located,
    "azure": azure.located,
    "bedrock": bedrock.located,
}
# Where a client with a secret asks for tokens and what for, by the base URL, the authority and the tenant.
TOKENS: Mapping[str, Callable[[str, str, str], tuple[str, str]]] = {"azure": azure.entra}
# Wires whose models are deployments, and that one seller alone speaks: its name in the price book.
DEPLOYED: Mapping[str, str] = {"azure": "azure"}
# Whose requests are signed where there is no key to ask with: for which region, as the base URL and the
# location say; raises ValueError.
REGIONS: Mapping[str, Callable[[str, str], str]] = {"bedrock": bedrock.region_of}

# Whose own batch API is spoken to, by the kind of host; a row of `hosts.toml` may have one for that alone.
BATCHES: Mapping[str, BatchWire] = {
    "openai": OpenAIBatches(),
    OURS: OpenAIBatches(),
    "anthropic": anthropic.MessageBatches(),
    "azure": AzureBatches(),
    "gemini": gemini.ContentBatches(),
    "vertex": gemini.PredictionJobs(),
    "vertex-claude": anthropic.ClaudeJobs(),
    "bedrock": bedrock.InvocationJobs(),
    "cohere": cohere.DatasetBatches(),
    "mistral": MistralBatches(),
    "groq": HostBatches({"chat"}, most_mb=99),
    "dashscope": HostBatches({"chat", "embeddings"}, most_mb=499),
    "moonshotai": HostBatches({"chat"}, most_mb=99),
    "zhipu": HostBatches({"chat", "embeddings"}, most_mb=99, version="v4"),
    "cerebras": HostBatches({"chat"}),
    "x-ai": XaiBatches(),
    "together": TogetherBatches(),
    "siliconflow": SiliconFlowBatches(),
    "fireworks": FireworksBatches(),
}

# Whose batch API takes lines as calls, by what its row in `hosts.toml` names.
BATCH_CALLS: Mapping[str, BatchCalls] = {
    "volcengine": BatchCalls({"chat", "embeddings"}, "/batch", "ep-bi-"),
}

# Who makes videos, by the wire that it speaks; a row of `hosts.toml` may have one for its videos alone.
VIDEOS: Mapping[str, VideoWire] = {
    "openai": OpenAIVideos(),
    OURS: OpenAIVideos(),
    "gemini": gemini.VeoVideos(),
    "x-ai": XaiVideos(),
}

# Other APIs in whose form callers may ask for chat: by the path, what reads and shows it.
FACES: Mapping[str, FaceMaker] = {
    "/messages": anthropic.MessagesFace,
    "/messages/count_tokens": anthropic.CountFace,
}


def nicknames(hosts: Collection[Host], taken: Collection[str]) -> dict[str, str]:
    """Return what people call the models of the hosts that are here; where there are none, of all."""
    rows = known_hosts()
    here = {row for host in hosts for row in (host.name, host.kind)} if hosts else rows
    found = {name: model for row in here if row in rows for name, model in rows[row].aliases.items()}
    return {name: model for name, model in found.items() if name not in taken}


def book_names(hosts: Collection[Host], data: PriceData) -> dict[str, str]:
    """Return under which name the shipped prices have each host; empty: they do not have it."""
    return {
        host.name: DEPLOYED.get(host.kind) or data.provider_id(host.name, host.base_url) for host in hosts
    }


def constant_headers(host: Host, extra: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the constant headers of every request to a host: its credentials, its own, and `extra`.

    Raises:
        CallerError: one of them holds a character that HTTP does not allow.
    """
    return checked_headers(CREDENTIALS[host.kind](host), {**host.headers, **extra})
