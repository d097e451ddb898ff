"""Batches at the batch APIs of other makers than OpenAI: translated both ways, each line paid once.

The providers are of `tests/batch_wires.py`; none of the live ones was tried.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.batch_account_wires import FireworksJobs
from tests.batch_bucket_wires import ClaudeJobs, InvocationJobs, PredictionJobs
from tests.batch_dataset_wires import DatasetBatches
from tests.batch_file_wires import AzureBatches, FileBatches, MistralJobs, TogetherBatches, XaiBatches
from tests.batch_link_wires import SiliconFlowBatches
from tests.batch_wires import ContentBatches, MessageBatches, Wire
from tests.stores.books import figures
from tests.surfaces.lives import Lives
from tests.surfaces.places import LONG
from tests.surfaces.test_batches_sdk import ask, lines_of, order, wait
from tests.surfaces.test_passed_batches import EACH, configured, read

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import connect

CONFIG = """
[[providers]]
name = "{name}"
kind = "{kind}"
base_url = "{base}"
{credential}
models = ["m-there"]
batch = "provider"
{more}
[[models]]
name = "m"
targets = [{{ provider = "{name}", model = "m-there" }}]
[[prices.rows]]
provider = "{seller}"
model = "m-there"
input = "1"
output = "2"
"""
VECTORS = "/v1/embeddings"
_MADE = (
    MessageBatches,
    ContentBatches,
    AzureBatches,
    MistralJobs,
    XaiBatches,
    TogetherBatches,
    FireworksJobs,
    SiliconFlowBatches,
    PredictionJobs,
    ClaudeJobs,
    InvocationJobs,
    DatasetBatches,
)
# Hosts of the table, with OpenAI's wire for calls.
KNOWN = {"mistral", "x-ai", "together", "fireworks", "siliconflow"}
WIRES = {made.kind: made for made in _MADE}
ALL = list(WIRES)
IN_BUCKETS = [made.kind for made in _MADE if made.bucket]
# Where one is refused, by its kind: the file, and the batch.
REFUSED = [
    ("anthropic", "/messages/batches"), ("gemini", "/upload/v1beta/files"), ("gemini", ":batchGenerateContent"),
    ("azure", "POST /openai/files"), ("azure", "POST /openai/batches"), ("mistral", "POST /v1/batch/jobs"),
    ("x-ai", "POST /v1/files"), ("x-ai", "POST /v1/batches"), ("together", "POST /v1/files/upload"),
    ("together", "POST /v1/batches"), ("cohere", "POST /v1/datasets"), ("cohere", "POST /v2/batches"),
    ("siliconflow", "POST /v1/files"), ("siliconflow", "POST /v1/batches"), ("fireworks", "/datasets"), ("fireworks", ":upload"), ("fireworks", "/batchInferenceJobs"),
    ("vertex", "/batchPredictionJobs"), ("bedrock", "POST /model-invocation-job"),
    ("vertex-claude", "/batchPredictionJobs"),
]  # fmt: skip
PLACES = [
    "batch-begun=kill@1", "batch-intended=kill@1", "batch-passed=kill@1", "batch-fetched=kill@1",
    "batch-claimed=kill@2", "after-open=kill@20", "before-settle=kill@20", "after-settle=kill@20",
    "batch-before-output=kill@1", "batch-after-output=kill@1", "batch-file-written=kill@1",
]  # fmt: skip
# What wires differ in is tried on each; `make provider-batches` tries every place on each.
SOME = ALL if LONG else ["anthropic", "azure", "bedrock"]  # of what the wires have in common
ORDERED = (
    ALL if LONG else [*SOME, "gemini", "cohere", "fireworks", "siliconflow"]
)  # which find theirs by other means
WIRED = PLACES if LONG else PLACES[1:2]
KILLS = [(kind, place) for kind in ALL if kind != "mistral" for place in WIRED]
KILLS += [(kind, "batch-cleared=kill@1") for kind in (*IN_BUCKETS, "azure", "cohere")]


@pytest.fixture
def kind() -> str:
    return "anthropic"


@pytest.fixture
def wire(kind: str) -> Iterator[Wire]:
    with WIRES[kind]() as made:
        yield made


@pytest.fixture
def lives(tmp_path: Path, wire: Wire) -> Iterator[Lives]:
    known = wire.kind in KNOWN
    name, kind = (wire.kind, "openai") if known else ("there", wire.kind)
    seller = "azure" if kind == "azure" else name
    said = CONFIG.format(
        name=name, kind=kind, base=wire.base, credential=wire.credential, more=wire.more, seller=seller
    )
    made = Lives(tmp_path, said, EACH, environment=wire.environment)
    yield made
    if made.gateway is not None:
        made.gateway.stop()


def lines(count: int, **body) -> list[dict[str, object]]:
    return [ask(f"mine {n}", model="m", **body) for n in range(count)]


def left(wire: Wire) -> set[str]:
    """Return what lies there yet, of what is ours to remove."""
    if isinstance(wire, DatasetBatches):
        return set(wire.datasets)
    return (
        wire.files.keys() - wire.removed
        if wire.bucket or (isinstance(wire, FileBatches) and wire.deletes)
        else set()
    )


def until(done) -> None:
    deadline = time.monotonic() + 30
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done()


def cancelled(lives, wire, count):
    """Return a client, and a batch of so many lines that was cancelled after it was made there."""
    wire.ends = None
    client = lives.start()
    made = order(client, lines(count))
    until(lambda: wire.batches)
    client.batches.cancel(made.id)
    until(wire.cancelled)
    wire.ends = "completed"
    return client, wait(client, made)


@pytest.mark.parametrize("kind", ALL)
def test_lines_are_translated_both_ways_and_each_is_paid_once(lives, wire):
    client = lives.start()
    asked = lines(40)
    asked[7] = ask("mine 7", model="m", temperature=9)
    batch = wait(client, order(client, asked, metadata={"of": "mine"}))
    assert (batch.status, batch.model, batch.errors) == ("completed", "m", None)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (39, 1)
    assert batch.metadata == {"of": "mine"}
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (39 * 20, 39 * 10)
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert list(answers) == [f"mine {n}" for n in range(40) if n != 7]
    body = answers["mine 8"]["response"]["body"]
    assert (body["object"], body["model"], body["choices"][0]["finish_reason"]) == (
        "chat.completion",
        "m",
        "stop",
    )
    assert body["choices"][0]["message"]["content"] == "answer to 9"
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (20, 10)
    assert errors["mine 7"]["response"]["body"]["error"]["param"] == "temperature"
    told = json.dumps(batch.to_dict()) + json.dumps(answers) + json.dumps(errors)
    assert not any(word in told for word in ("there", "msgbatch", "batches/", "0000-"))
    assert (wire.calls, len(wire.batches)) == (0, 1)
    assert not left(wire)  # what lay there is gone
    lives.check(39)


@pytest.mark.parametrize("kind", ALL)
def test_its_errors_are_those_of_their_lines(lives, wire):
    wire.answer = lambda n, _: (
        (200, "good") if n % 3 == 0 else (400, "is refused") if n % 3 == 1 else (500, "broke")
    )
    client = lives.start()
    batch = wait(client, order(client, lines(12)))
    counts = batch.request_counts
    assert (batch.status, counts.completed, counts.failed) == ("completed", 4, 8)
    errors = lines_of(client, batch.error_file_id)
    refused, broke = errors["mine 0"]["response"], errors["mine 1"]["response"]
    said = 500 if wire.kind == "cohere" else 400  # it does not tell
    assert (refused["status_code"], refused["body"]["error"]["message"]) == (said, "is refused")
    assert (broke["status_code"], broke["body"]["error"]["message"]) == (500, "broke")
    lives.check(4)


@pytest.mark.parametrize("kind", [kind for kind in SOME if kind != "cohere"])  # whose have no end in time
def test_what_it_did_not_run_in_time_has_expired(lives, wire):
    wire.ends = "expired"
    wire.answer = lambda n, _: (200, "in time") if n <= 3 else None
    client = lives.start()
    batch = wait(client, order(client, lines(8)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 3, 5)
    assert lines_of(client, batch.error_file_id)["mine 7"]["error"]["code"] == "batch_expired"
    lives.check(3)


@pytest.mark.parametrize("kind", SOME)
def test_a_cancel_is_passed_on_and_what_was_run_is_paid(lives, wire):
    wire.answer = lambda n, _: (200, "before it") if n <= 3 else None
    client, batch = cancelled(lives, wire, 8)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("cancelled", 3, 5)
    assert lines_of(client, batch.error_file_id)["mine 7"]["error"]["code"] == "batch_cancelled"
    assert not left(wire)
    lives.check(3)


@pytest.mark.parametrize("kind", SOME)
def test_a_cancel_while_it_is_being_made_is_passed_on_as_soon_as_it_is(lives, wire):
    wire.ends = None
    client, serve, made = lives.start(), wire.serve, []

    def cancelled_first(what, query, headers, body):
        if wire.makes(what):
            until(lambda: made)
            client.batches.cancel(made[0].id)
        return serve(what, query, headers, body)

    wire.serve = cancelled_first
    made.append(order(client, lines(4)))
    until(wire.cancelled)
    wire.answer = lambda n, _: None
    wire.ends = "completed"
    batch = wait(client, made[0])
    assert (batch.status, batch.request_counts.failed, len(wire.batches)) == ("cancelled", 4, 1)
    lives.check(0)


@pytest.mark.parametrize(("kind", "what"), REFUSED)
def test_a_refusal_ends_it_with_what_was_said(lives, wire, what):
    wire.refuse[what] = (400, "too much for us")
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.errors.data[0].message) == ("failed", "too much for us")
    assert not wire.batches
    assert not left(wire)
    lives.check(0)


@pytest.mark.parametrize("kind", IN_BUCKETS)
def test_a_bucket_that_refuses_ends_it_and_callers_are_not_told_its_name(lives, wire):
    wire.refuse["/in.jsonl"] = (404, "The bucket our-batches does not exist")
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, wire.batches) == ("failed", {})
    assert "(404 Refused)" in batch.errors.data[0].message
    assert "our-batches" not in batch.errors.data[0].message
    lives.check(0)


@pytest.mark.parametrize(
    "kind",
    ["gemini", "azure", "mistral", "x-ai", "together", "fireworks", "siliconflow", "cohere", *IN_BUCKETS],
)
def test_one_that_fails_there_fails_here(lives, wire):
    wire.ends = "failed"
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.errors.data[0].message) == ("failed", "Line 1 is wrong")
    assert not left(wire)
    lives.check(0)


@pytest.mark.parametrize("kind", ORDERED)
def test_an_unclear_order_is_looked_up_and_not_made_again(lives, wire):
    wire.lose_create = 1
    client = lives.start()
    made = order(client, lines(4))
    until(lambda: wire.batches)
    one = next(iter(wire.batches.values()))  # another's, with as many requests, is listed first
    other = {**one, "id": "b9", "metadata": {}, "name": "another's"}
    if wire.kind == "anthropic":
        other["requests"] = [{**each, "custom_id": f"other-{n}"} for n, each in enumerate(one["requests"])]
    if wire.kind in {"together", "siliconflow", "cohere"}:
        other["file"] = "another's"
    wire.batches["b9"] = other
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 4, 2)
    lives.check(4)


@pytest.mark.parametrize("kind", ["mistral"])
def test_one_of_very_many_is_found(lives, wire):
    day = 86_400.0
    for n in range(10_200):  # 9,900 of a day ago, and 300 that are made while ours is
        ago = day if n < 9_900 else -600.0
        wire.batches[f"other-{n}"] = {
            "id": f"other-{n}", "state": "ended", "cancelled": False, "file": "", "model": "m-there",
            "metadata": {}, "how": "completed", "output": None, "errors": None, "made": time.time() - ago,
        }  # fmt: skip
    wire.lose_create = 1
    client = lives.start()
    batch = wait(client, order(client, lines(4)))
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 4, 10_201)
    assert wire.asked.count("GET /v1/batch/jobs") == 4
    lives.check(4)


def test_one_that_may_be_ours_is_waited_for(lives, wire):
    wire.lose_create, wire.ends = 1, None
    client = lives.start()
    made = order(client, lines(4))
    until(lambda: wire.asked.count("GET /v1/messages/batches") >= 2)
    assert len(wire.batches) == 1
    assert client.batches.retrieve(made.id).status == "in_progress"
    wire.ends = "completed"
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 4, 1)
    lives.check(4)


def the_time_is_over(lives) -> None:
    """Let a stopped gateway's batch have ended 20 minutes ago."""
    ago = time.time_ns() // 1_000 - 1_200 * 1_000_000
    with closing(connect(lives.gateway.data)) as sql, writing(sql):
        sql.execute("UPDATE batches SET expires_at = ?, job = json_set(job, '$.expires_at', ?)", (ago, ago))


