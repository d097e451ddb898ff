"""Take books from one place to another: into a file, out of one, from SQLite to PostgreSQL.

Rows are read in one transaction, so they are of one moment, whoever writes meanwhile; they are written in
one, so a target has all of them or none. Each table is then read again where it went, and must come to the
same hash; the totals of the money must be the same, too.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from headgate import __version__
from headgate.stores.journal.segments import sync_folder
from headgate.stores.sql import migrations
from headgate.stores.sql.archive import AT_ONCE, ArchiveReader, ArchiveWriter, Head, Sum, table_sum
from headgate.stores.sql.bootstrap import SCHEMA, VERSION_TABLE, make_folder, upgrade, version, writing
from headgate.stores.sql.database import connect, folder_of, schema, shown
from headgate.stores.sql.folder import lock_folder
from headgate.stores.sql.layout import carried
from headgate.stores.sql.nodes import belongs, own_node, slot_name
from headgate.stores.sql.pepper import DataFolderError, fingerprint, read_pepper
from headgate.stores.sql.pots import LOST, settle_down
from headgate.stores.sql.totals import totals
from headgate.stores.sql.whereabouts import check_place, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from headgate.stores.sql.archive import Part, TableSum
    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.layout import Table
    from headgate.values import WallMicros

    Count: TypeAlias = Callable[[int], None]


class Progress(Protocol):
    """Told how far a transfer is."""

    def __call__(self, doing: str, table: str, rows: int, of: int, /) -> None:
        """Take note: what is being done, with which table, how many rows, of how many (0: not known)."""
        ...


class Loaded(NamedTuple):
    """What was written somewhere, and proven to be there."""

    sum: Sum
    head: Head


def backup(place: Place, file: Path, now: WallMicros, tell: Progress) -> Sum:
    """Write the books into a file, while servers write on.

    Args:
        place: of the books.
        file: that does not exist yet; it is there when all of it is on the disk.
        now: wall time.
        tell: told how far it is.

    Raises:
        DataFolderError: the schema is not this version's, or the file cannot be written.
        sqlite3.Error: the books cannot be read.
    """
    if file.exists():
        raise DataFolderError(f"{file} exists already: name another file.")
    part = file.with_name(file.name + ".part")
    try:
        with closing(connect(place, read_only=True, wait="patient")) as sql, reading(sql):
            _check_schema(sql, place)
            found = _write(sql, part, now, tell)
        part.rename(file)
        sync_folder(file.parent)
    except OSError as fault:
        raise DataFolderError(f"Cannot write {file}: {fault.strerror}.") from fault
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return found


def verify(file: Path, tell: Progress) -> Loaded:
    """Read a backup to its end; return what it comes to.

    Raises:
        ArchiveError: it is none, or damaged.
        DataFolderError: it cannot be read.
    """
    try:
        with file.open("rb") as source:
            archive = ArchiveReader(source)
            for part, rows in _counted(archive.parts()):
                tell("verify", part.table.name, rows, 0)
            return Loaded(archive.sum, archive.head)
    except OSError as fault:
        raise DataFolderError(f"Cannot read {file}: {fault.strerror}.") from fault


def restore(file: Path, place: Place, tell: Progress) -> Loaded:
    """Make new books of a backup; what workers had in hand then is free again.

    Args:
        file: the backup.
        place: where no books are.
        tell: told how far it is.

    Raises:
        ArchiveError: the backup is none, or damaged.
        DataFolderError: there are books already, or another pepper, or a newer version made the backup.
        sqlite3.Error: the books cannot be written; there are none, then.
    """
    check_place(place)
    found = verify(file, tell)
    if found.head.schema > SCHEMA:
        raise DataFolderError(
            f"{file} has schema {found.head.schema}, made by Headgate {found.head.version}; this one knows "
            f"{SCHEMA}. Restore it with that version or a newer one."
        )
    make_folder(place)
    folder = folder_of(place)
    with lock_folder(folder):
        pepper = read_pepper(folder)
        if pepper is not None and fingerprint(pepper) != found.head.pepper:
            raise DataFolderError(
                f"The pepper in {folder} is not the one of this backup: use another folder, or that pepper."
            )
        with closing(connect(place, wait="patient")) as sql, writing(sql):
            _define(sql, place, found.head.schema)
            with file.open("rb") as source:
                written = _fill(sql, ArchiveReader(source), found.sum, tell)
            _prove(sql, found.sum, written, tell)
            sql.number_on(found.head.numbers)
            _free(sql)
        note(place)
    upgrade(place)  # which takes the folder itself, in a process of its own
    return found


def move(source: Path, target: Place, tell: Progress) -> Sum:
    """Copy the books of a data folder to a database that folders can share. The source stays as it is.

    The folder becomes a node of the new database, since its journals go on where they are.

    Raises:
        DataFolderError: a server runs on the source, its schema is old, or the target is not empty.
        sqlite3.Error: it could not be read or written; the target has nothing, then.
    """
    with lock_folder(source), closing(connect(source, read_only=True)) as old, reading(old):
        _check_schema(old, source)
        node = own_node(source).name
        with closing(connect(target, wait="patient")) as new, writing(new):
            _define(new, target, SCHEMA)
            found = Sum({}, totals(old))
            for table in carried():
                found.tables[table.name] = _copy(old, new, table, tell)
            _prove(new, found, carried(), tell)
            new.number_on(old.numbers())
            _rename(new, node)
        note(target)
    return found


@contextmanager
def reading(sql: Connection) -> Iterator[None]:
    """Read one moment's state in a block."""
    sql.execute("BEGIN")
    try:
        yield
    finally:
        sql.execute("ROLLBACK")


