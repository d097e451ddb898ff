"""One worker runs lines, whatever its store, its files and its provider do."""

from __future__ import annotations

import asyncio

import pytest
from tests.batch.office import Office, reading

from headgate.batch import outbox
from headgate.errors import StorageFull, Unavailable, UpstreamInterrupted
from headgate.values import Book
from headgate.wire.batchjobs import Returned

pytestmark = pytest.mark.anyio
AWAY = "The database is away."


@pytest.fixture
async def office(world) -> Office:
    return Office(world)


async def test_lines_run_and_the_batch_is_completed(office):
    await office.begun(4)
    async with office.serving():
        kept = await office.ended()
    assert (kept.status, kept.counts) == ("completed", (4, 4, 0))
    assert office.troubles == []


async def test_lines_that_carry_much_run_two_at_once(office):
    office.files.data = b"\n".join(map(reading, range(1, 7))) + b"\n"
    await office.begun(6)
    gate = office.provider.next_gate()
    gate.clear()
    async with office.serving():
        await office.until(lambda: office.provider.asked == 2)
        await asyncio.sleep(0.1)
        assert (office.provider.asked, office.states()) == (2, [1] * 6)
        gate.set()
        kept = await office.ended()
    assert (kept.counts, office.provider.asked) == ((6, 6, 0), 6)
    assert [load.taken for load in office.runner._crew._loads] == [0, 0]


async def test_lines_whose_input_cannot_be_read_wait_again(office):
    await office.begun(4)
    office.files.unfound.append(Unavailable(AWAY))
    office.files.faults.append(Unavailable(AWAY))
    office.store.before["give_back"] += [Unavailable(AWAY)] * 2
    async with office.serving():
        kept = await office.ended()
    assert kept.counts == (4, 4, 0)
    assert office.provider.asked == 4


async def test_lines_whose_claim_lost_its_answer_wait_again(office):
    await office.begun(4)
    office.store.after["claim"].append(Unavailable(AWAY))
    async with office.serving():
        kept = await office.ended()
    assert kept.counts == (4, 4, 0)
    assert office.provider.asked == 4


async def test_a_stop_gives_back_what_was_claimed_at_the_last_moment(office):
    await office.begun(4)
    office.store.after["claim"].append(Unavailable(AWAY))
    async with office.serving():
        await office.until(lambda: "claim" in office.store.asked)
    assert office.states() == [0, 0, 0, 0]


async def test_a_stop_in_the_middle_of_a_claim_gives_back_what_it_takes(office):
    await office.begun(4)
    office.store.delays["claim"].clear()
    async with office.serving():
        await office.until(lambda: office.states() == [1, 1, 1, 1])
    assert office.states() == [0, 0, 0, 0]


async def test_a_stop_of_who_has_nothing_asks_the_store_nothing(office):
    async with office.serving() as runner:
        await office.until(lambda: "open_batches" in office.store.asked)
        office.store.asked.clear()
        await runner.close()
        assert office.store.asked == []


async def test_what_is_in_hand_is_renewed_before_it_could_be_taken_over(office):
    await office.begun(1)
    office.provider.gate.clear()
    async with office.serving():
        await office.until(lambda: office.provider.asked)
        office.clock.now_us += 1_300_000_000  # frozen for longer than its lease
        seen = office.store.asked.count("take_over")
        await office.until(lambda: office.store.asked.count("take_over") > seen)
        office.provider.gate.set()
        kept = await office.ended()
    assert (kept.counts, office.provider.asked) == ((1, 1, 0), 1)


async def test_a_batch_is_completed_while_another_of_its_model_runs(office):
    await office.begun(4, "batch_1")
    office.provider.gate.clear()
    async with office.serving():
        await office.until(lambda: office.provider.asked == 4)
        slow = office.provider.gate
        office.provider.next_gate()
        await office.begun(2, "batch_2")
        kept = await office.ended("batch_2", 5.0)
        assert kept.counts == (2, 2, 0)
        slow.set()
        assert (await office.ended("batch_1")).counts == (4, 4, 0)


async def test_a_batch_is_completed_while_another_has_all_the_room(world):
    office = Office(world, concurrency=2)
    await office.begun(4, "batch_1")
    await office.begun(0, "batch_2")
    office.provider.gate.clear()
    async with office.serving():
        await office.until(lambda: office.provider.asked == 2)
        await office.ended("batch_2", 5.0)
        office.provider.gate.set()
        assert (await office.ended("batch_1")).counts == (4, 4, 0)


async def test_a_batch_that_waits_for_its_last_lines_asks_the_store_now_and_then(office):
    await office.begun(1)
    office.provider.gate.clear()
    async with office.serving():
        await office.until(lambda: office.provider.asked)
        office.store.asked.clear()
        await asyncio.sleep(1.0)
        assert office.store.asked.count("claim") <= 12
        office.provider.gate.set()
        await office.ended()


async def test_a_line_that_was_paid_and_has_no_answer_is_tried_as_any_other(office):
    batch = await office.begun(1)
    (claim,) = await office.world.claim(batch, 1)
    await office.world.store.give_back(batch, [Returned(1, claim.fence, 0, 30, tried=False)])
    office.provider.faults.append(UpstreamInterrupted("cut"))
    async with office.serving():
        await office.until(lambda: office.provider.asked)
        await office.until(lambda: office.states() == [0])
        office.clock.now_us += 60_000_000
        kept = await office.ended()
    assert (kept.counts, kept.charge) == ((1, 1, 0), 30)
    assert office.provider.asked == 2
    assert {each.charge for each in office.bench.journal.settled()} == {0}


