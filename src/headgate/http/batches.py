"""The routes of `/v1/batches`: order, list, look, cancel, and results as they come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qs

import msgspec

from headgate.errors import CallerError
from headgate.http.kept import KeptRoute, caller_of, name_in, not_allowed, page_of, send, shape
from headgate.wire.checks import integer, whole

if TYPE_CHECKING:
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.http.kept import Act
    from headgate.ports import Sink
    from headgate.values import Call, Principal
    from headgate.wire.batchjobs import KeptBatch, Result

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
        order, listing, look, cancel, results = map(
            self._route, (self._order, self._list, self._look, self._cancel, self._results)
        )
        self.table: dict[str, dict[bytes, KeptRoute]] = {
            "": {b"POST": order, b"GET": listing},
            "/{id}": {b"GET": look},
            "/{id}/cancel": {b"POST": cancel},
            "/{id}/results": {b"GET": results},
        }

    def find(self, method: bytes, path: str) -> KeptRoute | None:
        """Return the route of a path below `/batches`; None for one that is not served."""
        methods = self.table.get(shape(path))
        if methods is None:
            return None
        return methods.get(method) or self._route(partial(not_allowed, methods))

    def _route(self, act: Act) -> KeptRoute:
        return KeptRoute(self._service, "batches", act, _MAX_BODY)

    # ── what each does ──────────────────────────────────────────────────────────────────────────

    async def _order(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        batch = await self._service.batches().order(call, incoming.body)
        send(call, batch.shown(), sink)

    async def _list(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        after, limit = _page(incoming.query)
        found = await self._service.batches().listed(caller_of(call), after, limit + 1)
        send(call, page_of([batch.shown() for batch in found[:limit]], more=len(found) > limit), sink)

    async def _look(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        batch = await self._service.batches().find(caller_of(call), name_in(incoming.path))
        send(call, batch.shown(), sink)

    async def _cancel(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        batch = await self._service.batches().cancel(caller_of(call), name_in(incoming.path))
        send(call, batch.shown(), sink)

    async def _results(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        """Return what has come behind a number: an own route, for who writes results as they come."""
        keeper = self._service.batches()
        after, limit = _after(incoming.query)
        batch = await keeper.find(caller_of(call), name_in(incoming.path))
        found = await keeper.results(batch, after, limit)
        batch = await keeper.find(caller_of(call), name_in(incoming.path))
        send(
            call,
            {
                "object": "list",
                "data": [msgspec.Raw(result.output.rstrip(b"\n")) for result in found],
                "last_seq": found[-1].seq if found else after,
                **_spent(batch),
                "batch": batch.shown(),
            },
            sink,
        )


def _spent(batch: KeptBatch) -> dict[str, int]:
    """Return what a batch has cost, and what its lines may cost together: money, or tokens of a grant."""
    charge, held = batch.charge, batch.job.held
    if batch.job.in_tokens:
        return {"charge_nano_usd": 0, "held_nano_usd": 0, "charge_tokens": charge, "held_tokens": held}
    return {"charge_nano_usd": charge, "held_nano_usd": held}


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
    number = whole(given.get(name, str(usual)))
    if number is None:
        raise CallerError(f"Invalid '{name}': expected an integer.", param=name, code="invalid_type")
    integer(least, most)(name, number)
    return number
