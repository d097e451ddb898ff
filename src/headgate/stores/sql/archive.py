"""The file of a backup: every row of every table, as no database has it, so any of ours can be made of it.

After a line that names the form comes one gzip stream of records, each a msgpack array behind its length in
four bytes, big-endian:

    ["head", {schema, version, made_at, pepper, numbers}]
    ["table", name, [column, …], [key, …]]     then its rows, in the order of the key, at most 1,000 at once:
    ["rows", [[value, …], …]]
    ["end", name, rows, SHA-256 of the values]
    ["sum", {name of a total: value}, SHA-256 of all records before]

A file without its last record is not one: it is read to its end before anything is believed.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import msgspec

from headgate.stores.sql.layout import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MAGIC: Final = b"headgate backup 1\n"
AT_ONCE: Final = 1_000  # rows of a record: a part of the form, since a table's hash is of these parts
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Of which books a backup is."""

    schema: str  # revision
    version: str  # of Headgate
    made_at: int  # wall time, µs
    pepper: str  # fingerprint
    numbers: dict[str, int] = {}  # of tables that never give a number twice: the last one


class Part(NamedTuple):
    """Some rows of one table."""

    table: Table
    rows: list[list[Any]]


class TableSum(NamedTuple):
    """What a table comes to."""

    rows: int
    sha256: str


class Sum(NamedTuple):
    """What a backup comes to."""

    tables: dict[str, TableSum]
    totals: dict[str, int]


class ArchiveError(Exception):
    """A file that is no backup, or is damaged: says what is wrong with it."""


def parted(rows: Iterable[Any]) -> Iterator[bytes]:
    """Yield the values of rows as a backup has them, at most 1,000 rows at once."""
    going = iter(rows)
    while some := list(islice(going, AT_ONCE)):
        yield _encode(some)


def table_sum(rows: Iterable[Any], tell: Callable[[int], None]) -> TableSum:
    """Return what the rows of a table come to, all of them in the order of their keys.

    Args:
        rows: of it.
        tell: told, now and then, how many there were so far.
    """
    digest, count = hashlib.sha256(), 0
    for part in parted(rows):
        digest.update(part)
        count += len(_decode(part))
        tell(count)
    return TableSum(count, digest.hexdigest())


class ArchiveWriter:
    """Write a backup: `head` at once, then the tables, then `close`.

    Args:
        file: where it goes.
        head: of which books it is.
    """

    def __init__(self, file: BinaryIO, head: Head) -> None:
        file.write(MAGIC)
        self._stream = gzip.GzipFile("", "wb", 5, file, mtime=0)
        self._digest = hashlib.sha256()
        self._put(_encode(["head", head]))

    def table(self, table: Table, rows: Iterable[Any], tell: Callable[[int], None]) -> TableSum:
        """Write a table; return what it comes to."""
        self._put(_encode(["table", *table]))
        digest, count = hashlib.sha256(), 0
        for part in parted(rows):
            self._put(b"\x92\xa4rows" + part)  # ["rows", part], without encoding it again
            digest.update(part)
            count += len(_decode(part))
            tell(count)
        total = TableSum(count, digest.hexdigest())
        self._put(_encode(["end", table.name, *total]))
        return total

    def close(self, totals: Mapping[str, int]) -> None:
        """Write what all of it comes to."""
        self._put(_encode(["sum", totals, self._digest.hexdigest()]))
        self._stream.close()

    def _put(self, record: bytes) -> None:
        framed = len(record).to_bytes(4) + record
        self._digest.update(framed)
        self._stream.write(framed)


class ArchiveReader:
    """Read a backup, once: `head`, then the parts of `parts`, after which `sum` is there.

    Args:
        file: where it is.

    Raises:
        ArchiveError: it is none; also while its parts are read.
    """

    def __init__(self, file: BinaryIO) -> None:
        if file.read(len(MAGIC)) != MAGIC:
            raise ArchiveError("it does not begin as a backup of Headgate does")
        self._stream = gzip.GzipFile("", "rb", fileobj=file)
        self._digest = hashlib.sha256()
        kind, *rest = self._next()
        if kind != "head":
            raise ArchiveError("its first record is not a head")
        self.head = msgspec.convert(rest[0], Head)
        self.sum = Sum({}, {})

    def parts(self) -> Iterator[Part]:
        """Yield the rows of all tables; an empty table is one part without rows.

        Raises:
            ArchiveError: it is damaged, or not all of it is here.
        """
        while True:
            before = self._digest.hexdigest()
            kind, *rest = self._next()
            if kind == "table":
                yield from self._table(_named(*rest))
            elif kind == "sum":
                if rest[1] != before or self._read(1):
                    raise ArchiveError("its hash is not that of its content")
                self.sum = self.sum._replace(totals=rest[0])
                return
            else:
                raise ArchiveError(f"a record is of the unknown kind {kind!r}")

    def _table(self, table: Table) -> Iterator[Part]:
        digest, count = hashlib.sha256(), 0
        yield Part(table, [])
        while (record := self._next())[0] == "rows":
            digest.update(_encode(record[1]))
            count += len(record[1])
            yield Part(table, record[1])
        found = TableSum(count, digest.hexdigest())
        if record != ["end", table.name, *found]:
            raise ArchiveError(f"the table {table.name} is not what its hash says")
        self.sum.tables[table.name] = found

    def _next(self) -> list[Any]:
        size = self._read(4)
        record = self._read(int.from_bytes(size)) if len(size) == 4 else b""
        if not record or len(record) != int.from_bytes(size):
            raise ArchiveError("it ends too early")
        self._digest.update(size + record)
        try:
            found = _decode(record)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
            raise ArchiveError(f"it is damaged: {fault}") from fault
        if not (isinstance(found, list) and found and isinstance(found[0], str)):
            raise ArchiveError("a record is none")
        return found

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (OSError, EOFError, zlib.error) as fault:
            raise ArchiveError(f"it is damaged: {fault}") from fault


def _named(name: str, columns: list[str], key: list[str]) -> Table:
    """Return a table whose names can stand in a statement."""
    if not all(_NAME.fullmatch(word) for word in (name, *columns, *key)):
        raise ArchiveError(f"{name!r} is no table")
    return Table(name, tuple(columns), tuple(key))
