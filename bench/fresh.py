"""A database of its own on a PostgreSQL server, for one run."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def database(server: str) -> Iterator[str]:
    """Give the address of an empty database, which is made, and dropped after use.

    Args:
        server: its address, without a database: `postgresql://root@127.0.0.1`.
    """
    import asyncpg

    name, server = f"headgate_bench_{os.getpid()}", server.rstrip("/")

    async def run(statement: str) -> None:
        link = await asyncpg.connect(f"{server}/postgres", timeout=10)
        await link.execute(statement)
        await link.close()

    asyncio.run(run(f"CREATE DATABASE {name}"))
    try:
        yield f"{server}/{name}"
    finally:
        asyncio.run(run(f"DROP DATABASE {name} WITH (FORCE)"))
