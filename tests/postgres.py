"""A schema of its own in the PostgreSQL server of this machine, for one test; dropped after it."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import asyncpg

Result = TypeVar("Result")
SERVER = "postgresql://root@127.0.0.1:5432/"


class Link:
    """A connection that is kept for what tests prepare and tidy up, where no loop runs."""

    def __init__(self, database: str) -> None:
        self._address = SERVER + database
        self._loop = asyncio.new_event_loop()
        self._link: asyncpg.Connection[asyncpg.Record] | None = None

    def run(self, script: str) -> None:
        """Run statements, in one transaction."""
        self._wait(lambda link: link.execute(script))

    def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """Return what a query brings."""
        return self._wait(lambda link: link.fetch(query, *values))

    def close(self) -> None:
        """Close it for good."""
        if self._link is not None:
            self._loop.run_until_complete(self._link.close())
        self._loop.close()

    def _wait(self, work: Callable[[Any], Coroutine[Any, Any, Result]]) -> Result:
        if self._link is None:
            connecting = asyncpg.connect(self._address, timeout=10, statement_cache_size=0)
            self._link = self._loop.run_until_complete(connecting)
        try:
            return self._loop.run_until_complete(work(self._link))
        except asyncpg.PostgresError:
            raise
        except BaseException:  # such as a test's timeout: what the server does is not known
            self._link.terminate()
            self._link = None
            raise


@cache
def link() -> Link:
    """Return this process's connection to its own database."""
    made = Link(database())
    atexit.register(made.close)
    return made


async def _run(database: str, *statements: str) -> None:
    link = await asyncpg.connect(SERVER + database, timeout=10)
    try:
        for statement in statements:
            await link.execute(statement)
    finally:
        await link.close()


def run(database: str, *statements: str) -> None:
    """Run statements, where no loop runs."""
    asyncio.run(_run(database, *statements))


@cache
def database() -> str:
    """Return the name of this test process's own database: advisory locks are of one database."""
    name = f"headgate_test_{os.getpid()}_{secrets.token_hex(3)}"
    run("postgres", f"CREATE DATABASE {name}")
    run("postgres", f"ALTER DATABASE {name} SET synchronous_commit = off")  # no test cuts this server's power
    atexit.register(run, "postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    return name


@contextmanager
def fresh_database() -> Iterator[str]:
    """Give the address of an empty database."""
    schema = f"t_{secrets.token_hex(6)}"
    link().run(f"CREATE SCHEMA {schema}")
    try:
        yield f"{SERVER}{database()}?search_path={schema}"
    finally:
        link().run(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def database_with(**defaults: str) -> Iterator[str]:
    """Give the address of an empty database of its own, with defaults for its sessions."""
    name = f"headgate_test_{os.getpid()}_{secrets.token_hex(3)}"
    run("postgres", f"CREATE DATABASE {name}")
    run("postgres", f"ALTER DATABASE {name} SET synchronous_commit = off")  # no test cuts this server's power
    try:
        run("postgres", *(f"ALTER DATABASE {name} SET {key} = '{value}'" for key, value in defaults.items()))
        yield SERVER + name
    finally:
        run("postgres", f"DROP DATABASE {name} WITH (FORCE)")
