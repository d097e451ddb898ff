"""What the routes of all that outlives its request have in common: files, uploads, batches, videos."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from headgate.errors import GatewayError, MethodRefused, Unavailable
from headgate.http.answers import whose
from headgate.http.callers import identify
from headgate.http.errors import VERSION
from headgate.http.guard import guarded, turn_away
from headgate.http.recorded import recorded
from headgate.identity.standing import allow
from headgate.pipeline import refuse_loop
from headgate.values import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from headgate.http.callers import Caller
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.ports import Sink
    from headgate.values import Operation, Principal

_encode = msgspec.json.encode
_JSON: Final = (b"content-type", b"application/json")
Act: TypeAlias = "Callable[[Call, Incoming, Sink], Awaitable[None]]"


class KeptRoute:
    """A route of something that is kept: it is served as a call, and recorded where its caller wants that.

    Args:
        service: the process.
        operation: which one it is.
        act: serves a request.
        most: bytes of its body.
    """

    asks_first = True  # whether the key may use the operation; else the act asks, who knows the model

    def __init__(self, service: Service, operation: Operation, act: Act, most: int) -> None:
        self._service = service
        self._operation = operation
        self._act = act
        self.max_body_bytes = most

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Serve one request."""
        service = self._service
        call = Call(service.ids.next(), self._operation, incoming.received_ns)
        try:
            caller = self._enter(incoming)
            call.principal = caller.principal
            call.sim, call.demand = caller.sim, caller.demand
            if caller.wish is None or incoming.method != b"POST":
                run = self._run(call, incoming, sink)
            else:
                run = self._record(call, incoming, sink)
        except GatewayError as error:
            if incoming.spooled is not None:
                incoming.spooled.close()
            turn_away(service, call, error, sink)
            return
        service.start_call(run, call)

    def _enter(self, incoming: Incoming) -> Caller:
        """Return who asks. Raises `GatewayError` where it may not."""
        service = self._service
        if service.draining:
            raise Unavailable("The gateway is shutting down. Send the request again.")
        caller = identify(service, incoming)
        if caller.hop is not None:
            refuse_loop(caller.hop, service.instance)
        if self.asks_first:
            may_use(caller.principal, self._operation)
        return caller

    def _run(self, call: Call, incoming: Incoming, sink: Sink) -> Coroutine[None, None, None]:
        return guarded(self._service, call, sink, self._act(call, incoming, sink))

    def _record(self, call: Call, incoming: Incoming, sink: Sink) -> Coroutine[None, None, None]:
        return recorded(self._service, call, incoming, sink, partial(self._run, call, incoming))


def may_use(principal: Principal, operation: Operation) -> None:
    """Refuse a key that may not use an operation at all, whatever the model. Raises `GatewayError`."""
    if principal.endpoints:
        allow(msgspec.structs.replace(principal, models=()), operation, "")


def shape(path: str) -> str:
    """Return the shape of a path without `/v1`, behind its first segment: `""`, `/{id}`, `/{id}/cancel`."""
    _, *rest = path.strip("/").split("/")
    return "".join(("/{id}", *(f"/{part}" for part in rest[1:]))) if rest else ""


async def not_allowed(methods: Mapping[bytes, object], _call: Call, incoming: Incoming, _sink: Sink) -> None:
    """Refuse a method; to be an act, with those that there are as its first argument."""
    allowed = ", ".join(map(bytes.decode, methods))
    raise MethodRefused(
        f"Not allowed to {incoming.method.decode('latin-1')} on {incoming.path[:200]}. (HINT: Perhaps you "
        f"meant to use a different HTTP method? This route has {allowed}.)",
        headers={"allow": allowed},
    )


def caller_of(call: Call) -> Principal:
    """Return who asks."""
    assert call.principal is not None
    return call.principal


def name_in(path: str) -> str:
    """Return the id in a path."""
    return path.removeprefix("/v1").strip("/").split("/")[1]


def answer_headers(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the headers that every answer of OpenAI's has."""
    return [VERSION, (b"x-request-id", call.request_id.encode()), *whose(caller_of(call))]


def send(call: Call, body: object, sink: Sink) -> None:
    """Send a JSON answer."""
    data = _encode(body)
    sink.start(200, [_JSON, *answer_headers(call)], len(data))
    sink.write(data)
    sink.finish()


def page_of(shown: Sequence[Mapping[str, object]], *, more: bool) -> dict[str, object]:
    """Return a part of a list, as OpenAI's pages of objects are."""
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": more,
    }
