"""Together's wire of batches: what is asked for, and what is read of answers."""

from __future__ import annotations

import json

import pytest
from tests.providers.passed import job_of, said, target_of

from headgate.errors import UpstreamInterrupted
from headgate.providers.batches import BatchState, Bulk, Found
from headgate.providers.togetherbatches import TogetherBatches

WIRE = TogetherBatches()
TARGET, JOB = target_of("together"), job_of()
NAME = "01234567-8901-2345-6789-012345678901"
# As Together's reference shows one that runs.
TOLD = {
    "id": NAME, "user_id": "user_789xyz012", "input_file_id": "file-there", "file_size_bytes": 1048576,
    "status": "IN_PROGRESS", "job_deadline": "2024-01-15T15:30:00Z", "created_at": "2024-01-15T14:30:00Z",
    "endpoint": "/v1/chat/completions", "progress": 75, "model_id": "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
}  # fmt: skip


def test_a_file_is_sent_with_its_purpose_and_its_name():
    assert WIRE.line(JOB, 7, b'{"model": "m"}') == b'{"custom_id":"7","body":{"model": "m"}}'
    request = WIRE.send(JOB, TARGET, Bulk((memoryview(b'{"a":1}'),), (), "x"))
    assert (request.method, request.path) == ("POST", "/v1/files/upload")
    assert dict(request.headers)["content-type"] == "multipart/form-data; boundary=x"
    assert request.whole() == (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch-api\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file_name"\r\n\r\nbatch.jsonl\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        b'Content-Type: application/jsonl\r\n\r\n{"a":1}\n\r\n--x--\r\n'
    )


def test_what_is_asked_for():
    made = WIRE.create(JOB, TARGET)
    assert (made.method, made.path) == ("POST", "/v1/batches")
    assert json.loads(made.body) == {
        "input_file_id": "file-there",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    assert WIRE.look(TARGET, "b").path == "/v1/batches/b"
    assert (WIRE.cancel(TARGET, "b").method, WIRE.cancel(TARGET, "b").path) == (
        "POST",
        "/v1/batches/b/cancel",
    )
    assert WIRE.listed(JOB, TARGET, "").path == "/v1/batches"
    assert WIRE.content(TARGET, "f").path == "/v1/files/f/content"


def test_names_are_those_of_a_file_and_of_a_job_in_its_wrapper():
    assert WIRE.named(said({"id": "file-1", "object": "file", "FileType": "jsonl"})) == "file-1"
    assert WIRE.named(said({"job": TOLD, "warning": "slow"})) == NAME


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ("VALIDATING", ""), ("IN_PROGRESS", ""), ("CANCELING", ""), ("ANOTHER", ""), ("COMPLETED", "completed"),
        ("FAILED", "failed"), ("EXPIRED", "expired"), ("CANCELLED", "cancelled"),
    ],
)  # fmt: skip
def test_states(status, ended):
    assert WIRE.state(said({**TOLD, "status": status})) == BatchState(NAME, ended)


def test_files_and_why_it_failed():
    done = {**TOLD, "status": "COMPLETED", "output_file_id": "file-o", "error_file_id": "file-e"}
    assert WIRE.state(said(done)) == BatchState(NAME, "completed", "file-o", "file-e")
    told = WIRE.state(said({**TOLD, "status": "FAILED", "error": "Invalid model ID: m"}))
    assert (told.ended, [each.message for each in told.why]) == ("failed", ["Invalid model ID: m"])


def test_ours_is_found_by_its_file():
    other = {**TOLD, "id": "other", "input_file_id": "file-other"}
    bare = {"id": "bare", "status": "FAILED"}
    assert WIRE.found(said([other, bare, TOLD]), JOB, "") == Found(NAME, "")
    assert WIRE.found(said([other, bare]), JOB, "") == Found("", "")
    assert WIRE.found(b"[]", JOB, "") == WIRE.found(b"null", JOB, "") == Found("", "")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"response": {"status_code": 200, "body": {"a": 1}}}, (200, {"a": 1})),
        ({"error": {"code": "batch_client_error", "message": "no"}}, 400),
        ({"error": {"code": "invalid_model", "message": "no"}}, 400),
        ({"error": {"code": "timeout", "message": "no"}}, 500),
        ({"error": {"code": None, "message": "no"}}, 500),
        ({"response": {"status_code": 500, "body": {"a": 1}}}, (500, {"a": 1})),
    ],
)
def test_lines(row, found):
    told = WIRE.answer(said({"id": "br_1", "custom_id": "7", **row}))
    expected = found if isinstance(found, tuple) else (found, {"error": row.get("error")})
    assert told is not None
    assert (told.n, told.status, json.loads(told.body)) == (7, *expected)


@pytest.mark.parametrize("data", [b"", b"[1]", b"{}", b'{"custom_id": "x"}', b"[" * 5_000])
def test_what_is_no_answer_is_said_to_be_none(data):
    for read in (WIRE.state, WIRE.named, WIRE.answer, lambda body: WIRE.found(body, JOB, "")):
        with pytest.raises(UpstreamInterrupted):
            read(data)


@pytest.mark.parametrize("name", ["..", "a/b", "a?b", "a b", ""])
def test_a_name_that_would_change_the_path_is_none(name):
    told = {"job": {**TOLD, "id": name}}
    for read, body in ((WIRE.named, told), (WIRE.state, told["job"]), (WIRE.named, {"id": name})):
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            read(said(body))
