"""What the routes of files and of uploads have in common: who may ask, forms as they come, answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from headgate.errors import GatewayError, MediaTypeRefused, MethodRefused, Unavailable
from headgate.http.answers import whose
from headgate.http.callers import identify
from headgate.http.errors import VERSION
from headgate.http.forms import FormIntake
from headgate.http.guard import guarded, turn_away
from headgate.http.recorded import asked_of_file, order_of, recorded
from headgate.identity.standing import allow
from headgate.pipeline import refuse_loop
from headgate.shelf import FileOwner
from headgate.values import Call
from headgate.wire.forms import is_form

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headgate.http.callers import Caller
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.ports import Sink
    from headgate.shelf import Writing
    from headgate.values import Principal
    from headgate.wire.recorded import Order

_encode = msgspec.json.encode
_JSON = (b"content-type", b"application/json")
SMALL: Final = 1024 * 1024  # bytes of a request without a file, and of what a form has besides its file
Act: TypeAlias = "Callable[[Call, Incoming, Sink], Awaitable[None]]"
Made = TypeVar("Made", bound="Writing")


class FileRoute:
    """A route of files, or of uploads, that brings none."""

    def __init__(self, service: Service, act: Act, most: int = SMALL) -> None:
        self._service = service
        self._act = act
        self.max_body_bytes = most

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Serve one request."""
        service = self._service
        call = Call(service.ids.next(), "files", incoming.received_ns)
        try:
            caller = enter(service, incoming)
            call.principal = caller.principal
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

    def _run(self, call: Call, incoming: Incoming, sink: Sink) -> Coroutine[None, None, None]:
        return guarded(self._service, call, sink, self._act(call, incoming, sink))

    def _record(self, call: Call, incoming: Incoming, sink: Sink) -> Coroutine[None, None, None]:
        return recorded(self._service, call, incoming, sink, partial(self._run, call, incoming))


class FormRoute(FileRoute, Generic[Made]):
    """A route that brings a file, which goes to the storage as it comes.

    Args:
        service: the process.
        act: serves a request.
        wanted: the name of the form's part that is the file.
        start: begins to write it.
        most: bytes of the whole form.
    """

    brings_files: Literal[True] = True

    def __init__(
        self,
        service: Service,
        act: Act,
        wanted: str,
        start: Callable[[FileOwner, Incoming], Coroutine[None, None, Made]],
        most: int,
    ) -> None:
        super().__init__(service, act, most)
        self._wanted = wanted
        self._start = start

    def begin(self, incoming: Incoming) -> FormIntake[Made]:
        """Ask for the key before a form is kept, and take it as it comes."""
        kind = incoming.head.header(b"content-type") or b""
        if not is_form(kind):
            raise MediaTypeRefused("Send a form: `Content-Type: multipart/form-data`, with the file in it.")
        caller = enter(self._service, incoming)
        if caller.wish is not None:
            order_of(self._service, incoming)  # what is wrong with it is said before the file is read
        return FormIntake(kind, self._wanted, partial(self._start, owner_by(caller.principal), incoming))

    def _record(self, call: Call, incoming: Incoming, sink: Sink) -> Coroutine[None, None, None]:
        order = order_of(self._service, incoming)
        return guarded(self._service, call, sink, self._once(call, incoming, sink, order))

    async def _once(self, call: Call, incoming: Incoming, sink: Sink, order: Order) -> None:
        """Take the whole form: only then it is known whether it came before."""
        incoming.spooled = form = self.form(incoming)
        form.once = True
        try:
            fields, file, draft = await form.finished()
            order = order._replace(request=asked_of_file(incoming, fields, file, draft.sha256))
            make = partial(self._run, call, incoming)
            await self._service.recorder().serve(call, sink, order, make)
        finally:
            form.close()

    def form(self, incoming: Incoming) -> FormIntake[Made]:
        """Return a request's form, whether it was taken as it came or is so short that it came at once."""
        if isinstance(incoming.spooled, FormIntake):
            return incoming.spooled
        form = self.begin(incoming)
        try:
            form.extend(incoming.body)
        except GatewayError:
            form.close()
            raise
        return form


def expected(incoming: Incoming) -> int:
    """Return how many bytes the file in a form has at most, 0 where nobody knows."""
    return max(0, incoming.length - SMALL)


def enter(service: Service, incoming: Incoming) -> Caller:
    """Return who asks for a file. Raises `GatewayError` where it may not."""
    if service.draining:
        raise Unavailable("The gateway is shutting down. Send the request again.")
    caller = identify(service, incoming)
    if caller.hop is not None:
        refuse_loop(caller.hop, service.instance)
    if caller.principal.endpoints:
        allow(msgspec.structs.replace(caller.principal, models=()), "files", "")
    return caller


def choose(service: Service, methods: dict[bytes, FileRoute], method: bytes) -> FileRoute:
    """Return the route of a method; one that refuses where there is none."""
    route = methods.get(b"GET" if method == b"HEAD" else method)
    if route is not None:
        return route
    return FileRoute(service, partial(_not_allowed, ", ".join(map(bytes.decode, methods))))


async def _not_allowed(allowed: str, _call: Call, incoming: Incoming, _sink: Sink) -> None:
    raise MethodRefused(
        f"Not allowed to {incoming.method.decode('latin-1')} on {incoming.path[:200]}. (HINT: Perhaps you "
        f"meant to use a different HTTP method? This route has {allowed}.)",
        headers={"allow": allowed},
    )


def owner_of(call: Call) -> FileOwner:
    """Return whose files a call is about."""
    assert call.principal is not None
    return owner_by(call.principal)


def owner_by(principal: Principal) -> FileOwner:
    """Return whose files a caller's are."""
    return FileOwner(principal.account, principal.project, principal.book, principal.key)


def name_in(path: str) -> str:
    """Return the id in a path."""
    return path.removeprefix("/v1").strip("/").split("/")[1]


def answer_headers(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the headers that every answer of OpenAI's has."""
    assert call.principal is not None
    return [VERSION, (b"x-request-id", call.request_id.encode()), *whose(call.principal)]


def send(call: Call, body: object, sink: Sink) -> None:
    """Send a JSON answer."""
    data = _encode(body)
    sink.start(200, [_JSON, *answer_headers(call)], len(data))
    sink.write(data)
    sink.finish()
