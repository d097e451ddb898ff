"""Limits and keys of a running worker, set as another process sets them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.faults.worker import Reply, Worker

from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key
from headgate.ops.limits import LimitOrder, set_limit
from headgate.ops.tiers import set_tier
from headgate.ports import SystemClock
from headgate.records import AccountRecord, KeyRecord, ProjectRecord
from headgate.stores.sql.admin import SqlAdminStore


@contextmanager
def desk_of(gateway: Worker) -> Iterator[Desk]:
    """A desk on a worker's data."""
    with closing(SqlAdminStore(gateway.app._data)) as store:
        yield Desk(store, SystemClock(), gateway.app._pepper)


async def known(gateway: Worker, before: int) -> None:
    """Wait until a worker has seen a change; that takes less than a second."""
    async with asyncio.timeout(1):
        while gateway.app._notices._seen == before:
            await asyncio.sleep(0.01)


async def limit(gateway: Worker, scope: str, model: str = "", **numbers: int) -> None:
    """Set a limit of the first account, project or key."""
    before = gateway.app._notices._seen
    with desk_of(gateway) as desk:
        kind = {"account": AccountRecord, "project": ProjectRecord, "key": KeyRecord}[scope]
        with desk.reading() as register:
            bound = register.all(kind)[0]
        set_limit(LOCAL, desk, LimitOrder(scope=scope, ref=bound.id, model=model, **numbers))
    await known(gateway, before)


async def tier(gateway: Worker, name: str) -> None:
    """Choose the tier of the first account."""
    before = gateway.app._notices._seen
    with desk_of(gateway) as desk:
        with desk.reading() as register:
            account = register.all(AccountRecord)[0]
        set_tier(LOCAL, desk, account.id, name)
    await known(gateway, before)


async def another_key(gateway: Worker, name: str, **members: object) -> Worker:
    """Make a key; return the gateway as who has it sees it."""
    before = gateway.app._notices._seen
    with desk_of(gateway) as desk:
        made = create_key(LOCAL, desk, KeyOrder(name=name, **members))  # type: ignore[arg-type]
    await known(gateway, before)
    return Worker(gateway.app, made.text, gateway._folder)


def told(reply: Reply) -> dict[str, str]:
    start = "x-ratelimit-"
    return {name.removeprefix(start): text for name, text in reply.headers.items() if name.startswith(start)}
