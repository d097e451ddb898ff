"""The seam of files: who keeps them, and what is known of one.

A file belongs to a project, and there to a book: what a test key brings, no live key sees. Its bytes are in
blobs with names of our own; the name that its user gave it is only data. A file is there from the moment its
row is, whole, and gone from the moment its row is; whoever is reading it then may read on, or is cut.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from headgate.values import Book, WallMicros

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from headgate.wire.forms import Buffer


class FileOwner(NamedTuple):
    """Whose a file is."""

    account: int
    project: int
    book: Book
    key: int = 0  # that brought it


class FileLabel(NamedTuple):
    """What is said of a file that is about to be there."""

    purpose: str  # `wire/files.py` has the table of them
    filename: str  # its user's: any text
    kind: str = ""  # media type; empty: not said
    expires_at: WallMicros = 0  # 0: never


class Piece(NamedTuple):
    """A part of a file: a blob and its size."""

    blob: str
    size: int


class StoredFile(msgspec.Struct, frozen=True):
    """A file that is there."""

    id: str  # `file-…`
    owner: FileOwner
    label: FileLabel
    size: int  # bytes
    sha256: str  # in hex
    created_at: WallMicros
    pieces: tuple[Piece, ...]  # in order


class Counted(msgspec.Struct):
    """What a shelf has done since it was opened."""

    kept: int = 0  # files
    written: int = 0  # bytes
    read: int = 0  # bytes
    removed: int = 0  # blobs


class Writing(Protocol):
    """Something that is being written. Every method raises `Unavailable` where the storage fails."""

    @property
    def sha256(self) -> str:
        """Return the hash of what was written, in hex."""
        ...

    async def write(self, data: Buffer) -> None:
        """Append bytes; best a megabyte at a time. On return they may still be on their way to the disk.

        Raises:
            BodyTooLarge: it is larger than it may be.
        """
        ...

    async def discard(self) -> None:
        """Keep nothing. May be called more than once; does nothing to what was published. Never raises."""
        ...

    def drop(self) -> None:
        """Discard it soon, where nobody can wait for that."""
        ...


class Draft(Writing, Protocol):
    """A file that is being written."""

    async def publish(self, label: FileLabel, call: bytes = b"") -> StoredFile:
        """Make it a file: durable, and there for everybody at once.

        Args:
            label: what is said of it.
            call: whose file can be told by its id (`made_by`); empty: nobody will ask.

        Raises:
            CallerError: the quota of its project or account is full; nothing is kept.
        """
        ...


class FileShelf(Protocol):
    """Keeps files. Every method raises `Unavailable` where the store or the storage does not answer."""

    async def begin(self, owner: FileOwner, expected: int = 0) -> Draft:
        """Begin to write a file.

        Args:
            owner: whose it will be.
            expected: how many bytes it has at most, 0 where nobody knows.

        Raises:
            CallerError: the quota of its project or account has no room for so many.
        """
        ...

    async def create(self, owner: FileOwner, label: FileLabel, source: AsyncIterator[Buffer]) -> StoredFile:
        """Write a whole file of ours and publish it; where the source raises, nothing is kept.

        It counts in the quotas of its project and account, and is kept though they are full.
        """
        ...

    async def find(self, owner: FileOwner, name: str) -> StoredFile | None:
        """Return a file of a project by its id; None where it has none, or one that has expired."""
        ...

    async def listed(
        self, owner: FileOwner, purpose: str, after: str, limit: int, *, newest: bool
    ) -> list[StoredFile] | None:
        """Return a project's files behind another; None where that is none of its own.

        Args:
            owner: whose they are.
            purpose: of them; empty: any.
            after: id of the file before the first one; empty: from the beginning.
            limit: the most that are returned.
            newest: the newest first.
        """
        ...

    def read(self, file: StoredFile, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Return the bytes of a file from `start` to before `end`, in slices of at most 256 KiB."""
        ...

    async def delete(self, owner: FileOwner, name: str) -> bool:
        """Delete a file; False where there is none."""
        ...


class BlobWriter(Protocol):
    """Writes one blob. Raises `Unavailable` where the storage fails."""

    async def write(self, data: Buffer) -> None:
        """Append bytes."""
        ...

    async def commit(self) -> None:
        """Make it durable; the writer is done."""
        ...

    async def abort(self) -> None:
        """Keep nothing; the writer is done. Does nothing after `commit`."""
        ...


class Blobs(Protocol):
    """Where bytes are: a folder, or a service. Names are ours: lower-case hex. Raises `Unavailable`."""

    async def begin(self, name: str) -> BlobWriter:
        """Begin to write a blob that does not exist."""
        ...

    def read(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Return bytes of a blob, in slices of at most 256 KiB."""
        ...

    async def remove(self, name: str) -> None:
        """Remove a blob, or what there is of one; one that does not exist is removed already."""
        ...

    async def close(self) -> None:
        """Close what was opened."""
        ...


def made_by(call: bytes) -> str:
    """Return the id of the file that a call made, if it made one."""
    return f"file-{call.hex()}"


class UploadStatus(IntEnum):
    """How far an upload is."""

    PENDING = 0
    COMPLETED = 1
    CANCELLED = 2
    EXPIRED = 3


class Upload(msgspec.Struct, frozen=True):
    """A file that is put together of parts."""

    id: str  # `upload_…`
    owner: FileOwner
    label: FileLabel  # of its file, which does not say when that expires
    size: int  # bytes that its file shall have
    kept_s: int  # how long its file will be kept, in seconds; 0: for ever
    created_at: WallMicros
    expires_at: WallMicros  # of the upload
    status: UploadStatus
    file: StoredFile | None = None  # when it is completed, and not yet deleted


class UploadPart(NamedTuple):
    """A part of an upload."""

    id: str  # `part_…`
    upload: str
    created_at: WallMicros
