"""Uploads on a real database and folder: what ends them, and what two at once may not do."""

from __future__ import annotations

import asyncio

import pytest
from tests.files.place import HOUR, LABEL, OWN, Place, content

from headgate.errors import BodyTooLarge, CallerError, NotFound
from headgate.files.shelf import Shelf
from headgate.files.uploads import PART_BYTES, Uploads
from headgate.shelf import UploadPart, UploadStatus
from headgate.stores.sql.files import Room
from headgate.stores.sql.uploads import SqlUploads
from headgate.values import Book

pytestmark = pytest.mark.anyio


def uploads_of(shelf: Shelf, largest: int = 1 << 30) -> Uploads:
    return Uploads(shelf, SqlUploads(shelf.rows), largest)  # type: ignore[arg-type]


async def add(uploads: Uploads, name: str, data: bytes) -> UploadPart:
    draft = await uploads.begin(OWN, name, len(data))
    try:
        await draft.write(data)
        return await uploads.keep(OWN, name, draft)
    finally:
        await draft.discard()


async def test_after_an_hour_it_has_expired_and_its_parts_go(place: Place) -> None:
    async with place.shelf() as shelf:
        uploads = uploads_of(shelf)
        upload = await uploads.create(OWN, LABEL, 6, 0)
        part = await add(uploads, upload.id, b"abcdef")
        place.clock.now += HOUR
        assert (await uploads.find(OWN, upload.id)).status is UploadStatus.EXPIRED
        for late in (add(uploads, upload.id, b"x"), uploads.complete(OWN, upload.id, [part.id], "")):
            with pytest.raises(CallerError, match="is expired"):
                await late
        await uploads.expire()
        assert await shelf.sweep() == 1
        assert (await uploads.find(OWN, upload.id)).status is UploadStatus.EXPIRED
        place.clock.now += 31 * 24 * HOUR
        await uploads.expire()
        with pytest.raises(NotFound, match="No such Upload object"):
            await uploads.find(OWN, upload.id)
    assert (place.blobs, place.rows("blobs"), place.rows("uploads")) == ([], 0, 0)


async def test_nobody_else_may_touch_it(place: Place) -> None:
    async with place.shelf() as shelf:
        uploads = uploads_of(shelf)
        mine = await uploads.create(OWN, LABEL, 3, 0)
        theirs = OWN._replace(project=2)
        other = await uploads.create(theirs, LABEL, 3, 0)
        part = await add(uploads, mine.id, b"abc")
        strangers = (theirs, OWN._replace(book=Book.SIM))
        acts = [uploads.begin(stranger, mine.id, 1) for stranger in strangers]
        acts += [uploads.complete(stranger, mine.id, [part.id], "") for stranger in strangers]
        acts += [uploads.cancel(stranger, mine.id) for stranger in strangers]
        said = await asyncio.gather(*acts, return_exceptions=True)
        assert [type(each) for each in said] == [NotFound] * 6
        with pytest.raises(CallerError, match="has no part"):
            await uploads.complete(theirs, other.id, [part.id], "")
        assert (await uploads.complete(OWN, mine.id, [part.id], "")).status is UploadStatus.COMPLETED


async def test_of_many_that_complete_it_at_once_one_does(place: Place) -> None:
    async with place.shelf() as shelf, place.shelf(writer="two") as second:
        both = (uploads_of(shelf), uploads_of(second))
        upload = await both[0].create(OWN, LABEL, 4, 3600)
        ids = [(await add(both[n % 2], upload.id, b"%d" % n)).id for n in range(4)]
        done = await asyncio.gather(
            *(both[n % 2].complete(OWN, upload.id, ids, "") for n in range(8)),
            both[0].cancel(OWN, upload.id),
            return_exceptions=True,
        )
        whole = [one for one in done if not isinstance(one, BaseException)]
        assert len(whole) == 1
        others = [one for one in done if isinstance(one, BaseException)]
        assert [one for one in others if not isinstance(one, CallerError)] == []
        file = whole[0].file
        if file is None:
            assert whole[0].status is UploadStatus.CANCELLED
        else:
            assert await content(shelf, file.id) == b"0123"
            assert file.label.expires_at == file.created_at + HOUR


async def test_parts_count_in_the_quota_and_what_was_not_used_is_given_back(place: Place) -> None:
    async with place.shelf(Room(10, 0)) as shelf:
        uploads = uploads_of(shelf)
        upload = await uploads.create(OWN, LABEL, 4, 0)
        parts = [await add(uploads, upload.id, b"1234") for _ in range(2)]
        with pytest.raises(CallerError, match="8 of the 10 bytes"):
            await add(uploads, upload.id, b"567")
        await uploads.complete(OWN, upload.id, [parts[1].id], "")
        await shelf.sweep()
        assert len(place.blobs) == 1
        await (await shelf.begin(OWN, 6)).discard()


async def test_a_part_and_a_whole_have_bounds(place: Place) -> None:
    async with place.shelf() as shelf:
        uploads = uploads_of(shelf, 100)
        with pytest.raises(CallerError, match="<= 100, but got 101"):
            await uploads.create(OWN, LABEL, 101, 0)
        upload = await uploads.create(OWN, LABEL, 100, 0)
        draft = await uploads.begin(OWN, upload.id, 0)
        draft.size = PART_BYTES
        with pytest.raises(BodyTooLarge, match="67,108,864 bytes"):
            await draft.write(b"x")
        await draft.discard()
        empty = await uploads.create(OWN, LABEL, 0, 0)
        done = await uploads.complete(OWN, empty.id, [], "")
        assert done.file is not None
        assert await content(shelf, done.file.id) == b""


async def test_a_part_costs_the_same_however_many_there_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.shelf() as shelf:
        uploads = uploads_of(shelf)
        upload = await uploads.create(OWN, LABEL, 6, 0)
        with monkeypatch.context() as patch:
            patch.delattr(SqlUploads, "parts")  # nobody lists them
            ids = [(await add(uploads, upload.id, b"%d" % n)).id for n in range(6)]
        rows = SqlUploads(shelf.rows)
        assert await rows.count(upload) == 6
        assert await rows.count(await uploads.create(OWN, LABEL, 6, 0)) == 0
        done = await uploads.complete(OWN, upload.id, ids[::-1], "")
        assert done.file is not None
        assert await content(shelf, done.file.id) == b"543210"


async def test_more_parts_than_the_most_are_refused_and_what_is_there_can_be_completed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.files.uploads._MOST_PARTS", 3)
    async with place.shelf() as shelf:
        uploads = uploads_of(shelf)
        upload = await uploads.create(OWN, LABEL, 3, 0)
        ids = [(await add(uploads, upload.id, b"x")).id for _ in range(3)]
        with pytest.raises(CallerError, match="has 3 parts already"):
            await add(uploads, upload.id, b"y")
        assert (await uploads.complete(OWN, upload.id, ids, "")).status is UploadStatus.COMPLETED
        await shelf.sweep()
        assert len(place.blobs) == 3
