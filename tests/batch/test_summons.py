"""Who is called to a batch, and that nobody waits long for a call."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from headgate.batch.runner import Runner
from headgate.batch.summons import CALLED_S, LOOK_S, Summons
from headgate.values import Book
from headgate.wire.batches import BatchCounts
from headgate.wire.batchjobs import BatchJob, KeptBatch

pytestmark = pytest.mark.anyio


class NotedCalls:
    """A broker that notes what it is told. Implements `batch.summons.Broker`."""

    def __init__(self) -> None:
        self.up = True
        self.calls: list[tuple[str, int]] = []

    async def call(self, batch: str, times: int = 1) -> bool:
        """Note it."""
        self.calls.append((batch, times))
        return self.up


class Wakeable:
    """The part of a runner that a call needs."""

    def __init__(self) -> None:
        self.woken = 0
        self.working = asyncio.Event()

    def wake(self) -> None:
        """Note it."""
        self.woken += 1

    async def follow(self, batch: str) -> None:
        """Work on a batch until it is done."""
        self.woken += 1
        await self.working.wait()


def batch_of(lines: int) -> KeptBatch:
    job = BatchJob(
        id="batch_1", call=bytes(16), account=1, project=1, key=1, member=0, book=Book.REAL,
        endpoint="/v1/chat/completions", input_file="file-1", created_at=0, expires_at=1, kept_s=0, metadata={},
    )  # fmt: skip
    return KeptBatch(n=1, job=job, status="in_progress", counts=BatchCounts(total=lines))


async def test_an_order_calls_one_worker_and_many_lines_call_more():
    broker = NotedCalls()
    summons = Summons(broker)
    summons.order(batch_of(0))
    for lines in (10, 120, 50_000):
        summons.begun(batch_of(lines))
    await summons.close()
    assert broker.calls == [("batch_1", 1), ("batch_1", 2), ("batch_1", 16)]


async def test_where_nobody_can_call_workers_look_often():
    broker = NotedCalls()
    assert Summons().look_s == LOOK_S
    assert Summons(broker).look_s == CALLED_S
    broker.up = False
    assert Summons(broker).look_s == LOOK_S


async def test_an_order_wakes_who_runs_lines_here():
    runner, summons = Wakeable(), Summons()
    summons.runner = cast("Runner", runner)
    summons.order(batch_of(0))
    assert runner.woken == 1


async def test_a_visit_ends_with_the_work_and_at_once_where_nothing_is_run():
    await Summons(NotedCalls()).visit("batch_1")
    runner, summons = Wakeable(), Summons(NotedCalls())
    summons.runner = cast("Runner", runner)
    visit = asyncio.ensure_future(summons.visit("batch_1"))
    await asyncio.sleep(0.01)
    assert not visit.done()
    runner.working.set()
    await visit
