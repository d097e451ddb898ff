"""What people change while a worker serves: read in a thread, since a database may be far away, or frozen.

What is read is taken over on the event loop, in one go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from headgate.admission.limits import LimitRow
from headgate.identity.keys import Keyring, Trust
from headgate.ports import since_boot_ns
from headgate.stores.sql.database import (
    changes_since,
    connect,
    last_change,
    load_budgets,
    load_grants,
    load_limits,
)
from headgate.stores.sql.directory import AT_ONCE, Directory
from headgate.stores.sqlthread import SqlThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.money.pots import BudgetTerms, GrantTerms
    from headgate.records import KeyRow
    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.directory import Patch

Result = TypeVar("Result")
_SECOND: Final = 1_000_000_000
_NEWS_NS: Final = _SECOND  # without news for so long, a key that is not known may be a new one


class News(NamedTuple):
    """What holds now, and what of it has changed."""

    seen: int  # the last change that is in it
    kinds: frozenset[str]
    patch: Patch
    budgets: list[BudgetTerms]
    grants: list[GrantTerms]
    limits: list[LimitRow]


class Notices:
    """Follow what people change; close it after use.

    Args:
        place: where it is.
        kept_s: how long keys are believed while it does not answer.

    Raises:
        sqlite3.Error: it cannot be read.
    """

    __slots__ = ("_heard_ns", "_kept_ns", "_rows", "_seen", "_thread", "directory", "sql")

    def __init__(self, place: Place, kept_s: float = 60.0) -> None:
        self._kept_ns = int(kept_s * _SECOND)
        self._heard_ns = since_boot_ns()
        self.sql = connect(place)  # of the thread, once the loop runs
        self._thread: SqlThread[Connection] = SqlThread(
            "changes", lambda: self.sql, "The database does not say what has changed"
        )
        self._rows: dict[int, KeyRow | None] = {}
        self._seen, self.directory = last_change(self.sql), Directory(self.sql)

    def read(self) -> News:
        """Read what there is. Only before the loop runs, or in the thread."""
        changes = changes_since(self.sql, self._seen, AT_ONCE)
        return News(
            changes[-1][0] if changes else self._seen,
            frozenset(kind for _, kind, _ in changes),
            self.directory.read((kind, ref) for _, kind, ref in changes),
            load_budgets(self.sql),
            load_grants(self.sql),
            [LimitRow(*row) for row in load_limits(self.sql)],
        )

    def take(self, news: News) -> None:
        """Know keys as they are now."""
        self.directory.apply(news.patch)
        self._rows = {}

    @property
    def last(self) -> int:
        """Return the number of the last change that is known here."""
        return self._seen

    def seen(self, news: News) -> None:
        """Read only what comes after this from now on: what failed before is followed again."""
        self._seen = news.seen

    async def ask(self, work: Callable[[], Result]) -> Result:
        """Do work that uses `sql` in the thread.

        Raises:
            Unavailable: the database does not answer.
        """
        return await self._thread.run(lambda _: work())

    async def behind(self) -> bool:
        """Say whether something has changed. Raises `Unavailable`."""
        asked = since_boot_ns()
        found = await self.ask(lambda: last_change(self.sql) > self._seen)
        self._heard_ns = asked
        return found

    def ring(self, pepper: bytes, *, playing: bool) -> Keyring:
        """Return a ring of the keys as they are known now."""
        return Keyring(pepper, self.directory, playing=playing, trust=self.trust)

    @property
    def silent(self) -> bool:
        """Say whether keys are not believed any more."""
        return self.trust() is Trust.NONE

    def trust(self) -> Trust:
        """Say how far the directory is to be believed, by when the database last answered."""
        silent = since_boot_ns() - self._heard_ns
        if silent <= _NEWS_NS:
            return Trust.FULL
        return Trust.KNOWN if silent <= self._kept_ns else Trust.NONE

    async def rows(self, keys: Iterable[int]) -> dict[int, KeyRow | None]:
        """Return some keys as the database has them now. Raises `Unavailable`."""
        return await self.ask(lambda: {key: self.directory.now(key) for key in keys})

    async def row(self, key: int) -> KeyRow | None:
        """Return a key as it stands: read once, until something changes. Raises `Unavailable`."""
        known = self._rows
        if key not in known:
            known[key] = (await self.rows((key,)))[key]
        return known[key]

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self._thread.run(lambda _: None)  # so that it has the connection
        await self._thread.close()
