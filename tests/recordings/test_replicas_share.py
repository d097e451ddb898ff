"""Replicas on one database share what they record: whichever is asked again, one call is made and paid."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest
from tests.postgres import fresh_database
from tests.recordings.test_workers_share import (
    CALL,
    Slow,
    again,
    calls,
    open_stream,
    outcome,
    paid,
    serve,
    shown,
    slow_stream,
)
from tests.surfaces.conftest import Gateway
from tests.surfaces.test_workers import until
from tests.upstream import ScriptedUpstream, chat_json, chat_stream

from headgate.ports import CallIds, SystemClock
from headgate.stores.postgres.recordings import SharedRecordings
from headgate.stores.sql.database import Database
from headgate.stores.sql.pepper import read_pepper
from headgate.stores.sql.sealed import Room
from headgate.values import Book
from headgate.vaults.boxes import Box
from headgate.wire.recorded import Label

pytestmark = [pytest.mark.services("postgresql"), pytest.mark.timeout(180)]


class Replicas:
    """Gateways on one database, each with a folder of its own."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream, url: str) -> None:
        self._folder, self._upstream, self._url = folder, upstream, url
        self.key = ""
        self.all: dict[str, Gateway] = {}

    def start(self, name: str, **environment: str) -> Gateway:
        """Start one, for the first time or again."""
        folder = self._folder / name
        if self.all and not folder.exists():
            (folder / "data").mkdir(parents=True)
            shutil.copy(next(iter(self.all.values())).data / "pepper", folder / "data" / "pepper")
        node = {"HEADGATE_DATABASE": self._url, "HEADGATE_NODE": name}
        gateway = self.all[name] = serve(folder, self._upstream, **node, **environment)
        self.key = gateway.key = gateway.key or self.key
        return gateway

    async def claim(self, gateway: Gateway, key: bytes) -> None:
        """Claim the request of `again` for a replica's first worker."""
        pepper = read_pepper(gateway.data)
        assert pepper is not None
        asked = hashlib.sha256(
            b"/chat/completions\n" + json.dumps({**CALL, "stream": True}).encode()
        ).digest()
        name, request = (
            hmac.digest(pepper, text, "sha256") for text in (b"1:0:key:" + key, b"request:" + asked)
        )
        label = Label(CallIds(SystemClock()).next(), name, request, 1, Book.REAL, keyed=True, resume_s=0)
        room = Room(100, 1 << 20, 86_400_000_000)
        store = SharedRecordings(
            Database(gateway.data, self._url), (gateway.folder.name, 0), Box([pepper]), room
        )
        assert await store.claim(label, 0, SystemClock().wall()) is None
        await store.close()

    def stop(self) -> None:
        """Stop all of them; the books of each hold."""
        for gateway in self.all.values():
            assert gateway.stop()[0] == 0
        for gateway in self.all.values():
            done = gateway.command("ledger", "check")
            assert done.returncode == 0, done.stdout + done.stderr

    def kill(self) -> None:
        """Leave none behind."""
        for gateway in self.all.values():
            if gateway.process.poll() is None:
                gateway.stop(signal.SIGKILL)


@contextmanager
def replicas(folder: Path, upstream: ScriptedUpstream, *names: str, **environment: str) -> Iterator[Replicas]:
    """Start some; `environment` is the first one's."""
    with ExitStack() as stack:
        made = Replicas(folder, upstream, stack.enter_context(fresh_database()))
        stack.callback(made.kill)
        for name in names:
            made.start(name, **environment)
            environment = {}
        yield made


def bare(answer: tuple[int, dict[str, str]]) -> str:
    """An answer's text."""
    status, said = answer
    assert status == 200, said
    return shown(said["text"].encode()).decode()


def test_one_key_at_three_replicas_at_once_is_one_call(tmp_path: Path) -> None:
    stream, whole = slow_stream(), Slow(*chat_slowly())
    with (
        ScriptedUpstream(stream, whole) as upstream,
        replicas(tmp_path, upstream, "a", "b", "c") as fleet,
        ThreadPoolExecutor(12) as pool,
    ):
        for key, answer in (("streamed", stream), ("whole", whole)):
            body = {"stream": key == "streamed"}
            asked = [pool.submit(again, each, key, **body) for each in [*fleet.all.values()] * 4]
            time.sleep(1)  # so that most of them wait for it
            answer.go.set()
            texts = {bare(each.result(30)) for each in asked}
            assert len(texts) == 1, texts
            assert ("[DONE]" if key == "streamed" else '"choices"') in texts.pop()
            later = {bare(again(each, key, **body)) for each in fleet.all.values()}
            assert len(later) == 1
        for each in fleet.all.values():
            status, error = again(each, "whole", stream=True)
            assert (status, error["code"]) == (422, "idempotency_key_reused")
        fleet.stop()
        first = fleet.all["a"]
        assert len(upstream.requests) == len(paid(first)) == 2
        assert sum(bool(call["replay_of"]) for call in calls(first)) == 22 + 6
        assert not (first.data / "recordings.sqlite").exists()


