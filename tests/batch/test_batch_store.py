"""Lines, leases and money of batches as every database keeps them."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.batch.world import HOUR, NONE, World

from headgate.errors import Unavailable
from headgate.stores.sql import batchlines
from headgate.values import Book, Usage
from headgate.wire.batches import BatchError
from headgate.wire.batchjobs import (
    Loan,
    NewLine,
    Part,
    Passed,
    Place,
    Portion,
    Quota,
    Returned,
    Room,
    held_of,
    left_of,
    portions_of,
)

pytestmark = pytest.mark.anyio


async def test_a_batch_is_kept_found_and_listed(world):
    names = [f"batch_{n}" for n in range(3)]
    for name in names:
        await world.store.create(world.job(name, metadata={"a": name}))
    found = await world.store.find(2, Book.REAL, "batch_1")
    assert (found.status, found.job.metadata) == ("validating", {"a": "batch_1"})
    assert await world.store.find(3, Book.REAL, "batch_1") is None
    assert await world.store.find(2, Book.SIM, "batch_1") is None
    listed = await world.store.listed(2, Book.REAL, "", 2)
    assert [each.job.id for each in listed] == ["batch_2", "batch_1"]
    assert [each.job.id for each in await world.store.listed(2, Book.REAL, "batch_1", 9)] == ["batch_0"]
    assert await world.store.listed(2, Book.REAL, "batch_9", 2) is None


async def test_its_money_moves_out_of_the_workers_slice_and_back(world):
    batch = await world.begun()
    assert world.slices() == {"slot-0": 600, batch.slot: 400}
    claims = await world.claim(batch, 2)
    assert [(claim.n, claim.at, claim.start, claim.fence, claim.tries) for claim in claims] == [
        (1, 100, 0, 1, 0),
        (2, 200, 100, 1, 0),
    ]
    await world.store.finish(batch, [world.done(claims[0], 30), world.done(claims[1], 0, answered=False)])
    assert world.slices() == {"slot-0": 600, batch.slot: 230}  # 30 of it is for the drain
    kept = await world.store.find(2, Book.REAL, "batch_1")
    assert (kept.counts, kept.charge, kept.usage) == ((4, 1, 1), 30, Usage(6, 4))
    assert [(each.seq, each.answered) for each in await world.store.results(batch.n, 0, 9)] == [
        (1, True),
        (2, False),
    ]
    assert await world.store.results(batch.n, 2, 9) == []


async def test_nothing_moves_where_the_worker_was_replaced(world):
    kept = await world.store.create(world.job())
    owned = await world.store.own(kept.n, world.place, 10, 20)
    world.sql.execute("UPDATE slots SET epoch = 2")
    with pytest.raises(Unavailable, match="has ended"):
        await world.store.begin(owned, 1, NONE, Loan(world.place, ((5, 10),)))
    assert world.slices() == {"slot-0": 1000}
    assert (await world.store.find(2, Book.REAL, "batch_1")).status == "validating"


async def test_a_line_has_one_owner_and_one_output(world):
    batch = await world.begun()
    (claim,) = await world.claim(batch, 1)
    world.sql.execute("UPDATE slots SET epoch = 2")  # it died, and its journal is in the books
    assert await world.claim(batch, 1) == []  # whoever it was
    assert await world.store.take_over(31) == 1
    (again,) = await world.claim(batch, 1, 32, Place("slot-0", 2))
    assert (again.n, again.fence > claim.fence, again.paid, again.unsure) == (1, True, 0, False)
    await world.store.finish(batch, [world.done(claim, 30)])  # the dead one's word comes late
    assert (await world.store.find(2, Book.REAL, "batch_1")).counts == (4, 0, 0)
    await world.store.finish(batch, [world.done(again, 40)])
    await world.store.finish(batch, [world.done(again, 40)])
    kept = await world.store.find(2, Book.REAL, "batch_1")
    assert (kept.counts, kept.charge) == ((4, 1, 0), 40)
    assert world.slices()[batch.slot] == 340


async def test_what_a_dead_worker_has_finished_is_not_run_again(world):
    batch = await world.begun()
    one, two = await world.claim(batch, 2)
    await world.store.finish(batch, [world.done(one, 40)])
    world.sql.execute("UPDATE slots SET epoch = 2")
    assert await world.store.take_over(31) == 1
    again = await world.claim(batch, 9, 32, Place("slot-0", 2))
    assert [line.n for line in again] == [two.n, 3, 4]
    assert await world.claim(batch, 9, 33, Place("slot-0", 2)) == []
    kept = await world.store.find(2, Book.REAL, "batch_1")
    assert (kept.counts, kept.charge) == ((4, 1, 0), 40)


async def test_large_outputs_are_read_a_few_at_a_time(world, monkeypatch):
    monkeypatch.setattr(batchlines, "PAGE_BYTES", 1_000)
    batch = await world.begun()
    sizes = (400, 5_000, 300, 600)
    claims = await world.claim(batch, 4)
    done = [world.done(claim)._replace(output=b"x" * size) for claim, size in zip(claims, sizes, strict=True)]
    await world.store.finish(batch, done)
    pages, seqs, after, seq = [], [], 0, 0
    while page := await world.store.outputs(batch.n, after, 200, answered=True):
        pages.append([len(output) for _, output in page])
        after = page[-1][0]
    while found := await world.store.results(batch.n, seq, 1_000):
        seqs.append([len(each.output) for each in found])
        seq = found[-1].seq
    assert pages == seqs == [[400], [5_000], [300, 600]]


async def test_a_silent_owner_keeps_its_line_until_its_lease_is_over_and_then_it_is_free(world):
    batch = await world.begun()
    await world.claim(batch, 1)
    assert await world.store.take_over(40) == 0
    await world.store.renew(world.place, world.in_hand(), 3 * HOUR)
    assert await world.store.take_over(2 * HOUR) == 0
    assert await world.store.take_over(4 * HOUR) == 1
    world.sql.execute("UPDATE batches SET expires_at = ?", (9 * HOUR,))
    (again,) = await world.claim(batch, 1, 4 * HOUR + 1)
    assert again.unsure
    await world.store.finish(batch, [world.done(again)])
    assert world.slices()[batch.slot] == 400  # what it holds is for a call that may yet be booked


async def test_a_line_that_is_given_back_waits_for_its_time(world):
    batch = await world.begun(lines=1)
    (claim,) = await world.claim(batch, 1)
    await world.store.give_back(batch, [Returned(1, claim.fence, 1_000, 0)])
    assert await world.claim(batch, 1, 999) == []
    (again,) = await world.claim(batch, 1, 1_000)
    assert again.tries == 1
    await world.store.give_back(batch, [Returned(1, again.fence, 0, 0, tried=False)])
    assert (await world.claim(batch, 1, 1_001))[0].tries == 1


async def test_what_waits_when_it_is_cancelled_becomes_errors_and_its_money_is_free(world):
    batch = await world.begun()
    (claim,) = await world.claim(batch, 1)
    cancelled = await world.store.cancel(2, Book.REAL, "batch_1", 50)
    assert cancelled.status == "cancelling"
    assert await world.claim(batch, 4) == []
    assert await world.store.close_waiting(cancelled, "batch_cancelled", 2) == 2
    assert await world.store.close_waiting(cancelled, "batch_cancelled", 2) == 1
    assert await world.store.close_waiting(cancelled, "batch_cancelled", 2) == 0
    assert await world.store.settle_down(batch.n, 60) is None  # one runs still
    await world.store.finish(batch, [world.done(claim, 10)])
    ending = await world.store.settle_down(batch.n, 60)
    assert (ending.status, ending.counts) == ("finalizing", (4, 1, 3))
    assert world.slices() == {"slot-0": 600, batch.slot: 10}
    assert b"batch_cancelled" in (await world.store.outputs(batch.n, 0, 9, answered=False))[0][1]
    assert await world.store.outputs(batch.n, 0, 9, answered=True) == [(1, b"out\n")]
    owned = await world.store.own(batch.n, world.place, 61, 70)
    assert await world.store.publish(ending) is False  # who does not own it does not publish it
    assert await world.store.publish(msgspec.structs.replace(owned, status="cancelled"))
    assert (await world.store.find(2, Book.REAL, "batch_1")).status == "cancelled"
    assert await world.store.results(batch.n, 0, 9) == []
    assert await world.store.open_batches() == []
    again = await world.store.cancel(2, Book.REAL, "batch_1", 50)
    assert again.http_status == 409


async def test_who_reads_it_is_one_and_the_first_lines_replace_what_a_dead_one_left(world):
    kept = await world.store.create(world.job())
    first = await world.store.own(kept.n, world.place, 10, 1_000)
    assert await world.store.own(kept.n, Place("slot-1", 1), 20, 1_000) is None
    line = NewLine(1, 0, 5, "a", 0, 0)
    assert await world.store.add_lines(first, [line], first=True)
    world.sql.execute("UPDATE slots SET epoch = 2")
    second = await world.store.own(kept.n, Place("slot-1", 1), 20, 1_000)
    assert not await world.store.add_lines(first, [line._replace(n=2)], first=False)
    assert await world.store.add_lines(second, [line], first=True)
    error = BatchError("x", "y", None, 3)
    await world.store.fail(first, (error,), 30)
    assert (await world.store.find(2, Book.REAL, "batch_1")).status == "validating"
    await world.store.fail(second, (error,), 30)
    failed = await world.store.find(2, Book.REAL, "batch_1")
    assert (failed.status, failed.job.errors, failed.job.times.failed) == ("failed", (error,), 30)


async def test_quotas_count_what_is_enqueued(world):
    await world.begun()
    kept = await world.store.create(world.job("batch_2"))
    owned = await world.store.own(kept.n, world.place, 10, 20)
    owned = msgspec.structs.replace(owned, job=msgspec.structs.replace(owned.job, model="m"))
    nothing = Loan(world.place, ())
    assert await world.store.begin(owned, 30, (60, 0, 0), nothing) == Quota("key", 60, 40)
    assert await world.store.begin(owned, 30, (0, 69, 0), nothing) == Quota("project", 69, 40)
    assert await world.store.begin(owned, 30, (0, 0, 69), nothing) == Quota("organization", 69, 40)
    assert await world.store.begin(owned, 30, (70, 70, 70), nothing) is None


async def test_the_waiting_lines_of_one_that_expired_are_told_so(world):
    batch = await world.begun()
    assert await world.claim(batch, 1, HOUR) == []
    assert await world.store.close_waiting(batch, "batch_expired", 9) == 4
    ending = await world.store.settle_down(batch.n, HOUR)
    assert ending.job.late
    assert world.slices()[batch.slot] == 0


async def test_one_that_another_worker_has_ended_stays_so(world):
    batch = await world.begun()
    await world.store.close_waiting(batch, "batch_cancelled", 9)
    await world.store.settle_down(batch.n, 60)
    owned = await world.store.own(batch.n, world.place, 60, 70)
    assert await world.store.publish(msgspec.structs.replace(owned, status="completed"))
    late = await world.store.settle_down(batch.n, 61)
    assert (late.status, late.job.times.finalizing) == ("completed", 60)
    assert await world.store.open_batches() == []


async def test_the_ledger_check_finds_a_batch_that_lacks_money(world):
    batch = await world.begun()
    (claim,) = await world.claim(batch, 1)
    await world.store.finish(batch, [world.done(claim, 30)])
    assert world.missing() == []
    world.sql.execute(
        "UPDATE slices SET amount = amount - 30 WHERE slot = ?", (batch.slot,)
    )  # it was drained
    assert world.missing() == []
    world.sql.execute("UPDATE slices SET amount = amount - 1 WHERE slot = ?", (batch.slot,))
    assert world.missing() == [("batch", "batch_1 has 299 of pot 5, its lines may still cost 300")]


async def test_a_lines_money_may_lie_in_two_grants():
    portions = (Portion(7, 70, 150), Portion(8, 80, 250))
    job = World.job(None, capped=True, pots=(5,), portions=portions)  # type: ignore[arg-type]
    assert held_of(job, 100, 100) == ((5, 100), (7, 50), (8, 50))
    assert left_of(job, 100, 100, 70) == ((5, 30), (7, 0), (8, 30))
    assert left_of(job, 200, 100, 0) == ((5, 100), (8, 100))


async def test_of_a_batch_in_tokens_each_line_has_its_part_of_them():
    portions = (Portion(7, 70, 900, in_tokens=True),)
    job = World.job(None, capped=True, held=900, portions=portions)  # type: ignore[arg-type]
    assert (job.in_tokens, held_of(job, 300, 200)) == (True, ((7, 200),))
    assert portions_of(job, 300, 200) == (Portion(7, 70, 200, in_tokens=True),)
    assert left_of(job, 300, 200, 50) == ((7, 150),)


THERE = Passed(provider="p", upstream="m-there")


async def test_one_sees_to_a_batch_at_its_provider_and_what_he_notes_is_fenced(world):
    batch = await world.begun(passed=THERE)
    held = await world.store.see_to(batch.n, world.place, 10, 100)
    other = Place("slot-1", 1)
    world.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('slot-1', 1, 8, 0)")
    assert await world.store.see_to(batch.n, other, 20, 100) is None
    job = msgspec.structs.replace(
        held.job, passed=msgspec.structs.replace(THERE, parts=(Part(until=4, lines=3, file="f1"),))
    )
    noted = msgspec.structs.replace(held, job=job)
    assert await world.store.note(noted)
    again = await world.store.see_to(batch.n, other, 101, 200)  # its lease is over
    assert (again.job.passed.parts[0].file, again.fence > held.fence) == ("f1", True)
    assert not await world.store.note(noted)
    assert not await world.store.keep_answers(held, [(1, b"200 {}")])
    cancelled = await world.store.cancel(2, Book.REAL, "batch_1", 110)
    assert (cancelled.status, cancelled.job.passed.parts[0].file) == ("cancelling", "f1")
    assert not await world.store.note(again, uncancelled=True)  # nothing is begun for it any more
    made = (Part(until=4, lines=3, file="f1", batch="b1"),)
    job = msgspec.structs.replace(again.job, passed=msgspec.structs.replace(THERE, parts=made))
    assert await world.store.note(msgspec.structs.replace(again, job=job))  # but what was made is kept
    await world.store.fail(again, (), 115)  # of one that was not cancelled
    kept = await world.store.find(2, Book.REAL, "batch_1")
    assert (kept.status, kept.job.times.cancelling, kept.job.passed.parts) == ("cancelling", 110, made)
    assert await world.store.see_to(batch.n, world.place, 120, 200) is None  # he has it still
    assert (await world.store.see_to(batch.n, other, 120, 200)).status == "cancelling"


async def test_what_was_answered_is_claimed_also_at_the_end_and_never_closed(world):
    batch = await world.begun(passed=THERE)
    held = await world.store.see_to(batch.n, world.place, 10, 100)
    assert await world.store.keep_answers(held, [(2, b"200 {}"), (3, b"0 ")])
    assert await world.store.results(batch.n, 0, 9) == []
    assert await world.store.close_waiting(held, "batch_expired", 9) == 2
    await world.store.cancel(2, Book.REAL, "batch_1", 20)
    claims = await world.claim(batch, 9, now=HOUR + 1)
    assert [(claim.n, claim.answer) for claim in claims] == [(2, b"200 {}"), (3, b"0 ")]
    await world.store.give_back(batch, [Returned(2, claims[0].fence, 0, 0, tried=False)])
    assert await world.store.close_waiting(batch, "batch_cancelled", 9) == 0
    assert [claim.answer for claim in await world.claim(batch, 9, now=HOUR + 2)] == [b"200 {}"]
    assert world.slices() == {"slot-0": 600, batch.slot: 200}
    assert world.missing() == []


async def test_one_that_comes_back_is_run_here_without_its_answers(world):
    batch = await world.begun(passed=THERE)
    held = await world.store.see_to(batch.n, world.place, 10, 100)
    assert await world.store.keep_answers(held, [(2, b"0 ")])
    ours = msgspec.structs.replace(held, job=msgspec.structs.replace(held.job, passed=None))
    assert not await world.store.take_back(msgspec.structs.replace(ours, fence=held.fence - 1))
    assert await world.store.take_back(ours)
    claims = await world.claim(batch, 9, now=20)
    assert [(claim.n, claim.answer) for claim in claims] == [(1, None), (2, None), (3, None), (4, None)]
    assert (await world.store.find(2, Book.REAL, "batch_1")).job.passed is None


async def test_all_money_is_free_where_the_provider_runs_nothing(world):
    batch = await world.begun(passed=THERE)
    held = await world.store.see_to(batch.n, world.place, 10, 100)
    stale = msgspec.structs.replace(held, fence=held.fence - 1)
    await world.store.fail(stale, (BatchError("x", "y"),), 12)
    assert world.slices() == {"slot-0": 600, batch.slot: 400}
    await world.store.fail(held, (BatchError("batch_refused", "too big"),), 12)
    found = await world.store.find(2, Book.REAL, "batch_1")
    assert (found.status, found.job.errors[0].code) == ("failed", "batch_refused")
    assert world.slices() == {"slot-0": 600}


async def test_what_nobody_has_in_hand_waits_again_at_the_next_renewal(world):
    batch = await world.begun()
    one, two = await world.claim(batch, 2)
    await world.store.renew(world.place, {two.call}, 3 * HOUR)
    world.sql.execute("UPDATE batches SET expires_at = ?", (9 * HOUR,))
    again = await world.claim(batch, 1, 31)
    assert [(claim.n, claim.fence, claim.tries, claim.unsure) for claim in again] == [
        (1, one.fence + 1, 0, False)
    ]
    assert await world.store.take_over(2 * HOUR) == 1  # the other one was renewed


async def test_who_has_nothing_to_do_does_not_wait_for_who_writes(world):
    batch = await world.begun(lines=1)
    (claim,) = await world.claim(batch, 1)
    owned = await world.store.create(world.job("batch_2"))
    assert await world.store.own(owned.n, world.place, 40, HOUR)
    world.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('slot-1', 1, 8, 0)")
    world.sql.execute("BEGIN IMMEDIATE")
    try:
        async with asyncio.timeout(1.5):
            assert await world.claim(batch, 1, 50) == []
            assert await world.store.settle_down(batch.n, 50) is None
            assert await world.store.close_waiting(batch, "batch_expired", 9) == 0
            assert await world.store.take_over(50) == 0
            assert await world.store.own(owned.n, Place("slot-1", 1), 50, HOUR) is None
            await world.store.renew(Place("slot-1", 1), set(), 50)
    finally:
        world.sql.execute("ROLLBACK")
    await world.store.finish(batch, [world.done(claim)])


async def test_whether_a_batch_has_begun_is_asked_behind_who_may_be_writing_that(world):
    kept = await world.store.create(world.job())
    ready = msgspec.structs.replace(kept, job=msgspec.structs.replace(kept.job, held_at=5))
    assert not await world.store.has_begun(ready)
    world.sql.execute("BEGIN IMMEDIATE")
    job = msgspec.json.encode(ready.job).decode()
    world.sql.execute("UPDATE batches SET status = 'in_progress', job = ? WHERE n = ?", (job, kept.n))
    asked = asyncio.ensure_future(world.store.has_begun(ready))
    await asyncio.sleep(0.3)
    assert not asked.done()
    world.sql.execute("COMMIT")
    assert await asked


async def test_workers_share_what_may_run_of_a_model_at_once(world):
    batch = await world.begun(lines=20, bound=1)
    one, two = world.place, Place("slot-1", 1)
    assert len(await world.claim(batch, 20, 30, one, most=6)) == 6  # alone it has all
    assert await world.claim(batch, 20, 31, one, most=6) == []
    assert len(await world.claim(batch, 20, 32, one, most=8)) == 2
    world.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('slot-1', 1, 8, 0)")
    assert await world.claim(batch, 20, 33, two, most=8) == []
    assert len(await world.claim(batch, 20, 34, two, most=10)) == 2
    assert await world.claim(batch, 20, 35, one, most=12) == []  # it has more than its half
    assert len(await world.claim(batch, 20, 36, two, most=12)) == 1  # a place is left for another to begin
    assert len(await world.claim(batch, 20, 37, two, most=40)) == 9


async def test_who_is_silent_has_no_share_of_what_may_run(world):
    batch = await world.begun(lines=8, bound=1)
    await world.claim(batch, 4, most=4)
    world.sql.execute("UPDATE batches SET expires_at = ?", (9 * HOUR,))
    world.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('slot-1', 1, 8, 60000000)")
    assert await world.claim(batch, 4, 60_000_000 - 1, Place("slot-1", 1), most=4) == []
    assert len(await world.claim(batch, 4, 60_000_001, Place("slot-1", 1), most=4)) == 4


async def test_how_long_silence_is_silence_can_be_set(world):
    batch, other = await world.begun(lines=8, bound=1), Place("slot-1", 1)
    await world.claim(batch, 4, most=4)
    world.sql.execute("UPDATE batches SET expires_at = ?", (9 * HOUR,))
    world.sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('slot-1', 1, 8, 3000000)")
    room = Room([bytes(15) + bytes([n]) for n in range(4)], 4, silent_us=3_000_000)
    assert await world.store.claim(batch.n, other, room, 3_000_000 - 1, HOUR) == []
    assert len(await world.store.claim(batch.n, other, room, 3_000_001, HOUR)) == 4
