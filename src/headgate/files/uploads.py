"""Who puts files together of parts: for an hour, until their bytes are as many as was said.

The file's parts become its pieces as they are, so nothing is copied; they are only read once more, for the
hash of the whole.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from headgate.errors import CallerError, NotFound, Unavailable
from headgate.files.shelf import new_id, refuse_full
from headgate.shelf import FileLabel, Piece, StoredFile, Upload, UploadPart, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.files.shelf import FileDraft, Full, Shelf
    from headgate.shelf import FileOwner
    from headgate.values import WallMicros

PART_BYTES: Final = 64 << 20  # OpenAI's, as is the hour
_LIVES_US: Final = 3_600_000_000
_US: Final = 1_000_000
_PREFIX: Final = "part_"
_MOST_PARTS: Final = 10_000
_HASHED: Final = 1 << 20


class UploadRows(Protocol):
    """The rows of uploads; see `stores/sql/uploads.py`. Every method raises `Unavailable`."""

    async def put(self, upload: Upload) -> None:
        """Begin one."""
        ...

    async def find(self, owner: FileOwner, name: str, now: WallMicros) -> Upload | None:
        """Return one of a project."""
        ...

    async def parts(self, upload: Upload) -> dict[str, int]:
        """Return the parts of one: their blobs and sizes."""
        ...

    async def count(self, upload: Upload) -> int:
        """Return how many parts one has."""
        ...

    async def keep(self, upload: Upload, piece: Piece, now: WallMicros) -> bool:
        """Make a written blob a part; False where the upload is no longer open."""
        ...

    async def complete(self, upload: Upload, file: StoredFile, now: WallMicros) -> Full | bool | None:
        """Make parts a file; False where the upload is no longer open, else what has no room."""
        ...

    async def cancel(self, upload: Upload, now: WallMicros) -> list[str] | None:
        """Give one up; None where it is no longer open."""
        ...

    async def expire(self, now: WallMicros) -> int:
        """Give up those whose time is over; return how many."""
        ...


class Uploads:
    """The uploads that one worker serves.

    Args:
        shelf: who keeps their parts, and the files that they become.
        rows: what is known of them.
        largest: bytes of one.
    """

    def __init__(self, shelf: Shelf, rows: UploadRows, largest: int) -> None:
        self._shelf = shelf
        self._rows = rows
        self._largest = largest

    async def create(self, owner: FileOwner, label: FileLabel, size: int, kept_s: int) -> Upload:
        """Begin one.

        Raises:
            CallerError: it would be too large.
        """
        if size > self._largest:
            raise CallerError(
                f"Invalid 'bytes': integer above maximum value. Expected a value <= {self._largest}, but got "
                f"{size} instead.",
                param="bytes",
                code="integer_above_max_value",
            )
        now = self._shelf.clock.wall()
        upload = Upload(
            new_id("upload_"), owner, label, size, kept_s, now, now + _LIVES_US, UploadStatus.PENDING
        )
        await self._rows.put(upload)
        return upload

    async def find(self, owner: FileOwner, name: str) -> Upload:
        """Return one of a project. Raises `NotFound`."""
        found = await self._rows.find(owner, name, self._shelf.clock.wall())
        if found is None:
            raise NotFound(f"No such Upload object: {name[:100]}", param="upload_id")
        return found

    async def begin(self, owner: FileOwner, name: str, expected: int) -> FileDraft:
        """Begin to write a part. Raises `NotFound`, `CallerError`: it takes no more."""
        await self._pending(owner, name)
        return await self._shelf.begin(owner, min(expected, PART_BYTES), PART_BYTES)

    async def keep(self, owner: FileOwner, name: str, draft: FileDraft) -> UploadPart:
        """Make what was written a part. Raises `CallerError` where the upload has ended meanwhile."""
        upload = await self._pending(owner, name)
        if await self._rows.count(upload) >= _MOST_PARTS:
            raise CallerError(f"The Upload has {_MOST_PARTS:,} parts already, which is the most.")
        piece = await draft.commit()
        now = self._shelf.clock.wall()
        if not await self._rows.keep(upload, piece, now):
            raise _ended(await self.find(owner, name))
        draft.kept()
        return UploadPart(_PREFIX + piece.blob, upload.id, now)

    async def complete(self, owner: FileOwner, name: str, parts: Sequence[str], md5: str) -> Upload:
        """Make a file of parts, in their order.

        Args:
            owner: whose it is.
            name: of the upload.
            parts: their ids.
            md5: of the file, in hex; empty: nobody knows.

        Raises:
            NotFound: there is no such upload.
            CallerError: parts that are none, or the file is not what was said; the upload goes on.
        """
        upload = await self._pending(owner, name)
        pieces = _in_order(parts, await self._rows.parts(upload))
        total = sum(piece.size for piece in pieces)
        if total != upload.size:
            raise CallerError(
                f"The parts have {total:,} bytes, and the Upload was made for {upload.size:,}: they must be "
                "as many. Add what is missing, or begin another Upload.",
                param="part_ids",
                code="bytes_mismatch",
            )
        try:
            sha256 = await self._hash(upload, pieces, md5)
        except Unavailable:
            await self._pending(owner, name)  # where it was given up meanwhile, its bytes are gone
            raise
        now = self._shelf.clock.wall()
        expires_at = now + upload.kept_s * _US if upload.kept_s else 0
        label = upload.label._replace(expires_at=expires_at)
        file = StoredFile(new_id("file-"), upload.owner, label, total, sha256, now, pieces)
        done = await self._rows.complete(upload, file, now)
        if done is False:
            raise _ended(await self.find(owner, name))
        if done is not None and done is not True:
            refuse_full(done)
        self._shelf.counted.kept += 1
        return await self.find(owner, name)

    async def cancel(self, owner: FileOwner, name: str) -> Upload:
        """Give one up. Raises `NotFound`, `CallerError` where it has ended."""
        upload = await self._pending(owner, name)
        blobs = await self._rows.cancel(upload, self._shelf.clock.wall())
        if blobs is None:
            raise _ended(await self.find(owner, name))
        await self._shelf.forget(blobs)
        return await self.find(owner, name)

    async def expire(self) -> None:
        """Give up those whose time is over."""
        while await self._rows.expire(self._shelf.clock.wall()):
            pass

    async def _pending(self, owner: FileOwner, name: str) -> Upload:
        upload = await self.find(owner, name)
        if upload.status is not UploadStatus.PENDING:
            raise _ended(upload)
        return upload

    async def _hash(self, upload: Upload, pieces: tuple[Piece, ...], md5: str) -> str:
        """Return the SHA-256 of the whole. Raises `CallerError` where its MD5 is another one."""
        whole = StoredFile("", upload.owner, upload.label, upload.size, "", 0, pieces)
        sha, own = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        waiting, held = list[bytes](), 0

        def take(data: bytes) -> None:
            sha.update(data)
            if md5:
                own.update(data)

        async for data in self._shelf.read(whole):
            waiting.append(data)
            held += len(data)
            if held >= _HASHED:
                await asyncio.to_thread(take, b"".join(waiting))
                waiting, held = [], 0
        take(b"".join(waiting))
        if md5 and own.hexdigest() != md5.strip().lower():
            raise CallerError(
                f"The MD5 of the parts is {own.hexdigest()}, and not '{md5[:64]}': they did not come as they "
                "were, or in another order.",
                param="md5",
                code="md5_mismatch",
            )
        return sha.hexdigest()


def _in_order(parts: Sequence[str], known: dict[str, int]) -> tuple[Piece, ...]:
    """Return parts as pieces, in their order."""
    pieces = []
    for n, part in enumerate(parts):
        blob = part.removeprefix(_PREFIX)
        if not part.startswith(_PREFIX) or blob not in known:
            raise CallerError(
                f"The Upload has no part '{part[:100]}', or it is given twice.",
                param=f"part_ids[{n}]",
                code="invalid_value",
            )
        pieces.append(Piece(blob, known.pop(blob)))
    return tuple(pieces)


def _ended(upload: Upload) -> CallerError:
    return CallerError(
        f"The Upload '{upload.id}' is {upload.status.name.lower()}: it takes no more. Begin another one.",
        param="upload_id",
        code="upload_not_pending",
    )
