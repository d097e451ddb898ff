"""The routes of `/v1/batches`: order, list, look, cancel, and results as they come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qs

import msgspec

from headgate.errors import CallerError, GatewayError, MethodRefused, Unavailable
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
    from headgate.ports import Sink
    from headgate.values import Principal
    from headgate.wire.batchjobs import KeptBatch, Result

_encode = msgspec.json.encode
_JSON: Final = (b"content-type", b"application/json")
_MAX_BODY: Final = 1024 * 1024
_DEFAULT_LIMIT, _MOST_LISTED, _MOST_RESULTS = 20, 100, 1_000


class Batches(Protocol):
    """Who keeps the jobs. Every method raises `GatewayError`."""

    async def order(self, call: Call, body: bytes) -> KeptBatch:
        """Order a batch."""
        ...

    async def find(self, principal: Principal, name: str) -> KeptBatch:
        """Return a batch of the caller's project."""
        ...

    async def listed(self, principal: Principal, after: str, limit: int) -> list[KeptBatch]:
        """Return batches of the caller's project, the newest first."""
        ...

    async def cancel(self, principal: Principal, name: str) -> KeptBatch:
        """Begin to cancel a batch."""
        ...

    async def results(self, batch: KeptBatch, after: int, limit: int) -> list[Result]:
        """Return the outputs that came behind another, until they are published."""
        ...


class BatchRoutes:
    """All routes of batches: `find` chooses by path and method.

    Args:
        service: the process.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        order, listing, look, cancel, results = (
            BatchRoute(self, act)
            for act in (self._order, self._list, self._look, self._cancel, self._results)
        )
        self.table: dict[str, dict[bytes, BatchRoute]] = {
            "": {b"POST": order, b"GET": listing},
            "/{id}": {b"GET": look},
            "/{id}/cancel": {b"POST": cancel},
            "/{id}/results": {b"GET": results},
        }

    def find(self, method: bytes, path: str) -> BatchRoute | None:
        """Return the route of a path below `/batches`; None for one that is not served."""
        methods = self.table.get(shape(path))
        if methods is None:
            return None
        return methods.get(method) or BatchRoute(
            self, partial(_not_allowed, ", ".join(map(bytes.decode, methods)))
        )

    def begin(
        self, act: Callable[[Call, Incoming, Sink], Awaitable[None]], incoming: Incoming, sink: Sink
    ) -> None:
        """Authenticate, and go on as a call."""
        service = self._service
        call = Call(service.ids.next(), "batches", incoming.received_ns)
        try:
            if service.draining:
                raise Unavailable("The gateway is shutting down. Send the request again.")
            caller = identify(service, incoming)
            call.principal = caller.principal
            if caller.principal.endpoints:
                allow(msgspec.structs.replace(caller.principal, models=()), "batches", "")
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
        batch = await self._service.batches().order(call, incoming.body)
        _send(call, batch.shown(), sink)

    async def _list(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        after, limit = _page(incoming.query)
        found = await self._service.batches().listed(_caller(call), after, limit + 1)
        shown = [batch.shown() for batch in found[:limit]]
        _send(
            call,
            {
                "object": "list",
                "data": shown,
                "first_id": shown[0]["id"] if shown else None,
                "last_id": shown[-1]["id"] if shown else None,
                "has_more": len(found) > limit,
            },
            sink,
        )

    async def _look(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        batch = await self._service.batches().find(_caller(call), _name(incoming.path))
        _send(call, batch.shown(), sink)

    async def _cancel(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        batch = await self._service.batches().cancel(_caller(call), _name(incoming.path))
        _send(call, batch.shown(), sink)

    async def _results(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        """Return what has come behind a number: an own route, for who writes results as they come."""
        keeper = self._service.batches()
        after, limit = _after(incoming.query)
        batch = await keeper.find(_caller(call), _name(incoming.path))
        found = await keeper.results(batch, after, limit)
        batch = await keeper.find(_caller(call), _name(incoming.path))
        _send(
            call,
            {
                "object": "list",
                "data": [msgspec.Raw(result.output.rstrip(b"\n")) for result in found],
                "last_seq": found[-1].seq if found else after,
                "charge_nano_usd": batch.charge,
                "held_nano_usd": batch.job.held,
                "batch": batch.shown(),
            },
            sink,
        )


class BatchRoute:
    """One route of batches."""

    __slots__ = ("_act", "_routes", "max_body_bytes")

    def __init__(self, routes: BatchRoutes, act: Callable[[Call, Incoming, Sink], Awaitable[None]]) -> None:
        self._routes = routes
        self._act = act
        self.max_body_bytes = _MAX_BODY

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Serve one request."""
        self._routes.begin(self._act, incoming, sink)


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


def _name(path: str) -> str:
    return path.removeprefix("/v1").strip("/").split("/")[1]


def _given(query: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}


def _page(query: bytes) -> tuple[str, int]:
    """Return where a page begins, and how long it is. Raises `CallerError`."""
    given = _given(query)
    return given.get("after", ""), _number(given, "limit", _DEFAULT_LIMIT, 1, _MOST_LISTED)


def _after(query: bytes) -> tuple[int, int]:
    given = _given(query)
    after = _number(given, "after", 0, 0, 2**31)
    return after, _number(given, "limit", _MOST_RESULTS, 1, _MOST_RESULTS)


def _number(given: dict[str, str], name: str, usual: int, least: int, most: int) -> int:
    text = given.get(name, str(usual))
    if not text.isdigit() or not least <= int(text[:10]) <= most:
        raise CallerError(
            f"Invalid '{name}': it must be from {least} to {most}.", param=name, code="invalid_value"
        )
    return int(text)


def _send(call: Call, body: object, sink: Sink) -> None:
    data = _encode(body)
    headers = [_JSON, VERSION, (b"x-request-id", call.request_id.encode()), *whose(_caller(call))]
    sink.start(200, headers, len(data))
    sink.write(data)
    sink.finish()
