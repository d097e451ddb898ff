"""How much is kept of recorded answers, and how long: by each worker for all, a little at a time.

Several may look at once: they find the same rows to go, and rows that another one has in hand wait for the
next look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.wire.recorded import State

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.sealed import Room
    from headgate.values import WallMicros

_AT_ONCE: Final = 20  # rows of a statement: their answers may be of megabytes
_SHARE: Final = 64  # looked for room between sweeps: when one worker has kept this part of what there is
_EXPIRE: Final = (
    f"UPDATE recordings SET state = {State.EXPIRED}, answer = NULL, size = 0, expires_at = made_at + :kept"
    " WHERE call IN (SELECT call FROM recordings WHERE expires_at <= :now AND made_at + :kept > :now"
    f" AND state <> {State.REFUSED} LIMIT {_AT_ONCE} FOR UPDATE SKIP LOCKED)"
)
_FORGET: Final = (
    "DELETE FROM recordings WHERE call IN (SELECT call FROM recordings"
    f" WHERE expires_at <= :now AND (made_at + :kept <= :now OR state = {State.REFUSED})"
    f" LIMIT {_AT_ONCE} FOR UPDATE SKIP LOCKED)"
)
_LOOSE: Final = (
    "DELETE FROM recording_parts p WHERE NOT EXISTS"
    " (SELECT 1 FROM recordings r WHERE r.call = p.call AND r.state = 0)"
)
_DROP: Final = (
    f"UPDATE recordings SET answer = NULL, size = 0, state = {State.DROPPED} WHERE call = ? AND size > 0"
)


class Keeper:
    """Make room, as one worker does. In the thread of a connection.

    Args:
        room: that there is for all of them.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._rows = self._bytes = 0  # kept since the last look

    def kept(self, sql: Connection, size: int) -> None:
        """Take note of one more; look for room where that may have become too much."""
        self._rows += 1
        self._bytes += size
        if self._rows * _SHARE > self._room.entries or self._bytes * _SHARE > self._room.total_bytes:
            self._make_room(sql)

    def sweep(self, sql: Connection, now: WallMicros) -> None:
        """Forget what has been kept for long enough, and what there is too much of."""
        values = {"now": now, "kept": self._room.kept_us}
        for statement in (_EXPIRE, _FORGET):
            while sql.execute(statement, values).rowcount >= _AT_ONCE:
                pass
        sql.execute(_LOOSE)
        self._make_room(sql)

    def _make_room(self, sql: Connection) -> None:
        """Drop answers, then whole rows, of whoever has most, the oldest first."""
        held = {
            project: [entries, size]
            for project, entries, size in sql.execute(
                "SELECT project, count(*), sum(size) FROM recordings GROUP BY project"
            )
        }
        while sum(size for _, size in held.values()) > self._room.total_bytes:
            most = max(held, key=lambda project: held[project][1])
            if not (dropped := self._drop(sql, most)):
                break
            held[most][1] -= dropped
        while sum(entries for entries, _ in held.values()) > self._room.entries:
            most = max(held, key=lambda project: held[project][0])
            if not (forgotten := self._forget(sql, most)):
                break  # all of them are being made
            held[most][0] -= forgotten
        self._rows = self._bytes = 0

    @staticmethod
    def _drop(sql: Connection, project: int) -> int:
        """Drop the oldest answers of a project; return how many bytes that were."""
        rows = sql.execute(
            "SELECT call, size FROM recordings WHERE project = ? AND size > 0 ORDER BY made_at"
            f" LIMIT {_AT_ONCE // 2}",
            (project,),
        ).fetchall()
        sql.executemany(_DROP, [(call,) for call, _ in rows])
        return sum(size for _, size in rows)

    @staticmethod
    def _forget(sql: Connection, project: int) -> int:
        """Forget the oldest rows of a project that are not being made; return how many that were."""
        return sql.execute(
            "DELETE FROM recordings WHERE call IN (SELECT call FROM recordings WHERE project = ?"
            f" AND state <> 0 ORDER BY made_at LIMIT {_AT_ONCE // 2} FOR UPDATE SKIP LOCKED)",
            (project,),
        ).rowcount
