"""xAI's wire of batches: what is asked for, and what is read of answers."""

from __future__ import annotations

import json

import pytest
from tests.providers.passed import job_of, said, target_of
from tests.transport.asking import HandClock

from headgate.errors import UpstreamInterrupted
from headgate.providers.batches import BatchState, Bulk, Found
from headgate.providers.xaibatches import XaiBatches

CLOCK = HandClock()
CLOCK.now_s = 1_795_780_800  # 2026-11-27T12:00:00Z
WIRE = XaiBatches(CLOCK)
TARGET, JOB = target_of("x-ai"), job_of("file_there")
# As xAI's reference shows one.
BATCH = {
    "batch_id": "batch_1934e8b5-f3dc-45f1-8329-9841b0aee9d8", "name": "headgate batch_ours",
    "create_time": "2026-11-26", "expire_time": "2026-11-27", "create_api_key_id": "x", "cancel_time": None,
    "cancel_by_xai_message": None,
    "state": {"num_requests": 0, "num_pending": 0, "num_success": 0, "num_error": 0, "num_cancelled": 0},
}  # fmt: skip
NAME = BATCH["batch_id"]


def batch(requests: int, pending: int, **more: object) -> bytes:
    return said({**BATCH, "state": {"num_requests": requests, "num_pending": pending}, **more})


def test_a_file_is_sent_without_a_purpose():
    request = WIRE.send(JOB, TARGET, Bulk((memoryview(b'{"a":1}'),), (), "x"))
    assert (request.method, request.path) == ("POST", "/v1/files")
    assert dict(request.headers)["content-type"] == "multipart/form-data; boundary=x"
    assert request.whole() == (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        b'Content-Type: application/jsonl\r\n\r\n{"a":1}\n\r\n--x--\r\n'
    )


def test_what_is_asked_for():
    made = WIRE.create(JOB, TARGET)
    assert (made.method, made.path) == ("POST", "/v1/batches")
    assert json.loads(made.body) == {"name": "headgate batch_ours", "input_file_id": "file_there"}
    assert WIRE.cancel(TARGET, "b").path == "/v1/batches/b:cancel"
    assert WIRE.listed(JOB, TARGET, "a b").path == "/v1/batches?limit=100&pagination_token=a%20b"
    assert WIRE.content(TARGET, "b").path == "/v1/batches/b/results?limit=100"
    assert (WIRE.named(said({"id": "file_1"})), WIRE.named(said(BATCH))) == ("file_1", NAME)


@pytest.mark.parametrize(
    ("told", "ended", "answers"),
    [
        (batch(0, 0), "", ""),  # its file was not read yet
        (batch(3, 3), "", ""),
        (batch(3, 1, cancel_time="2026-11-27"), "", ""),
        (batch(3, 0), "completed", NAME),
        (batch(3, 0, cancel_time="2026-11-27"), "cancelled", NAME),
        (batch(0, 0, cancel_time="2026-11-27"), "cancelled", NAME),
        (batch(3, 1, expire_time="2026-11-26"), "expired", NAME),
        (batch(3, 1, expire_time="2026-11-26T12:30:00Z"), "", ""),
        (said({**BATCH, "state": None}), "", ""),
    ],
)
def test_states(told, ended, answers):
    assert WIRE.state(told) == BatchState(NAME, ended, answers)


def test_what_xai_ends_itself_has_failed():
    why = "Model grok-9 is not supported for batch processing."
    told = WIRE.state(batch(0, 0, cancel_time="2026-11-27", cancel_by_xai_message=why))
    assert (told.ended, told.output, told.why[0].message) == ("failed", "", why)
    assert WIRE.state(batch(3, 0, cancel_by_xai_message=why)).output == NAME  # some were answered


def test_ours_is_found_by_its_name():
    other = {**BATCH, "batch_id": "batch_2", "name": "headgate batch_ours.2"}
    page = {"batches": [other, BATCH], "pagination_token": "t"}
    assert WIRE.found(said(page), JOB, "") == Found(NAME, "")
    assert WIRE.found(said({**page, "batches": [other]}), JOB, "") == Found("", "t")
    assert WIRE.found(said({"batches": [], "pagination_token": "t"}), JOB, "") == Found("", "")


def test_answers_are_unfolded_page_by_page():
    first = WIRE.unfold(TARGET, "b", said({"results": [{"a": 1}, {"b": 2}], "pagination_token": "t/1"}))
    assert first.lines == (b'{"a": 1}', b'{"b": 2}')
    assert first.following is not None
    assert first.following.path == "/v1/batches/b/results?limit=100&pagination_token=t%2F1"
    assert WIRE.unfold(TARGET, "b", said({"results": [{"a": 1}], "pagination_token": None})).following is None
    assert WIRE.unfold(TARGET, "b", said({"results": [], "pagination_token": "t"})) == ((), None)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (
            {"response": {"chat_get_completion": {"a": 1}}, "error": {"code": 0, "message": ""}},
            (200, {"a": 1}),
        ),
        ({"response": {"chat_get_completion": {"a": 1}}}, (200, {"a": 1})),
        ({"error": {"code": 3, "message": "no"}}, (400, {"error": {"code": 3, "message": "no"}})),
        ({"error": {"code": "odd", "message": "no"}}, (500, {"error": {"code": "odd", "message": "no"}})),
        ({"error": {"code": 429, "message": "no"}}, (429, {"error": {"code": 429, "message": "no"}})),
        ({"error": {"code": 1, "message": "Cancelled"}}, None),
        ({"error": {"code": "CANCELLED"}}, None),
        ({}, (500, {"error": {"code": None, "message": ""}})),
    ],
)
def test_results(result, found):
    told = WIRE.answer(said({"batch_request_id": "7", "batch_result": result}))
    assert (told and (told.n, told.status, json.loads(told.body))) == (found and (7, *found))


def test_an_error_may_stand_beside_the_result():
    told = WIRE.answer(said({"batch_request_id": "7", "error_message": "broke"}))
    assert told is not None
    assert (told.status, json.loads(told.body)["error"]["message"]) == (500, "broke")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"batch_request_id": "x"}', b"[" * 5_000])
def test_what_is_no_answer_is_said_to_be_none(data):
    for read in (WIRE.state, WIRE.named, WIRE.answer, lambda body: WIRE.unfold(TARGET, "b", body)):
        with pytest.raises(UpstreamInterrupted):
            read(data)


@pytest.mark.parametrize("name", ["..", "a/b", "a?b", "a b", ""])
def test_a_name_that_would_change_the_path_is_none(name):
    for read in (WIRE.named, WIRE.state):
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            read(said({"batch_id": name}))
