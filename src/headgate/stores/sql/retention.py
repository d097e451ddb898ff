"""Drop calls that are older than they are kept: in small steps, each a transaction of its own.

A step moves the horizon, adds up what its calls come to, and deletes them. Their entries stay, and so do the
sums of hours and days, the balances, the pots and what failed attempts used. What is added up is what reports
tell apart, by the hour, and what `ledger check` needs to prove that nothing else is missing.

Where a month of calls has a table of its own, nothing of it is dropped until all of it is old. Then steps add
up beside, and one more lets the sums count and drops the table: none of its rows is ever deleted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.doubts import DOUBTED
from headgate.stores.sql.horizon import horizon
from headgate.stores.sql.series import HOUR_US
from headgate.wire.batchjobs import OPEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.stores.sql.connection import Connection, Month, Months
    from headgate.values import WallMicros

AT_ONCE: Final = 500  # calls: a transaction of some milliseconds, for which those who book wait
_DAY_US: Final = 24 * HOUR_US
_units = msgspec.json.Decoder(dict[str, int]).decode

_OPEN: Final = ", ".join(f"'{status}'" for status in OPEN)
_DOUBT: Final = f"SELECT 1 FROM batch_lines l WHERE l.batch = b.n AND l.state = {DOUBTED}"
_NEEDED: Final = (  # what began then may still ask for calls
    "SELECT min(since) FROM pots WHERE kind = 'budget' AND since > 0",
    f"SELECT min(created_at) FROM batches b WHERE status IN ({_OPEN}) OR EXISTS ({_DOUBT})",
    "SELECT min(created_at) FROM videos WHERE open = 1",
)
_COUNTS: Final = ("calls", "failed", "estimated")
_AMOUNTS: Final = (
    "input", "output", "cached", "cache_write", "input_audio", "output_audio", "charge", "absorbed", "cost"
)  # fmt: skip
_PLACES: Final = "hour, book, account, project, member, key, operation, model, provider"
# Statements name both ends of a step: what is below may be deleted rows that a server still passes over.
# `{calls}` is the table that a step is of, `{of}` what stands behind the names of those that it adds to.
_RANGE: Final = "c.call >= :first AND c.call < :before"
_HORIZON: Final = (
    "INSERT INTO horizon{of} VALUES (1, :horizon, (SELECT count(*) FROM {calls} c"
    f" JOIN lost l ON l.call = c.call WHERE {_RANGE} AND l.call >= :first AND l.call < :before))"
    " ON CONFLICT (n) DO UPDATE SET before = excluded.before, lost = horizon{of}.lost + excluded.lost"
)
_HOURS: Final = (
    f"INSERT INTO dropped_hours{{of}} SELECT opened_at / {HOUR_US}, book, account, project, member, key,"
    " operation, model, provider, count(*), sum(CASE WHEN status >= 400 THEN 1 ELSE 0 END), sum(flags & 1), "
    + ", ".join(f"sum({name})" for name in _AMOUNTS)
    + f" FROM {{calls}} c WHERE {_RANGE} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9"
    + f" ON CONFLICT ({_PLACES}) DO UPDATE SET "
    + ", ".join(f"{name} = dropped_hours{{of}}.{name} + excluded.{name}" for name in (*_COUNTS, *_AMOUNTS))
)
_ENTRIES_ADDED: Final = (
    " ON CONFLICT (kind, debit, credit) DO UPDATE SET"
    " entries = dropped_entries{of}.entries + excluded.entries,"
    " amount = dropped_entries{of}.amount + excluded.amount"
)
_ENTRIES: Final = (
    "INSERT INTO dropped_entries{of} SELECT e.kind, e.debit, e.credit, count(*), sum(e.amount) FROM {calls} c"
    f" JOIN entries e ON e.call = c.call WHERE {_RANGE} AND e.call >= :first AND e.call < :before"
    " GROUP BY 1, 2, 3" + _ENTRIES_ADDED
)
_MORE: Final = (
    f"SELECT opened_at / {HOUR_US}, book, account, project, member, key, model, provider, more"
    f" FROM {{calls}} c WHERE {_RANGE} AND more <> ''"
)
_UNIT: Final = (
    "INSERT INTO dropped_units{of} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (hour, book, account, project, member, key, model, provider, unit)"
    " DO UPDATE SET used = dropped_units{of}.used + excluded.used"
)
# Numbers that follow one another have the same distance to how manieth they are.
_NUMBERS: Final = (
    "SELECT book, min(seq), max(seq) FROM (SELECT book, seq, seq - row_number() OVER"
    f" (PARTITION BY book ORDER BY seq) AS run FROM {{calls}} c WHERE {_RANGE}) AS numbered"
    " GROUP BY book, run"
)
_BESIDE: Final = (  # runs do not overlap: of those that begin below, only the last can reach so far
    "DELETE FROM dropped_numbers{of} WHERE book = ? AND first <= ? AND first >= coalesce("
    "(SELECT max(first) FROM dropped_numbers{of} WHERE book = ? AND first < ?), 0) RETURNING first, last"
)
_HORIZON_MOVED: Final = (
    "INSERT INTO horizon SELECT n, before, lost FROM horizon{of} WHERE TRUE ON CONFLICT (n) DO UPDATE SET"
    " before = CASE WHEN excluded.before > horizon.before THEN excluded.before ELSE horizon.before END,"
    " lost = horizon.lost + excluded.lost"
)
_ENTRIES_MOVED: Final = "INSERT INTO dropped_entries SELECT * FROM dropped_entries{of} WHERE TRUE"


class _Into(NamedTuple):
    """What steps take calls from, and add them up in."""

    calls: str  # table
    of: str = ""  # behind the names of the tables

    def __call__(self, statement: str) -> str:
        """Return a statement about these tables."""
        return statement.format(calls=self.calls, of=self.of)


_ALL: Final = _Into("calls")


def drop_calls(sql: Connection, now: WallMicros, keep_days: int, steps: int) -> int:
    """Drop calls that are older than so many days and needed by nobody; return how many.

    Args:
        sql: transactions are this function's.
        now: wall time.
        keep_days: how long calls are kept, in days of 24 hours.
        steps: how many transactions at most.

    Raises:
        LockedError: somebody reads a month that could be dropped; it can be tried again at any time.
        sqlite3.Error: nothing of the last step was dropped.
    """
    months = sql.months
    target, dropped = _id_at(now - keep_days * _DAY_US), 0
    into = _ALL if months is None else _Into("calls_rest")
    row = sql.execute(f"SELECT call FROM {into.calls} ORDER BY call LIMIT 1").fetchone()
    first = target if row is None else bytes(row[0])
    if first < target or (months is not None and months.oldest(target) is not None):
        target = min(target, _id_at(_needed_since(sql)))  # what begins from now on needs none as old
    while steps and first < target:
        steps -= 1
        with writing(sql):
            step = _step_from(sql, into, first, target)
            count = _drop(sql, into, step)
        if not count:
            break
        dropped += count
        first = step.before
    return dropped if months is None else dropped + _drop_months(sql, months, target, steps)


def _drop_months(sql: Connection, months: Months, target: bytes, steps: int) -> int:
    """Drop months that are below an id; return of how many calls that were."""
    dropped = 0
    while steps and (month := months.oldest(target)) is not None:
        steps -= 1
        into = _Into(month.calls, month.suffix)
        with writing(sql):
            if _go_on(sql, months, month, into):
                continue
        with writing(sql):
            months.lock(month)
            if not _go_on(sql, months, month, into):  # nothing has come meanwhile
                dropped += _let_count(sql, into)
                months.drop(month)
    return dropped


def _go_on(sql: Connection, months: Months, month: Month, into: _Into) -> bool:
    """Add up some calls of a month; say whether that was done, or another server has dropped it."""
    begun = months.begun(month)
    return begun is None or _add_up(sql, into, _step_from(sql, into, begun, month.before))


class _Step(NamedTuple):
    """The ids of a step: from one to before another."""

    first: bytes
    before: bytes


def _id_at(at: WallMicros) -> bytes:
    """Return what no id of a call made at an instant is below: UUIDv7 begins with its milliseconds."""
    return max(0, at // 1000).to_bytes(6) + bytes(10)


def _needed_since(sql: Connection) -> WallMicros:
    """Return the instant from which on calls are needed: periods, batches and videos that are not over."""
    since = [row[0] for question in _NEEDED if (row := sql.execute(question).fetchone())[0] is not None]
    # An id is made before its OPEN, or after it where the wall clock was set back.
    return min(since, default=2**62 // 1000) - HOUR_US


def _step_from(sql: Connection, into: _Into, first: bytes, target: bytes) -> _Step:
    """Return the oldest calls from one id to before another, as many as one transaction may drop."""
    query = into("SELECT call FROM {calls} WHERE call >= ? AND call < ? ORDER BY call LIMIT 1 OFFSET ?")
    found = sql.execute(query, (first, target, AT_ONCE)).fetchone()
    if found is not None:
        return _Step(first, bytes(found[0]))
    query = into("SELECT call FROM {calls} WHERE call >= ? AND call < ? ORDER BY call DESC LIMIT 1")
    last = sql.execute(query, (first, target)).fetchone()
    after = first if last is None else (int.from_bytes(bytes(last[0])) + 1).to_bytes(16)
    return _Step(first, after)  # no later: with a clock that was ahead, calls to come would be below it


def _drop(sql: Connection, into: _Into, step: _Step) -> int:
    """Keep what the calls of a step come to, and delete them; return how many there were."""
    if not _add_up(sql, into, step, horizon(sql)):
        return 0
    return sql.execute(
        into("DELETE FROM {calls} WHERE call >= :first AND call < :before"), step._asdict()
    ).rowcount


def _add_up(sql: Connection, into: _Into, step: _Step, least: bytes = b"") -> bool:
    """Keep what the calls of a step come to; say whether there were any.

    Args:
        sql: in a transaction that writes.
        into: the tables.
        step: whose calls these are.
        least: an id that the horizon is not to be below.
    """
    ids = step._asdict()
    numbers = sql.execute(into(_NUMBERS), ids).fetchall()
    if not numbers:
        return False
    _keep_all_numbers(sql, numbers, into)
    sql.execute(into(_HORIZON), {**ids, "horizon": max(step.before, least)})
    sql.execute(into(_HOURS), ids)
    sql.execute(into(_ENTRIES), ids)
    sql.executemany(into(_UNIT), _used(sql, into, ids))
    return True


def _let_count(sql: Connection, into: _Into) -> int:
    """Add what the calls of a month come to to all that was dropped; hours and units will be inherited."""
    numbers = sql.execute(into("SELECT book, first, last FROM dropped_numbers{of}")).fetchall()
    _keep_all_numbers(sql, numbers, _ALL)
    if numbers:
        sql.execute(into(_HORIZON_MOVED))
    sql.execute(into(_ENTRIES_MOVED) + _ALL(_ENTRIES_ADDED))
    (count,) = sql.execute(into("SELECT coalesce(sum(calls), 0) FROM dropped_hours{of}")).fetchone()
    return int(count)


def _keep_all_numbers(sql: Connection, numbers: Sequence[Sequence[int]], into: _Into) -> None:
    for book in {row[0] for row in numbers}:
        _keep_numbers(sql, book, [(first, last) for of, first, last in numbers if of == book], into)


def _keep_numbers(sql: Connection, book: int, runs: list[tuple[int, int]], into: _Into = _ALL) -> None:
    """Note that these numbers are of calls that are no more, as one run with those beside them."""
    lowest, highest = min(runs)[0], max(last for _, last in runs)
    beside = sql.execute(into(_BESIDE), (book, highest + 1, book, lowest)).fetchall()
    joined: list[tuple[int, int, int]] = []
    for first, last in sorted([*runs, *((row[0], row[1]) for row in beside)]):
        if joined and joined[-1][2] + 1 == first:
            joined[-1] = (book, joined[-1][1], last)
        else:
            joined.append((book, first, last))
    sql.executemany(into("INSERT INTO dropped_numbers{of} VALUES (?, ?, ?)"), joined)


def _used(sql: Connection, into: _Into, ids: dict[str, bytes]) -> list[tuple[int | str, ...]]:
    """Return what the calls of a step used of other units than tokens."""
    sums: Counter[tuple[int | str, ...]] = Counter()
    for *places, more in sql.execute(into(_MORE), ids):
        for unit, used in _units(more).items():
            sums[*places, unit] += used
    return [(*where, used) for where, used in sums.items()]
