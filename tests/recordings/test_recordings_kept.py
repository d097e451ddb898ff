"""What the file of recordings holds: claimed by one, sealed, bounded, and forgotten in time."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from headgate.stores.sql.database import RECORDINGS
from headgate.stores.sql.recordings import Room, SqlRecordings
from headgate.stores.sql.sqlite import open_file
from headgate.values import Book
from headgate.vaults.boxes import Box
from headgate.wire.recorded import Label, Recorded, State

pytestmark = pytest.mark.anyio
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
KEK, OLD, PEPPER = (bytes([number]) * 32 for number in (1, 2, 3))


def label(number: int, *, project: int = 1, keyed: bool = True, resume_s: int = 0) -> Label:
    """The recording of call `number`; its name is its own."""
    return Label(bytes([number]) * 16, bytes([number]) * 32, b"r" * 32, project, Book.REAL, keyed, resume_s)


def answer(size: int = 10) -> Recorded:
    return Recorded(200, b"content-type: text/plain\r\n", size, "chat", "m", b"x" * size)


def store(folder: Path, *, entries: int = 100, total: int = 1 << 20, box: Box | None = None) -> SqlRecordings:
    return SqlRecordings(folder, box or Box([PEPPER]), Room(entries, total, DAY_US))


async def keep(kept: SqlRecordings, one: Label, size: int, now: int) -> None:
    assert await kept.claim(one, 0, now) is None
    await kept.keep(one.call, State.WHOLE, answer(size), now)


def test_a_box_opens_only_what_it_sealed_and_only_there() -> None:
    sealed = Box([OLD]).seal(b"text", b"here")
    assert Box([KEK, OLD]).open(sealed, b"here") == b"text"
    assert Box([OLD]).open(sealed, b"there") is None
    assert Box([KEK]).open(sealed, b"here") is None
    assert Box([OLD]).open(sealed[:-1] + bytes([sealed[-1] ^ 1]), b"here") is None


async def test_one_of_many_claims_and_the_others_learn_whose_it_is(tmp_path: Path) -> None:
    stores = [store(tmp_path) for _ in range(4)]  # each opens, or makes, the file at the same moment
    claims = [one._replace(name=b"n" * 32) for one in map(label, range(4))]
    found = await asyncio.gather(
        *(each.claim(one, slot, 5) for slot, (each, one) in enumerate(zip(stores, claims, strict=True)))
    )
    assert found.count(None) == 1
    winner = claims[found.index(None)]
    assert {kept.label for kept in found if kept is not None} == {winner}
    assert {kept.state for kept in found if kept is not None} == {State.OPEN}
    for each in stores:
        await each.close()


async def test_a_day_later_a_key_is_new(tmp_path: Path) -> None:
    kept = store(tmp_path)
    await keep(kept, label(1), 10, 5)
    again = await kept.claim(label(2)._replace(name=label(1).name), 0, DAY_US)
    assert again is not None
    assert again.recorded == answer()
    assert await kept.claim(label(3)._replace(name=label(1).name), 0, DAY_US + 6) is None
    await kept.close()


async def test_what_is_lost_is_taken_over_by_one(tmp_path: Path) -> None:
    kept = store(tmp_path)
    first, *others = (label(number)._replace(name=b"n" * 32) for number in range(3))
    await kept.claim(first, 3, 5)
    assert not await kept.take_over(others[0], first.call, 0, 6)
    await kept.lose(1, 2)
    assert not await kept.take_over(others[0], first.call, 0, 6)
    await kept.lose(0, 2)  # slot 3 is no more: the first worker speaks for it
    outcomes = [await kept.take_over(each, first.call, 0, 6) for each in others]
    assert outcomes == [True, False]
    await kept.keep(first.call, State.WHOLE, answer(), 7)  # it is no longer the one
    found = await kept.claim(first, 0, 8)
    assert found is not None
    assert (found.state, found.label.call) == (State.OPEN, others[0].call)
    await kept.close()


async def test_where_there_is_too_much_the_oldest_of_who_has_most_go(tmp_path: Path) -> None:
    kept = store(tmp_path, total=5_000)
    await keep(kept, label(1, project=2), 1_000, 1)
    for number in range(2, 15):
        await keep(kept, label(number), 1_000, number)
    states = {number: await kept.find(label(number).call) for number in (1, 2, 14)}
    assert {number: found and found.state for number, found in states.items()} == {
        1: State.WHOLE,
        2: State.DROPPED,
        14: State.WHOLE,
    }
    with closing(open_file(tmp_path / RECORDINGS)) as sql:
        assert sql.execute("SELECT sum(size) <= 5000, count(*) FROM recordings").fetchone() == (1, 14)
        held = sql.execute("SELECT project, entries, bytes FROM holders").fetchall()
        real = sql.execute("SELECT project, count(*), sum(size) FROM recordings GROUP BY 1").fetchall()
        assert sorted(held) == sorted(real)
    await kept.close()


async def test_where_there_are_too_many_the_oldest_of_who_has_most_are_forgotten(tmp_path: Path) -> None:
    kept = store(tmp_path, entries=12)
    await keep(kept, label(1, project=2), 10, 1)
    assert await kept.claim(label(2), 0, 2) is None  # still open
    for number in range(3, 30):
        await keep(kept, label(number), 10, number)
    assert await kept.find(label(1).call) is not None
    assert await kept.find(label(2).call) is not None
    assert await kept.find(label(3).call) is None
    assert await kept.find(label(29).call) is not None
    with closing(open_file(tmp_path / RECORDINGS)) as sql:
        assert sql.execute("SELECT count(*) <= 12 FROM recordings").fetchone() == (1,)
    await kept.close()


async def test_what_cannot_be_opened_any_more_is_dropped_and_not_new(tmp_path: Path) -> None:
    kept = store(tmp_path, box=Box([OLD]))
    await keep(kept, label(1), 10, 5)
    await kept.close()
    rotated = store(tmp_path, box=Box([KEK, OLD]))
    found = await rotated.claim(label(1), 0, 6)
    assert found is not None
    assert (found.state, found.recorded) == (State.WHOLE, answer())
    await rotated.close()
    without = store(tmp_path, box=Box([KEK]))
    found = await without.claim(label(1), 0, 6)
    assert found is not None
    assert (found.state, found.recorded) == (State.DROPPED, None)
    await without.close()


async def test_a_file_of_another_version_is_made_anew(tmp_path: Path) -> None:
    kept = store(tmp_path)
    await keep(kept, label(1), 10, 5)
    await kept.close()
    with closing(open_file(tmp_path / RECORDINGS)) as sql:
        sql.execute("PRAGMA user_version = 99")
    kept = store(tmp_path)
    assert await kept.claim(label(1), 0, 6) is None
    await kept.close()


async def test_what_may_be_read_on_goes_when_its_time_is_over(tmp_path: Path) -> None:
    kept = store(tmp_path)
    await keep(kept, label(1, keyed=False, resume_s=60), 10, 0)
    await keep(kept, label(2, resume_s=60), 10, 0)
    await kept.sweep(61_000_000)
    found = [await kept.find(label(number).call) for number in (1, 2)]
    assert [each and each.state for each in found] == [State.EXPIRED, State.WHOLE]
    await kept.sweep(DAY_US)
    assert [await kept.find(label(number).call) for number in (1, 2)] == [None, None]
    await kept.close()
