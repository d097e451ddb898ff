"""The routes of `/v1/files`: bring, list, look, fetch, delete. Files belong to the project of their key."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from headgate.http.fileroutes import SMALL, FileRoute, FormRoute, choose, expected, owner_of
from headgate.http.kept import answer_headers, name_in, page_of, send, shape
from headgate.http.listing import read_page
from headgate.http.ranges import read_range, unsatisfiable
from headgate.wire.files import file_object, no_such_file, read_label

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.http.uploads import Uploads
    from headgate.ports import Sink
    from headgate.shelf import Draft, FileOwner, FileShelf, StoredFile
    from headgate.values import Call, Principal


class Archive(Protocol):
    """Who keeps files."""

    @property
    def shelf(self) -> FileShelf:
        """Return who keeps files."""
        ...

    @property
    def uploads(self) -> Uploads:
        """Return who puts them together of parts."""
        ...

    @property
    def inlining(self) -> Inlining:
        """Return who puts them into requests that name them."""
        ...


class Inlining(Protocol):
    """Puts files into requests that name them."""

    async def carry(self, call: Call, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run a call that names files of ours, which are put into it when it is sent."""
        ...

    async def picture(self, principal: Principal, name: str, param: str) -> tuple[str, bytes]:
        """Return an image of the caller's: its media type and its bytes. Raises `GatewayError`."""
        ...


class FileRoutes:
    """All routes of files: `find` chooses by path and method.

    Args:
        service: the process.
        largest: bytes of one file.
    """

    def __init__(self, service: Service, largest: int) -> None:
        self._service = service
        self._form = FormRoute(service, self._bring, "file", self._begin, largest + SMALL)
        listing, look, delete, fetch = (
            FileRoute(service, act) for act in (self._list, self._look, self._delete, self._fetch)
        )
        self.table: dict[str, dict[bytes, FileRoute]] = {
            "": {b"POST": self._form, b"GET": listing},
            "/{id}": {b"GET": look, b"DELETE": delete},
            "/{id}/content": {b"GET": fetch},
        }

    def find(self, method: bytes, path: str) -> FileRoute | None:
        """Return the route of a path below `/files`; None for one that is not served."""
        methods = self.table.get(shape(path))
        return choose(self._service, methods, method) if methods is not None else None

    # ── what each does ──────────────────────────────────────────────────────────────────────────

    async def _begin(self, owner: FileOwner, incoming: Incoming) -> Draft:
        return await self._service.files().shelf.begin(owner, expected(incoming))

    async def _bring(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        form = self._form.form(incoming)
        try:
            brought = await form.finished()
            now = self._service.clock.wall()
            label = read_label(brought.fields, brought.file.filename, brought.file.kind, now)
            file = await brought.draft.publish(label, call.id if form.once else b"")
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
        send(call, page_of(shown, more=len(files) > page.limit), sink)

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


def disposition(filename: str) -> str:
    """Return the `content-disposition` under which a browser saves a file, and never opens it (RFC 6266)."""
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "_" for letter in filename)
    plain = plain.replace('"', "_").replace("\\", "_").replace("%", "_").replace("/", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
