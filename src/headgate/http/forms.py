"""A form that brings a file, read while it comes: it goes to the storage, and memory holds little of it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from headgate.errors import CallerError, GatewayError
from headgate.wire.files import read_purpose, required
from headgate.wire.formstream import FilePart, FormStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headgate.shelf import Writing

_AT_ONCE: Final = 1024 * 1024  # bytes of one write
_FULL: Final = 4 * _AT_ONCE  # nothing more is read from the connection until less waits


Made = TypeVar("Made", bound="Writing")


class Brought(NamedTuple, Generic[Made]):
    """A form that has come whole: its fields, its file's head, and the file, not yet published."""

    fields: dict[str, str]
    file: FilePart
    draft: Made


class FormIntake(Generic[Made]):
    """What a form with one file grows in. It is closed, or waited for by `finished` and closed then.

    Args:
        content_type: of the request.
        wanted: name of the part that is the file.
        begin: begins the draft; awaited when the file begins.

    Raises:
        GatewayError: by `extend` and `finished`: the form is none, its file is refused or cannot be kept.
    """

    def __init__(
        self, content_type: bytes, wanted: str, begin: Callable[[], Coroutine[None, None, Made]]
    ) -> None:
        self._form = FormStream(content_type, self._on_file, self._on_data)
        self._wanted = wanted
        self._begin = begin
        self._size = 0
        self._waiting: deque[bytes] = deque()
        self._held = 0  # bytes in it
        self._bell = asyncio.Event()
        self._complete = False  # the whole form has come
        self._over = False  # nobody wants it any more
        self.once = False  # its caller may ask later whether this request has made something
        self._fault: GatewayError | None = None
        self._part: FilePart | None = None
        self._draft: Made | None = None
        self._pump: asyncio.Task[None] | None = None
        self._on_room: Callable[[], None] | None = None

    def __len__(self) -> int:
        return self._size

    @property
    def full(self) -> bool:
        """Say whether the storage is behind, so that nothing more should be read for now."""
        return self._held >= _FULL and self._fault is None

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when there is room again."""
        self._on_room = callback

    def extend(self, data: bytes) -> None:
        """Take more of the form."""
        self._size += len(data)
        if self._fault is not None:
            raise self._fault
        self._form.feed(data)

    async def finished(self) -> Brought[Made]:
        """Wait until all that has come is written."""
        self._form.finish()
        self._complete = True
        self._bell.set()
        if self._pump is None or self._part is None:
            raise required(self._wanted)
        await asyncio.shield(self._pump)
        if self._fault is not None:
            raise self._fault
        assert self._draft is not None
        return Brought(self._form.fields, self._part, self._draft)

    def close(self) -> None:
        """Keep nothing that was not published."""
        self._over = True
        self._waiting.clear()
        self._bell.set()
        if self._draft is not None and self._pump is not None and self._pump.done():
            self._draft.drop()

    # ── what the form says ───────────────────────────────────────────────────────────────────────

    def _on_file(self, part: FilePart) -> None:
        if part.name != self._wanted:
            name = part.name[:100]
            raise CallerError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        if self._part is not None:
            raise CallerError("The form has more than one file. Send one at a time.", param=self._wanted)
        if "purpose" in self._form.fields:  # else it comes behind
            read_purpose(self._form.fields["purpose"])
        self._part = part
        self._pump = asyncio.get_running_loop().create_task(self._run())

    def _on_data(self, data: bytes) -> None:
        self._waiting.append(data)
        self._held += len(data)
        self._bell.set()

    # ── to the storage ───────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        """Write what comes, until there is no more."""
        try:
            draft = self._draft = await self._begin()
            await self._write(draft)
        except GatewayError as fault:
            self._fault = fault
            self._waiting.clear()
            self._tell()
        if self._over and self._draft is not None:
            await self._draft.discard()

    async def _write(self, draft: Made) -> None:
        while not self._over:
            if self._waiting:
                await draft.write(self._taken())
            elif self._complete:
                break
            else:
                self._bell.clear()
                await self._bell.wait()

    def _taken(self) -> bytes:
        """Return what is written next, and let more come where there is room for it."""
        parts, size = list[bytes](), 0
        while self._waiting and size < _AT_ONCE:
            part = self._waiting.popleft()
            parts.append(part)
            size += len(part)
        self._held -= size
        if self._held < _FULL // 2:
            self._tell()
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def _tell(self) -> None:
        callback, self._on_room = self._on_room, None
        if callback is not None:
            callback()
