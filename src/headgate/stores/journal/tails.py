"""What the journals of a data folder say that the database may not have yet, served or not. Read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.stores.journal.cursor import Cursor, OpenCalls, Settled
from headgate.stores.journal.segments import START, Position, slot_folders

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.ports import Open


class Tails(NamedTuple):
    """The journals' content: calls that are settled and calls that are open."""

    settled: list[Settled]
    open: dict[bytes, list[Open]]


def read_tails(data: Path) -> Tails:
    """Read every slot's journal as far as its files are there.

    Whoever reads the database after this misses nothing: what was removed here meanwhile is there.
    A call may be in both.
    """
    tails = Tails([], {})
    for folder in slot_folders(data):
        cursor, calls = Cursor(folder, Position(START.segment, 0)), OpenCalls()
        while found := cursor.read(1000):
            items = [calls.take(kind, record) for kind, record in found]
            tails.settled.extend(item for item in items if item is not None)
        tails.open.update(calls.opens)
    return tails
