"""xAI's videos: a request that is asked for by its id, and a URL where the video is kept for a while.

Source: the guide "Video Generation" of docs.x.ai, and Vercel's `@ai-sdk/xai`, which speaks it.
`POST /v1/videos/generations` with `duration` (1 to 15), `aspect_ratio` and `resolution` answers
`{"request_id": ...}`; `GET /v1/videos/{request_id}` answers a `status` of `pending`, `done`, `failed` or
`expired`, then `video.url`, and `video.respect_moderation: false` where a filter keeps it back. An image to
begin with is paid by the piece, which an order is not held for: it is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import CallerError, UpstreamInterrupted
from headgate.ports import Request
from headgate.providers.parts import unsupported
from headgate.providers.refusals import refusal
from headgate.providers.videos import VideoState, kept_at
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.values import Target
    from headgate.wire.videos import VideoJob, VideoOrder

_encode = msgspec.json.encode
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_SHAPES = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3")
_LINES = ("480p", "720p", "1080p")
_LONGEST_S = 15
_KEPT_S = 3_600  # how long is not said: an hour is what such URLs live at the least


class XaiVideos:
    """Speak `/videos/generations`."""

    __slots__ = ()

    def create(self, order: VideoOrder, target: Target, request_id: str) -> Request:
        """Return the request that orders a video.

        Raises:
            CallerError: a size, a length or an image that is not taken.
        """
        if order.picture is not None:
            raise unsupported("input_reference")
        members: dict[str, Any] = {
            "model": target.model.name,
            "prompt": order.prompt,
            "duration": _seconds(order),
            "aspect_ratio": _shape(order),
            "resolution": order.resolution,
        }
        path = f"{target.base_path}/videos/generations"
        return Request("POST", path, target.headers, _encode(members), request_id)

    def ask(self, job: VideoJob, target: Target) -> Request:
        """Return the request that asks how far it is."""
        return Request("GET", f"{target.base_path}/videos/{job.operation}", target.headers, b"", job.id)

    def state(self, body: bytes) -> VideoState:
        """Return what an answer to either says; only the first has the id."""
        try:
            told = msgspec.json.decode(body, type=_Told)
        except NOT_JSON as fault:
            raise UpstreamInterrupted(f"The provider's answer is no video: {fault}.") from None
        if told.status is None and _ID.fullmatch(told.request_id) is None:
            raise UpstreamInterrupted("The provider's answer has no id of a request.")
        video, error = told.video or _Video(), told.error or _Error()
        if told.status == "done" and video.respect_moderation is False:
            return _failed("moderation_blocked", "The provider's filters kept the video back.")
        if told.status == "done" and video.url:
            return VideoState("", "completed", 100, video.url, _KEPT_S)
        if told.status in {"done", "failed", "expired"}:
            return _failed(
                error.code or "video_failed", error.message or f"The provider says: {told.status}."
            )
        return VideoState(told.request_id, "in_progress", min(max(told.progress or 0, 0), 99))

    def content(self, job: VideoJob, target: Target) -> tuple[str, Request]:
        """Return where the file is, which is fetched without the key."""
        del target
        origin, path = kept_at(job)
        return origin, Request("GET", path, (), b"", job.id)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return refusal(head, body)


def _shape(order: VideoOrder) -> str:
    """Return the nearest ratio of sides that has a name; 854x480 is nearly 16:9."""
    for ratio in _SHAPES:
        width, height = map(int, ratio.split(":"))
        near = abs(order.width * height - order.height * width) * 100 <= order.height * width
        if near and order.resolution in _LINES:
            return ratio
    raise CallerError(
        f"Invalid value: '{order.size}'. This model makes {', '.join(_SHAPES)} in {', '.join(_LINES)}.",
        param="size",
        code="invalid_value",
    )


def _seconds(order: VideoOrder) -> int:
    if order.seconds > _LONGEST_S:
        raise CallerError(
            f"Invalid value: '{order.seconds}'. This model makes videos of 1 to {_LONGEST_S} seconds.",
            param="seconds",
            code="invalid_value",
        )
    return order.seconds


def _failed(code: str, message: str) -> VideoState:
    return VideoState("", "failed", 0, "", 0, code, message[:1_000])


class _Video(msgspec.Struct, frozen=True):
    url: str = ""
    respect_moderation: bool | None = True


class _Error(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _Told(msgspec.Struct, frozen=True):
    request_id: str = ""
    status: str | None = None
    progress: int | None = None
    video: _Video | None = None
    error: _Error | None = None
