"""Who keeps files: writes each into a blob, makes it a file at once and whole, and forgets what is over.

The order is what makes it safe at any moment of a crash: a blob's row before its bytes, its bytes on the disk
before the file's row, and at the end the file's row before the bytes, the bytes before the blob's row.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, Protocol

from headgate.errors import BodyTooLarge, CallerError, Unavailable
from headgate.shelf import Counted, FileLabel, FileOwner, Piece, StoredFile, made_by

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator

    from headgate.ports import Clock
    from headgate.shelf import Blobs, BlobWriter
    from headgate.values import WallMicros
    from headgate.wire.forms import Buffer

_CLOSE_S: Final = 2.0
_LOST_US: Final = 24 * 3_600_000_000  # whoever has been writing for so long is no more
_UNWRITTEN_US: Final = 5_000_000  # between a blob's row and its writer, and more
_INLINE: Final = 64 * 1024  # bytes that are hashed faster than a thread is asked


class Full(Protocol):
    """A quota that has no room."""

    @property
    def scope(self) -> str:
        """Return whose it is: `project` or `account`."""
        ...

    @property
    def used(self) -> int:
        """Return how many bytes are kept."""
        ...

    @property
    def room(self) -> int:
        """Return how many may be."""
        ...


class FileRows(Protocol):
    """The rows of files and blobs; see `stores/sql/files.py`. Every method raises `Unavailable`."""

    async def reserve(
        self, blob: str, owner: FileOwner, size: int, now: WallMicros, *, bound: bool
    ) -> Full | None:
        """Note a blob that is about to be written; unless a quota is full that binds it."""
        ...

    async def publish(self, file: StoredFile, *, bound: bool) -> Full | None:
        """Make written blobs a file; unless a quota is full that binds it, which dooms them."""
        ...

    async def doom(self, blobs: Iterable[str]) -> None:
        """Let blobs be removed."""
        ...

    async def doomed(self) -> list[str]:
        """Return blobs that are to be removed."""
        ...

    async def removed(self, blobs: Iterable[str]) -> None:
        """Forget blobs that were removed."""
        ...

    async def find(self, owner: FileOwner, name: str, now: WallMicros) -> StoredFile | None:
        """Return a file of a project."""
        ...

    async def listed(
        self, owner: FileOwner, page: tuple[str, str, int, bool], now: WallMicros
    ) -> list[StoredFile] | None:
        """Return a project's files behind another, without their pieces."""
        ...

    async def delete(self, owner: FileOwner, name: str, now: WallMicros) -> list[str] | None:
        """Delete a file and doom its blobs."""
        ...

    async def expire(self, now: WallMicros, lost_before: WallMicros) -> int:
        """Doom what is over; return how many files and blobs that is."""
        ...

    async def unwritten(self, live: tuple[str, ...], before: WallMicros) -> None:
        """Doom what this worker has begun to write before an instant and does not write now."""
        ...


