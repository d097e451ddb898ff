"""Veo through the Gemini API: a long-running operation, then a file that is kept for two days.

Source: Google's guide "Generate videos with Veo 3.1 in Gemini API" and the `predictLongRunning` method:
`POST /v1beta/models/{m}:predictLongRunning` with `instances` and `parameters` answers `{"name": ...}`;
`GET /v1beta/{name}` answers `done` with `response.generateVideoResponse.generatedSamples[].video.uri`, or
with `raiMediaFilteredReasons` in place of a video, or with `error`. Images go as `bytesBase64Encoded`:
`inlineData` is refused here. The URI is fetched with the key, and may redirect.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import CallerError, NotFound, UpstreamInterrupted
from headgate.ports import Request
from headgate.providers.gemini.errors import mistake, reported
from headgate.providers.videos import VideoState, kept_at
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.values import Target
    from headgate.wire.videos import VideoJob, VideoOrder

_encode = msgspec.json.encode
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_OPERATION = re.compile(r"[A-Za-z0-9/._-]{1,300}", re.ASCII)
_SIZES = {(1280, 720), (720, 1280), (1920, 1080), (1080, 1920), (3840, 2160), (2160, 3840)}
_SECONDS = (4, 6, 8)
_KEPT_S = 2 * 86_400


class VeoVideos:
    """Speak `predictLongRunning`."""

    __slots__ = ()

    def create(self, order: VideoOrder, target: Target, request_id: str) -> Request:
        """Return the request that starts the operation.

        Raises:
            CallerError: a size or a length that Veo does not make.
            NotFound: the name is not one of a model.
        """
        if _MODEL.fullmatch(target.model.name) is None:
            raise NotFound(f"The model `{order.model[:100]}` does not exist or you do not have access to it.")
        _check(order)
        instance: dict[str, Any] = {"prompt": order.prompt}
        if order.picture is not None:
            data = base64.b64encode(order.picture.data).decode()
            instance["image"] = {"bytesBase64Encoded": data, "mimeType": order.picture.kind}
        parameters = {
            "aspectRatio": "16:9" if order.width > order.height else "9:16",
            "resolution": order.resolution,
            "durationSeconds": order.seconds,
        }
        body = _encode({"instances": [instance], "parameters": parameters})
        path = f"{target.base_path}/models/{target.model.name}:predictLongRunning"
        return Request("POST", path, target.headers, body, request_id)

    def ask(self, job: VideoJob, target: Target) -> Request:
        """Return the request that asks for the operation."""
        return Request("GET", f"{target.base_path}/{job.operation}", target.headers, b"", job.id)

    def state(self, body: bytes) -> VideoState:
        """Return what the operation says."""
        try:
            told = msgspec.json.decode(body, type=_Operation)
        except NOT_JSON as fault:
            raise UpstreamInterrupted(f"The provider's answer is no operation: {fault}.") from None
        if _OPERATION.fullmatch(told.name) is None or ".." in told.name:
            raise UpstreamInterrupted("The provider's answer has no name of an operation.")
        if not told.done:
            return VideoState(told.name, "in_progress")
        if told.error is not None:
            return _failed(told.name, "video_failed", reported(told.error).message)
        made = told.response.made if told.response is not None else _Made()
        for sample in made.samples:
            if sample.video.uri:
                return VideoState(told.name, "completed", 100, sample.video.uri, _KEPT_S)
        why = " ".join(made.reasons)
        return _failed(told.name, "moderation_blocked", why or "The provider's filters kept the video back.")

    def content(self, job: VideoJob, target: Target) -> tuple[str, Request]:
        """Return where the file is; the key goes to its own host alone."""
        origin, path = kept_at(job)
        own = target.host.base_url.startswith(origin + "/")
        return "" if own else origin, Request("GET", path, target.headers if own else (), b"", job.id)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return mistake(head, body)


def _check(order: VideoOrder) -> None:
    if (order.width, order.height) not in _SIZES:
        sizes = ", ".join(sorted(f"{width}x{height}" for width, height in _SIZES))
        raise CallerError(
            f"Invalid value: '{order.size}'. This model makes {sizes}.", param="size", code="invalid_value"
        )
    if order.seconds not in _SECONDS:
        raise CallerError(
            f"Invalid value: '{order.seconds}'. This model makes videos of 4, 6 or 8 seconds.",
            param="seconds",
            code="invalid_value",
        )


def _failed(name: str, code: str, message: str) -> VideoState:
    return VideoState(name, "failed", 0, "", 0, code, message[:1_000])


class _Video(msgspec.Struct, frozen=True):
    uri: str = ""


class _Sample(msgspec.Struct, frozen=True):
    video: _Video = _Video()


class _Made(msgspec.Struct, frozen=True):
    samples: list[_Sample] = msgspec.field(default_factory=list, name="generatedSamples")
    reasons: list[str] = msgspec.field(default_factory=list, name="raiMediaFilteredReasons")


class _Response(msgspec.Struct, frozen=True):
    made: _Made = msgspec.field(default_factory=_Made, name="generateVideoResponse")


class _Operation(msgspec.Struct, frozen=True):
    name: str = ""
    done: bool = False
    error: dict[str, Any] | None = None
    response: _Response | None = None
