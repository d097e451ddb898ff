"""A folder with a database and files, and a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

from headgate.files.shelf import Shelf
from headgate.identity.keys import mint_key
from headgate.shelf import Blobs, FileLabel, FileOwner
from headgate.stores.blobs.folder import FolderBlobs
from headgate.stores.sql import database
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.files import Room, SqlFiles
from headgate.stores.sql.soundness import look
from headgate.values import Book

OWN = FileOwner(1, 1, Book.REAL, 7)
LABEL = FileLabel("user_data", "a.txt", "text/plain")
NO_LIMIT = Room(0, 0)
HOUR = 3_600_000_000


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def wall(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.now * 1000


class Place:
    """A folder with a database and files."""

    def __init__(self, books: database.Place) -> None:
        self.books = books
        self.folder = database.folder_of(books)
        self.clock = Hand()
        self.said: list[str] = []
        prepare(books, 1, mint_key)

    @asynccontextmanager
    async def shelf(
        self,
        room: Room = NO_LIMIT,
        largest: int = 1 << 20,
        writer: str = "one",
        blobs: Blobs | None = None,
    ) -> AsyncIterator[Shelf]:
        rows = SqlFiles(partial(database.connect, self.books), room, writer)
        own = blobs or FolderBlobs(self.folder / "files")
        shelf = Shelf(rows, own, self.clock, largest, self.said.append)
        yield shelf
        await shelf.close()
        await rows.close()

    @property
    def blobs(self) -> list[Path]:
        return [path for path in (self.folder / "files").rglob("*") if path.is_file()]

    def looked(self) -> list[str]:
        """Return what a look at the database finds wrong."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(look, self.books).result().wrong

    def rows(self, table: str) -> int:
        with ThreadPoolExecutor(1) as thread:  # a connection wants a thread without a loop
            return thread.submit(self._rows, table).result()

    def _rows(self, table: str) -> int:
        with closing(database.connect(self.books)) as sql:
            return int(sql.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def source(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(shelf: Shelf, name: str, start: int = 0, end: int | None = None) -> bytes:
    file = await shelf.find(OWN, name)
    assert file is not None
    return b"".join([data async for data in shelf.read(file, start, end)])