@pytest.mark.parametrize("kind", ["azure", "gemini", "cohere"])
def test_what_the_provider_does_not_end_in_time_is_ended(lives, wire):
    wire.ends = None
    wire.answer = lambda n, _: (200, "in time") if n <= 3 else None
    client = lives.start()
    made = order(client, lines(8))
    until(lambda: wire.batches)
    lives.gateway.stop()
    the_time_is_over(lives)
    client = lives.start()
    until(wire.cancelled)
    wire.ends = "completed"
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 3, 5)
    assert lines_of(client, batch.error_file_id)["mine 7"]["error"]["code"] == "batch_expired"
    lives.check(3)


@pytest.mark.parametrize("kind", SOME)
def test_a_provider_that_doubles_loses_and_makes_up_lines(lives, wire):
    own = wire.owned
    wire.spoil = lambda rows: [*rows[1:], rows[2], own(rows[3], "999"), own({}, "x"), {}]
    if wire.kind == "anthropic":
        wire.spoil = lambda rows: [*rows[1:], rows[2], own(rows[3], "f" * 32 + "-1")]
    client = lives.start()
    batch = wait(client, order(client, lines(6)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 5, 1)
    assert lines_of(client, batch.error_file_id)["mine 0"]["error"]["code"] == "batch_incomplete"
    lives.check(5)


@pytest.mark.parametrize(("kind", "place"), KILLS)
def test_a_kill_costs_no_line_and_no_charge(lives, wire, place):
    client = lives.start(place)
    made = order(client, lines(60))
    lives.died()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed) == ("completed", 60), batch
    assert len(lines_of(client, batch.output_file_id)) == 60
    assert (wire.calls, len(wire.batches)) == (0, 1)
    assert not left(wire)
    lives.check(60)


