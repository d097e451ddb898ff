"""What the routes of files and of uploads have in common: who may ask, forms as they come, answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from headgate.errors import GatewayError, MediaTypeRefused
from headgate.http.forms import FormIntake
from headgate.http.guard import guarded
from headgate.http.kept import KeptRoute, caller_of, not_allowed
from headgate.http.recorded import asked_of_file, order_of
from headgate.shelf import FileOwner
from headgate.wire.forms import is_form

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.http.kept import Act
    from headgate.ports import Sink
    from headgate.shelf import Writing
    from headgate.values import Call, Principal
    from headgate.wire.recorded import Order

SMALL: Final = 1024 * 1024  # bytes of a request without a file, and of what a form has besides its file
Made = TypeVar("Made", bound="Writing")


class FileRoute(KeptRoute):
    """A route of files, or of uploads, that brings none."""

    def __init__(self, service: Service, act: Act, most: int = SMALL) -> None:
        super().__init__(service, "files", act, most)


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
        caller = self._enter(incoming)
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


def choose(service: Service, methods: dict[bytes, FileRoute], method: bytes) -> FileRoute:
    """Return the route of a method; one that refuses where there is none."""
    route = methods.get(b"GET" if method == b"HEAD" else method)
    if route is not None:
        return route
    return FileRoute(service, partial(not_allowed, methods))


def owner_of(call: Call) -> FileOwner:
    """Return whose files a call is about."""
    return owner_by(caller_of(call))


def owner_by(principal: Principal) -> FileOwner:
    """Return whose files a caller's are."""
    return FileOwner(principal.account, principal.project, principal.book, principal.key)
