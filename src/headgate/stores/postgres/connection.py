"""One connection to PostgreSQL for synchronous code in a thread, with a private event loop below.

asyncpg speaks the protocol; whoever calls waits, so nothing here may run where an event loop runs. Every wait
is bounded twice: by the server, and, in case that is frozen or gone, by us. A connection that failed in any
way that leaves its state unknown is never used again: outside a transaction the next statement opens another
one, inside everything is refused until `ROLLBACK`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeVar

import asyncpg

from headgate.stores.postgres.months import PostgresMonths, of_a_month
from headgate.stores.postgres.words import LZ4, PRELUDE, defined, marked, ordered, own, spread
from headgate.stores.sql.connection import Form, LockedError
from headgate.stores.sql.sqlite import statements

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

Result = TypeVar("Result")
NAME: Final = "headgate 0014"  # what sessions are called; step 0014 ends those of servers before it
WRITERS: Final = 0x68656164676174  # the advisory lock of those who write; locks are of one database
_CONNECT_S: Final = 5.0
_LATE_S: Final = 1.0  # beyond what the server bounds itself
_AT_ONCE: Final = 1_000  # rows of a scan
_MOST_PREPARED: Final = 300
_CELLS: Final = 128 * 33  # that are copied in one go: about 300 µs, in which the event loop waits
_COPIED: Final = 8  # tables that rows are copied into; any number gives statements names, so they stay parsed
_BEGIN: Final = {
    "BEGIN": "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    # One writer at a time, as on SQLite: every rule of the books is proven for that. Each statement looks
    # anew, whatever the server's default is: what was so before the lock was had may not be so any more.
    "BEGIN IMMEDIATE": "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;"
    f" SELECT pg_advisory_xact_lock({WRITERS})",
}
_END: Final = frozenset({"COMMIT", "ROLLBACK"})


# What may happen, the first that fits: to the stores, in which words, and whether the link can be used on.
_FAULTS: Final[tuple[tuple[Any, type[sqlite3.Error], str, bool], ...]] = (
    (asyncpg.IntegrityConstraintViolationError, sqlite3.IntegrityError, "{}", True),
    (
        asyncpg.LockNotAvailableError,
        LockedError,
        "database is locked: another writer has not ended",
        True,
    ),
    (asyncpg.PostgresConnectionError, sqlite3.OperationalError, "PostgreSQL cannot be used: {}", False),
    (
        (asyncpg.InvalidCachedStatementError, asyncpg.OperatorInterventionError),
        sqlite3.OperationalError,
        "PostgreSQL has stopped this: {}",
        False,
    ),
    (asyncpg.PostgresError, sqlite3.OperationalError, "PostgreSQL refuses: {}", True),
    (TimeoutError, sqlite3.OperationalError, "PostgreSQL does not answer in time", False),
    (
        (ValueError, OverflowError),
        sqlite3.DataError,
        "{}",
        True,
    ),  # of ours: a value that its column cannot hold
    (
        (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError),
        sqlite3.OperationalError,
        "PostgreSQL cannot be reached: {}",
        False,
    ),
)


class Bounds(NamedTuple):
    """How long a connection waits: for a statement, for another writer; and the server for us."""

    statement_s: float = 2.0
    writers_s: float = 2.0
    idle_s: float = 5.0  # in a transaction: whoever is frozen there must not keep the others out

    @property
    def longest_s(self) -> float:
        """Return how long a statement may take: those of writers wait for one another, and say so first."""
        return max(self.statement_s, self.writers_s + _LATE_S / 2)


BOUNDS: Final = {"serving": Bounds(), "managing": Bounds(10.0, 10.0), "patient": Bounds(600.0, 60.0, 600.0)}


class Rows:
    """What a statement has brought. Implements `sql.connection.Cursor`."""

    __slots__ = ("_rows", "_statement", "rowcount")

    def __init__(self, rows: Iterator[tuple[Any, ...]], rowcount: int, statement: Any = None) -> None:
        self._rows = rows
        self._statement = statement
        self.rowcount = rowcount

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns, where there are any."""
        if self._statement is None:
            return ()
        return tuple(attribute.name for attribute in self._statement.get_attributes())

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        """Go through the rows that are left."""
        return self._rows


