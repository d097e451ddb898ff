"""A worker falls silent with a line: its money is held until it is known what the line was charged, and then free."""

from __future__ import annotations

from itertools import count

import msgspec
import pytest
from tests.batch.world import HOUR, NONE
from tests.stores.records import CLOCK

from headgate.stores.sql.database import folder_of
from headgate.stores.sql.nodes import write_off
from headgate.stores.sql.recovery import recover
from headgate.wire.batchjobs import Loan, NewLine, Place

pytestmark = pytest.mark.anyio
OTHER = Place("b/slot-0", 1)
SEQ = count(1)


@pytest.fixture
async def doubted(world):
    """Give a batch of two lines: of the first, worker `slot-0` was silent for too long; `b/slot-0` has it now."""
    world.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('b/slot-0', 1, 8, 0)")
    batch = await world.begun(lines=2)
    (lost,) = await world.claim(batch, 1)
    assert await world.store.take_over(2 * HOUR) == 1
    world.sql.execute("UPDATE batches SET expires_at = ?", (9 * HOUR,))
    one, two = await world.claim(batch, 2, 31, OTHER)
    assert (one.n, one.unsure, two.unsure) == (1, True, False)
    return batch, lost, one, two


def booked(world, batch, call: bytes, charge: int) -> None:
    """Let the drain book a call of a batch, and take its charge out of the batch's slice."""
    columns = (
        "account, project, key, member, attempt, operation, model, provider, upstream, opened_at, settled_at,"
        " status, flags, input, output, cached, cache_write, reasoning, input_audio, output_audio, prices, costs,"
        " hold, absorbed, cost, first_byte_us, duration_us"
    )
    zeros = ", ".join("0" for _ in columns.split(", "))
    world.sql.execute(
        f"INSERT INTO calls (call, seq, book, parent, charge, {columns}) VALUES (?, ?, 0, ?, ?, {zeros})",
        (call, next(SEQ), batch.job.call, charge),
    )
    world.sql.execute("UPDATE slices SET amount = amount - ? WHERE slot = ?", (charge, batch.slot))


async def done(world, batch, *lines) -> None:
    await world.store.finish(batch, [world.done(line) for line in lines])
    await world.store.settle_down(batch.n, 60)
    owned = await world.store.own(batch.n, OTHER, 61, HOUR)
    assert await world.store.publish(msgspec.structs.replace(owned, status="completed"))


async def test_its_money_is_held_beyond_the_end_of_the_batch_until_the_workers_journal_is_read(
    world, doubted
):
    batch, _, one, two = doubted
    await done(world, batch, one, two)
    assert await world.store.settle_doubts() == 0
    assert world.slices() == {"slot-0": 800, batch.slot: 100}
    assert world.missing() == []
    world.sql.execute("UPDATE slots SET pid = 0 WHERE slot = 'slot-0'")
    assert await world.store.settle_doubts() == 1
    assert world.slices()[batch.slot] == 0
    assert world.sql.execute("SELECT count(*) FROM batch_lines") == [(0,)]


async def test_a_call_that_is_in_the_books_ends_the_doubt_and_counts(world, doubted):
    batch, lost, one, two = doubted
    await done(world, batch, one, two)
    booked(world, batch, lost.call, 70)
    assert world.missing() == []
    assert await world.store.settle_doubts() == 1
    assert world.slices()[batch.slot] == 0
    assert world.sql.execute("SELECT charge FROM batches") == [(70,)]
    assert world.missing() == []


async def test_a_line_that_waits_when_its_doubt_ends_goes_on_as_it_would_have(world, doubted):
    batch, *_ = doubted
    world.sql.execute("UPDATE slots SET epoch = 2")
    assert await world.store.settle_doubts() == 0  # it runs: who has it was told that it is free
    assert await world.store.take_over(32) == 2
    assert await world.store.settle_doubts() == 1
    again = await world.claim(batch, 2, 33, Place("slot-0", 2))
    assert [(line.paid, line.unsure) for line in again] == [(0, False), (0, False)]
    await world.store.finish(batch, [world.done(line, 40) for line in again])
    assert world.slices()[batch.slot] == 80
    assert world.missing() == []


async def test_a_line_that_its_silent_worker_had_paid_is_free(world, doubted):
    batch, lost, *_ = doubted
    booked(world, batch, lost.call, 70)
    await world.store.take_over(3 * HOUR)  # the other one is silent, too: of a free run there is no doubt
    assert world.sql.execute("SELECT n FROM batch_lines WHERE n < 0 ORDER BY n") == [(-2,), (-1,)]
    assert await world.store.settle_doubts() == 1
    again = await world.claim(batch, 1, 34)
    assert (again[0].n, again[0].paid, again[0].unsure) == (1, 70, False)
    assert world.missing() == []