def _write(sql: Connection, file: Path, now: WallMicros, tell: Progress) -> Sum:
    """Write an archive of everything; all of it is on the disk when this returns."""
    found = Sum({}, totals(sql))
    with file.open("xb") as out:
        os.fchmod(out.fileno(), 0o600)
        archive = ArchiveWriter(out, _head(sql, now))
        for table in carried():
            found.tables[table.name] = archive.table(table, *_read(sql, table, "backup", tell))
        archive.close(found.totals)
        out.flush()
        os.fsync(out.fileno())
    return found


# ── what is read ─────────────────────────────────────────────────────────────────────────────────


def _check_schema(sql: Connection, place: Place) -> None:
    found = version(sql)
    if found != SCHEMA:
        raise DataFolderError(
            f"{shown(place)} has schema {found or 'none'}, and this version has {SCHEMA}: run "
            "`headgate db migrate` first."
        )


def _head(sql: Connection, now: WallMicros) -> Head:
    (pepper,) = sql.execute("SELECT value FROM meta WHERE name = 'pepper_fingerprint'").fetchone()
    return Head(schema=SCHEMA, version=__version__, made_at=now, pepper=pepper, numbers=sql.numbers())


def _read(sql: Connection, table: Table, doing: str, tell: Progress) -> tuple[Iterator[Any], Count]:
    """Return the rows of a table, and who is told how many of them there were."""
    (of,) = sql.execute(f"SELECT count(*) FROM {table.name}").fetchone()
    tell(doing, table.name, 0, of)
    return sql.scan(table.rows()), lambda rows: tell(doing, table.name, rows, of)


def _counted(parts: Iterable[Part]) -> Iterator[tuple[Part, int]]:
    """Yield each part with how many rows of its table there were so far, itself included."""
    name, rows = "", 0
    for part in parts:
        rows = (rows if part.table.name == name else 0) + len(part.rows)
        name = part.table.name
        yield part, rows


# ── what is written ──────────────────────────────────────────────────────────────────────────────


def _define(sql: Connection, place: Place, revision: str) -> None:
    """Make the tables of a revision where there are none."""
    if found := version(sql):
        raise DataFolderError(
            f"{shown(place)} has books already, of schema {found}: name an empty folder or database."
        )
    if revision == SCHEMA:
        sql.define(schema())
    else:
        for step in sorted(Path(migrations.__file__).parent.glob("versions/*.sql")):
            if step.stem <= revision:
                sql.define(step.read_text(encoding="utf-8"))
    sql.execute(VERSION_TABLE)
    sql.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


def _fill(sql: Connection, archive: ArchiveReader, due: Sum, tell: Progress) -> list[Table]:
    written = []
    for part, rows in _counted(archive.parts()):
        if not part.rows:
            written.append(part.table)
            continue
        _insert(sql, part.table.name, part.rows)
        tell("restore", part.table.name, rows, due.tables[part.table.name].rows)
    return written


def _copy(old: Connection, new: Connection, table: Table, tell: Progress) -> TableSum:
    """Write a table of one database into another, in parts; return what it comes to."""
    rows, told = _read(old, table, "copy", tell)

    def passed() -> Iterator[Any]:
        while some := list(islice(rows, AT_ONCE)):
            _insert(new, table.name, some)
            yield from some

    return table_sum(passed(), told)


def _insert(sql: Connection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    if table == "calls" and sql.months is not None:
        sql.months.cover(row[0] for row in rows)
    if sql.insert_new(table, rows) != len(rows):
        raise DataFolderError(f"A row of {table} is there twice.")


def _prove(sql: Connection, due: Sum, written: Iterable[Table], tell: Progress) -> None:
    """Read everything again, as the database has it now.

    Raises:
        DataFolderError: it is not what was written.
    """
    for table in written:
        rows, told = _read(sql, table, "prove", tell)
        found = table_sum(rows, told)
        if found != due.tables[table.name]:
            expected = due.tables[table.name]
            raise DataFolderError(
                f"{table.name} has {found.rows:,} rows of hash {found.sha256[:16]}, due are "
                f"{expected.rows:,} of {expected.sha256[:16]}: nothing was written."
            )
    came = totals(sql)
    for name in sorted(came.keys() | due.totals.keys()):
        if came.get(name) != due.totals.get(name):
            raise DataFolderError(
                f"{name}: {came.get(name)}, due are {due.totals.get(name)}: nothing was written."
            )


def _free(sql: Connection) -> None:
    """Take everything out of the hands of workers: as far as these books know, none of them has a call.

    What batches hold for their lines is theirs still.
    """
    sql.execute("DELETE FROM slices WHERE slot <> ? AND slot NOT LIKE 'batch-%'", (LOST,))
    for table in ("slots", "drains", "nodes"):
        sql.execute(f"DELETE FROM {table}")
    for (pot,) in sql.execute("SELECT id FROM pots WHERE over > 0").fetchall():
        settle_down(sql, pot)


def _rename(sql: Connection, node: str) -> None:
    """Call the slots of a folder what they are called in a database that it shares."""
    for table in ("slices", "slots", "drains", "batches", "batch_lines"):
        rows = sql.execute(f"SELECT DISTINCT slot FROM {table} WHERE slot <> ''").fetchall()
        for (slot,) in (row for row in rows if belongs(row[0], "")):
            sql.execute(f"UPDATE {table} SET slot = ? WHERE slot = ?", (slot_name(node, slot), slot))
    sql.execute("UPDATE videos SET node = ?", (node,))
