"""The routes of `/v1/videos`: order, list, look, fetch, delete. Jobs belong to the project of their key."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs

import msgspec

from headgate.errors import CallerError, GatewayError, MethodRefused, NotFound, Unavailable
from headgate.http.answers import whose
from headgate.http.callers import identify
from headgate.http.errors import VERSION
from headgate.http.guard import guarded, turn_away
from headgate.http.recorded import recorded
from headgate.http.shapes import shape
from headgate.identity.standing import allow
from headgate.pipeline import refuse_loop
from headgate.values import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.ports import Exchange, Head, Sink
    from headgate.values import Principal
    from headgate.wire.videos import VideoJob, VideoOrder

_encode = msgspec.json.encode
_JSON = (b"content-type", b"application/json")
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
        order, listing, look, delete, fetch = (
            VideoRoute(self, act) for act in (self._order, self._list, self._look, self._delete, self._fetch)
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
        return methods.get(method) or VideoRoute(
            self, partial(_not_allowed, ", ".join(map(bytes.decode, methods)))
        )

    def begin(
        self, act: Callable[[Call, Incoming, Sink], Awaitable[None]], incoming: Incoming, sink: Sink
    ) -> None:
        """Authenticate, and go on as a call."""
        service = self._service
        call = Call(service.ids.next(), "videos", incoming.received_ns)
        try:
            if service.draining:
                raise Unavailable("The gateway is shutting down. Send the request again.")
            caller = identify(service, incoming)
            call.principal = caller.principal
            call.sim, call.demand = caller.sim, caller.demand
            if caller.hop is not None:
                refuse_loop(caller.hop, service.instance)
            if caller.wish is None or incoming.method != b"POST":
                run = self._run(act, call, incoming, sink)
            else:
                run = recorded(service, call, incoming, sink, partial(self._run, act, call, incoming))
        except GatewayError as error:
            turn_away(service, call, error, sink)
            return
        service.start_call(run, call)

    def _run(
        self,
        act: Callable[[Call, Incoming, Sink], Awaitable[None]],
        call: Call,
        incoming: Incoming,
        sink: Sink,
    ) -> Coroutine[None, None, None]:
        return guarded(self._service, call, sink, act(call, incoming, sink))

    # ── what each does ──────────────────────────────────────────────────────────────────────────

    async def _order(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        from headgate.wire.videos import read_order

        principal = _caller(call)
        order = read_order(incoming.head.header(b"content-type") or b"", incoming.body)
        call.model = order.model
        allow(principal, "videos", call.model)
        job = await self._service.videos().order(call, order, sink)
        _send(call, job.shown(), sink)

    async def _list(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        principal = _reader(call)
        after, limit, newest = _page(incoming.query)
        jobs = await self._service.videos().listed(principal, after, limit + 1, newest=newest)
        shown = [job.shown() for job in jobs[:limit] if job.book is principal.book]
        _send(
            call,
            {
                "object": "list",
                "data": shown,
                "first_id": shown[0]["id"] if shown else None,
                "last_id": shown[-1]["id"] if shown else None,
                "has_more": len(jobs) > limit,
            },
            sink,
        )

    async def _look(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        job = await self._service.videos().find(_reader(call), _name(incoming.path))
        _send(call, job.shown(), sink)

    async def _delete(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        job = await self._service.videos().delete(_reader(call), _name(incoming.path))
        _send(call, {"id": job.id, "object": "video.deleted", "deleted": True}, sink)

    async def _fetch(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        """Pass a video on as it comes, at the caller's pace."""
        variant = parse_qs(incoming.query.decode("latin-1")).get("variant", ["video"])[-1]
        if variant != "video":
            raise CallerError(
                f"Invalid value: '{variant[:40]}'. Only the video itself is kept here: variant=video.",
                param="variant",
                code="invalid_value",
            )
        job = await self._service.videos().find(_reader(call), _name(incoming.path))
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


class VideoRoute:
    """One route of videos."""

    __slots__ = ("_act", "_routes", "max_body_bytes")

    def __init__(self, routes: VideoRoutes, act: Callable[[Call, Incoming, Sink], Awaitable[None]]) -> None:
        self._routes = routes
        self._act = act
        self.max_body_bytes = _MAX_BODY

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Serve one request."""
        self._routes.begin(self._act, incoming, sink)


async def _relay(call: Call, exchange: Exchange, head: Head, sink: Sink) -> None:
    length = head.get(b"content-length")
    sink.on_gone(exchange.abort)
    kind = head.get(b"content-type") or b"video/mp4"
    size = int(length) if length is not None and length.isdigit() else None
    sink.start(200, [(b"content-type", kind), *_headers(call)], size)
    try:
        while data := await exchange.read():
            sink.write(data)
            await sink.drained()
    except BaseException:
        sink.abort()  # a part of a video must not look like the whole
        raise
    sink.finish()


async def _not_allowed(allowed: str, _call: Call, incoming: Incoming, _sink: Sink) -> None:
    raise MethodRefused(
        f"Not allowed to {incoming.method.decode('latin-1')} on {incoming.path[:200]}. (HINT: Perhaps you "
        f"meant to use a different HTTP method? This route has {allowed}.)",
        headers={"allow": allowed},
    )


def _caller(call: Call) -> Principal:
    principal = call.principal
    assert principal is not None
    return principal


def _reader(call: Call) -> Principal:
    """Return the caller, where its key may use this endpoint at all."""
    principal = _caller(call)
    if principal.endpoints:
        allow(msgspec.structs.replace(principal, models=()), "videos", "")
    return principal


def _name(path: str) -> str:
    return path.removeprefix("/v1").strip("/").split("/")[1]


def _page(query: bytes) -> tuple[str, int, bool]:
    """Return where a page begins, how long it is, and whether the newest come first.

    Raises:
        CallerError: one of them is no such thing.
    """
    given = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    limit, order = given.get("limit", str(_DEFAULT_LIMIT)), given.get("order", "desc")
    if not limit.isdigit() or not 1 <= int(limit[:6]) <= _MOST_LISTED:
        raise CallerError(
            f"Invalid 'limit': it must be from 1 to {_MOST_LISTED}.", param="limit", code="invalid_value"
        )
    if order not in {"asc", "desc"}:
        raise CallerError("Invalid 'order': it must be 'asc' or 'desc'.", param="order", code="invalid_value")
    return given.get("after", ""), int(limit), order == "desc"


def _headers(call: Call) -> list[tuple[bytes, bytes]]:
    return [VERSION, (b"x-request-id", call.request_id.encode()), *whose(_caller(call))]


def _send(call: Call, body: object, sink: Sink) -> None:
    data = _encode(body)
    sink.start(200, [_JSON, *_headers(call)], len(data))
    sink.write(data)
    sink.finish()
