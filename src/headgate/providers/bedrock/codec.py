"""The codecs: operations of Bedrock's runtime."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from headgate.errors import NotFound
from headgate.ports import Request, SystemClock
from headgate.providers.bedrock.answer import StreamSource, WholeSource
from headgate.providers.bedrock.embeddings import wire_of
from headgate.providers.bedrock.errors import mistake
from headgate.providers.bedrock.request import build, schema_tool
from headgate.providers.chat import shape_of
from headgate.providers.codec import headers_of
from headgate.providers.refusals import no_credential
from headgate.providers.translated import TranslatedReader
from headgate.providers.vectors import EmbeddingsReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Clock, Head, Reader
    from headgate.providers.codec import Codec
    from headgate.values import Call, Host, Operation, Pairs, Place, Target

# Ids, inference profiles and ARNs. Names come from callers, and into a path: `:` and `/` are escaped.
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,2047}", re.ASCII)
_ESCAPED = str.maketrans({":": "%3A", "/": "%2F"})
_REGION = re.compile(r"https://bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com")
_PLACE = "{location}"
_encode = msgspec.json.encode


def credentials(host: Host) -> dict[str, str]:
    """Return the headers that say who asks, where that is an API key."""
    return {"authorization": f"Bearer {host.api_key}"} if host.api_key else {}


def located(base_url: str, place: Place) -> str:
    """Return where Bedrock is in a region; China's have another domain.

    Raises:
        ValueError: there is no region.
    """
    if _PLACE not in base_url:
        return base_url
    url = base_url.replace(_PLACE, region_of("", place.location))
    return f"{url}.cn" if place.location.startswith("cn-") else url


def region_of(base_url: str, location: str) -> str:
    """Return the region that requests are signed for.

    Raises:
        ValueError: there is none, or it is none.
    """
    found = _REGION.match(base_url)
    region = location or (found[1] if found is not None else "")
    if not region:
        raise ValueError("location is missing: the AWS region, such as us-east-1; AWS_REGION says it, too")
    if re.fullmatch(r"[a-z0-9-]+", region) is None:
        raise ValueError(f"location {region!r} is no AWS region")
    return region


def _headers(target: Target, path: str, body: bytes, clock: Clock) -> Pairs:
    """Return the headers of a request, signed where the host is asked with keys.

    Raises:
        UpstreamError: there are no keys, or there is no token.
    """
    host, signing = target.host, target.host.signing
    if signing is None:
        return headers_of(target)
    if signing.keys is None:
        raise no_credential(signing.trouble)
    from headgate.providers.bedrock.sigv4 import signature

    url = host.base_url[: len(host.base_url) - len(target.base_path)] + path
    signed = signature(url, target.headers, body, signing.keys, host.location, clock.wall())
    return (*target.headers, *signed)


def _request(call: Call, target: Target, verb: str, body: bytes, clock: Clock) -> Request:
    name = target.model.name
    if _MODEL.fullmatch(name) is None:
        raise NotFound(
            f"The model `{name[:100]}` does not exist or you do not have access to it.",
            code="model_not_found",
        )
    path = f"{target.base_path}/model/{name.translate(_ESCAPED)}/{verb}"
    return Request("POST", path, _headers(target, path, body, clock), body, call.request_id)


class _Signed:
    """What the codecs share. Requests are signed for the time of the clock."""

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


class ConverseCodec(_Signed):
    """Speak Converse for chat."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
            UpstreamError: there are no keys to sign with.
        """
        verb = "converse-stream" if call.stream else "converse"
        return _request(call, target, verb, _encode(build(call, target)), self._clock)

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for a stream or for a whole answer."""
        stream = StreamSource(call) if call.stream else None
        return TranslatedReader(call, WholeSource(call), stream, schema_tool(shape_of(call), target))


class InvokeCodec(_Signed):
    """Speak InvokeModel for embeddings."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
            UpstreamError: there are no keys to sign with.
        """
        body = wire_of(target.model.name).body(call, target)
        return _request(call, target, "invoke", _encode(body), self._clock)

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for the vectors."""
        return EmbeddingsReader(call, wire_of(target.model.name))


def codecs(clock: Clock) -> Mapping[Operation, Codec]:
    """Return the codecs, by a clock."""
    return {"chat": ConverseCodec(clock), "embeddings": InvokeCodec(clock)}


CODECS: Mapping[Operation, Codec] = codecs(SystemClock())