async def test_what_a_lost_node_may_have_spent_is_lost(world, doubted):
    batch, _, one, _ = doubted
    await world.store.finish(batch, [world.done(one)])
    world.sql.execute(
        "INSERT INTO nodes (node, token, place, told, started_at) VALUES ('b', 't', 'p', '{}', 0)"
    )
    world.sql.with_connection(write_off, "b")  # with line 2
    assert world.slices() == {"slot-0": 800, batch.slot: 100, "lost": 100}
    (again,) = await world.claim(batch, 1, 40)
    assert (again.n, again.unsure) == (2, True)
    await world.store.finish(batch, [world.done(again)])
    assert world.slices() == {"slot-0": 800, batch.slot: 100, "lost": 100}
    assert world.missing() == []


async def test_a_doubt_about_a_lost_node_is_lost(world):
    world.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('b/slot-0', 1, 8, 0)")
    world.sql.execute(
        "INSERT INTO nodes (node, token, place, told, started_at) VALUES ('b', 't', 'p', '{}', 0)"
    )
    batch = await world.begun(lines=1)
    await world.claim(batch, 1, 30, OTHER)
    assert await world.store.take_over(2 * HOUR) == 1
    world.sql.with_connection(write_off, "b")
    assert world.slices() == {"slot-0": 900, batch.slot: 0, "lost": 100}
    assert world.sql.execute("SELECT n, unsure FROM batch_lines") == [(1, 1)]
    assert world.missing() == []


async def test_the_ledger_check_finds_what_a_batch_that_is_done_holds_for_nobody(world):
    batch = await world.begun(lines=1)
    (claim,) = await world.claim(batch, 1)
    booked(world, batch, claim.call, 0)
    await world.store.finish(batch, [world.done(claim, 30)])
    world.sql.execute("UPDATE batches SET status = 'completed'")
    assert world.missing() == []  # it is not drained yet
    world.sql.execute("UPDATE slices SET amount = 31 WHERE slot = ?", (batch.slot,))
    assert world.missing() == [("batch", "batch_1 is done and has 31 of pot 5 still, its calls may cost 30")]


async def test_a_start_of_any_node_frees_what_is_known_by_then(world, doubted, place):
    batch, _, one, two = doubted
    await done(world, batch, one, two)
    world.sql.with_connection(start_of, place, "b")
    assert world.slices() == {"slot-0": 800, batch.slot: 100}
    world.sql.execute("UPDATE slots SET epoch = 2 WHERE slot = 'slot-0'")
    world.sql.with_connection(start_of, place, "b")
    assert world.slices().get(batch.slot, 0) == 0


async def test_what_an_older_version_left_held_is_free_once_no_worker_is_left(world, place):
    batch = await world.begun(lines=1)
    world.sql.execute("UPDATE batches SET status = 'completed'")
    world.sql.with_connection(start_of, place, "b")
    assert world.slices()[batch.slot] == 100
    world.sql.execute("UPDATE slots SET pid = 0")
    world.sql.with_connection(start_of, place, "b")
    assert batch.slot not in world.slices()


async def test_of_a_batch_that_holds_no_money_there_is_no_doubt(world):
    batch = await uncapped(world)
    await world.claim(batch, 1)
    assert await world.store.take_over(2 * HOUR) == 1
    assert world.sql.execute("SELECT n, state, unsure FROM batch_lines") == [(1, 0, 1)]  # it runs again free


async def test_a_doubt_that_an_older_version_kept_of_such_a_batch_ends_at_the_next_look(world):
    batch = await uncapped(world)
    await world.claim(batch, 1)
    assert await world.store.take_over(2 * HOUR) == 1
    world.sql.execute(
        "INSERT INTO batch_lines (batch, n, at, size, custom_id, start, bound, state, slot, epoch, call)"
        " VALUES (?, -1, 0, 0, '', 0, 100, 4, 'slot-0', 1, ?)",
        (batch.n, bytes(16)),
    )
    assert await world.store.settle_doubts() == 1
    assert world.sql.execute("SELECT n, state, unsure FROM batch_lines") == [(1, 0, 1)]
    assert await world.store.settle_doubts() == 0


async def uncapped(world):
    """Return a batch of one line in progress, without a budget, whose lines have their bounds all the same."""
    kept = await world.store.create(world.job())
    owned = await world.store.own(kept.n, world.place, 10, 20)
    assert await world.store.add_lines(owned, [NewLine(1, 100, 90, "c1", 0, 100)], first=True)
    ready = msgspec.structs.replace(
        owned, job=msgspec.structs.replace(owned.job, model="m"), counts=owned.counts._replace(total=1)
    )
    assert await world.store.begin(ready, 40, NONE, Loan(world.place, ())) is None
    return ready


def start_of(sql, place, node: str) -> None:
    recover(folder_of(place), sql, CLOCK, node=node)
