"""Of a recording that is lost only its own worker says what it has cost: others may not make the call again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.recordings.test_recordings_kept import DAY_US, PEPPER, answer, label
from tests.recycled import recycled_database
from tests.stores.books import copy_all, journal, make, write
from tests.stores.records import opened, settled

from headgate.stores.postgres.recordings import SharedRecordings
from headgate.stores.sql.database import Database, connect
from headgate.stores.sql.nodes import enlist, own_node, write_off
from headgate.stores.sql.sealed import Room
from headgate.vaults.boxes import Box
from headgate.wire.recorded import Label, State

pytestmark = [pytest.mark.anyio, pytest.mark.services("postgresql")]
CHARGE = settled(opened()).charge


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with recycled_database() as found:
        make(Database(tmp_path / "a", found))
        yield found


def seen_by(folder: Path, url: str, node: str, slot: int) -> SharedRecordings:
    return SharedRecordings(
        Database(folder / node, url), (node, slot), Box([PEPPER]), Room(100, 1 << 20, DAY_US)
    )


async def test_a_silent_worker_may_go_on_so_nobody_else_says_that_its_call_was_free(
    tmp_path: Path, url: str
) -> None:
    own, sibling, other = (seen_by(tmp_path, url, *who) for who in (("a", 0), ("a", 1), ("b", 0)))
    for claimed in (own, sibling, other):
        await asyncio.to_thread((tmp_path / "b").mkdir, exist_ok=True)
        assert (await claimed.claim(label(1), 0, 5) is None) is (claimed is own)
    for giver in (sibling, other):  # none of them has seen it live
        await giver.give_up(label(1).call)
        assert await giver.charged(label(1).call) is None
    await own.lose(0, 2)  # it has started again: what is not in its journal was never sent
    assert [await each.charged(label(1).call) for each in (own, sibling, other)] == [0, 0, 0]
    assert await other.take_over(label(2)._replace(name=label(1).name), label(1).call, 0, 6)
    for each in (own, sibling, other):
        await each.close()


async def test_what_was_given_up_and_then_refused_is_made_by_who_asks_next(tmp_path: Path, url: str) -> None:
    own, other = seen_by(tmp_path, url, "a", 0), seen_by(tmp_path, url, "b", 0)
    await asyncio.to_thread((tmp_path / "b").mkdir, exist_ok=True)
    assert await own.claim(label(1), 0, 5) is None
    await other.give_up(label(1).call)  # its worker was frozen
    await own.release(label(1).call, answer(), 6)
    assert await other.claim(label(2)._replace(name=label(1).name), 0, 7) is None
    for each in (own, other):
        await each.close()


async def test_what_a_worker_lost_was_paid_as_its_journal_says(tmp_path: Path, url: str) -> None:
    own, other = seen_by(tmp_path, url, "a", 0), seen_by(tmp_path, url, "b", 0)
    call = opened()
    one = Label(call.call, *label(1)[1:])
    assert await own.claim(one, 0, 5) is None
    with journal(tmp_path / "a") as book:
        write(book, [(call, settled(call))])
    await own.keep(one.call, State.LOST, None, 6)
    assert await other.charged(one.call) == CHARGE  # the books do not have it yet
    await own.close()
    await other.close()


async def test_what_was_dropped_for_want_of_room_was_paid_once_it_is_booked(tmp_path: Path, url: str) -> None:
    own, other = seen_by(tmp_path, url, "a", 0), seen_by(tmp_path, url, "b", 0)
    call = opened()
    one = Label(call.call, *label(1)[1:])
    with journal(tmp_path / "a") as book:
        write(book, [(call, settled(call))])
    await own.claim(one, 0, 5)
    await own.keep(one.call, State.WHOLE, answer(), 6)

    def drop() -> None:
        with closing(connect(Database(tmp_path / "a", url))) as sql:
            sql.execute(f"UPDATE recordings SET state = {State.DROPPED}, answer = NULL, size = 0")

    await asyncio.to_thread(drop)
    assert (await own.charged(one.call), await other.charged(one.call)) == (CHARGE, None)
    await asyncio.to_thread(copy_all, Database(tmp_path / "a", url))
    assert await other.charged(one.call) == CHARGE
    await own.close()
    await other.close()


async def test_what_was_lost_with_a_folder_has_no_price_whoever_has_its_name_later(
    tmp_path: Path, url: str
) -> None:
    own, other = seen_by(tmp_path, url, "a", 0), seen_by(tmp_path, url, "b", 0)
    assert await own.claim(label(1), 0, 5) is None
    await own.claim(label(2), 0, 5)
    await own.keep(label(2).call, State.WHOLE, answer(), 6)
    await other.claim(label(3), 0, 5)

    def lost() -> None:
        with closing(connect(Database(tmp_path / "a", url))) as sql:
            enlist(sql, tmp_path / "a", 5)
            write_off(sql, own_node(tmp_path / "a").name)

    own_node(tmp_path / "a", "a")
    await asyncio.to_thread(lost)
    await own.lose(0, 1)  # another folder of that name begins
    found = [await other.find(label(number).call) for number in (1, 2, 3)]
    assert [each and each.state for each in found] == [State.LOST, State.WHOLE, State.OPEN]
    for each in (own, other):
        assert await each.charged(label(1).call) is None
        await each.close()


async def test_of_many_one_claims_on_a_server_that_isolates_more_than_it_must(
    tmp_path: Path, url: str
) -> None:
    strict = f"{url}&default_transaction_isolation=repeatable read"
    stores = [seen_by(tmp_path, strict, "a", slot) for slot in range(4)]
    for number in range(20):
        claims = [label(50 * slot + number)._replace(name=bytes([number]) * 32) for slot in range(4)]
        found = await asyncio.gather(
            *(each.claim(one, 0, 5) for each, one in zip(stores, claims, strict=True))
        )
        assert found.count(None) == 1
    for each in stores:
        await each.close()
