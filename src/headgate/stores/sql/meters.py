"""What limits have counted, kept in the books' file for the next start. At most the last second is lost.

A row says when it was true by two clocks. Within one boot of the machine its monotonic clock tells how
much has been refilled since, so a wall clock that was set meanwhile grants nothing twice and locks nobody
out; after a boot only the wall clock is left, and one that was set back counts as no time at all.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.ports import since_boot_ns
from headgate.stores.sql.bootstrap import writing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headgate.ports import Clock
    from headgate.stores.sql.connection import Connection
    from headgate.values import MonotonicNs, WallMicros

_EVERY_S: Final = 1.0
_LONGEST_NS: Final = 86_400 * 1_000_000_000  # after the longest window everything is refilled
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
Lacks = list[tuple[str, int]]  # name of a meter, and what it lacks in millionths of a unit


class Moment(NamedTuple):
    """A time by both clocks."""

    wall: WallMicros
    boot: str  # which boot of the machine; empty where it cannot be told
    ns: MonotonicNs  # since then

    @classmethod
    def now(cls, clock: Clock) -> Moment:
        """Return this moment."""
        try:
            boot = _BOOT.read_text(encoding="ascii").strip()
        except OSError:
            boot = ""
        return cls(clock.wall(), boot, since_boot_ns())

    def since(self, before: Moment) -> MonotonicNs:
        """Return the time since an earlier moment, never below 0."""
        if self.boot and self.boot == before.boot:
            return max(0, self.ns - before.ns)
        return max(0, self.wall - before.wall) * 1_000


class SqlMeters:
    """The saved meters of one data folder.

    Args:
        connect: opens the database.
        clock: wall time.
        trouble: told what the database said when it refused; it is tried again.
    """

    __slots__ = ("_clock", "_connect", "_pending", "_trouble", "_turn")

    def __init__(
        self, connect: Callable[[], Connection], clock: Clock, trouble: Callable[[str], None]
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._trouble = trouble
        self._pending: dict[str, tuple[int, Moment]] = {}
        self._turn = threading.Lock()  # an older state never overtakes a newer one

    async def run(self, changed: Callable[[], Awaitable[Lacks]], every_s: float = _EVERY_S) -> None:
        """Save from time to time what has changed."""
        while True:
            await asyncio.sleep(every_s)
            await self.keep(await changed())

    def keep_last(self, lacks: Lacks) -> None:
        """Save what some meters lack now, where no loop runs.

        Raises:
            sqlite3.Error: the database cannot be written.
        """
        moment = Moment.now(self._clock)
        self._save([(lacking, moment, name) for name, lacking in lacks])

    async def keep(self, lacks: Lacks) -> None:
        """Save what some meters lack now; what the database refuses is saved the next time."""
        moment = Moment.now(self._clock)
        self._pending.update({name: (lacking, moment) for name, lacking in lacks})
        if not self._pending:
            return
        try:
            await asyncio.to_thread(self._save, [(*row, name) for name, row in self._pending.items()])
        except sqlite3.Error as fault:
            self._trouble(str(fault))
        else:
            self._pending.clear()

    def _save(self, rows: Iterable[tuple[int, Moment, str]]) -> None:
        with self._turn, closing(self._connect()) as sql:
            # Losing the last seconds to a power cut is allowed here; a sync each second is not needed.
            sql.sync_less()
            with writing(sql):
                sql.executemany(
                    "INSERT INTO meters (used, at, boot, ns, name) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name)"
                    " DO UPDATE SET used = excluded.used, at = excluded.at, boot = excluded.boot,"
                    " ns = excluded.ns",
                    [(lacking, *moment, name) for lacking, moment, name in rows],
                )

    def load(self) -> list[tuple[str, int, MonotonicNs]]:
        """Return what each meter lacked, and how long ago that was; forget what is refilled by now.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        now = Moment.now(self._clock)
        found, over = [], []
        with closing(self._connect()) as sql:
            for name, lacking, *moment in sql.execute("SELECT name, used, at, boot, ns FROM meters"):
                ago = now.since(Moment(*moment))
                if lacking and ago < _LONGEST_NS:
                    found.append((name, lacking, ago))
                else:
                    over.append((name,))
            if over:
                with writing(sql):
                    sql.executemany("DELETE FROM meters WHERE name = ?", over)
        return found
