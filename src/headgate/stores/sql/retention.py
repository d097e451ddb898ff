"""Drop calls that are older than they are kept: in small steps, each a transaction of its own.

A step moves the horizon, adds up what its calls come to, and deletes them. Their entries stay, and so do the
sums of hours and days, the balances, the pots and what failed attempts used. What is added up is what reports
tell apart, by the hour, and what `ledger check` needs to prove that nothing else is missing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.doubts import DOUBTED
from headgate.stores.sql.horizon import horizon
from headgate.stores.sql.ledger import HOUR_US
from headgate.wire.batchjobs import OPEN

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
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
# Statements name both ends of a step: what is below may be deleted rows that a server still passes over.
_RANGE: Final = "c.call >= :first AND c.call < :before"
_HORIZON: Final = (
    "INSERT INTO horizon VALUES (1, :horizon, (SELECT count(*) FROM calls c JOIN lost l ON l.call = c.call"
    f" WHERE {_RANGE} AND l.call >= :first AND l.call < :before))"
    " ON CONFLICT (n) DO UPDATE SET before = excluded.before, lost = horizon.lost + excluded.lost"
)
_COUNTS: Final = ("calls", "failed", "estimated")
_AMOUNTS: Final = (
    "input", "output", "cached", "cache_write", "input_audio", "output_audio", "charge", "absorbed", "cost"
)  # fmt: skip
_PLACES: Final = "hour, book, account, project, member, key, operation, model, provider"
_HOURS: Final = (
    f"INSERT INTO dropped_hours SELECT opened_at / {HOUR_US}, book, account, project, member, key, operation,"
    " model, provider, count(*), sum(CASE WHEN status >= 400 THEN 1 ELSE 0 END), sum(flags & 1), "
    + ", ".join(f"sum({name})" for name in _AMOUNTS)
    + f" FROM calls c WHERE {_RANGE} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9"
    + f" ON CONFLICT ({_PLACES}) DO UPDATE SET "
    + ", ".join(f"{name} = dropped_hours.{name} + excluded.{name}" for name in (*_COUNTS, *_AMOUNTS))
)
_ENTRIES: Final = (
    "INSERT INTO dropped_entries SELECT e.kind, e.debit, e.credit, count(*), sum(e.amount) FROM calls c"
    f" JOIN entries e ON e.call = c.call WHERE {_RANGE} AND e.call >= :first AND e.call < :before"
    " GROUP BY 1, 2, 3"
    " ON CONFLICT (kind, debit, credit) DO UPDATE SET entries = dropped_entries.entries + excluded.entries,"
    " amount = dropped_entries.amount + excluded.amount"
)
_MORE: Final = (
    f"SELECT opened_at / {HOUR_US}, book, account, project, member, key, model, provider, more FROM calls c"
    f" WHERE {_RANGE} AND more <> ''"
)
_UNIT: Final = (
    "INSERT INTO dropped_units VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (hour, book, account, project, member, key, model, provider, unit)"
    " DO UPDATE SET used = dropped_units.used + excluded.used"
)
# Numbers that follow one another have the same distance to how manieth they are.
_NUMBERS: Final = (
    "SELECT book, min(seq), max(seq) FROM (SELECT book, seq, seq - row_number() OVER"
    f" (PARTITION BY book ORDER BY seq) AS run FROM calls c WHERE {_RANGE}) AS numbered GROUP BY book, run"
)
_BESIDE: Final = (  # runs do not overlap: of those that begin below, only the last can reach so far
    "DELETE FROM dropped_numbers WHERE book = ? AND first <= ? AND first >= coalesce("
    "(SELECT max(first) FROM dropped_numbers WHERE book = ? AND first < ?), 0) RETURNING first, last"
)


def drop_calls(sql: Connection, now: WallMicros, keep_days: int, steps: int) -> int:
    """Drop calls that are older than so many days and needed by nobody; return how many.

    Args:
        sql: transactions are this function's.
        now: wall time.
        keep_days: how long calls are kept, in days of 24 hours.
        steps: how many transactions at most.

    Raises:
        sqlite3.Error: nothing of the last step was dropped.
    """
    target, dropped = _id_at(now - keep_days * _DAY_US), 0
    row = sql.execute("SELECT call FROM calls ORDER BY call LIMIT 1").fetchone()
    first = target if row is None else bytes(row[0])
    if first < target:  # what begins from now on needs none as old
        target = min(target, _id_at(_needed_since(sql)))
    while steps and first < target:
        steps -= 1
        with writing(sql):
            step = _step_from(sql, first, target)
            count = _drop(sql, step)
        if not count:
            break
        dropped += count
        first = step.before
    return dropped


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


def _step_from(sql: Connection, first: bytes, target: bytes) -> _Step:
    """Return the oldest calls from one id to before another, as many as one transaction may drop."""
    query = "SELECT call FROM calls WHERE call >= ? AND call < ? ORDER BY call LIMIT 1 OFFSET ?"
    found = sql.execute(query, (first, target, AT_ONCE)).fetchone()
    if found is not None:
        return _Step(first, bytes(found[0]))
    query = "SELECT call FROM calls WHERE call >= ? AND call < ? ORDER BY call DESC LIMIT 1"
    last = sql.execute(query, (first, target)).fetchone()
    after = first if last is None else (int.from_bytes(bytes(last[0])) + 1).to_bytes(16)
    return _Step(first, after)  # no later: with a clock that was ahead, calls to come would be below it


def _drop(sql: Connection, step: _Step) -> int:
    """Keep what the calls of a step come to, and delete them; return how many there were."""
    ids = step._asdict()
    numbers = sql.execute(_NUMBERS, ids).fetchall()
    if not numbers:
        return 0
    for book in {row[0] for row in numbers}:
        _keep_numbers(sql, book, [(first, last) for of, first, last in numbers if of == book])
    sql.execute(_HORIZON, {**ids, "horizon": max(step.before, horizon(sql))})
    sql.execute(_HOURS, ids)
    sql.execute(_ENTRIES, ids)
    sql.executemany(_UNIT, _used(sql, ids))
    return sql.execute("DELETE FROM calls WHERE call >= :first AND call < :before", ids).rowcount


def _keep_numbers(sql: Connection, book: int, runs: list[tuple[int, int]]) -> None:
    """Note that these numbers are of calls that are no more, as one run with those beside them."""
    lowest, highest = min(runs)[0], max(last for _, last in runs)
    beside = sql.execute(_BESIDE, (book, highest + 1, book, lowest)).fetchall()
    joined: list[tuple[int, int, int]] = []
    for first, last in sorted([*runs, *((row[0], row[1]) for row in beside)]):
        if joined and joined[-1][2] + 1 == first:
            joined[-1] = (book, joined[-1][1], last)
        else:
            joined.append((book, first, last))
    sql.executemany("INSERT INTO dropped_numbers VALUES (?, ?, ?)", joined)


def _used(sql: Connection, ids: dict[str, bytes]) -> list[tuple[int | str, ...]]:
    """Return what the calls of a step used of other units than tokens."""
    sums: Counter[tuple[int | str, ...]] = Counter()
    for *places, more in sql.execute(_MORE, ids):
        for unit, used in _units(more).items():
            sums[*places, unit] += used
    return [(*where, used) for where, used in sums.items()]
