"""The shelf on a real database and a real folder: what is there, what never was, what a crash leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest
from tests.files.place import HOUR, LABEL, OWN, Place, content, source

from headgate.errors import BodyTooLarge, CallerError, StorageFull, Unavailable
from headgate.files.shelf import Shelf
from headgate.shelf import FileOwner, StoredFile
from headgate.stores.sql.files import Room
from headgate.values import Book

pytestmark = pytest.mark.anyio


async def bring(shelf: Shelf, *parts: bytes, owner: FileOwner = OWN) -> StoredFile:
    """Bring a file as a caller does."""
    draft = await shelf.begin(owner)
    try:
        for part in parts:
            await draft.write(part)
        return await draft.publish(LABEL)
    finally:
        await draft.discard()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_file_is_kept_found_read_and_deleted(place: Place) -> None:
    data = bytes(range(256)) * 4000
    async with place.shelf() as shelf:
        file = await shelf.create(OWN, LABEL, source(data[:70_000], data[70_000:]))
        assert await shelf.find(OWN, file.id) == file
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert await content(shelf, file.id) == data
        assert await content(shelf, file.id, 5, 300_000) == data[5:300_000]
        assert await content(shelf, file.id, len(data)) == b""
        (blob,) = place.blobs
        assert blob.stat().st_mode & 0o777 == 0o600
        assert blob.parent.stat().st_mode & 0o777 == 0o700
        assert "a.txt" not in str(blob)
        assert await shelf.delete(OWN, file.id)
        assert not await shelf.delete(OWN, file.id)
        assert await shelf.find(OWN, file.id) is None
    assert (place.blobs, place.rows("files"), place.rows("blobs")) == ([], 0, 0)


async def test_nobody_else_finds_it(place: Place) -> None:
    async with place.shelf() as shelf:
        file = await shelf.create(OWN, LABEL, source(b"x"))
        for other in (OWN._replace(project=2), OWN._replace(book=Book.SIM)):
            assert await shelf.find(other, file.id) is None
            assert not await shelf.delete(other, file.id)
            assert await shelf.listed(other, "", "", 10, newest=True) == []
            assert await shelf.listed(other, "", file.id, 10, newest=True) is None
        assert await shelf.find(OWN._replace(key=9), file.id) == file


async def test_lists_go_both_ways_from_anywhere_and_by_purpose(place: Place) -> None:
    async with place.shelf() as shelf:
        names = []
        for n in range(5):
            place.clock.now += n % 2  # some have the same instant
            label = LABEL._replace(purpose="batch" if n == 3 else "user_data")
            names.append((place.clock.now, (await shelf.create(OWN, label, source(b"x"))).id))
        names.sort()
        ordered = [name for _, name in names]

        async def listed(purpose: str = "", after: str = "", limit: int = 9, *, newest: bool) -> list[str]:
            files = await shelf.listed(OWN, purpose, after, limit, newest=newest)
            assert files is not None
            return [file.id for file in files]

        assert await listed(newest=False) == ordered
        assert await listed(newest=True) == ordered[::-1]
        assert await listed(after=ordered[1], limit=2, newest=False) == ordered[2:4]
        assert await listed(after=ordered[1], newest=True) == ordered[:1]
        assert len(await listed("batch", newest=True)) == 1


async def test_what_is_not_published_leaves_nothing(place: Place) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ValueError("broken")

    async with place.shelf(largest=200_000) as shelf:
        with pytest.raises(ValueError, match="broken"):
            await shelf.create(OWN, LABEL, breaks())
        with pytest.raises(BodyTooLarge, match="200,000 bytes"):
            await bring(shelf, b"x" * 100_000, b"x" * 100_001)
        draft = await shelf.begin(OWN)
        await draft.write(b"x")
        await draft.discard()
        await draft.discard()
    assert (place.blobs, place.rows("files"), place.rows("blobs"), place.said) == ([], 0, 0, [])


async def test_a_project_and_an_account_have_so_much_room(place: Place) -> None:
    async with place.shelf(Room(1_000, 1_500)) as shelf:
        first = await bring(shelf, b"x" * 900)
        with pytest.raises(CallerError, match="this project have 900 of the 1,000 bytes") as refused:
            await shelf.begin(OWN, 101)
        assert refused.value.code == "storage_quota_exceeded"
        with pytest.raises(CallerError, match="this project have 900 of"):
            await bring(shelf, b"x" * 101)
        other = OWN._replace(project=2)
        with pytest.raises(CallerError, match="this account have 900 of"):
            await bring(shelf, b"x" * 601, owner=other)
        await bring(shelf, b"x" * 100)
        assert await shelf.delete(OWN, first.id)
        await bring(shelf, b"x" * 900)
    assert place.rows("blobs") == len(place.blobs) == 2


async def test_what_we_make_is_kept_however_large_and_counts(place: Place) -> None:
    async with place.shelf(Room(1_000, 1_500), largest=500) as shelf:
        ours = [await shelf.create(OWN, LABEL, source(b"x" * 900)) for _ in range(2)]
        assert [file.size for file in ours] == [900, 900]
        with pytest.raises(CallerError, match="this project have 1,800 of the 1,000 bytes"):
            await shelf.begin(OWN)
        for file in ours:
            assert await shelf.delete(OWN, file.id)
        await bring(shelf, b"x" * 500)


async def test_who_goes_while_a_file_is_begun_leaves_nothing_open(place: Place) -> None:
    before = open_files()
    async with place.shelf() as shelf:
        for n in range(40):
            begun = asyncio.create_task(shelf.blobs.begin(f"{n:032x}"))
            await asyncio.sleep(0)
            begun.cancel()
            with pytest.raises(asyncio.CancelledError):
                await begun
        async with asyncio.timeout(5):
            while len(place.blobs) < 40 or open_files() > before:
                await asyncio.sleep(0.01)


async def test_what_is_being_written_at_once_counts_before_it_is_there(place: Place) -> None:
    async with place.shelf(Room(1_000, 0)) as shelf:
        drafts = await asyncio.gather(*(shelf.begin(OWN, 300) for _ in range(6)), return_exceptions=True)
        begun = [draft for draft in drafts if not isinstance(draft, BaseException)]
        assert len(begun) == 3
        for draft in begun:
            await draft.discard()
        await (await shelf.begin(OWN, 1_000)).discard()


async def test_what_expires_is_gone_at_once_and_its_bytes_soon(place: Place) -> None:
    async with place.shelf() as shelf:
        label = LABEL._replace(expires_at=place.clock.now + HOUR)
        file = await shelf.create(OWN, label, source(b"x"))
        place.clock.now += HOUR - 1
        assert await shelf.sweep() == 0
        assert await shelf.find(OWN, file.id) is not None
        place.clock.now += 1
        assert await shelf.find(OWN, file.id) is None
        assert await shelf.listed(OWN, "", "", 9, newest=True) == []
        assert not await shelf.delete(OWN, file.id)
        assert await shelf.sweep() == 1
    assert (place.blobs, place.rows("files"), place.rows("blobs")) == ([], 0, 0)


async def test_a_start_removes_what_a_crash_left_and_nothing_of_others(place: Place) -> None:
    async with place.shelf(writer="one") as killed, place.shelf(writer="two") as other:
        kept = await killed.create(OWN, LABEL, source(b"kept"))
        for shelf in (killed, other):
            draft = await shelf.begin(OWN)
            await draft.write(b"half")
        assert len(place.blobs) == 3
        place.clock.now += 1
        async with place.shelf(writer="one") as again:
            await again.adopt()
            await again.sweep()
            assert len(place.blobs) == 2
            await draft.publish(LABEL)
            assert await content(again, kept.id) == b"kept"
    assert place.rows("blobs") == len(place.blobs) == 2


async def test_what_nobody_writes_any_more_goes_after_a_day_and_what_is_written_stays(place: Place) -> None:
    async with place.shelf(writer="gone") as gone, place.shelf(writer="here") as here:
        await (await gone.begin(OWN)).write(b"half")
        place.clock.now += 23 * HOUR
        draft = await here.begin(OWN)
        await draft.write(b"whole")
        place.clock.now += HOUR - 1
        await here.sweep()
        assert len(place.blobs) == 2
        place.clock.now += 2
        await here.sweep()
        assert len(place.blobs) == 1
        await draft.publish(LABEL)


async def test_a_folder_that_cannot_be_written_is_said_to_fail_and_not_where_it_is(place: Place) -> None:
    (place.folder / "files").write_text("not a folder")
    async with place.shelf() as shelf:
        with pytest.raises(Unavailable, match="storage of files does not answer") as failed:
            await shelf.begin(OWN)
        assert str(place.folder) not in failed.value.message
        place.clock.now += 10_000_000
        (place.folder / "files").unlink()
        await shelf.sweep()
    assert place.rows("blobs") == 0


async def test_a_full_disk_keeps_nothing(place: Place, full_disk: None) -> None:
    async with place.shelf() as shelf:
        draft = await shelf.begin(OWN)
        with pytest.raises(StorageFull, match="no room left") as failed:
            await draft.write(b"x" * 300_000)
        assert failed.value.http_status == 507
        await draft.discard()
    assert (place.blobs, place.rows("blobs")) == ([], 0)


async def test_what_counts_in_a_quota_is_added_up_now_and_then_and_never_off(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.stores.sql.files._NOTES", 4)
    async with place.shelf(Room(50, 0)) as shelf:
        kept = [await bring(shelf, b"1234567890") for _ in range(5)]
        with pytest.raises(CallerError, match="50 of the 50 bytes"):
            await shelf.begin(OWN, 1)
        for file in kept[:3]:
            assert await shelf.delete(OWN, file.id)
        for _ in range(8):
            again = await bring(shelf, b"123")
            assert await shelf.delete(OWN, again.id)
        with pytest.raises(CallerError, match="20 of the 50 bytes"):
            await shelf.begin(OWN, 31)
        await (await shelf.begin(OWN, 30)).discard()
        await shelf.rows.expire(place.clock.wall(), 0)  # the account has no bound: nobody asks for its sum
        assert place.rows("storage") <= 2 * 5
        await shelf.sweep()
    assert place.looked() == []
