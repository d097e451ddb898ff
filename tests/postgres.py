"""A schema of its own in the PostgreSQL server of this machine, for one test; dropped after it."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import asyncpg

SERVER = "postgresql://root@127.0.0.1:5432/"


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
    run(database(), f"CREATE SCHEMA {schema}")
    try:
        yield f"{SERVER}{database()}?search_path={schema}"
    finally:
        run(database(), f"DROP SCHEMA {schema} CASCADE")


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
