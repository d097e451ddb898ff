"""One connection to SQL in a thread of its own, for stores that answer while the event loop runs."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from headgate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable


class Closable(Protocol):
    """A connection."""

    def close(self) -> None:
        """Close it."""
        ...


Sql = TypeVar("Sql", bound=Closable)
Result = TypeVar("Result")
Given = ParamSpec("Given")


class SqlThread(Generic[Sql]):
    """A connection that is opened by its first use. Close it after use.

    Args:
        name: the thread's, for people who look at processes.
        connect: opens the database; called in the thread.
        trouble: what it means when the database fails: the beginning of the error's sentence.
    """

    def __init__(self, name: str, connect: Callable[[], Sql], trouble: str) -> None:
        self._connect = connect
        self._trouble = trouble
        self._thread = ThreadPoolExecutor(1, name)
        self._sql: Sql | None = None

    async def run(
        self,
        work: Callable[Concatenate[Sql, Given], Result],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Result:
        """Do work in the thread, with the connection as its first argument.

        Raises:
            Unavailable: the database failed; the work must have left nothing half done.
        """

        def begin() -> Result:
            if self._sql is None:
                self._sql = self._connect()
            return work(self._sql, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, begin)
        except sqlite3.Error as fault:
            raise Unavailable(f"{self._trouble}: {fault}.") from fault

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._sql is not None:
            self._sql.close()
