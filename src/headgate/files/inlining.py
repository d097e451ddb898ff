"""Puts the bytes of files of ours where a request names them: no provider knows our names.

Whose a file is is asked first, so that another's is as absent as one that never was. Bytes are encoded slice
by slice, as they come from the shelf: the loop never waits for a whole file.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.admission.load import Load
from headgate.errors import CallerError, Crowded
from headgate.identity.standing import allow
from headgate.shelf import FileOwner, StoredFile
from headgate.waits import own_task
from headgate.wire.files import no_such_file
from headgate.wire.references import LARGEST_PICTURE, Named, Place, kind_of, picture_kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headgate.shelf import FileShelf
    from headgate.values import Call, Principal

_MARKS: Final = 16  # bytes that say of what kind a file is
_LOADS: Final = 2  # of the largest requests: what calls may have in hand together
_ROOM_S: Final = 10.0  # that one waits for room
_MARK: Final = 16  # random bytes of what stands where a file will: in no text by chance


class Inlining:
    """Puts files in place of their names.

    Args:
        shelf: who keeps files.
        most: bytes of all that are put into one request, as they stand in it: in base64.
    """

    def __init__(self, shelf: FileShelf, most: int) -> None:
        self._shelf = shelf
        self._most = most
        self.load = Load(_LOADS * most)

    async def carry(self, call: Call, run: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run a call that names files of ours: they are put into it when it is sent, if memory has room.

        Args:
            call: that somebody waits for.
            run: its path, which asks for the files (`Call.bring`).
        """
        carried = 0

        async def take(size: int) -> None:
            nonlocal carried
            await own_task()
            try:
                async with asyncio.timeout(_ROOM_S):
                    await self.load.take(size)
            except TimeoutError:
                raise Crowded(
                    "Other requests have too many files in hand just now. Try again in a moment.",
                    retry_after_s=1.0,
                ) from None
            carried += size

        call.bring = partial(self.inline, room=take)
        try:
            await run()
        finally:
            self.load.give(carried)

    async def size(self, call: Call) -> int:
        """Return how many bytes the files that a call names are in it. Raises what `inline` does."""
        _, _, size = await self._found(call)
        return size

    async def inline(self, call: Call, room: Callable[[int], Awaitable[None]] | None = None) -> None:
        """Change a parsed call that names files of ours into what it were if it had brought them.

        Args:
            call: in which they are named.
            room: waits until memory has room for so many bytes.

        Raises:
            CallerError: one is none of the caller's, too large, or no image where one must be.
            Unavailable: the storage does not answer.
        """
        named, found, size = await self._found(call)
        if room is not None:
            await room(size)
        urls: dict[str, list[bytes]] = {}
        mark = token_hex(_MARK)
        for place in named.places:
            file = found[place.name]
            here = f"{mark}.{file.id}.{place.picture}"
            if here not in urls:
                urls[here] = await self._url(file, place)
            place.put(here, file.label.filename)
        call.members |= named.written(urls)
        call.bring = None
        if call.media is not None:
            call.media = msgspec.structs.replace(call.media, stored=False)

    async def _found(self, call: Call) -> tuple[Named, dict[str, StoredFile], int]:
        """Return the files that a call names, where it does, and how long they are in it."""
        principal = call.principal
        assert principal is not None
        named, found = Named(call), dict[str, StoredFile]()
        size = 0
        for place in named.places:
            if place.name not in found:
                found[place.name] = await self._find(principal, place.name, place.param)
            size += self._sized(found[place.name], place)
            if size > self._most:
                raise _too_large(
                    f"The files of this request have more than {self._most:,} bytes", place.param
                )
        return named, found, size

    async def picture(self, principal: Principal, name: str, param: str) -> tuple[str, bytes]:
        """Return an image of the caller's, by the name of its file: its media type and its bytes.

        Raises:
            CallerError: it is none of the caller's, too large, or no image.
            Unavailable: the storage does not answer.
        """
        file = await self._find(principal, name, param)
        self._sized(file, Place(name, param, picture=True, holder={}))
        data = b"".join([piece async for piece in self._shelf.read(file)])
        return picture_kind(data[:_MARKS], param), data

    async def _find(self, principal: Principal, name: str, param: str) -> StoredFile:
        if principal.endpoints:  # a key that may use no files may not have them read to it, either
            allow(msgspec.structs.replace(principal, models=()), "files", "")
        owner = FileOwner(principal.account, principal.project, principal.book, principal.key)
        file = await self._shelf.find(owner, name)
        if file is None:
            raise no_such_file(name, param)
        return file

    def _sized(self, file: StoredFile, place: Place) -> int:
        """Return how long a file is in base64."""
        if not file.size:
            raise CallerError(f"The file {file.id} is empty.", param=place.param, code="empty_file")
        if place.picture and file.size > LARGEST_PICTURE:
            raise _too_large(
                f"The image {file.id} has {file.size:,} bytes, and at most {LARGEST_PICTURE:,} fit",
                place.param,
            )
        return -(-file.size // 3) * 4

    async def _url(self, file: StoredFile, place: Place) -> list[bytes]:
        """Return a file as a data URL, in slices."""
        encoded, rest, begin = list[bytes](), b"", b""
        async for piece in self._shelf.read(file):
            begin = (begin + piece)[:_MARKS]
            data = rest + piece
            whole = len(data) - len(data) % 3
            encoded.append(b64encode(data[:whole]))
            rest = data[whole:]
        kind = picture_kind(begin, place.param) if place.picture else kind_of(begin, file.label)
        return [b"data:%b;base64," % kind.encode(), *encoded, b64encode(rest)]


def _too_large(what: str, param: str) -> CallerError:
    return CallerError(f"{what}.", param=param, code="file_too_large")
