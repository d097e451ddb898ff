"""The routes of `/v1/uploads`: begin, add a part, complete, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from headgate.http.fileroutes import SMALL, FileRoute, FormRoute, choose, expected, owner_of
from headgate.http.kept import name_in, send, shape
from headgate.http.scan import scan
from headgate.wire.checks import unknown
from headgate.wire.fileuploads import part_object, read_completion, read_order, upload_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.ports import Sink
    from headgate.shelf import FileLabel, FileOwner, Upload, UploadPart, Writing
    from headgate.values import Call

_PART: Final = 64 << 20  # bytes of one part, as OpenAI has it


class Uploads(Protocol):
    """Who puts files together of parts."""

    async def create(self, owner: FileOwner, label: FileLabel, size: int, kept_s: int) -> Upload:
        """Begin one."""
        ...

    async def begin(self, owner: FileOwner, name: str, expected: int) -> Writing:
        """Begin to write a part."""
        ...

    async def keep(self, owner: FileOwner, name: str, draft: Any) -> UploadPart:
        """Make what was written a part."""
        ...

    async def complete(self, owner: FileOwner, name: str, parts: Sequence[str], md5: str) -> Upload:
        """Make a file of parts."""
        ...

    async def cancel(self, owner: FileOwner, name: str) -> Upload:
        """Give one up."""
        ...


class UploadRoutes:
    """All routes of uploads: `find` chooses by path and method.

    Args:
        service: the process.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._form = FormRoute(service, self._add, "data", self._begin, _PART + SMALL)
        self.table: dict[str, dict[bytes, FileRoute]] = {
            "": {b"POST": FileRoute(service, self._create)},
            "/{id}/parts": {b"POST": self._form},
            "/{id}/complete": {b"POST": FileRoute(service, self._complete)},
            "/{id}/cancel": {b"POST": FileRoute(service, self._cancel)},
        }

    def find(self, method: bytes, path: str) -> FileRoute | None:
        """Return the route of a path below `/uploads`; None for one that is not served."""
        methods = self.table.get(shape(path))
        return choose(self._service, methods, method) if methods is not None else None

    # ── what each does ──────────────────────────────────────────────────────────────────────────

    async def _create(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        scan(incoming.body)
        order = read_order(incoming.body)
        made = await self._service.files().uploads.create(
            owner_of(call), order.label, order.size, order.kept_s
        )
        send(call, upload_object(made), sink)

    async def _begin(self, owner: FileOwner, incoming: Incoming) -> Writing:
        return await self._service.files().uploads.begin(owner, name_in(incoming.path), expected(incoming))

    async def _add(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        form = self._form.form(incoming)
        try:
            brought = await form.finished()
            if brought.fields:
                raise unknown(min(brought.fields)[:100])
            part = await self._service.files().uploads.keep(
                owner_of(call), name_in(incoming.path), brought.draft
            )
        finally:
            form.close()
        send(call, part_object(part), sink)

    async def _complete(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        scan(incoming.body)
        parts, md5 = read_completion(incoming.body)
        done = await self._service.files().uploads.complete(
            owner_of(call), name_in(incoming.path), parts, md5
        )
        send(call, upload_object(done), sink)

    async def _cancel(self, call: Call, incoming: Incoming, sink: Sink) -> None:
        done = await self._service.files().uploads.cancel(owner_of(call), name_in(incoming.path))
        send(call, upload_object(done), sink)