class Shelf:
    """The files that one worker writes and reads: a `FileShelf`.

    Args:
        rows: what is known of files.
        blobs: where their bytes are.
        clock: wall time.
        largest: bytes of one file.
        trouble: told what was wrong when nobody waits for it.
    """

    def __init__(
        self, rows: FileRows, blobs: Blobs, clock: Clock, largest: int, trouble: Callable[[str], None]
    ) -> None:
        self.rows = rows
        self.blobs = blobs
        self.clock = clock
        self.largest = largest
        self._trouble = trouble
        self.counted = Counted()
        self._live: set[str] = set()  # blobs that are being written here
        self._closing: set[asyncio.Task[None]] = set()

    async def begin(self, owner: FileOwner, expected: int = 0, largest: int = 0) -> FileDraft:
        """Begin to write a file. Raises `CallerError` where a quota has no room, `Unavailable`.

        Args:
            owner: whose it will be.
            expected: how many bytes it has at most; 0 where nobody knows.
            largest: how many it may have; 0: as many as any file.
        """
        return await self._begin(owner, expected, largest or self.largest)

    async def _begin(self, owner: FileOwner, expected: int, largest: int) -> FileDraft:
        """Begin to write a file of at most so many bytes; 0: of any number, and no quota binds it."""
        blob, now = secrets.token_hex(16), self.clock.wall()
        self._live.add(blob)
        try:
            refuse_full(await self.rows.reserve(blob, owner, expected, now, bound=largest > 0))
            writer = await self.blobs.begin(blob)
        except BaseException:
            self._live.discard(blob)  # whoever sweeps finds what was noted
            raise
        return FileDraft(self, owner, Piece(blob, largest), writer)

    async def create(self, owner: FileOwner, label: FileLabel, source: AsyncIterator[Buffer]) -> StoredFile:
        """Write a whole file of ours, which is paid for; where the source raises, nothing is kept."""
        draft = await self._begin(owner, 0, 0)
        try:
            async for data in source:
                await draft.write(data)
            return await draft.publish(label)
        except BaseException:
            await asyncio.shield(draft.discard())
            raise

    async def find(self, owner: FileOwner, name: str) -> StoredFile | None:
        """Return a file of a project; None where it has none."""
        return await self.rows.find(owner, name, self.clock.wall())

    async def listed(
        self, owner: FileOwner, purpose: str, after: str, limit: int, *, newest: bool
    ) -> list[StoredFile] | None:
        """Return a project's files behind another, without their pieces."""
        return await self.rows.listed(owner, (purpose, after, limit, newest), self.clock.wall())

    async def read(
        self, file: StoredFile, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Return the bytes of a file, in slices."""
        for blob, first, last in _spans(file, start, file.size if end is None else min(end, file.size)):
            async with aclosing(self.blobs.read(blob, first, last)) as slices:
                async for data in slices:
                    self.counted.read += len(data)
                    yield data

    async def delete(self, owner: FileOwner, name: str) -> bool:
        """Delete a file; False where there is none."""
        blobs = await self.rows.delete(owner, name, self.clock.wall())
        if blobs:
            await self._remove(blobs)
        return blobs is not None

    # ── what is over ─────────────────────────────────────────────────────────────────────────────

    async def adopt(self) -> None:
        """Take note that what this worker was writing before it was stopped is lost. Raises `Unavailable`."""
        await self.rows.unwritten((), self.clock.wall() + 1)

    async def sweep(self) -> int:
        """Remove what is over now; return how many blobs were."""
        now, count = self.clock.wall(), 0
        while await self.rows.expire(now, now - _LOST_US):
            pass
        await self.rows.unwritten(tuple(self._live), now - _UNWRITTEN_US)
        while blobs := await self.rows.doomed():
            await self._remove(blobs)
            count += len(blobs)
        return count

    async def close(self) -> None:
        """Wait until what was given up is removed, for a while."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_S)

    def wrote(self, blob: str) -> None:
        """Take note that nobody writes a blob any more."""
        self._live.discard(blob)

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def forget(self, blobs: Iterable[str]) -> None:
        """Doom blobs and remove them; what cannot be done now is when somebody sweeps."""
        blobs = tuple(blobs)
        try:
            await self.rows.doom(blobs)
            await self._remove(blobs)
        except Unavailable as fault:
            self._trouble(fault.message)

    async def _remove(self, blobs: Iterable[str]) -> None:
        gone = []
        try:
            for blob in blobs:
                await self.blobs.remove(blob)
                gone.append(blob)
        finally:
            self.counted.removed += len(gone)
            await self.rows.removed(gone)


class FileDraft:
    """A file that is being written: a `Draft`. `Shelf.begin` makes one."""

    def __init__(self, shelf: Shelf, owner: FileOwner, room: Piece, writer: BlobWriter) -> None:
        self._shelf = shelf
        self._owner = owner
        self._blob, self._largest = room
        self._writer = writer
        self._hash = hashlib.sha256()
        self._over = False
        self.size = 0

    async def write(self, data: Buffer) -> None:
        """Append bytes. Raises `BodyTooLarge`, `Unavailable`."""
        self.size += len(data)
        self._shelf.counted.written += len(data)
        if 0 < self._largest < self.size:
            raise too_large(self._largest)
        if len(data) <= _INLINE:
            self._hash.update(data)
            await self._writer.write(data)
        else:
            await asyncio.gather(asyncio.to_thread(self._hash.update, data), self._writer.write(data))

    async def commit(self) -> Piece:
        """Make the bytes durable, and leave it to others what becomes of them."""
        await self._writer.commit()
        return Piece(self._blob, self.size)

    @property
    def sha256(self) -> str:
        """Return the hash of what was written, in hex."""
        return self._hash.hexdigest()

    async def publish(self, label: FileLabel, call: bytes = b"") -> StoredFile:
        """Make it a file. Raises `CallerError`, `Unavailable`."""
        shelf = self._shelf
        piece = await self.commit()
        now = shelf.clock.wall()
        name = made_by(call) if call else new_id("file-")
        file = StoredFile(name, self._owner, label, self.size, self.sha256, now, (piece,))
        refuse_full(await shelf.rows.publish(file, bound=self._largest > 0))
        self.kept()
        shelf.counted.kept += 1
        return file

    def kept(self) -> None:
        """Take note that the bytes belong to something now."""
        self._over = True
        self._shelf.wrote(self._blob)

    async def discard(self) -> None:
        """Keep nothing."""
        if self._over:
            return
        self._over = True
        with suppress(Unavailable):  # it is doomed now, so whoever sweeps tries again
            await self._writer.abort()
        await self._shelf.forget([self._blob])
        self._shelf.wrote(self._blob)

    def drop(self) -> None:
        """Discard it soon."""
        if not self._over:
            self._shelf.later(self.discard())


def new_id(prefix: str) -> str:
    """Return a public id that nobody can guess, as long as OpenAI's are."""
    return prefix + secrets.token_hex(12)


def too_large(largest: int) -> BodyTooLarge:
    """Return the refusal of a file that is larger than one may be."""
    return BodyTooLarge(
        f"The file is too large: at most {largest:,} bytes are taken here.",
        param="file",
        code="file_too_large",
    )


def _spans(file: StoredFile, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Yield the parts of blobs that a range of a file is in."""
    at = 0
    for piece in file.pieces:
        first, last = max(start - at, 0), min(end - at, piece.size)
        at += piece.size
        if first < last:
            yield piece.blob, first, last


def refuse_full(full: Full | None) -> None:
    """Refuse what a quota has no room for."""
    if full is not None:
        raise CallerError(
            f"The files of this {full.scope} have {full.used:,} of the {full.room:,} bytes that they may "
            "have: this one does not fit. Delete files that are no longer needed, or let them expire "
            "(`expires_after`).",
            code="storage_quota_exceeded",
        )
