"""Batches that go to their provider through a bucket: what only those can meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.batch_bucket_wires import BucketBatches
from tests.stores.books import figures
from tests.surfaces.lives import Lives
from tests.surfaces.test_batches_sdk import ask, lines_of, order, wait
from tests.surfaces.test_passed_batches import EACH, configured
from tests.surfaces.test_passed_wires import CONFIG, VECTORS, WIRES, cancelled, lines, until

TOOLS = [
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
]


@pytest.fixture
def kind() -> str:
    return "bedrock"


@pytest.fixture
def wire(kind: str) -> Iterator[BucketBatches]:
    with WIRES[kind]() as made:
        assert isinstance(made, BucketBatches)
        yield made


@pytest.fixture
def lives(tmp_path: Path, wire: BucketBatches) -> Iterator[Lives]:
    said = CONFIG.format(
        name="there",
        kind=wire.kind,
        base=wire.base,
        credential=wire.credential,
        more=wire.more,
        seller="there",
    )
    made = Lives(tmp_path, said, EACH)
    yield made
    if made.gateway is not None:
        made.gateway.stop()


def first(lives: Lives) -> None:
    """Let our engine run what the provider does not."""
    configured(lives, 'batch = "provider"\n', 'batch = "provider-first"\n')


def test_a_batch_that_is_too_small_for_the_provider_is_refused(lives, wire):
    configured(lives, "batch_least = 1\n", "")
    wire.least = 100
    client = lives.start()
    batch = wait(client, order(client, lines(99)))
    assert (batch.status, batch.errors.data[0].code) == ("failed", "too_few_requests")
    assert "100 requests and more; this one has 99" in batch.errors.data[0].message
    assert not any("PUT" in what for what in wire.asked)  # it was not even sent
    asked = lines(100)
    asked[7] = ask("mine 7", model="m", temperature=9)  # which cannot be sent
    assert wait(client, order(client, asked)).status == "failed"
    batch = wait(client, order(client, lines(100)))
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 100, 1)
    lives.check(100)


def test_a_batch_that_is_too_small_is_ours_where_that_is_asked_for(lives, wire):
    configured(lives, "batch_least = 1\n", "")
    first(lives)
    client = lives.start()
    batch = wait(client, order(client, lines(5)))
    assert (batch.status, batch.request_counts.completed) == ("completed", 5)
    assert (wire.calls, wire.batches, wire.files) == (5, {}, {})
    lives.check(5)


@pytest.mark.parametrize("kind", ["vertex-claude"])
def test_claude_is_asked_line_by_line_for_a_batch_that_is_ours(lives, wire):
    configured(lives, 'batch = "provider"\n', 'batch = "provider-first"\nbatch_least = 6\n')
    client = lives.start()
    batch = wait(client, order(client, lines(5)))
    assert (batch.status, batch.request_counts.completed) == ("completed", 5)
    place = f"POST {wire.prefix}/publishers/anthropic/models/m-there:rawPredict"
    assert (wire.asked.count(place), wire.calls, wire.batches) == (5, 5, {})
    assert lines_of(client, batch.output_file_id)["mine 4"]["response"]["body"]["usage"]["total_tokens"] == 30
    lives.check(5)


def test_no_part_is_left_too_small(lives, wire):
    configured(lives, "batch_least = 1\n", "batch_least = 20\nbatch_lines = 50\n")
    wire.least = 20
    client = lives.start()
    batch = wait(client, order(client, lines(60)))
    assert (batch.status, batch.request_counts.completed) == ("completed", 60)
    assert [len(each["records"]) for each in wire.batches.values()] == [30, 30]
    assert not wire.files
    lives.check(60)


def test_a_part_leaves_lines_to_the_last_one_where_some_of_that_cannot_be_sent(lives, wire):
    configured(lives, "batch_least = 1\n", "batch_least = 20\nbatch_lines = 50\n")
    wire.least = 20
    client = lives.start("batch-intended=kill@2")
    asked = lines(60)
    asked[40:55] = [ask(f"mine {n}", model="m", temperature=9) for n in range(40, 55)]
    made = order(client, asked)
    lives.died()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    counts = batch.request_counts
    assert (batch.status, counts.completed, counts.failed) == ("completed", 45, 15)
    assert [len(each["records"]) for each in wire.batches.values()] == [25, 20]
    assert set(lines_of(client, batch.error_file_id)) == {f"mine {n}" for n in range(40, 55)}
    lives.check(45)


def test_one_of_which_no_list_tells_is_not_made_twice(lives, wire):
    wire.lose_create, wire.forgetful = 1, True
    client = lives.start()
    batch = wait(client, order(client, lines(4)))
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 4, 1)
    assert wire.asked.count("POST /model-invocation-job") == 2  # under the same token
    lives.check(4)


def test_what_cannot_be_removed_costs_no_answer(lives, wire):
    wire.ends = None
    client = lives.start()
    made = order(client, lines(4))
    until(lambda: wire.batches)
    wire.refuse["/in.jsonl"] = (403, "You may not delete")
    wire.ends = "completed"
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed) == ("completed", 4)
    assert f"head/gate/{batch.id}/in.jsonl" in wire.files
    lives.check(4)


@pytest.mark.parametrize(
    ("kind", "what"), [("bedrock", "POST /model-invocation-job"), ("vertex", "/batchPredictionJobs")]
)
def test_callers_are_not_told_where_lines_lie(lives, wire, what):
    wire.refuse[what] = (400, "Cannot read 'gs://our-batches/a/in.jsonl', s3://our-batches/b: denied")
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    file = batch.input_file_id
    assert batch.errors.data[0].message == f"Cannot read '{file}', {file}: denied"
    lives.check(0)


@pytest.mark.parametrize("kind", ["bedrock", "vertex", "vertex-claude"])
def test_a_job_that_answered_nothing_has_written_nothing(lives, wire):
    wire.answer = lambda *_: None
    _, batch = cancelled(lives, wire, 3)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("cancelled", 0, 3)
    assert not wire.files
    lives.check(0)


@pytest.mark.parametrize("more", [{"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "auto"}])
def test_tools_are_none_for_a_batch_there(lives, wire, more):
    client = lives.start()
    batch = wait(client, order(client, [*lines(2), ask("tool", model="m", **more)]))
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    assert (wire.calls, wire.batches) == (3, {})


def test_embeddings_go_as_calls_of_the_model(lives, wire):
    configured(lives, "m-there", "amazon.titan-embed-text-v2:0")
    client = lives.start()
    bodies = ("a", "bb", ["ccc"], ["d", "e"])
    asked = [
        {"custom_id": f"mine {n}", "method": "POST", "url": VECTORS, "body": {"model": "m", "input": text}}
        for n, text in enumerate(bodies)
    ]
    batch = wait(client, order(client, asked, VECTORS))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 3, 1)
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    body = answers["mine 2"]["response"]["body"]
    assert (body["data"][0]["embedding"], body["usage"]["prompt_tokens"]) == ([0.5, 3], 5)
    assert errors["mine 3"]["response"]["body"]["error"]["param"] == "input"
    assert [each["type"] for each in wire.batches.values()] == ["InvokeModel"]
    assert not wire.files
    lives.gateway.stop()
    assert figures(lives.gateway.data, "SELECT sum(charge) FROM calls") == [(15 * 500,)]
