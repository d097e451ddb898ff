"""Fireworks' batches: answers at other addresses, where we go for them and where not; jobs that are forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.answer_store import AnswerStore
from tests.batch_account_wires import FireworksJobs
from tests.surfaces.lives import Lives
from tests.surfaces.test_batches_sdk import lines_of, order, wait
from tests.surfaces.test_passed_batches import EACH
from tests.surfaces.test_passed_wires import CONFIG, cancelled, lines, until


@pytest.fixture
def wire() -> Iterator[FireworksJobs]:
    with FireworksJobs() as made:
        yield made


@pytest.fixture
def lives(tmp_path: Path, wire: FireworksJobs) -> Iterator[Lives]:
    said = CONFIG.format(
        name=wire.kind, kind="openai", base=wire.base, credential=wire.credential, more=wire.more, seller=wire.kind
    )  # fmt: skip
    made = Lives(tmp_path, said, EACH, environment=wire.environment)
    yield made
    if made.gateway is not None:
        made.gateway.stop()


def asked(store: AnswerStore) -> int:
    return len(store.asked)


def test_answers_are_asked_for_without_a_credential_by_a_new_address_for_each_file(lives, wire):
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    paths = [path.partition("?")[0].rpartition("/")[2] for path, _ in wire.store.asked]
    assert paths == ["error-data.jsonl", "BIJOutputSet.jsonl.jsonl"]
    assert not any({"authorization", "cookie", "x-api-key"} & set(headers) for _, headers in wire.store.asked)
    assert sum(":getDownloadEndpoint" in what for what in wire.asked) == 2
    lives.check(3)


def test_nothing_is_asked_of_a_host_that_is_not_named(lives, wire):
    with AnswerStore(wire.files) as other:
        wire.address = other.address
        client = lives.start()
        made = order(client, lines(3))
        until(lambda: sum(":getDownloadEndpoint" in what for what in wire.asked) >= 2)
        assert (asked(other), asked(wire.store)) == (0, 0)
        assert client.batches.retrieve(made.id).status in {"in_progress", "finalizing"}
        wire.address = wire.store.address
        batch = wait(client, made)
        assert (batch.status, batch.request_counts.completed, asked(other)) == ("completed", 3, 0)
    lives.check(3)


def test_a_redirect_is_not_followed(lives, wire):
    with AnswerStore(wire.files) as other:

        def redirects(handler) -> bool:
            handler.send_response(302)
            handler.send_header("location", other.address("x"))
            handler.send_header("content-length", "0")
            handler.end_headers()
            hops.append(handler.path)
            return len(hops) < 3

        hops: list[str] = []
        wire.store.odd = redirects
        client = lives.start()
        made = order(client, lines(3))
        until(lambda: len(hops) >= 2)
        wire.store.odd = lambda _: False
        batch = wait(client, made)
        assert (batch.status, batch.request_counts.completed, asked(other)) == ("completed", 3, 0)
    lives.check(3)


def test_an_address_that_has_expired_is_asked_for_anew(lives, wire):
    sign, late = wire.store.address, [True]

    def address(name: str) -> str:
        return sign(name).replace("Signature=", "Signature=0") if late and late.pop() else sign(name)

    wire.address = address
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    lives.check(3)


@pytest.mark.parametrize("told", [0, 1])
def test_addresses_that_are_not_all_told_are_waited_for(lives, wire, told):
    links, early = wire._links, [True]

    def some(name: str) -> dict[str, str]:
        found = links(name)
        if early and (told == 0 or asked(wire.store)):
            early.pop()
            return dict(list(found.items())[:told])
        return found

    wire._links = some
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert not early
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    lives.check(3)


def test_one_that_cannot_be_found_yet_is_not_made_twice(lives, wire):
    wire.lose_create, wire.late = 1, 2
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 3, 1)
    assert sum(map(wire.makes, wire.asked)) == 2  # the second was told that it is there already
    lives.check(3)


def test_one_that_was_cancelled_before_anything_was_run_has_no_answers(lives, wire):
    wire.answer = lambda *_: None
    client, batch = cancelled(lives, wire, 3)
    counts = batch.request_counts
    assert (batch.status, counts.completed, counts.failed) == ("cancelled", 0, 3)
    assert lines_of(client, batch.error_file_id)["mine 2"]["error"]["code"] == "batch_cancelled"
    lives.check(0)


def test_what_has_ended_is_not_deleted_by_a_cancel(lives, wire):
    wire.ends = None
    client = lives.start()
    made = order(client, lines(3))
    until(lambda: wire.batches)
    lives.gateway.stop()
    wire.ends = "completed"
    wire.refuse["-1"] = (503, "Later")  # the job cannot be asked for
    client = lives.start()
    client.batches.cancel(made.id)
    time.sleep(0.5)
    wire.refuse.clear()
    batch = wait(client, made)
    assert (batch.request_counts.completed, wire.cancelled()) == (3, 0)
    assert not any(what.startswith("DELETE") for what in wire.asked)
    lives.check(3)


def test_a_job_that_is_gone_without_being_cancelled_is_asked_for_on(lives, wire):
    wire.ends = None
    client = lives.start()
    made = order(client, lines(3))
    until(lambda: wire.batches)
    [job] = wire.batches.values()
    job["gone"] = True
    looked = len(wire.asked)
    until(lambda: len(wire.asked) > looked + 1)
    assert client.batches.retrieve(made.id).status == "in_progress"
    job["gone"], wire.ends = False, "completed"
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    lives.check(3)


def test_the_log_says_that_its_api_has_no_such_batches(lives, wire):
    client = lives.start()
    body = {"model": "m", "input": "x"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}
    made = order(client, [line], "/v1/embeddings")
    until(lambda: wire.calls)
    client.batches.cancel(made.id)
    _, _, said = lives.gateway.stop()
    assert f"{made.id}: The batch API of fireworks has no embeddings. It is run here, by calls." in said