@pytest.mark.parametrize("kind", SOME)
def test_a_kill_between_parts_makes_none_twice(lives, wire):
    configured(lives, 'batch = "provider"\n', 'batch = "provider"\nbatch_lines = 25\n')
    client = lives.start("batch-passed=kill@2")
    made = order(client, lines(60))
    lives.died()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 60, 3)
    lives.check(60)


@pytest.mark.parametrize("kind", ["anthropic"])
def test_a_part_that_is_refused_fails_its_own_lines_alone(lives, wire):
    configured(lives, 'batch = "provider"\n', 'batch = "provider"\nbatch_lines = 25\n')
    wire.refuse_line = 30
    client = lives.start()
    batch = wait(client, order(client, lines(60)))
    counts = batch.request_counts
    assert (batch.status, counts.completed, counts.failed) == ("completed", 35, 25)
    errors = lines_of(client, batch.error_file_id)
    assert set(errors) == {f"mine {n}" for n in range(25, 50)}
    assert errors["mine 25"]["response"]["body"]["error"]["message"] == "Line 30 is refused"
    lives.check(35)


@pytest.mark.parametrize("kind", ["gemini", "cohere"])
def test_embeddings_of_several_texts_are_one_line(lives, wire):
    client = lives.start()
    asked = [
        {"custom_id": f"mine {n}", "method": "POST", "url": VECTORS, "body": {"model": "m", "input": texts}}
        for n, texts in enumerate((["a", "bb", "ccc"], "dddd"))
    ]
    batch = wait(client, order(client, asked, VECTORS))
    assert (batch.status, batch.request_counts.completed, wire.calls) == ("completed", 2, 0)
    answers = lines_of(client, batch.output_file_id)
    body = answers["mine 0"]["response"]["body"]
    assert [(row["index"], row["embedding"]) for row in body["data"]] == [
        (0, [0.5, 1]),
        (1, [0.5, 2]),
        (2, [0.5, 3]),
    ]
    assert body["usage"]["prompt_tokens"] == 15
    if wire.kind == "gemini":
        assert [each["verb"] for each in wire.batches.values()] == ["asyncBatchEmbedContent"]
    lives.stop()
    assert figures(lives.gateway.data, "SELECT sum(charge) FROM calls") == [(20 * 500,)]


