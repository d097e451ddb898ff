"""Batches whose answers their provider keeps at another host: what only those can meet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.batch_link_wires import SiliconFlowBatches
from tests.surfaces.lives import Lives
from tests.surfaces.test_batches_sdk import ask, order, wait
from tests.surfaces.test_passed_batches import EACH, configured
from tests.surfaces.test_passed_wires import CONFIG, lines, until

NAMES = {"host", "content-length", "x-client-request-id", "accept-encoding"}


@pytest.fixture
def wire() -> Iterator[SiliconFlowBatches]:
    with SiliconFlowBatches() as made:
        yield made


@pytest.fixture
def lives(tmp_path: Path, wire: SiliconFlowBatches) -> Iterator[Lives]:
    said = CONFIG.format(
        name="siliconflow",
        kind="openai",
        base=wire.base,
        credential=wire.credential,
        more=wire.more,
        seller="siliconflow",
    )
    made = Lives(tmp_path, said, EACH, environment=wire.environment)
    yield made
    if made.gateway is not None:
        made.gateway.stop()


def test_the_store_is_asked_for_each_file_without_anything_of_ours(lives, wire):
    wire.answer = lambda n, _: (200, f"answer to {n}") if n % 2 else (400, "is refused")
    client = lives.start()
    batch = wait(client, order(client, lines(4)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 2)
    assert [path.partition("?")[0] for path, _ in wire.store.asked] == [
        "/outputs/file-there2.jsonl",
        "/outputs/file-there1.jsonl",
    ]
    for _, headers in wire.store.asked:
        assert set(headers) <= NAMES
        assert headers["host"] == wire.store.authority
    assert not any(what.startswith("DELETE") for what in wire.asked)  # it knows no such thing
    lives.check(2)
    data = b"".join(path.read_bytes() for path in lives.gateway.data.rglob("*") if path.is_file())
    assert b"file-there0" in data  # what is kept of it
    assert b"Signature=" not in data
    assert "Signature=" not in lives.said


def test_answers_at_a_host_that_is_not_named_wait_until_it_is(lives, wire):
    named = wire.more
    configured(lives, named, 'batch_hosts = ["*.oss.example"]\n')
    client = lives.start()
    made = order(client, lines(3))
    until(lambda: any(each["seen"] > 3 for each in wire.batches.values()))
    time.sleep(0.5)
    assert (wire.store.asked, client.batches.retrieve(made.id).status) == ([], "in_progress")
    configured(lives, 'batch_hosts = ["*.oss.example"]\n', named)
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 3, 1)
    lives.check(3)
    told = [line for line in lives.said.splitlines() if "batch_hosts" in line]
    assert len(told) == 1
    assert f"{wire.store.authority}, which batch_hosts of provider 'siliconflow' does not name" in told[0]


def test_a_store_that_does_not_have_them_yet_is_asked_again(lives, wire):
    refused = []

    def odd(handler: BaseHTTPRequestHandler) -> bool:
        if len(refused) > 1:
            return False
        refused.append(handler.path)
        if len(refused) == 1:
            handler.send_error(404, "NoSuchKey")
        else:  # half of it
            name = handler.path.partition("?")[0].removeprefix("/outputs/").removesuffix(".jsonl")
            data = wire.files[name]
            handler.send_response(200)
            handler.send_header("content-length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
        return True

    wire.store.odd = odd
    client = lives.start()
    batch = wait(client, order(client, lines(6)))
    assert (batch.status, batch.request_counts.completed) == ("completed", 6)
    assert len(refused) == 2
    assert len({path for path, _ in wire.store.asked} | set(refused)) == 3  # signed anew each time
    lives.check(6)


@pytest.mark.parametrize(
    "address",
    [
        "http://{store}/outputs/{name}.jsonl",
        "https://someone@{store}/outputs/{name}.jsonl",
        "https://169.254.169.254/latest/{name}",
    ],
)
def test_an_address_that_is_not_asked_costs_nothing_and_ends_with_the_batch(lives, wire, address):
    configured(lives, 'batch_hosts = ["', 'batch_hosts = ["169.254.169.254", "')
    wire.address = lambda name: address.format(store=wire.store.authority, name=name)
    client = lives.start()
    made = order(client, lines(3))
    until(lambda: any(each["seen"] > 3 for each in wire.batches.values()))
    time.sleep(0.5)
    assert wire.store.asked == []
    assert client.batches.retrieve(made.id).status == "in_progress"
    wire.address = wire.store.address
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    lives.check(3)


def test_answers_that_have_a_files_name_are_had_where_files_are(lives, wire):
    wire.names_files = True
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.request_counts.completed, wire.store.asked) == ("completed", 3, [])
    assert any(what.startswith("GET /v1/files/") for what in wire.asked)
    lives.check(3)


def test_more_lines_than_it_takes_become_several(lives, wire):
    client = lives.start()
    batch = wait(client, order(client, lines(5_001)), within_s=120)
    assert (batch.status, batch.request_counts.completed) == ("completed", 5_001)
    sizes = [len(wire.files[each["file"]].splitlines()) for each in wire.batches.values()]
    assert sizes == [5_000, 1]
    lives.check(5_001)


def test_messages_that_it_does_not_take_are_ours(lives, wire):
    client = lives.start()
    asked = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    made = order(client, [*lines(1), ask("two", model="m", messages=asked)])
    until(lambda: wire.calls >= 2)
    client.batches.cancel(made.id)
    assert not wire.batches
    _, _, said = lives.gateway.stop()
    told = [line for line in said.splitlines() if made.id in line]
    assert len(told) == 1
    assert (
        "Line 2 is none for the batch API of siliconflow. The whole batch is run here, by calls." in told[0]
    )


def test_what_it_says_in_an_envelope_is_told(lives, wire):
    wire.refuse["POST /v1/files"] = (200, "The file has too many lines")
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.errors.data[0].message) == ("failed", "The file has too many lines")
    assert not wire.batches
    lives.check(0)
    assert f"{batch.id}: It has failed: The file has too many lines" in lives.said
