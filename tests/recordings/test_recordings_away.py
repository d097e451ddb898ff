"""Recordings of several nodes while their database does not answer: nobody waits long, and all are told why."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest
from tests.recordings.test_recordings_kept import DAY_US, PEPPER, label

from headgate.errors import Unavailable
from headgate.stores.postgres.recordings import SharedRecordings
from headgate.stores.sql.database import Database
from headgate.stores.sql.sealed import Room
from headgate.vaults.boxes import Box

pytestmark = pytest.mark.anyio


def at(folder: Path, port: int) -> SharedRecordings:
    url = f"postgresql://gateway@127.0.0.1:{port}/headgate"
    return SharedRecordings(Database(folder, url), ("a", 0), Box([PEPPER]), Room(100, 1 << 20, DAY_US))


async def test_of_many_who_ask_a_silent_database_none_waits_for_the_others(tmp_path: Path) -> None:
    with socket.create_server(
        ("127.0.0.1", 0), backlog=50
    ) as silent:  # connections are made, and that is all
        kept, began = at(tmp_path, silent.getsockname()[1]), time.monotonic()
        asked = [kept.claim(label(number), 0, 5) for number in range(20)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - began < 10.0  # 2 s; one after the other it would be 100
        assert {type(each) for each in found} == {Unavailable}
        await kept.close()


async def test_who_is_refused_is_told_that_nothing_was_sent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    kept = at(tmp_path, port)
    with pytest.raises(Unavailable, match=r"is away: .* Nothing was sent to a provider") as told:
        await kept.claim(label(1), 0, 5)
    assert (told.value.status, told.value.retry_after_s) == (503, 1.0)
    with pytest.raises(Unavailable, match="is away"):
        await kept.find(label(1).call)
    await kept.close()
