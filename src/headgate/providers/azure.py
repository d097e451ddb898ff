"""Azure OpenAI: OpenAI's wire under other paths, with another credential, and with its filters' verdicts.

A model is a deployment. The dated API (`api_version = "2024-10-21"`) has it in the path, `/openai/v1` in the
body. The verdict on the prompt stands in an answer's `prompt_filter_results`, in a stream in a first chunk
of its own without a choice, which no client of OpenAI's expects: here it comes with the first chunk that has
one. What a filter that runs beside the stream says later comes in chunks without a delta, an id and a model;
they are completed. A prompt that is refused is a 400 `content_filter`, and so is an answer refused midway.

Facts: Microsoft's reference of Azure OpenAI, its pages on content filtering and streaming, on the lifecycle
of its API's versions and on sovereign clouds; streams and errors that its users have recorded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headgate.callstate import set_at_once
from headgate.ports import Head, Request
from headgate.providers.codec import headers_of, name_in_path
from headgate.providers.edits import members_of
from headgate.providers.openai import PATHS, JsonReader, OpenAICodec
from headgate.providers.plain import PlainCodec
from headgate.providers.refusals import detail_of, meaning, status_of
from headgate.providers.stream import StreamReader
from headgate.providers.used import image_usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Reader
    from headgate.providers.codec import Codec
    from headgate.values import Call, Host, Operation, Place, Target

_DATED = "/openai/deployments"
_VERSION = re.compile(r"[A-Za-z0-9.-]*", re.ASCII)
_VERDICT = "prompt_filter_results"
_CODES = {"DeploymentNotFound": "model_not_found", "ResponsibleAIPolicyViolation": "content_filter"}


class Cloud(NamedTuple):
    """A cloud: where its Entra ID is, and what a token for its models is good for."""

    authority: str
    scope: str


_PUBLIC = Cloud("https://login.microsoftonline.com", "https://cognitiveservices.azure.com/.default")
_CLOUDS: Mapping[str, Cloud] = {  # by the end of a resource's host name
    ".azure.cn": Cloud(
        "https://login.partner.microsoftonline.cn", "https://cognitiveservices.azure.cn/.default"
    ),
    ".azure.us": Cloud("https://login.microsoftonline.us", "https://cognitiveservices.azure.us/.default"),
}


def credentials(host: Host) -> dict[str, str]:
    """Return the headers that say who asks, where that is a key."""
    return {"api-key": host.api_key} if host.api_key else {}


def located(base_url: str, place: Place) -> str:
    """Return where the models of a resource are: by the dated API, or by `/openai/v1`.

    Raises:
        ValueError: the base URL is not a resource's, or not that of the API's version.
    """
    version = place.api_version
    if not base_url:
        raise ValueError(
            "base_url is missing: give the resource's endpoint, such as https://NAME.openai.azure.com"
        )
    if "/deployments" in base_url:
        raise ValueError("base_url: give the resource's endpoint alone: a deployment is asked for as a model")
    if _VERSION.fullmatch(version) is None:
        raise ValueError(f"api_version {version!r} is none, such as 2024-10-21")
    dated = version[:1].isdigit()
    if not base_url.endswith("/v1"):
        return base_url.removesuffix("/openai") + (_DATED if dated else "/openai/v1")
    if dated:
        raise ValueError(f"api_version {version} is not one of /openai/v1: leave one of them out")
    return base_url


def entra(base_url: str, authority: str, tenant: str) -> tuple[str, str]:
    """Return where a resource's cloud gives tokens to a tenant, and what they are good for.

    Args:
        base_url: of the resource.
        authority: instead of the cloud's usual; empty: that.
        tenant: its id or domain.
    """
    host = base_url.partition("//")[2].partition("/")[0].partition(":")[0].lower()
    cloud = next((found for end, found in _CLOUDS.items() if host.endswith(end)), _PUBLIC)
    return f"{(authority or cloud.authority).rstrip('/')}/{tenant}/oauth2/v2.0/token", cloud.scope


def mistake(head: Head, body: bytes) -> UpstreamError:
    """Return what a refusing answer means for the caller; one by a filter names the categories."""
    detail = detail_of(body)
    detail.code = _CODES.get(str(detail.code), detail.code)
    found = ", ".join(_filtered(body)) if detail.code == "content_filter" else ""
    if found:
        detail.message = f"{(detail.message or 'The content was filtered.').strip()} Filtered: {found}."
    return meaning(head, detail)


def _filtered(body: bytes) -> Iterator[str]:
    """Yield the categories for which a filter refuses, with their severity."""
    error = members_of(body).get("error", b"null")
    inner = msgspec.json.decode(error).get("innererror")
    results = inner.get("content_filter_result") if isinstance(inner, dict) else None
    for name, result in results.items() if isinstance(results, dict) else ():
        if isinstance(result, dict) and result.get("filtered") is True:
            severity = result.get("severity")
            yield f"{name} ({severity})" if isinstance(severity, str) else name


def _reported(body: bytes, otherwise: int) -> UpstreamError:
    """Return what an error in an answer of status 200 means: it tells the status that it would have had."""
    return mistake(Head(status_of(detail_of(body), otherwise), ()), body)


def _addressed(request: Request, target: Target) -> Request:
    """Return a request of OpenAI's wire as it goes to a deployment.

    Raises:
        UpstreamError: there is no token to ask with.
    """
    place, version = target.base_path, target.host.api_version
    operation = request.path.removeprefix(place)
    if place.endswith(_DATED):
        place += f"/{name_in_path(target)}"
    query = f"?api-version={version}" if version else ""
    headers = headers_of(target)
    path = f"{place}{operation}{query}"
    return Request(request.method, path, headers, request.body, request.request_id, request.tail)


class AzureCodec(OpenAICodec):
    """Speak one operation of OpenAI's wire to a deployment."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: the host takes only what OpenAI documents, and this is not.
            UpstreamError: there is no token to ask with.
        """
        return _addressed(super().encode(call, target), target)

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for a stream or for a JSON answer."""
        return AzureStream(call, target) if call.stream else AzureJson(call, target)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


@set_at_once
class AzureJson(JsonReader):
    """A whole JSON answer."""

    def _mistake(self, body: bytes) -> UpstreamError:
        return _reported(body, 502)


class AzureStream(StreamReader):
    """Read the chunks of one streamed answer."""

    __slots__ = ("_verdict",)

    def __init__(self, call: Call, target: Target) -> None:
        super().__init__(call, target)
        self._verdict: Any = None  # on the prompt, until a chunk carries it

    def _frame(self, payload: bytes) -> bytes:
        kept = super()._frame(payload)
        if not kept:
            self._verdict = members_of(payload).get(_VERDICT, self._verdict)
        elif self._verdict is not None:
            kept = b'%b,"%b":%b}' % (kept[:-1], _VERDICT.encode(), bytes(self._verdict))
            self._verdict = None
        return kept

    def _mistake(self, payload: bytes) -> UpstreamError:
        return _reported(payload, 500)


class AzureImages(PlainCodec):
    """Speak of images to a deployment."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: the host takes only what OpenAI documents, and this is not.
            UpstreamError: there is no token to ask with.
        """
        return _addressed(super().encode(call, target), target)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


CODECS: Mapping[Operation, Codec] = {
    **{name: AzureCodec(name) for name in PATHS},
    "images": AzureImages("/images/generations", "data", image_usage),
}
