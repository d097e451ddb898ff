"""Answers to writes that named an idempotency key. Standard library only."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from headgate.records import Reply
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import connect

if TYPE_CHECKING:
    from headgate.stores.sql.database import Place
    from headgate.values import WallMicros

_KEPT_US: Final = 24 * 3_600_000_000
_STALE_US: Final = 60_000_000  # a write that has not ended after so long never will


class SqlReplies:
    """Implements `admin.office.Replies`."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def claim(self, actor: str, key: str, request: bytes, now: WallMicros) -> Reply | None:
        """Store that a write begins; return what there was already. Atomic."""
        with closing(connect(self._place, wait="managing")) as sql, writing(sql):
            sql.execute(
                "DELETE FROM replies WHERE at < ? OR (status = 0 AND at < ?)",
                (now - _KEPT_US, now - _STALE_US),
            )
            row = sql.execute(
                "SELECT request, status, body FROM replies WHERE actor = ? AND key = ?", (actor, key)
            ).fetchone()
            if row is not None:
                return Reply(*row)
            sql.execute("INSERT INTO replies VALUES (?, ?, ?, 0, ?, ?)", (actor, key, request, b"", now))
        return None

    def keep(self, actor: str, key: str, status: int, body: bytes) -> None:
        """Store how a claimed write ended."""
        with closing(connect(self._place, wait="managing")) as sql, writing(sql):
            sql.execute(
                "UPDATE replies SET status = ?, body = ? WHERE actor = ? AND key = ?",
                (status, body, actor, key),
            )

    def forget(self, actor: str, key: str) -> None:
        """Take a claim back: nothing was done."""
        with closing(connect(self._place, wait="managing")) as sql, writing(sql):
            sql.execute("DELETE FROM replies WHERE actor = ? AND key = ? AND status = 0", (actor, key))
