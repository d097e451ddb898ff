"""Blobs in a bucket, and the shelf on them: every request signed as AWS's own signer does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.files.bucket import KEY_ID, NAME, REGION, SECRET, Bucket
from tests.files.place import LABEL, OWN, Place, content, source

from headgate.config import ServeOptions, load
from headgate.credentials import AccessKeys
from headgate.errors import StorageFull, Unavailable
from headgate.ports import SystemClock
from headgate.settings.files import FileSettings
from headgate.settings.upstreams import ConfigError
from headgate.stores.blobs import s3
from headgate.stores.blobs.s3 import PART, S3Blobs
from headgate.transport.http import HttpTransport

pytestmark = pytest.mark.anyio
LONG = bytes(range(256)) * ((2 * PART + 12_345) // 256)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as bucket:
        yield bucket
        assert bucket.wrong == []


@asynccontextmanager
async def blobs_in(bucket: Bucket, said: list[str] | None = None, **keys: str) -> AsyncIterator[S3Blobs]:
    place = FileSettings(storage=f"s3://{NAME}/a/b", endpoint=bucket.endpoint).bucket
    assert place is not None
    own = AccessKeys(**({"id": KEY_ID, "secret": SECRET, "session": bucket.session} | keys))
    clock = SystemClock()
    transport = HttpTransport(clock)
    to = s3.Bucket(place.endpoint, place.host, REGION, place.name, place.prefix, own)
    try:
        yield S3Blobs(to, transport, clock, (said if said is not None else []).append)
    finally:
        await asyncio.sleep(0.01)  # what was cut is gone in the next turn
        assert transport.open == transport.idle, "a connection is neither idle nor closed"
        await transport.close()


async def put(blobs: S3Blobs, name: str, data: bytes) -> None:
    writer = await blobs.begin(name)
    for at in range(0, len(data), 700_000):
        await writer.write(data[at : at + 700_000])
    await writer.commit()
    await writer.abort()  # does nothing any more


async def got(blobs: S3Blobs, name: str, start: int, end: int) -> bytes:
    return b"".join([data async for data in blobs.read(name, start, end)])


@pytest.mark.parametrize("session", ["", "token/of+session=="])
async def test_short_and_long_blobs_come_back_as_they_were(session: str) -> None:
    with Bucket(session) as bucket:
        async with blobs_in(bucket) as blobs:
            for name, data in (("aa", b""), ("bb", b"short"), ("cc", LONG), ("dd", LONG[: 2 * PART])):
                await put(blobs, name, data)
                assert await got(blobs, name, 0, len(data)) == data
            assert await got(blobs, "cc", PART - 5, PART + 7) == LONG[PART - 5 : PART + 7]
            assert sorted(bucket.objects) == ["a/b/aa", "a/b/bb", "a/b/cc", "a/b/dd"]
            for name in ("aa", "bb", "cc", "dd", "never"):
                await blobs.remove(name)
        assert (bucket.objects, bucket.uploads, bucket.wrong) == ({}, {}, [])


async def test_what_was_begun_is_given_up_also_by_somebody_who_does_not_know_of_it(bucket: Bucket) -> None:
    async with blobs_in(bucket) as blobs:
        writers = [await blobs.begin(name) for name in ("aa", "bb")]
        for writer in writers:
            await writer.write(LONG)
        assert len(bucket.uploads) == 2
        await writers[0].abort()
        await blobs.remove("bb")
    assert (bucket.objects, bucket.uploads) == ({}, {})


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
@pytest.mark.parametrize("fault", [(503, "SlowDown"), (500, "InternalError"), (200, "InternalError")])
async def test_what_fails_for_a_moment_is_tried_again(
    bucket: Bucket, method: str, fault: tuple[int, str]
) -> None:
    async with blobs_in(bucket) as blobs:
        bucket.faults = [(method, *fault)] * 2 if method != "GET" else []
        await put(blobs, "aa", LONG)
        bucket.faults = [(method, *fault)] * 2 if method == "GET" else []
        assert await got(blobs, "aa", 0, len(LONG)) == LONG
    assert bucket.faults == []


async def test_what_goes_on_failing_is_said_to_callers_without_where_and_to_the_log_with_it(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_FIRST_REST_S", 0.001)
    said: list[str] = []
    async with blobs_in(bucket, said) as blobs:
        bucket.faults = [("", 503, "SlowDown")] * 4
        with pytest.raises(Unavailable) as failed:
            await put(blobs, "aa", b"x")
        bucket.faults = [("", 403, "AccessDenied")]
        with pytest.raises(Unavailable):
            await put(blobs, "aa", b"x")
        bucket.faults = [("", 507, "XMinioStorageFull")]
        with pytest.raises(StorageFull, match="no room left"):
            await put(blobs, "aa", b"x")
        with pytest.raises(Unavailable):
            await got(blobs, "never", 0, 5)
    assert failed.value.message == "The storage of files does not answer. Try again in a moment."
    assert [line.removeprefix(f"the bucket {NAME}: ") for line in said] == [
        "it answered 503 SlowDown",
        "it answered 403 AccessDenied",
        "it answered 507 XMinioStorageFull",
        "it answered 404 NoSuchKey",
    ]


async def test_a_bucket_that_is_away_or_refuses_the_key_is_no_storage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "_FIRST_REST_S", 0.001)
    with Bucket() as bucket:
        async with blobs_in(bucket, secret="other") as blobs:
            with pytest.raises(Unavailable):
                await put(blobs, "aa", b"x")
        assert bucket.wrong == ["SignatureDoesNotMatch"]
    said: list[str] = []
    async with blobs_in(bucket, said) as blobs:
        with pytest.raises(Unavailable, match="The storage of files does not answer"):
            await put(blobs, "aa", b"x")
    assert "Could not connect" in said[0]


async def test_a_shelf_on_a_bucket_leaves_nothing_that_is_not_published(
    bucket: Bucket, tmp_path: Path
) -> None:
    place = Place(tmp_path / "data")
    async with blobs_in(bucket) as blobs, place.shelf(largest=1 << 30, blobs=blobs) as shelf:
        file = await shelf.create(OWN, LABEL, source(LONG[:PART], LONG[PART:]))
        assert await content(shelf, file.id) == LONG
        draft = await shelf.begin(OWN)
        await draft.write(LONG)
        place.clock.now += 10_000_000
        await draft.discard()
        assert await shelf.delete(OWN, file.id)
    assert (bucket.objects, bucket.uploads, place.rows("blobs")) == ({}, {}, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('storage = "s3://B/x"', "is not s3://BUCKET/PREFIX"),
        ('storage = "s3://bucket/a b"', "is not s3://BUCKET/PREFIX"),
        ('storage = "s3://bucket/a/../b"', "is not s3://BUCKET/PREFIX"),
        ('storage = "gs://bucket"', "neither a folder nor s3://"),
        ('storage = "s3://bucket"\nendpoint = "minio"', "files.endpoint 'minio' is wrong"),
        ('storage = "s3://bucket"', "files.key_id: env:AWS_ACCESS_KEY_ID is empty"),
        ("file_mb = 0", "file_mb 0 is not between"),
        ("project_gb = -1", "project_gb -1 is not between"),
        ("upload_gb = 0", "upload_gb 0 is not above 0"),
    ],
)
def test_settings_that_are_wrong_are_refused_with_what_to_do(
    tmp_path: Path, settings: str, said: str
) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text(f"[files]\n{settings}\n")
    with pytest.raises(ConfigError, match=said):
        load(ServeOptions(config=str(path), env_file=""), environment={})


def test_keys_are_where_aws_tools_have_them(tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text('[files]\nstorage = "s3://bucket/a/"\nregion = "eu-west-1"\n')
    names: dict[str, Any] = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    files = load(ServeOptions(config=str(path), env_file=""), environment=names).files
    assert (files.key_id, files.key, files.session) == ("id", "key", "")
    assert files.bucket == (
        "https://s3.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com", "bucket", "a/",
    )  # fmt: skip
