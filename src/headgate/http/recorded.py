"""Answers that a caller wants recorded: to have them once (`Idempotency-Key`), or to read on after a cut.

The forms are those of Stripe (`Idempotency-Key`: docs.stripe.com/api/idempotent_requests) and of the HTML
standard (server-sent events: `id:` lines and `Last-Event-ID`).
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.errors import CallerError, GatewayError, Gone, NotFound
from headgate.http.answers import refuse
from headgate.http.callers import identify
from headgate.http.guard import guarded
from headgate.pipeline import refuse_loop
from headgate.values import Call
from headgate.wire.forms import forget, is_form, parts_of
from headgate.wire.recorded import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.ports import Sink
    from headgate.wire.formstream import FilePart

_LONGEST_KEY: Final = 255
_LONGEST_NUMBER: Final = 9  # digits
_ID: Final = 32  # hex digits


class Recorder(Protocol):
    """Who records answers."""

    longest_resume_s: int

    async def serve(
        self, call: Call, sink: Sink, order: Order, make: Callable[[Sink], Coroutine[None, None, None]]
    ) -> None:
        """Serve a call whose answer is recorded. Raises `GatewayError` where nothing was sent."""
        ...

    async def resume(self, call: Call, sink: Sink, of: bytes, skip: int) -> None:
        """Give the answer of another call behind some events. Raises `GatewayError` if nothing was sent."""
        ...


def recorded(
    service: Service,
    call: Call,
    incoming: Incoming,
    sink: Sink,
    make: Callable[[Sink], Coroutine[None, None, None]],
) -> Coroutine[None, None, None]:
    """Return what serves a call as its caller wishes to have it recorded; `make` serves it to another sink.

    Raises:
        CallerError: the wish is none.
    """
    order = order_of(service, incoming)._replace(request=_asked(incoming))
    if order.skip:  # of an answer that there is: another one would not go on where that stopped
        make = partial(_nothing_to_go_on, service, call)
    return guarded(service, call, sink, service.recorder().serve(call, sink, order, make))


def _nothing_to_go_on(service: Service, call: Call, sink: Sink) -> Coroutine[None, None, None]:
    async def refused() -> None:
        raise Gone(
            "There is no answer under this Idempotency-Key (any more), so nothing comes behind the event "
            "that Last-Event-ID names. Send the request without that header to make a new one."
        )

    return guarded(service, call, sink, refused())


def order_of(service: Service, incoming: Incoming) -> Order:
    """Return what the head of a request asks for; its body is not looked at.

    Raises:
        CallerError: its headers say no such thing.
    """
    wish = identify(service, incoming).wish
    assert wish is not None
    longest_s = service.recorder().longest_resume_s
    key = wish.key or b""
    if wish.key is not None and not (0 < len(key) <= _LONGEST_KEY and all(33 <= each <= 126 for each in key)):
        raise CallerError(
            f"Invalid 'Idempotency-Key' header: it has {len(key)} bytes. It must be 1 to {_LONGEST_KEY} "
            "visible ASCII characters without spaces, such as a UUID.",
            param="Idempotency-Key",
            code="invalid_value",
        )
    seconds = _number(wish.resume, "x-headgate-resume") if wish.resume is not None else 0
    if wish.resume is not None and not 1 <= seconds <= longest_s:
        raise CallerError(
            f"Invalid 'x-headgate-resume' header: {seconds}. It is for how many seconds the rest of the "
            f"answer waits for you: from 1 to {longest_s}.",
            param="x-headgate-resume",
            code="invalid_value",
        )
    last = incoming.head.header(b"last-event-id") if key else None
    return Order(key, b"", seconds, _number(last, "Last-Event-ID") if last else 0)


def _number(value: bytes, header: str) -> int:
    if not (value.isdigit() and len(value) <= _LONGEST_NUMBER):
        raise CallerError(
            f"Invalid '{header}' header: {value[:40].decode('latin-1')!r}. It must be a whole number.",
            param=header,
            code="invalid_value",
        )
    return int(value)


def asked_of_file(incoming: Incoming, fields: dict[str, str], file: FilePart, hashed: str) -> bytes:
    """Return a digest of a form with a file, whose bytes were hashed while they came."""
    said = (sorted(fields.items()), file.name, file.filename, file.kind, hashed)
    return sha256(_place(incoming) + msgspec.msgpack.encode(said)).digest()


def _place(incoming: Incoming) -> bytes:
    return incoming.path.removeprefix("/v1").encode() + b"\n"


def _asked(incoming: Incoming) -> bytes:
    """Return a digest of a request; of a form without its boundary, which clients draw anew each time."""
    digest = sha256(_place(incoming))
    kind = incoming.head.header(b"content-type") or b""
    if is_form(kind):
        for part in parts_of(kind, incoming.form):
            head = (part.name, part.filename, part.kind, len(part.data))
            digest.update(msgspec.msgpack.encode(head))
            digest.update(part.data)
        forget(incoming.form)
    else:
        digest.update(incoming.body)
    return digest.digest()


class ResumeRoute:
    """`GET /v1/calls/{id}/events`: the answer of a call, behind the event that `Last-Event-ID` names."""

    __slots__ = ("_service", "max_body_bytes")

    def __init__(self, service: Service) -> None:
        self._service = service
        self.max_body_bytes = 4096

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Authenticate, and read on as a call."""
        service = self._service
        try:
            caller = identify(service, incoming)
            if caller.hop is not None:
                refuse_loop(caller.hop, service.instance)
            of = _id(incoming.path.removeprefix("/v1"))
            last = incoming.head.header(b"last-event-id")
            skip = _number(last, "Last-Event-ID") if last else 0
        except GatewayError as error:
            service.refused("chat", error)
            refuse(incoming.request_id, error, sink)
            return
        call = Call(service.ids.next(), "chat", incoming.received_ns)  # what it was is known when it is found
        call.principal = caller.principal
        run = service.recorder().resume(call, sink, of, skip)
        service.start_call(guarded(service, call, sink, run), call)


def is_resume(path: str) -> bool:
    """Say whether a path, without `/v1`, is that of a call's events."""
    parts = path.split("/")
    return len(parts) == 4 and (parts[1], parts[3]) == ("calls", "events")


def _id(path: str) -> bytes:
    text = path.split("/")[2].removeprefix("req_")
    try:
        found = bytes.fromhex(text) if len(text) == _ID else b""
    except ValueError:
        found = b""
    if not found:
        raise NotFound(
            f"There is no call '{text[:60]}'. A call's id is in the header x-headgate-resume of its answer.",
            code="call_not_found",
        )
    return found