def test_one_version_serves_all_requests_of_a_batch(lives, wire):
    configured(lives, "m-there", "claude-haiku-4-5")
    client = lives.start()
    wait(client, order(client, [*lines(2), ask("warm", model="m", temperature=0.5)]))
    wait(client, order(client, lines(2)))
    assert [each["version"] for each in wire.batches.values()] == ["2023-06-01", "2026-10-21"]


@pytest.mark.parametrize("kind", ["cohere"])
@pytest.mark.parametrize("more", [{"stop": ["x"]}, {"response_format": {"type": "json_object"}}])
def test_what_a_dataset_has_no_member_for_is_ours(lives, wire, more):
    client = lives.start()
    made = order(client, [*lines(1), ask("two", model="m", **more)])
    until(lambda: wire.calls >= 2)
    client.batches.cancel(made.id)
    assert not wire.datasets


@pytest.mark.parametrize("kind", ["cohere"])
def test_a_dataset_that_is_not_valid_ends_it_with_what_was_said(lives, wire):
    wire.refuse_line = 2
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.errors.data[0].message) == ("failed", "Line 2 is refused")
    assert not wire.batches
    lives.check(0)


def test_what_it_has_no_batches_for_is_ours(lives, wire):
    client = lives.start()
    made = order(client, [*lines(1), ask("two", model="m", n=2)])  # it gives one answer to a request
    until(lambda: wire.calls >= 3)
    client.batches.cancel(made.id)
    assert not wire.batches


def test_what_was_charged_is_what_it_told(lives, wire):
    client = lives.start()
    wait(client, order(client, lines(5)))
    lives.check(5)
    assert figures(lives.gateway.data, "SELECT sum(charge), sum(cost) FROM calls") == [(5 * EACH, 5 * 40_000)]


def test_one_of_fewer_lines_than_at_first_is_found_again(lives, wire):
    wire.refuse["POST /v1/messages/batches"] = (500, "broke")
    client = lives.start()
    name = client.files.create(file=("a.pdf", b"%PDF-1.7 hello"), purpose="user_data").id
    made = order(client, [*lines(3), ask("a", model="m", messages=read(name))])
    until(lambda: "POST /v1/messages/batches" in wire.asked)
    client.files.delete(name)
    wire.lose_create = 1
    wire.refuse.clear()
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed, len(wire.batches)) == ("completed", 3, 1)
    lives.check(3)
