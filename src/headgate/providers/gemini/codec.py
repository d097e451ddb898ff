"""The codecs: operations of Gemini's wire, at AI Studio and at Vertex AI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.ports import Request
from headgate.providers.codec import headers_of, name_in_path
from headgate.providers.gemini.answer import StreamSource, WholeSource
from headgate.providers.gemini.embeddings import Batch, Predict
from headgate.providers.gemini.errors import mistake
from headgate.providers.gemini.images import ImageReader, image_body
from headgate.providers.gemini.request import build
from headgate.providers.translated import TranslatedReader
from headgate.providers.vectors import EmbeddingsReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head, Reader
    from headgate.providers.codec import Codec
    from headgate.providers.gemini.embeddings import VerbWire
    from headgate.values import Call, Host, Operation, Place, Target

_GLOBAL = "https://aiplatform.googleapis.com"
_encode = msgspec.json.encode


def credentials(host: Host) -> dict[str, str]:
    """Return the headers that say who asks, where that is a key."""
    return {"x-goog-api-key": host.api_key} if host.api_key else {}


def located(base_url: str, place: Place) -> str:
    """Return where the models of a project at Vertex AI are: a base URL with the project and location in it.

    Raises:
        ValueError: there is no project.
    """
    if "/projects/" in base_url:
        return base_url
    if not place.project:
        raise ValueError("project is missing: the Google Cloud project that pays")
    location = place.location or "global"
    if base_url.startswith(f"{_GLOBAL}/") and location != "global":
        host = f"https://{location}-aiplatform.googleapis.com"
        if location in {"us", "eu"}:
            host = f"https://aiplatform.{location}.rep.googleapis.com"
        base_url = base_url.replace(_GLOBAL, host, 1)
    return f"{base_url}/projects/{place.project}/locations/{location}"


def _request(call: Call, target: Target, place: str, verb: str, body: bytes) -> Request:
    path = f"{target.base_path}{place}/models/{name_in_path(target)}:{verb}"
    return Request("POST", path, headers_of(target), body, call.request_id)


class _Placed:
    """What the codecs share. `place` is what stands before `/models` in a path."""

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


class ContentCodec(_Placed):
    """Speak `:generateContent` for chat."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
            UpstreamError: there is no token to ask with.
        """
        verb = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        return _request(call, target, self._place, verb, _encode(build(call, target)))

    def reader(self, call: Call, _target: Target) -> Reader:
        """Return a reader for a stream or for a whole answer."""
        return TranslatedReader(call, WholeSource(call), StreamSource(call) if call.stream else None)


class EmbeddingsCodec(_Placed):
    """Speak one of the forms of embeddings."""

    __slots__ = ("_wire",)

    def __init__(self, place: str, wire: VerbWire) -> None:
        super().__init__(place)
        self._wire = wire

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
            UpstreamError: there is no token to ask with.
        """
        body = self._wire.body(call, target)
        return _request(call, target, self._place, self._wire.verb, _encode(body))

    def reader(self, call: Call, _target: Target) -> Reader:
        """Return a reader for the vectors."""
        return EmbeddingsReader(call, self._wire)


class ImagesCodec(_Placed):
    """Speak `:generateContent` for images."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request.

        Raises:
            CallerError: what this model cannot do.
            UpstreamError: there is no token to ask with.
        """
        return _request(call, target, self._place, "generateContent", _encode(image_body(call, target)))

    def reader(self, call: Call, _target: Target) -> Reader:
        """Return a reader for the image."""
        return ImageReader(call)


_PUBLISHER = "/publishers/google"
_PAINTS: tuple[Operation, ...] = ("images", "image_edits", "image_variations")
STUDIO: Mapping[Operation, Codec] = {
    "chat": ContentCodec(""),
    "embeddings": EmbeddingsCodec("", Batch()),
    **dict.fromkeys(_PAINTS, ImagesCodec("")),
}
VERTEX: Mapping[Operation, Codec] = {
    "chat": ContentCodec(_PUBLISHER),
    "embeddings": EmbeddingsCodec(_PUBLISHER, Predict()),
    **dict.fromkeys(_PAINTS, ImagesCodec(_PUBLISHER)),
}
