"""What the schema consists of, read from `schema.sql`: tables with their columns and keys, triggers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.stores.sql.database import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLEETING: Final = frozenset({"recordings", "recording_parts"})  # answers of a day
_SUMS: Final = frozenset({"dropped_hours", "dropped_units"})  # each month that was dropped has its own
_COMMENT: Final = re.compile(r"--[^\n]*")
_TABLE: Final = re.compile(r"CREATE TABLE (\w+) \((.*?)\)(?: WITHOUT ROWID)?;", re.DOTALL)
_TRIGGER: Final = re.compile(r"CREATE TRIGGER (\w+)")
_FILLED: Final = re.compile(r"CREATE TRIGGER \w+ AFTER INSERT ON \w+ BEGIN\s+INSERT INTO (\w+)")
_KEY: Final = re.compile(r"PRIMARY KEY \(([^)]*)\)")
_MARKS: Final = re.compile(r"'[^']*'|[(),]")
_CONSTRAINTS: Final = frozenset({"PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})


class Table(NamedTuple):
    """A table of ours."""

    name: str
    columns: tuple[str, ...]  # as they stand in it
    key: tuple[str, ...]  # whose order is the same in every database

    def rows(self) -> str:
        """Return the question for all of its rows, whole and in the order of their keys."""
        if self.name in _SUMS:
            sums = ", ".join(f'sum("{column}")' for column in self.columns if column not in self.key)
            key = _listed(self.key)
            return f"SELECT {key}, {sums} FROM {self.name} GROUP BY {key} ORDER BY {key}"
        return f"SELECT {_listed(self.columns)} FROM {self.name} ORDER BY {_listed(self.key)}"


def tables(script: str = "") -> list[Table]:
    """Return the tables of a schema, of ours if not of another, those that others refer to first."""
    text = _COMMENT.sub("", script or schema())
    return [_table(name, inside) for name, inside in _TABLE.findall(text)]


def carried() -> list[Table]:
    """Return the tables whose rows a backup has: not what triggers fill, nor what is kept for a day."""
    filled = set(_FILLED.findall(_COMMENT.sub("", schema())))
    return [table for table in tables() if table.name not in filled | _FLEETING]


def triggers() -> set[str]:
    """Return the names of the triggers that keep what is written once, and sums of what is written."""
    return set(_TRIGGER.findall(_COMMENT.sub("", schema())))


def _table(name: str, inside: str) -> Table:
    columns: list[str] = []
    key: tuple[str, ...] = ()
    for part in _parts(inside):
        first = part.split(maxsplit=1)[0]
        if first not in _CONSTRAINTS:
            columns.append(first)
            key = (first,) if "PRIMARY KEY" in part else key
        elif (found := _KEY.match(part)) is not None:
            key = tuple(word.strip() for word in found[1].split(","))
    return Table(name, tuple(columns), key)


def _parts(inside: str) -> Iterator[str]:
    """Yield what stands between commas that are in no brackets and no text."""
    depth, begin = 0, 0
    for found in _MARKS.finditer(inside):
        depth += (found[0] == "(") - (found[0] == ")")
        if found[0] == "," and not depth:
            yield inside[begin : found.start()].strip()
            begin = found.end()
    yield inside[begin:].strip()


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)
