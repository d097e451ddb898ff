"""The routes of `/v1/files`: bring, list, look, fetch, delete. Files belong to the project of their key."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote

import msgspec

from headgate.errors import GatewayError, MediaTypeRefused, MethodRefused, Unavailable
from headgate.http.answers import whose
from headgate.http.callers import identify
from headgate.http.errors import VERSION
from headgate.http.forms import FormIntake
from headgate.http.guard import guarded, turn_away
from headgate.http.listing import read_page
from headgate.http.ranges import read_range, unsatisfiable
from headgate.identity.standing import allow
from headgate.pipeline import refuse_loop
from headgate.shelf import FileOwner
from headgate.values import Call
from headgate.wire.files import file_object, no_such_file, read_label
from headgate.wire.forms import is_form

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.http.callers import Caller
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.ports import Sink
    from headgate.shelf import Draft, FileShelf, StoredFile
    from headgate.values import Principal

_encode = msgspec.json.encode
_JSON = (b"content-type", b"application/json")
_SMALL = 1024 * 1024  # bytes of a request without a file, and of what a form has besides its file


class Archive(Protocol):
    """Who keeps files, and how large they may be."""

    @property
    def shelf(self) -> FileShelf:
        """Return who keeps files."""
        ...


class FileRoutes:
    """All routes of files: `find` chooses by path and method.

    Args:
        service: the process.
        largest: bytes of one file.
    """

    def __init__(self, service: Service, largest: int) -> None:
        self._service = service
        bring = FormRoute(service, self._bring, "file", largest + _SMALL)
        listing, look, delete, fetch = (
            FileRoute(service, act) for act in (self._list, self._look, self._delete, self._fetch)
        )
        self._all: dict[bytes, FileRoute] = {b"POST": bring, b"GET": listing}
        self._one: dict[bytes, FileRoute] = {b"GET": look, b"DELETE": delete}
        self._content: dict[bytes, FileRoute] = {b"GET": fetch}

    def find(self, method: bytes, path: str) -> FileRoute | None:
        """Return the route of a path below `/files`; None for one that is not served."""
        parts = path.strip("/").split("/")
        if len(parts) == 1:
            methods = self._all
        elif len(parts) == 2:
            methods = self._one
        elif len(parts) == 3 and parts[2] == "content":
            methods = self._content
        else:
            return None
        return choose(self._service, methods, method)

    # ── what each does ──────────────────────────────────────────────────────────────────────────

    async def _bring(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        form = form_of(self._service, incoming, "file")
        try:
            brought = await form.finished()
            now = self._service.clock.wall()
            label = read_label(brought.fields, brought.file.filename, brought.file.kind, now)
            file = await brought.draft.publish(label)
        finally:
            form.close()
        send(call, file_object(file), sink)

    async def _list(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        page = read_page(incoming.query)
        files = await self._service.files().shelf.listed(
            owner_of(call), page.purpose, page.after, page.limit + 1, newest=page.newest
        )
        if files is None:
            raise no_such_file(page.after, "after")
        shown = [file_object(file) for file in files[: page.limit]]
        body = {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(files) > page.limit,
        }
        send(call, body, sink)

    async def _look(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        send(call, file_object(await self._found(call, incoming)), sink)

    async def _delete(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        name = name_in(incoming.path)
        if not await self._service.files().shelf.delete(owner_of(call), name):
            raise no_such_file(name)
        send(call, {"object": "file", "deleted": True, "id": name}, sink)

    async def _fetch(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        """Send the bytes, or a range of them, at the caller's pace."""
        file = await self._found(call, incoming)
        tag = f'"{file.sha256}"'.encode()
        wanted = incoming.head.header(b"range")
        condition = incoming.head.header(b"if-range")
        if condition is not None and condition != tag:
            wanted = None
        part = read_range(wanted, file.size)
        if part is None:
            raise unsatisfiable(file.size)
        headers = [
            (b"content-type", (file.label.kind or "application/octet-stream").encode("latin-1", "replace")),
            (b"content-disposition", disposition(file.label.filename).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"accept-ranges", b"bytes"),
            (b"etag", tag),
            *answer_headers(call),
        ]
        if part.partial:
            headers.append((b"content-range", b"bytes %d-%d/%d" % (part.start, part.end - 1, file.size)))
        sink.start(206 if part.partial else 200, headers, part.end - part.start)
        await self._relay(file, part.start, part.end, sink)

    async def _relay(self, file: StoredFile, start: int, end: int, sink: Sink) -> None:
        try:
            await self._copy(file, start, end, sink)
        except BaseException:
            sink.abort()  # a part of a file must not look like the whole
            raise
        sink.finish()

    async def _copy(self, file: StoredFile, start: int, end: int, sink: Sink) -> None:
        async with aclosing(self._service.files().shelf.read(file, start, end)) as slices:
            async for data in slices:
                if sink.gone:
                    break
                sink.write(data)
                await sink.drained()

    async def _found(self, call: Call, incoming: Incoming) -> StoredFile:
        name = name_in(incoming.path)
        file = await self._service.files().shelf.find(owner_of(call), name)
        if file is None:
            raise no_such_file(name)
        return file


class FileRoute:
    """A route of files, or of uploads, that brings none."""

    def __init__(
        self, service: Service, act: Callable[[Call, Incoming, Sink], Awaitable[None]], most: int = _SMALL
    ) -> None:
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
        except GatewayError as error:
            if incoming.spooled is not None:
                incoming.spooled.close()
            turn_away(service, call, error, sink)
            return
        service.start_call(guarded(service, call, sink, self._act(call, incoming, sink)), call)


class FormRoute(FileRoute):
    """A route that brings a file, which goes to the storage as it comes.

    Args:
        wanted: the name of the form's part that is the file.
    """

    brings_files: Literal[True] = True

    def __init__(
        self,
        service: Service,
        act: Callable[[Call, Incoming, Sink], Awaitable[None]],
        wanted: str,
        most: int,
    ) -> None:
        super().__init__(service, act, most)
        self._wanted = wanted

    def begin(self, incoming: Incoming) -> FormIntake:
        """Ask for the key before a form is kept, and take it as it comes."""
        return new_form(self._service, incoming, self._wanted)


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


def new_form(service: Service, incoming: Incoming, wanted: str) -> FormIntake:
    """Return what takes a form as it comes. Raises `GatewayError` where it is refused by its head."""
    kind = incoming.head.header(b"content-type") or b""
    if not is_form(kind):
        raise MediaTypeRefused("Send a form: `Content-Type: multipart/form-data`, with the file in it.")
    owner = owner_by(enter(service, incoming).principal)
    return FormIntake(kind, wanted, partial(_begin, service, owner, incoming.length))


async def _begin(service: Service, owner: FileOwner, expected: int) -> Draft:
    return await service.files().shelf.begin(owner, max(0, expected - _SMALL))


def form_of(service: Service, incoming: Incoming, wanted: str) -> FormIntake:
    """Return the form of a request, whether it was taken as it came or is so short that it came at once."""
    if isinstance(incoming.spooled, FormIntake):
        return incoming.spooled
    form = new_form(service, incoming, wanted)
    try:
        form.extend(incoming.body)
    except GatewayError:
        form.close()
        raise
    return form


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


def disposition(filename: str) -> str:
    """Return the `content-disposition` under which a browser saves a file, and never opens it (RFC 6266)."""
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "_" for letter in filename)
    plain = plain.replace('"', "_").replace("\\", "_").replace("%", "_").replace("/", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


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