def chat_slowly() -> list[bytes]:
    """A whole answer in four pieces."""
    raw = chat_json("one for all")
    return [raw[:20], raw[20:40], raw[40:60], raw[60:]]


def test_a_stream_is_read_on_at_another_replica(tmp_path: Path) -> None:
    answer = slow_stream()
    with ScriptedUpstream(answer) as upstream, replicas(tmp_path, upstream, "a", "b") as fleet:
        made, other = fleet.all.values()
        first = open_stream(made, idempotency_key="k", x_headgate_resume="60")
        begin = first.readline()
        path = f"/calls/{first.headers['x-headgate-resume']}/events"
        joined = open_stream(other, idempotency_key="k")
        lines = joined.readline()  # while the answer is still on its way
        resumed = open_stream(other, path, last_event_id="1")
        first.close()  # its own caller has gone
        answer.go.set()
        rest, along = shown(resumed.read()), shown(lines + joined.read())
        late = shown(open_stream(other, path).read())
        assert late.startswith(begin)
        assert rest == late[late.index(b"id: 2\n") :]
        assert along == b"".join(line for line in late.splitlines(True) if not line.startswith(b"id: "))
        fleet.stop()
        assert len(upstream.requests) == len(paid(made)) == 1


@pytest.mark.parametrize(
    ("place", "status"),
    [("before-connect=kill@1", 200), ("mid-stream=kill@1", 409)],  # nobody was asked; somebody was
)
def test_what_a_killed_replica_began_is_not_made_twice(tmp_path: Path, place: str, status: int) -> None:
    with (
        ScriptedUpstream(chat_stream()) as upstream,
        replicas(tmp_path, upstream, "a", "b", HEADGATE_FAILPOINTS=place) as fleet,
    ):
        first, other = fleet.all.values()
        with pytest.raises((OSError, HTTPException)):
            open_stream(first, idempotency_key="k").read()
        assert first.stop()[0] == -signal.SIGKILL
        asked = len(upstream.requests)
        found, said = again(other)
        assert (found, said["code"]) == (409, "idempotent_answer_lost")
        assert "may have been paid" in said["message"]  # what it has cost is in the journal of the first
        assert again(other)[0] == 409  # at once, from now on
        fleet.start("a")
        found, said = again(other)
        assert found == status, said
        assert len(upstream.requests) == 1
        assert asked == (1 if status == 409 else 0)
        fleet.stop()
        (lost,) = paid(first)
        if status == 409:
            assert f"{lost['cost_nano_usd'] / 1e9:.9f}" in said["message"]


def test_who_waits_for_a_replica_that_is_frozen_is_told_and_its_answer_counts_when_it_is_back(
    tmp_path: Path,
) -> None:
    answer = slow_stream()
    with ScriptedUpstream(answer) as upstream, replicas(tmp_path, upstream, "a", "b") as fleet:
        first, other = fleet.all.values()
        stream = open_stream(first, idempotency_key="k")
        begin = stream.readline()
        first.process.send_signal(signal.SIGSTOP)
        assert outcome(other) in {0, 409}
        assert again(other)[0] == 409
        first.process.send_signal(signal.SIGCONT)
        answer.go.set()
        whole = shown(begin + stream.read())
        until(lambda: again(other)[0] == 200)
        assert bare(again(other)).encode() == whole
        fleet.stop()
        assert len(upstream.requests) == len(paid(first)) == 1


def test_what_was_claimed_unknown_to_its_worker_is_made_by_who_asks_next(tmp_path: Path) -> None:
    """The answer of the database to a claim was lost: its caller was told 503."""
    with (
        ScriptedUpstream(chat_stream(), chat_stream()) as upstream,
        replicas(tmp_path, upstream, "a", "b") as fleet,
    ):
        first, other = fleet.all.values()
        assert again(first, "other")[0] == 200
        asyncio.run(fleet.claim(first, b"k"))
        status, said = again(other)
        assert status == 200, said
        fleet.stop()
        assert len(upstream.requests) == len(paid(first)) == 2
