"""What stores of recordings do, in a file and in a database: claimed by one, sealed, bounded, forgotten in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from headgate.stores.postgres.recordings import SharedRecordings
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.database import RECORDINGS, Database, Place, connect
from headgate.stores.sql.recordings import SqlRecordings
from headgate.stores.sql.sealed import MOMENT_US, Room
from headgate.stores.sql.sqlite import open_file
from headgate.values import Book
from headgate.vaults.boxes import Box
from headgate.wire.recorded import Label, Recorded, State

pytestmark = pytest.mark.anyio
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
KEK, OLD, PEPPER = (bytes([number]) * 32 for number in (1, 2, 3))
Store: TypeAlias = SqlRecordings | SharedRecordings
Opening: TypeAlias = Callable[..., Store]


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Opening]:
    """Opens a store in a place of its own, several times if need be; closes all of them."""
    opened: list[Store] = []
    if isinstance(place, Database):
        await asyncio.to_thread(prepare, place, 1, None)

    def opening(
        *,
        entries: int = 100,
        total: int = 1 << 20,
        kept_us: int = DAY_US,
        box: Box | None = None,
        slot: int = 0,
    ) -> Store:
        room, sealing = Room(entries, total, kept_us), box or Box([PEPPER])
        if isinstance(place, Database):
            opened.append(SharedRecordings(place, ("a", slot), sealing, room))
        else:
            opened.append(SqlRecordings(place, sealing, room))
        return opened[-1]

    yield opening
    for each in opened:
        await each.close()


async def rows(place: Place, question: str) -> list[tuple[Any, ...]]:
    """Ask what is kept."""

    def asked() -> list[tuple[Any, ...]]:
        with closing(connect(place) if isinstance(place, Database) else open_file(place / RECORDINGS)) as sql:
            return sql.execute(question).fetchall()

    return await asyncio.to_thread(asked)


def label(number: int, *, project: int = 1, keyed: bool = True, resume_s: int = 0) -> Label:
    """The recording of call `number`; its name is its own."""
    return Label(bytes([number]) * 16, bytes([number]) * 32, b"r" * 32, project, Book.REAL, keyed, resume_s)


def answer(size: int = 10) -> Recorded:
    return Recorded(200, b"content-type: text/plain\r\n", size, "chat", "m", b"x" * size)


async def keep(kept: Store, one: Label, size: int, now: int) -> None:
    assert await kept.claim(one, 0, now) is None
    await kept.keep(one.call, State.WHOLE, answer(size), now)


def test_a_box_opens_only_what_it_sealed_and_only_there() -> None:
    sealed = Box([OLD]).seal(b"text", b"here")
    assert Box([KEK, OLD]).open(sealed, b"here") == b"text"
    assert Box([OLD]).open(sealed, b"there") is None
    assert Box([KEK]).open(sealed, b"here") is None
    assert Box([OLD]).open(sealed[:-1] + bytes([sealed[-1] ^ 1]), b"here") is None


async def test_one_of_many_claims_and_the_others_learn_whose_it_is(store: Opening) -> None:
    stores = [store() for _ in range(4)]  # each opens, or makes, the file at the same moment
    claims = [one._replace(name=b"n" * 32) for one in map(label, range(4))]
    found = await asyncio.gather(
        *(each.claim(one, slot, 5) for slot, (each, one) in enumerate(zip(stores, claims, strict=True)))
    )
    assert found.count(None) == 1
    winner = claims[found.index(None)]
    assert {kept.label for kept in found if kept is not None} == {winner}
    assert {kept.state for kept in found if kept is not None} == {State.OPEN}


async def test_a_day_later_a_key_is_new(store: Opening) -> None:
    kept = store()
    await keep(kept, label(1), 10, 5)
    again = await kept.claim(label(2)._replace(name=label(1).name), 0, DAY_US)
    assert again is not None
    assert again.recorded == answer()
    assert await kept.claim(label(3)._replace(name=label(1).name), 0, DAY_US + 6) is None


async def test_what_is_lost_is_taken_over_by_one(store: Opening) -> None:
    kept = store()
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


async def test_what_nobody_makes_is_given_up_unless_it_has_ended(store: Opening) -> None:
    kept = store()
    await kept.claim(label(1), 0, 5)
    await keep(kept, label(2), 10, 5)
    for number in (1, 2, 3):
        await kept.give_up(label(number).call)
    found = [await kept.find(label(number).call) for number in (1, 2, 3)]
    assert [each and each.state for each in found] == [State.LOST, State.WHOLE, None]
    await kept.keep(label(1).call, State.WHOLE, answer(), 7)  # somebody made it after all
    again = await kept.find(label(1).call)
    assert again is not None
    assert (again.state, again.recorded) == (State.WHOLE, answer())


async def test_what_is_on_its_way_is_read_along_from_elsewhere(store: Opening) -> None:
    kept, other, now = store(), store(), 5
    assert await other.follow(label(1).call, 0, now) is None
    await kept.claim(label(1), 2, now)
    assert await kept.wanted(2, now) == []
    begun = await other.follow(label(1).call, 0, now)
    assert begun is not None
    assert (begun.state, begun.parts, begun.recorded) == (State.OPEN, [], None)
    assert (await kept.wanted(2, now), await kept.wanted(1, now)) == ([label(1).call], [])
    await kept.tell(label(1).call, 0, [b"head", b"one"])
    await kept.tell(label(1).call, 0, [b"head", b"one"])  # whether it was told is not always known
    await kept.tell(label(1).call, 2, [b"two"])
    for known, parts in ((0, [b"head", b"one", b"two"]), (2, [b"two"]), (3, [])):
        progress = await other.follow(label(1).call, known, now)
        assert progress is not None
        assert progress.parts == parts
    await kept.keep(label(1).call, State.WHOLE, answer(), now)
    ended = await other.follow(label(1).call, 3, now)
    assert ended is not None
    assert (ended.state, ended.parts, ended.recorded) == (State.WHOLE, [], answer())
    assert await kept.wanted(2, now) == []


async def test_who_waits_elsewhere_is_told_of_a_refusal_and_the_key_is_new(store: Opening) -> None:
    kept, other, now = store(), store(), 5
    for number in (1, 2):
        await kept.claim(label(number), 0, now)
    await other.follow(label(2).call, 0, now)
    for number in (1, 2):
        await kept.release(label(number).call, answer(), now)
    assert await other.find(label(1).call) is None
    told = await other.follow(label(2).call, 0, now)
    assert told is not None
    assert (told.state, told.recorded) == (State.REFUSED, answer())
    assert await other.claim(label(3)._replace(name=label(2).name), 0, now) is None
    await other.sweep(now + MOMENT_US)
    assert await other.find(label(2).call) is None


async def test_a_refusal_that_somebody_waited_for_is_forgotten_by_the_sweep(store: Opening) -> None:
    kept, now = store(), 5
    for number in (1, 2):
        await kept.claim(label(number), 0, now)
    await kept.follow(label(1).call, 0, now)
    await kept.release(label(1).call, answer(), now)
    await kept.sweep(now + MOMENT_US - 1)
    assert await kept.find(label(1).call) is not None
    await kept.sweep(now + MOMENT_US)
    assert await kept.find(label(1).call) is None
    assert await kept.claim(label(3)._replace(name=label(1).name), 0, now + MOMENT_US) is None
    assert await kept.find(label(2).call) is not None


async def test_a_key_whose_time_was_over_is_new_although_keys_are_kept_longer_now(store: Opening) -> None:
    await keep(store(), label(1), 10, 5)
    longer = store(kept_us=3 * DAY_US)
    await longer.sweep(DAY_US + 5)
    found = await longer.find(label(1).call)
    assert found is not None
    assert found.state is State.EXPIRED
    assert await longer.claim(label(2)._replace(name=label(1).name), 0, DAY_US + 6) is None


async def test_what_is_made_for_longer_than_answers_are_kept_is_claimed_once(store: Opening) -> None:
    kept, second = store(kept_us=1_000_000), 1_000_000
    other = label(2)._replace(name=label(1).name)
    assert await kept.claim(label(1), 0, 0) is None
    await kept.sweep(2 * second)
    found = await kept.claim(other, 0, 2 * second)
    assert found is not None
    assert (found.state, found.label.call) == (State.OPEN, label(1).call)
    await kept.keep(label(1).call, State.WHOLE, answer(), 2 * second)
    assert await kept.claim(other, 0, 3 * second) is None


async def test_where_there_is_too_much_the_oldest_of_who_has_most_go(store: Opening, place: Place) -> None:
    kept = store(total=5_000)
    await keep(kept, label(1, project=2), 1_000, 1)
    for number in range(2, 15):
        await keep(kept, label(number), 1_000, number)
    states = {number: await kept.find(label(number).call) for number in (1, 2, 14)}
    assert {number: found and found.state for number, found in states.items()} == {
        1: State.WHOLE,
        2: State.DROPPED,
        14: State.WHOLE,
    }
    assert await rows(place, "SELECT sum(size) <= 5000, count(*) FROM recordings") == [(1, 14)]
    if not isinstance(place, Database):
        held = await rows(place, "SELECT project, entries, bytes FROM holders ORDER BY 1")
        assert held == await rows(
            place, "SELECT project, count(*), sum(size) FROM recordings GROUP BY 1 ORDER BY 1"
        )


async def test_where_there_are_too_many_the_oldest_of_who_has_most_are_forgotten(
    store: Opening, place: Place
) -> None:
    kept = store(entries=12)
    await keep(kept, label(1, project=2), 10, 1)
    assert await kept.claim(label(2), 0, 2) is None  # still open
    for number in range(3, 30):
        await keep(kept, label(number), 10, number)
    assert await kept.find(label(1).call) is not None
    assert await kept.find(label(2).call) is not None
    assert await kept.find(label(3).call) is None
    assert await kept.find(label(29).call) is not None
    assert await rows(place, "SELECT count(*) <= 12 FROM recordings") == [(1,)]


async def test_what_cannot_be_opened_any_more_is_dropped_and_not_new(store: Opening) -> None:
    await keep(store(box=Box([OLD])), label(1), 10, 5)
    found = await store(box=Box([KEK, OLD])).claim(label(1), 0, 6)
    assert found is not None
    assert (found.state, found.recorded) == (State.WHOLE, answer())
    found = await store(box=Box([KEK])).claim(label(1), 0, 6)
    assert found is not None
    assert (found.state, found.recorded) == (State.DROPPED, None)
    other = label(2)._replace(name=label(1).name)
    assert not await store(box=Box([KEK])).take_over(other, label(3).call, 0, 7)
    assert await store(box=Box([KEK])).take_over(other, label(1).call, 0, 7)


async def test_a_file_of_another_version_is_made_anew(tmp_path: Path) -> None:
    room = Room(100, 1 << 20, DAY_US)
    kept = SqlRecordings(tmp_path, Box([PEPPER]), room)
    await keep(kept, label(1), 10, 5)
    await kept.close()
    with closing(open_file(tmp_path / RECORDINGS)) as sql:
        sql.execute("PRAGMA user_version = 99")
    kept = SqlRecordings(tmp_path, Box([PEPPER]), room)
    assert await kept.claim(label(1), 0, 6) is None
    await kept.close()


async def test_what_may_be_read_on_goes_when_its_time_is_over(store: Opening) -> None:
    kept = store()
    await keep(kept, label(1, keyed=False, resume_s=60), 10, 0)
    await keep(kept, label(2, resume_s=60), 10, 0)
    await kept.sweep(61_000_000)
    found = [await kept.find(label(number).call) for number in (1, 2)]
    assert [each and each.state for each in found] == [State.EXPIRED, State.WHOLE]
    await kept.sweep(DAY_US)
    assert [await kept.find(label(number).call) for number in (1, 2)] == [None, None]