async def test_a_stop_while_outputs_are_being_kept_keeps_each_once(office):
    await office.begun(4)
    async with office.serving() as runner:
        await office.until(lambda: "finish" in office.store.asked)
        await runner.close()
    assert office.provider.asked == 4
    assert (await office.world.store.find(2, Book.REAL, "batch_1")).counts == (4, 4, 0)


async def test_large_outputs_are_kept_one_by_one(office, monkeypatch):
    monkeypatch.setattr(outbox, "_BYTES_AT_ONCE", 1)
    await office.begun(4)
    async with office.serving():
        kept = await office.ended()
    assert kept.counts == (4, 4, 0)
    assert office.store.asked.count("finish") == 4


async def test_a_trouble_is_told_once_and_again_when_it_comes_back(office):
    office.store.before["open_batches"] += [Unavailable(AWAY)] * 3
    async with office.serving():
        await office.until(lambda: office.store.asked.count("open_batches") >= 5)
        assert office.troubles == [f"looking for work: {AWAY}"]
        office.store.before["open_batches"] += [Unavailable(AWAY)]
        await office.until(lambda: len(office.troubles) == 2)


async def test_a_bug_in_a_look_or_in_one_batch_is_told_and_the_others_go_on(office):
    await office.begun(1, "batch_1")
    await office.begun(2, "batch_2")
    office.store.before["open_batches"].append(KeyError("a"))
    office.store.before["claim"] += [KeyError("b")]
    office.store.before["finish"].append(KeyError("c"))
    async with office.serving():
        await office.ended("batch_2")
        await office.ended("batch_1")
    assert office.bugs == [("looking for work", KeyError), ("batch_1", KeyError), ("outputs", KeyError)]
    assert office.troubles == []


async def test_a_line_that_meets_a_bug_is_tried_again_and_at_last_has_an_error(world):
    office = Office(world, tries=2)
    await office.begun(2)
    office.broken = 3
    async with office.serving():
        await office.until(lambda: office.broken == 1)
        await office.until(lambda: office.states() == [0, 0])
        office.clock.now_us += 5_000_000
        kept = await office.ended()
    assert kept.counts == (2, 1, 1)
    assert office.bugs == [("a line of batch_1", ZeroDivisionError)]  # once
    (error,) = [line.output for line in office.store.finished if not line.answered]
    assert b'"internal_error"' in error


async def test_files_that_cannot_be_written_are_tried_more_and_more_seldom(office):
    await office.begun()
    office.files.refused = [StorageFull("The storage of files has no room left.")] * 3
    async with office.serving():
        await office.until(lambda: office.files.created == 3)
        await asyncio.sleep(1.6)
        assert office.files.created == 3  # the fourth try is two seconds behind it
        kept = await office.ended()
    assert (kept.status, kept.counts) == ("completed", (4, 4, 0))
    assert office.troubles == ["batch_1: The storage of files has no room left."]


async def test_a_few_inputs_are_read_at_once_and_who_waits_can_be_cancelled(office):
    office.files.gate.clear()
    names = [f"batch_{n}" for n in range(1, 8)]
    for name in names:
        await office.order(name)
    async with office.serving():
        await office.until(lambda: office.files.readers == 4)
        await asyncio.sleep(0.3)
        assert office.files.readers == 4
        await office.world.store.cancel(2, Book.REAL, "batch_7", 20)
        assert (await office.ended("batch_7")).status == "cancelled"
        office.files.gate.set()
        for name in names[:-1]:
            assert (await office.ended(name)).counts == (32, 32, 0)


@pytest.mark.parametrize("at", ["reading", "beginning"])
async def test_a_cancel_while_the_input_is_read_is_no_trouble(office, at):
    gate = office.files.gate if at == "reading" else office.store.delays["add_lines"]
    gate.clear()
    await office.order()
    async with office.serving():
        await office.until(
            lambda: office.files.readers if at == "reading" else "add_lines" in office.store.asked
        )
        await asyncio.sleep(0.05)
        await office.world.store.cancel(2, Book.REAL, "batch_1", 20)
        gate.set()
        kept = await office.ended()
    assert (kept.status, kept.counts, kept.job.errors) == ("cancelled", (0, 0, 0), ())
    assert (office.troubles, office.bugs) == ([], [])


async def test_a_batch_that_somebody_else_took_while_its_input_was_read_is_told(office):
    office.files.gate.clear()
    await office.order()
    async with office.serving():
        await office.until(lambda: office.files.readers)
        office.world.sql.execute("UPDATE batches SET fence = fence + 1")
        office.files.gate.set()
        assert (await office.ended()).counts == (32, 32, 0)
    assert office.troubles == ["batch_1: Somebody else has this batch now."]


async def test_a_first_line_that_is_too_long_is_told_as_that(office):
    office.files.data = b"x" * (1 << 20) + b"xx"
    await office.order()
    async with office.serving():
        kept = await office.ended()
    assert kept.status == "failed"
    assert [(error.code, error.line) for error in kept.job.errors] == [("request_too_large", 1)]
