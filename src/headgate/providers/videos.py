"""The seam of a maker of videos: a job is ordered, asked for until it is done, and fetched. No I/O.

OpenAI's own wire is here: its models have ended, but hosts that speak it, the simulator and another Headgate
have it. Source: `/videos` in OpenAI's OpenAPI file of 2026-08-21.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.ports import Request
from headgate.providers.refusals import refusal
from headgate.values import VideoStatus

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.values import Target
    from headgate.wire.videos import VideoJob, VideoOrder

_encode = msgspec.json.encode
_FAILED = "The provider could not make this video."
_URI = re.compile(r"(https?://[A-Za-z0-9.:-]+)(/[!-~]*)", re.ASCII)


class VideoState(msgspec.Struct, frozen=True):
    """What a provider says of a job."""

    operation: str  # the provider's name of it; empty: as it was
    status: VideoStatus
    progress: int = 0
    source: str = ""  # where it keeps the video: a path of its own, or a URL; empty: the codec knows
    kept_s: int = 86_400  # how long it keeps it
    error_code: str = ""
    error_message: str = ""


class VideoWire(Protocol):
    """Speak one maker's wire."""

    def create(self, order: VideoOrder, target: Target, request_id: str) -> Request:
        """Return the request that orders a video.

        Raises:
            CallerError: the target makes no such video.
        """
        ...

    def ask(self, job: VideoJob, target: Target) -> Request:
        """Return the request that asks how far it is."""
        ...

    def state(self, body: bytes) -> VideoState:
        """Return what an answer to either says.

        Raises:
            UpstreamInterrupted: it is none.
        """
        ...

    def content(self, job: VideoJob, target: Target) -> tuple[str, Request]:
        """Return where the video is, as an origin (empty: at the host), and the request that fetches it."""
        ...

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        ...


def kept_at(job: VideoJob) -> tuple[str, str]:
    """Return the origin and the path of the URL where a maker keeps a video.

    Raises:
        UpstreamInterrupted: it is none.
    """
    found = _URI.fullmatch(job.source)
    if found is None:
        raise UpstreamInterrupted("The provider keeps the video at what is no URL.")
    return found[1], found[2]


class OpenAIVideos:
    """OpenAI's own wire."""

    __slots__ = ()

    def create(self, order: VideoOrder, target: Target, request_id: str) -> Request:
        """Return the request: JSON, with an image as a data URL."""
        members: dict[str, Any] = {
            "model": target.model.name,
            "prompt": order.prompt,
            "seconds": str(order.seconds),
            "size": order.size,
        }
        if order.picture is not None:
            data = base64.b64encode(order.picture.data).decode()
            members["input_reference"] = {"image_url": f"data:{order.picture.kind};base64,{data}"}
        return Request("POST", f"{target.base_path}/videos", target.headers, _encode(members), request_id)

    def ask(self, job: VideoJob, target: Target) -> Request:
        """Return the request that asks how far it is."""
        return Request("GET", f"{target.base_path}/videos/{job.operation}", target.headers, b"", job.id)

    def state(self, body: bytes) -> VideoState:
        """Return what the object says."""
        try:
            told = msgspec.json.decode(body, type=_Video)
        except msgspec.DecodeError as fault:
            raise UpstreamInterrupted(f"The provider's answer is no video: {fault}.") from None
        error = told.error or _Error()
        if told.status == "failed":
            message = error.message or _FAILED
            return VideoState(told.id, "failed", told.progress, "", 0, error.code or "video_failed", message)
        return VideoState(told.id, told.status, told.progress)

    def content(self, job: VideoJob, target: Target) -> tuple[str, Request]:
        """Return the request that fetches the video."""
        path = f"{target.base_path}/videos/{job.operation}/content"
        return "", Request("GET", path, target.headers, b"", job.id)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return refusal(head, body)


class _Error(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _Video(msgspec.Struct, frozen=True):
    id: str
    status: VideoStatus
    progress: int = 0
    error: _Error | None = None