class PostgresConnection:
    """Implements `sql.connection.Connection`.

    Args:
        url: `postgresql://…`; what is missing there, libpq's variables and files say.
        bounds: how long it waits.
    """

    calls_at_once: ClassVar[int] = 128  # what is encoded at once keeps the event loop from the interpreter

    def __init__(self, url: str, bounds: Bounds = BOUNDS["serving"]) -> None:
        self._url = url
        self._bounds = bounds
        self._loop = _new_loop()
        self._inside = False  # a transaction
        self._link: asyncpg.Connection[asyncpg.Record] | None = None
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]] = {}
        self._plain: dict[str, Callable[[Any], tuple[Any, ...]]] = {}  # what makes rows of decimals integers
        self._known: dict[str, list[tuple[str, str]]] = {}  # columns of tables
        self._parted = False  # calls, by months
        try:
            self._opened()
        except BaseException:
            self._loop.close()
            raise

    @property
    def months(self) -> PostgresMonths:
        """Return the tables that calls are in, month by month."""
        return PostgresMonths(self)

    @property
    def in_transaction(self) -> bool:
        """Say whether a transaction was begun that has not ended."""
        return self._inside

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Rows:
        """Run one statement."""
        if sql in _BEGIN:
            return self._begin(_BEGIN[sql])
        if sql in _END:
            return self._end(sql)
        text, names = marked(sql)
        return self._wait(self._fetch(text, ordered(names, parameters)))

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Rows:
        """Run one statement for each of many rows of values, in one go."""
        rows = list(parameters)
        if rows:
            self._wait(self._fetch_many(marked(sql).text, rows))
        return Rows(iter(()), -1)

    def fetch_each(self, sql: str, parameters: Sequence[Any], /) -> list[Any]:
        """Run one statement for each of many rows of values, in one go; return what all of them brought."""
        return self._wait(self._fetch_each(marked(sql).text, parameters)) if parameters else []

    def scan(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Iterator[Any]:
        """Go through many rows, some at a time."""
        text, names = marked(sql)
        portal = self._wait(self._open_portal(text, ordered(names, values)))
        while rows := self._wait(portal.fetch(_AT_ONCE)):
            yield from map(self._plain.get(text, tuple), rows)

    def insert_new(self, table: str, rows: Sequence[Sequence[Any]]) -> int:
        """Insert whole rows, but for those whose key is there; return how many were inserted."""
        if not rows:
            return 0
        text, new = spread(table, [kind for _, kind in self._columns(table, len(rows[0]))]), 0
        for start in range(0, len(rows), 2 * self.calls_at_once):
            columns = list(zip(*rows[start : start + 2 * self.calls_at_once], strict=True))
            new += self._wait(self._fetch(text, columns)).rowcount
        return new

    def insert_all(self, table: str, rows: Sequence[tuple[Any, ...]], form: Form | None = None) -> None:
        """Insert rows: by `COPY`, since asyncpg looks at length at each member of an array."""
        if not rows:
            return
        rows = rows if form is None else form.full(rows)
        names = [name for name, _ in self._columns(table, len(rows[0]))]
        size = max(1, _CELLS // len(names))
        for start in range(0, len(rows), size):
            self._wait(self._copy(table, names, rows[start : start + size]))

    def _columns(self, table: str, count: int) -> list[tuple[str, str]]:
        """Return the first columns of a table, by name and type: a newer version may have added more."""
        known = self._known.get(table)
        if known is None:
            found = self.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = CAST(CAST(? AS text) AS regclass) AND attnum > 0 AND NOT attisdropped"
                " ORDER BY attnum",
                (table,),
            )
            known = self._known[table] = found.fetchall()
        return known[:count]

    def define(self, script: str) -> None:
        """Run statements of a schema."""
        made = (text for statement in statements(own(script)) for text in defined(statement))
        self._wait(self._script(PRELUDE + ";\n".join(text.rstrip().rstrip(";") for text in made)))

    def wait_for_writers(self, seconds: float) -> None:
        """Wait no longer than this for another writer from now on."""
        self._bounds = self._bounds._replace(writers_s=seconds)
        if self._link is not None:
            self._wait(self._script(f"SET lock_timeout = {round(seconds * 1000)}"))

    def sync_less(self) -> None:
        """Sync as ever: a power cut of the server ends no worker."""

    def packed(self, columns: str) -> str:
        """Return the expression of some columns as one JSON array, in bytes."""
        return f"convert_to(CAST(json_build_array({columns}) AS text), 'UTF8')"

    def packed_pairs(self, key: str, value: str) -> str:
        """Return the aggregate of two columns as one JSON object, in bytes."""
        return f"convert_to(CAST(json_object_agg({key}, {value}) AS text), 'UTF8')"

    def tables(self) -> set[str]:
        """Return the names of the tables in the schema that new ones are made in, but for those of months."""
        rows = self.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        )
        return {name for (name,) in rows if not of_a_month(name)}

    def triggers(self) -> set[str]:
        """Return the names of the triggers that fire on every table that has them."""
        rows = self.execute(
            "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = current_schema() AND NOT tgisinternal"
            " GROUP BY tgname HAVING bool_and(tgenabled <> 'D')"
        )
        return {name for (name,) in rows}

    def numbers(self) -> dict[str, int]:
        """Return the last number that each table with a sequence gave."""
        return {
            table: int(last)
            for table, sequence, _ in self._numbered()
            if (last := self._last(sequence)) is not None
        }

    def number_on(self, last: Mapping[str, int]) -> None:
        """Let tables go on behind their rows, and behind these numbers."""
        for table, sequence, column in self._numbered():
            (most,) = self.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()
            number = max(most, last.get(table, 0), self._last(sequence) or 0)
            if number:
                self.execute("SELECT setval(CAST(CAST(? AS text) AS regclass), ?)", (sequence, number))

    def _numbered(self) -> list[tuple[str, str, str]]:
        """Return the tables that number their rows, with the sequence and the column."""
        return self.execute(
            "SELECT c.relname, pg_get_serial_sequence(CAST(c.oid::regclass AS text), a.attname), a.attname"
            " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = current_schema() AND a.attidentity <> '' AND NOT a.attisdropped"
        ).fetchall()

    def _last(self, sequence: str) -> int | None:
        row = self.execute(f"SELECT CASE WHEN is_called THEN last_value END FROM {sequence}").fetchone()
        return None if row[0] is None else int(row[0])

    def damage(self) -> list[str]:
        """Return nothing: a server looks after its own files."""
        return []

    def close(self) -> None:
        """Close it; what was not committed is undone."""
        self._drop()
        if not self._loop.is_closed():
            self._loop.close()

    # ── transactions ─────────────────────────────────────────────────────────────────────────────

    def _begin(self, text: str) -> Rows:
        if self._inside:
            raise sqlite3.OperationalError("cannot start a transaction within a transaction")
        self._inside = True
        try:
            self._opened()
            self._wait(self._script(text + self._held(text)))
        except BaseException:
            self._leave()
            raise
        return Rows(iter(()), -1)

    def _held(self, text: str) -> str:
        """Return what holds the months of calls while they are read: one that is dropped is gone at once."""
        if text != _BEGIN["BEGIN"]:
            return ""
        if not self._parted:
            query = "SELECT 1 FROM pg_class WHERE oid = to_regclass('calls') AND relkind = 'p'"
            self._parted = self._wait(self._fetch(query, ())).fetchone() is not None
        return "; LOCK TABLE ONLY calls IN ACCESS SHARE MODE" if self._parted else ""

    def _end(self, how: str) -> Rows:
        if how == "ROLLBACK":
            if self._inside:
                self._leave()
            return Rows(iter(()), -1)
        try:
            said = self._wait(self._script(how))
        except BaseException:
            self._leave()
            raise
        self._inside = False
        if said != how:  # a statement had failed, so the server has rolled back
            raise sqlite3.OperationalError("nothing was committed: a statement had failed")
        return Rows(iter(()), -1)

    def _leave(self) -> None:
        """Undo the transaction; where that cannot be done, the server will when the connection is gone."""
        self._inside = False
        if self._link is None:
            return
        try:
            self._wait(self._script("ROLLBACK"))
        except sqlite3.Error:
            self._drop()

    # ── below ────────────────────────────────────────────────────────────────────────────────────

    def _opened(self) -> asyncpg.Connection[asyncpg.Record]:
        """Return the link, a new one where the last was lost."""
        if self._link is None or self._link.is_closed():
            self._drop()
            self._link = self._bounded(self._connect())
            self._bounded(self._script(LZ4))
        return self._link

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        bounds = self._bounds
        return await asyncpg.connect(
            self._url,
            timeout=_CONNECT_S,
            command_timeout=bounds.longest_s + _LATE_S,
            statement_cache_size=_COPIED,
            max_cached_statement_lifetime=0,
            server_settings={
                "application_name": NAME,
                "default_transaction_isolation": "read committed",  # of each statement by itself
                "statement_timeout": str(round(bounds.longest_s * 1000)),
                "lock_timeout": str(round(bounds.writers_s * 1000)),
                "idle_in_transaction_session_timeout": str(round(bounds.idle_s * 1000)),
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
                "jit": "off",
            },
        )

    async def _script(self, text: str) -> str:
        assert self._link is not None
        return str(await self._link.execute(text))

    async def _fetch(self, text: str, values: Sequence[Any]) -> Rows:
        statement = self._prepared.get(text) or await self._prepare(text)
        rows = await statement.fetch(*values)
        tag = statement.get_statusmsg().rpartition(" ")[2]
        plain = self._plain.get(text, tuple)
        return Rows(map(plain, rows), int(tag) if tag.isdecimal() else -1, statement)

    async def _copy(self, table: str, names: list[str], rows: Sequence[Sequence[Any]]) -> None:
        assert self._link is not None
        # A server that freezes while it takes rows would be waited for without end.
        async with asyncio.timeout(self._bounds.longest_s + _LATE_S):
            await self._link.copy_records_to_table(table, records=rows, columns=names)

    async def _fetch_many(self, text: str, rows: list[Any]) -> None:
        statement = self._prepared.get(text) or await self._prepare(text)
        await statement.executemany(rows)

    async def _fetch_each(self, text: str, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        statement = self._prepared.get(text) or await self._prepare(text)
        return list(map(self._plain.get(text, tuple), await statement.fetchmany(rows)))

    async def _open_portal(self, text: str, values: Any) -> Any:
        statement = self._prepared.get(text) or await self._prepare(text)
        return await statement.cursor(*values)

    async def _prepare(self, text: str) -> asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]:
        assert self._link is not None
        if len(self._prepared) >= _MOST_PREPARED:  # with lists of many lengths; the server forgets them too
            self._prepared.clear()
            self._plain.clear()
        self._prepared[text] = statement = await self._link.prepare(text)
        sums = {n for n, column in enumerate(statement.get_attributes()) if column.type.name == "numeric"}
        if sums:  # of integers
            self._plain[text] = partial(_with_integers, sums)
        return statement

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for the server, on a link that can be used."""
        if self._link is None or self._link.is_closed():
            if self._inside:
                work.close()
                raise sqlite3.OperationalError("the connection was lost in this transaction")
            try:
                self._opened()
            except BaseException:
                work.close()
                raise
        return self._bounded(work)

    def _bounded(self, work: Coroutine[Any, Any, Result]) -> Result:
        if _on_a_loop():
            work.close()
            raise RuntimeError("PostgreSQL is asked in threads, never where an event loop runs")
        try:
            return self._loop.run_until_complete(work)
        except BaseException as fault:  # also of whoever was interrupted: what the server does is not known
            kind, said, usable = _told(fault)
            if not usable:
                self._drop()
            if kind is None:
                raise
            raise kind(said) from fault

    def _drop(self) -> None:
        """Give up the link, whatever is on its way."""
        link, self._link = self._link, None
        self._prepared.clear()
        self._plain.clear()
        self._known.clear()
        if link is None or self._loop.is_closed():
            return
        with suppress(Exception):
            link.terminate()
        self._loop.run_until_complete(_end_tasks())


def _told(fault: BaseException) -> tuple[type[sqlite3.Error] | None, str, bool]:
    """Return what a fault is to the stores, in words without values, and whether the link can be used on."""
    for kinds, kind, words, usable in _FAULTS:
        if isinstance(fault, kinds):
            first = str(fault.args[0]) if fault.args else type(fault).__name__
            if isinstance(fault, OSError):
                first = fault.strerror or str(fault)
            return kind, words.format(first), usable
    return None, "", False


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _end_tasks() -> None:
    """End what still runs on this loop: a request to cancel a statement, on a server that does not answer."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _with_integers(sums: set[int], row: Any) -> tuple[Any, ...]:
    return tuple(int(value) if n in sums and value is not None else value for n, value in enumerate(row))


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # a round trip takes a fifth less

    return uvloop.new_event_loop()
