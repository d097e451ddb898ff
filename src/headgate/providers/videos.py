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
from headgate.values import Host, Model, Target, Usage, VideoStatus
from headgate.wire.answers import NOT_JSON
from headgate.wire.videos import VideoJob

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.values import Call, WallMicros
    from headgate.wire.videos import VideoOrder

_encode = msgspec.json.encode
_US = 1_000_000
_LIVES_US = 2 * 3_600 * _US  # what is not done after so long will not be
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


def ordered(call: Call, order: VideoOrder, target: Target, now: WallMicros) -> VideoJob:
    """Return the job that an order is at a target, at the prices of now."""
    principal = call.principal
    assert principal is not None
    return VideoJob(
        id=f"video_{call.id.hex()}",
        call=call.id,
        slot=0,
        account=principal.account,
        project=principal.project,
        key=principal.key,
        member=principal.member,
        book=principal.book,
        model=order.model,
        provider=target.host.name,
        upstream=target.model.name,
        prompt=order.prompt,
        seconds=order.seconds,
        size=order.size,
        unit=order.unit,
        created_at=now,
        prepaid=principal.prepaid,
        prices=target.prices,
        costs=target.costs,
    )


def told(job: VideoJob, state: VideoState, now: WallMicros) -> VideoJob:
    """Return a job as it is once its maker has said how far it is."""
    after = msgspec.structs.replace(
        job,
        operation=state.operation or job.operation,
        status=state.status,
        progress=state.progress,
        source=state.source,
    )
    if state.status == "failed":
        after = failed(after, state.error_code, state.error_message)
    if after.open and late(job, now):
        after = failed(after, "timeout", "The provider was not done in time.")
    if after.open:
        return after
    expires = now + state.kept_s * _US if after.status == "completed" else 0
    return msgspec.structs.replace(after, completed_at=now, expires_at=expires)


def failed(job: VideoJob, code: str, message: str) -> VideoJob:
    """Return a job that is not made, and why."""
    return msgspec.structs.replace(job, status="failed", error_code=code, error_message=message)


def late(job: VideoJob, now: WallMicros) -> bool:
    """Say whether a job is so old that it will not be done."""
    return now - job.created_at > _LIVES_US


def booked_at(job: VideoJob) -> Target:
    """Return what the books say of where a job was made, also where that is gone."""
    host = Host(name=job.provider, base_url="")
    return Target(host=host, model=Model(name=job.upstream), prices=job.prices, costs=job.costs)


def used(job: VideoJob) -> Usage:
    """Return what a job is paid for: its seconds where it was made, else nothing."""
    return Usage(more=((job.unit, job.seconds),)) if job.status == "completed" else Usage()


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
        except NOT_JSON as fault:
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
