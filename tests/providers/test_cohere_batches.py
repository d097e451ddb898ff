"""Cohere's wire of batches: what is asked for, and what is read of answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers.asking import chat, target
from tests.providers.passed import job_of, said, target_of

from headgate.errors import UpstreamInterrupted, UpstreamRefused
from headgate.http.parse import parse
from headgate.providers.batches import BatchState, Bulk, Found
from headgate.providers.cohere import CODECS, DatasetBatches
from headgate.values import Call
from headgate.wire.batchjobs import Part

WIRE = DatasetBatches()
TARGET, JOB = msgspec.structs.replace(target_of("cohere"), base_path="/v2"), job_of("dataset-in")
EMBEDDINGS = job_of("dataset-in", "/v1/embeddings")
# As Cohere's reference shows one.
BATCH = {
    "name": "my-batch", "input_dataset_id": "dataset-in", "model": "batch-command",
    "id": "9439e0e3-49a4-4336-93e3-485fc420bc18", "creator_id": "u", "org_id": "o",
    "status": "BATCH_STATUS_IN_PROGRESS", "created_at": "2024-01-15T09:30:00Z",
    "updated_at": "2024-01-15T09:30:00Z", "output_dataset_id": "my-batch-output-c2waz1", "input_tokens": "0",
    "output_tokens": "0", "num_records": 5000, "num_successful_records": 8, "num_failed_records": 0,
}  # fmt: skip
NAME, OUTPUT = BATCH["id"], BATCH["output_dataset_id"]


def batch(**more: object) -> bytes:
    return said({"batch": {**BATCH, **more}})


def line(body: dict[str, Any]) -> Any:
    told = json.loads(WIRE.line(JOB, 7, said({"model": "m", **body})))
    assert (set(told), told["custom_id"]) == ({"custom_id", "body"}, "7")
    return told["body"]


def test_lines_are_sent_as_a_dataset():
    request = WIRE.send(JOB, TARGET, Bulk((memoryview(b'{"a":1}'),), (), "x"))
    assert (request.method, request.path) == (
        "POST",
        "/v1/datasets?name=headgate-batch_ours&type=batch-chat-v2-input",
    )
    assert dict(request.headers)["content-type"] == "multipart/form-data; boundary=x"
    assert request.whole() == (
        b'--x\r\nContent-Disposition: form-data; name="data"; filename="batch.jsonl"\r\n'
        b'Content-Type: application/jsonl\r\n\r\n{"a":1}\n\r\n--x--\r\n'
    )
    assert WIRE.send(EMBEDDINGS, TARGET, Bulk((), (), "x")).path.endswith("&type=batch-embed-v2-input")


def test_what_is_asked_for():
    made = WIRE.create(JOB, TARGET)
    assert (made.method, made.path) == ("POST", "/v2/batches")
    assert json.loads(made.body) == {
        "name": "headgate-batch_ours",
        "input_dataset_id": "dataset-in",
        "model": "m",
    }
    cancel = WIRE.cancel(TARGET, "b")
    assert (cancel.method, cancel.path) == ("POST", "/v2/batches/b:cancel")
    assert WIRE.look(TARGET, "b").path == "/v2/batches/b"
    assert WIRE.listed(JOB, TARGET, "a b").path == "/v2/batches?page_size=1000&page_token=a%20b"
    assert WIRE.readiness(TARGET, "d").path == WIRE.content(TARGET, "d").path == "/v1/datasets/d"
    assert (WIRE.named(said({"id": "d"})), WIRE.named(batch())) == ("d", NAME)


def test_its_datasets_are_deleted():
    passed = JOB.passed
    assert passed is not None
    parts = (*passed.parts, Part(until=18, lines=9, file="in-2", output="out-2"))
    job = msgspec.structs.replace(JOB, passed=msgspec.structs.replace(passed, parts=parts))
    asked = WIRE.leavings(job, TARGET)
    assert [(each.method, each.path) for each in asked] == [
        ("DELETE", "/v1/datasets/dataset-in"), ("DELETE", "/v1/datasets/in-2"), ("DELETE", "/v1/datasets/out-2"),
    ]  # fmt: skip
    assert {("authorization", "Bearer k")} <= set(asked[0].headers)


def test_a_request_lies_in_a_dataset_in_a_form_of_its_own():
    image = {"type": "image_url", "image_url": {"url": "https://p/a.png", "detail": "low"}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    told = line(
        {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "see"}, image]},
                {"role": "assistant", "tool_calls": [call], "tool_plan": "look"},
                {"role": "tool", "tool_call_id": "c", "content": "sunny"},
                {"role": "assistant", "tool_calls": [call]},
            ],
            "tools": [tool],
            "max_tokens": 4,
        }
    )
    assert told["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": "https://p/a.png"},
            ],
        },
        {"role": "assistant", "tool_calls": [call], "content": [{"type": "text", "text": "look"}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "assistant", "tool_calls": [call]},
    ]
    assert json.loads(told["tools"][0]["function"]["parameters"]) == {"type": "object"}
    assert told["max_tokens"] == 4
    assert "model" not in told


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("members", "takes"),
    [
        ({"max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 1, "top_k": 3, "logprobs": True}, True),
        ({"tools": [TOOL]}, True),
        ({"tools": [TOOL], "tool_choice": "required"}, False),
        ({"stop": ["x"]}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"safety_mode": "NONE"}, False),
        ({"citation_options": {"mode": "OFF"}}, False),
        ({"reasoning_effort": "low"}, True),
        ({"safety_mode": 7}, True),  # it is refused when it is sent, by itself
    ],
)
def test_what_a_dataset_has_no_member_for_is_not_sent(members, takes):
    to = target("cohere", "command-a-reasoning-08-2025")
    assert WIRE.takes(chat(**members), to) is takes
    if takes and members != {"safety_mode": 7}:
        body = CODECS["chat"].encode(chat(**members), to).body
        kept = json.loads(WIRE.line(JOB, 1, body))["body"]
        assert not {"model", "thinking", "stream"} & set(kept)


@pytest.mark.parametrize(
    ("members", "takes"), [({}, True), ({"truncate": "END"}, True), ({"dimensions": 8}, False)]
)
def test_vectors_of_another_size_are_not_asked_for_there(members, takes):
    call = Call(bytes(16), "embeddings", 0)
    parse(json.dumps({"model": "m", "input": "a", **members}).encode(), call)
    assert WIRE.takes(call, target("cohere", "embed-v4.0", operations=frozenset({"embeddings"}))) is takes


@pytest.mark.parametrize(
    ("thinking", "found"),
    [
        ({"type": "disabled"}, {"reasoning": False}),
        ({"type": "enabled"}, {"reasoning": True}),
        ({"type": "enabled", "token_budget": 512}, {"reasoning": True, "thinking_budget": 512}),
    ],
)
def test_thinking_has_other_names(thinking, found):
    assert line({"messages": [], "thinking": thinking}) == {"messages": [], **found}


def test_a_request_for_embeddings_is_as_ever():
    asked = {"texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]}
    told = json.loads(WIRE.line(EMBEDDINGS, 7, said({"model": "m", **asked})))
    assert told == {"custom_id": "7", "body": asked}


@pytest.mark.parametrize(
    ("told", "ended", "answers"),
    [
        (batch(), "", ""),
        (batch(status="BATCH_STATUS_QUEUED", output_dataset_id=""), "", ""),
        (batch(status="BATCH_STATUS_CANCELING"), "", ""),
        (batch(status="BATCH_STATUS_SOMETHING_NEW"), "", ""),
        (batch(status="BATCH_STATUS_COMPLETED"), "completed", OUTPUT),
        (batch(status="BATCH_STATUS_COMPLETED", num_successful_records=0), "completed", OUTPUT),
        (batch(status="BATCH_STATUS_CANCELED"), "cancelled", OUTPUT),
        (batch(status="BATCH_STATUS_CANCELED", num_successful_records=0), "cancelled", ""),
        (batch(status="BATCH_STATUS_CANCELED", num_successful_records="0"), "cancelled", ""),
        (batch(status="BATCH_STATUS_FAILED", num_failed_records="3"), "failed", OUTPUT),
    ],
)
def test_states(told, ended, answers):
    assert WIRE.state(told) == BatchState(str(NAME), ended, str(answers))


def test_one_that_failed_says_why():
    told = WIRE.state(
        batch(status="BATCH_STATUS_FAILED", num_successful_records=None, status_reason="The model is gone")
    )
    assert (told.ended, told.output, told.why[0].message) == ("failed", "", "The model is gone")


def test_ours_is_found_by_its_dataset():
    other = {**BATCH, "id": "other", "input_dataset_id": "dataset-other"}
    assert WIRE.found(said({"batches": [other, BATCH]}), JOB, "") == Found(str(NAME), "")
    assert WIRE.found(said({"batches": [other], "next_page_token": "t"}), JOB, "") == Found("", "t")
    assert WIRE.found(said({"batches": [], "next_page_token": "t"}), JOB, "") == Found("", "")
    assert WIRE.found(said({}), JOB, "") == Found("", "")


def dataset(status: str, **more: object) -> bytes:
    return said({"dataset": {"id": "d", "name": "d", "validation_status": status, **more}})


def test_a_dataset_is_used_once_it_was_found_valid():
    assert not any(WIRE.ready(dataset(status)) for status in ("unknown", "queued", "processing"))
    assert all(WIRE.ready(dataset(status)) for status in ("validated", "skipped"))
    with pytest.raises(UpstreamRefused, match="line 3 is wrong"):
        WIRE.ready(dataset("failed", validation_error="line 3 is wrong"))
    with pytest.raises(UpstreamRefused, match="cannot use the file"):
        WIRE.ready(dataset("failed"))


def test_answers_lie_in_files_in_their_order():
    parts = [{"id": "b", "url": "https://s/2", "index": 1}, {"id": "a", "url": "https://s/1"}]
    assert WIRE.elsewhere(dataset("validated", dataset_parts=parts)) == ("https://s/1", "https://s/2")
    assert WIRE.elsewhere(dataset("validated", dataset_parts=None)) == ()
    with pytest.raises(UpstreamInterrupted, match="still writing"):
        WIRE.elsewhere(dataset("processing", dataset_parts=parts))
    with pytest.raises(UpstreamInterrupted, match="where all answers"):
        WIRE.elsewhere(dataset("validated", dataset_parts=[*parts, {"id": "c"}]))


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"error": "", "body": {"a": 1}}, (200, {"a": 1})),
        ({"error": None, "body": {"a": 1}}, (200, {"a": 1})),
        ({"error": "broke", "body": None}, (500, {"message": "broke"})),
        ({"error": "broke", "body": {"a": 1}}, (500, {"message": "broke"})),
        ({"body": None}, (500, {"message": "The provider gave no answer to this request."})),
    ],
)
def test_answers(row, found):
    told = WIRE.reading(JOB)(said({"custom_id": "7", **row}))
    assert told is not None
    assert (told.n, told.status, json.loads(told.body)) == (7, *found)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"custom_id": "x"}', b'{"batch": {"id": 7}}', b"[" * 5_000])
def test_what_is_no_answer_is_said_to_be_none(data):
    for read in (WIRE.state, WIRE.named, WIRE.reading(JOB), WIRE.ready, WIRE.elsewhere):
        with pytest.raises(UpstreamInterrupted):
            read(data)


@pytest.mark.parametrize("name", ["..", "a/b", "a?b", "a b", ""])
def test_a_name_that_would_change_the_path_is_none(name):
    for read in (WIRE.named, WIRE.state):
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            read(batch(id=name))
