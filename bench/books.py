"""Compare the gateway's books with what was sent."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Headgate

INPUT_TOKENS = 19
OUTPUT_TOKENS_JSON = 48
OUTPUT_TOKENS_STREAM = 40
SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(slots=True)
class Sent:
    """Calls that must be in the books, by kind of answer."""

    json: int = 0
    streams: int = 0

    @property
    def calls(self) -> int:
        """Return the number of calls."""
        return self.json + self.streams

    @property
    def expected(self) -> dict[str, int]:
        """Return what `usage` must say; the mock's answers always state the same usage."""
        return {
            "calls": self.calls,
            "input_tokens": INPUT_TOKENS * self.calls,
            "output_tokens": OUTPUT_TOKENS_JSON * self.json + OUTPUT_TOKENS_STREAM * self.streams,
        }


def total(usage: dict[str, Any] | list[Any], name: str) -> int | None:
    """Find a total in the answer of `usage --json`: stated as such, or summed over its rows."""
    if isinstance(usage, list):
        return _sum(usage, name)
    for key in ("total", "totals", "summary"):
        stated = usage.get(key)
        if isinstance(stated, dict) and isinstance(stated.get(name), int):
            return int(stated[name])
    if isinstance(usage.get(name), int):
        return int(usage[name])
    lists = [value for value in usage.values() if isinstance(value, list)]
    return _sum(lists[0], name) if lists else None


def _sum(rows: list[Any], name: str) -> int | None:
    found = [row[name] for row in rows if isinstance(row, dict) and isinstance(row.get(name), int)]
    return sum(found) if found or not rows else None


def compare(headgate: Headgate, sent: Sent) -> list[str]:
    """Return what is wrong in the books; nothing when they hold and equal what was sent."""
    wrong: list[str] = []
    usage = headgate.calls()
    for name, expected in sent.expected.items():
        booked = total(usage, name)
        if booked is None:
            wrong.append(f"`usage --json` states no {name}: {str(usage)[:200]}")
        elif booked != expected:
            wrong.append(f"usage says {booked} {name}, {expected} are due ({booked - expected:+d})")
    status, said = headgate.check()
    if status:
        wrong.append(f"`ledger check` ended with {status}: {said[-400:]}")
    return wrong


def find_databases(data: Path) -> list[Path]:
    """List the SQLite databases of a data folder."""
    return [path for path in sorted(data.rglob("*")) if path.is_file() and _is_sqlite(path)]


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


@contextlib.contextmanager
def locked(databases: list[Path]) -> Iterator[None]:
    """Hold the write lock of the databases, so that nothing can be drained meanwhile."""
    with contextlib.ExitStack() as held:
        for path in databases:
            database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            held.callback(database.close)
            database.execute("BEGIN IMMEDIATE")
            held.callback(database.execute, "ROLLBACK")
        yield
