"""The routes of `/v1/videos`: order, list, look, fetch, delete. Jobs belong to the project of their key."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs

import msgspec

from headgate.errors import CallerError, NotFound
from headgate.http.kept import (
    KeptRoute,
    answer_headers,
    caller_of,
    may_use,
    name_in,
    not_allowed,
    page_of,
    send,
    shape,
)
from headgate.identity.standing import allow
from headgate.wire.checks import integer, whole

if TYPE_CHECKING:
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.http.kept import Act
    from headgate.ports import Exchange, Head, Sink
    from headgate.values import Call, Principal
    from headgate.wire.videos import VideoJob, VideoOrder

_MAX_BODY = 25 * 1024 * 1024
_DEFAULT_LIMIT, _MOST_LISTED = 20, 100


class Videos(Protocol):
    """Who keeps the jobs."""

    async def order(self, call: Call, order: VideoOrder, sink: Sink) -> VideoJob:
        """Order a video."""
        ...

    async def find(self, principal: Principal, name: str) -> VideoJob:
        """Return a job of the caller's project."""
        ...

    async def listed(self, principal: Principal, after: str, limit: int, *, newest: bool) -> list[VideoJob]:
        """Return jobs of the caller's project."""
        ...

    async def delete(self, principal: Principal, name: str) -> VideoJob:
        """Delete a job."""
        ...

    async def fetch(self, job: VideoJob) -> tuple[Exchange, Head]:
        """Begin to fetch a video."""
        ...


class VideoRoutes:
    """All routes of videos: `find` chooses by path and method.

    Args:
        service: the process.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        order, listing, look, delete, fetch = map(
            self._route, (self._order, self._list, self._look, self._delete, self._fetch)
        )
        self.table: dict[str, dict[bytes, VideoRoute]] = {
            "": {b"POST": order, b"GET": listing},
            "/{id}": {b"GET": look, b"DELETE": delete},
            "/{id}/content": {b"GET": fetch},
        }

    def find(self, method: bytes, path: str) -> VideoRoute | None:
        """Return the route of a path below `/videos`; None for one that is not served."""
        methods = self.table.get(shape(path))
        if methods is None or path.rstrip("/").endswith(("/edits", "/extensions", "/characters")):
            return None
        return methods.get(method) or self._route(partial(not_allowed, methods))

    def _route(self, act: Act) -> VideoRoute:
        return VideoRoute(self._service, "videos", act, _MAX_BODY)

    # ── what each does ──────────────────────────────────────────────────────────────────────────

    async def _order(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        from headgate.wire.videos import STORED, Picture, read_order

        principal = caller_of(call)
        order = read_order(incoming.head.header(b"content-type") or b"", incoming.body)
        call.model = order.model
        allow(principal, "videos", call.model)
        if order.stored:
            shown = await self._service.files().inlining.picture(principal, order.stored, STORED)
            order = msgspec.structs.replace(order, picture=Picture(*shown))
        job = await self._service.videos().order(call, order, sink)
        send(call, job.shown(), sink)

    async def _list(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        principal = _reader(call)
        after, limit, newest = _page(incoming.query)
        jobs = await self._service.videos().listed(principal, after, limit + 1, newest=newest)
        shown = [job.shown() for job in jobs[:limit] if job.book is principal.book]
        send(call, page_of(shown, more=len(jobs) > limit), sink)

    async def _look(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        job = await self._service.videos().find(_reader(call), name_in(incoming.path))
        send(call, job.shown(), sink)

    async def _delete(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        job = await self._service.videos().delete(_reader(call), name_in(incoming.path))
        send(call, {"id": job.id, "object": "video.deleted", "deleted": True}, sink)

    async def _fetch(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        """Pass a video on as it comes, at the caller's pace."""
        variant = parse_qs(incoming.query.decode("latin-1")).get("variant", ["video"])[-1]
        if variant != "video":
            raise CallerError(
                f"Invalid value: '{variant[:40]}'. Only the video itself is kept here: variant=video.",
                param="variant",
                code="invalid_value",
            )
        job = await self._service.videos().find(_reader(call), name_in(incoming.path))
        if job.status != "completed":
            raise NotFound(
                f"The video '{job.id}' is {job.status}: it has no content{' yet' if job.open else ''}.",
                code="video_not_ready",
            )
        exchange, head = await self._service.videos().fetch(job)
        try:
            await _relay(call, exchange, head, sink)
        finally:
            exchange.release()


class VideoRoute(KeptRoute):
    """One route of videos."""

    asks_first = False


async def _relay(call: Call, exchange: Exchange, head: Head, sink: Sink) -> None:
    length = head.get(b"content-length")
    sink.on_gone(exchange.abort)
    kind = head.get(b"content-type") or b"video/mp4"
    size = int(length) if length is not None and length.isdigit() else None
    sink.start(200, [(b"content-type", kind), *answer_headers(call)], size)
    try:
        while data := await exchange.read():
            sink.write(data)
            await sink.drained()
    except BaseException:
        sink.abort()  # a part of a video must not look like the whole
        raise
    sink.finish()


def _reader(call: Call) -> Principal:
    """Return the caller, where its key may use this endpoint at all."""
    principal = caller_of(call)
    may_use(principal, "videos")
    return principal


def _page(query: bytes) -> tuple[str, int, bool]:
    """Return where a page begins, how long it is, and whether the newest come first.

    Raises:
        CallerError: one of them is no such thing.
    """
    given = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    limit, order = whole(given.get("limit", str(_DEFAULT_LIMIT))), given.get("order", "desc")
    if limit is None:
        raise CallerError("Invalid 'limit': expected an integer.", param="limit", code="invalid_type")
    integer(1, _MOST_LISTED)("limit", limit)
    if order not in {"asc", "desc"}:
        raise CallerError("Invalid 'order': it must be 'asc' or 'desc'.", param="order", code="invalid_value")
    return given.get("after", ""), limit, order == "desc"
