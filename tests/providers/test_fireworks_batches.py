"""Fireworks' wire of batches: what is asked for, and what is read of answers."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.providers.passed import job_of, said, target_of

from headgate.buckets import Handover
from headgate.errors import UpstreamDenied, UpstreamInterrupted, UpstreamLacks, UpstreamRefused
from headgate.ports import Head
from headgate.providers.batches import BatchState, Bulk, Found
from headgate.providers.fireworksbatches import FireworksBatches
from headgate.wire.batchjobs import Part, Passed

WIRE = FireworksBatches()
BARE = target_of("fireworks")
TARGET = msgspec.structs.replace(
    BARE,
    host=msgspec.structs.replace(BARE.host, handover=Handover(account="acme")),
    base_path="/inference/v1",
    headers=(("authorization", "Bearer k"), ("content-type", "application/json")),
)
JOB = job_of("headgate-0192")
NAME = f"headgate-{'0' * 32}-1"
PLACE = "/v1/accounts/acme"
# As one who used it in August 2026 was shown a job that has ended, and the dataset of its answers.
TOLD = {
    "continuedFromJobName": "", "createTime": "2026-08-30T03:48:56.029803Z", "displayName": "",
    "expireTime": "2026-08-31T03:48:53.988342Z", "inferenceParameters": {"extraBody": "{}", "maxTokens": 64},
    "inputDatasetId": "accounts/acme/datasets/headgate-0192",
    "jobProgress": {"failedRequests": 0, "outputRows": 3, "totalInputRequests": 3},
    "lifecycle": {"endTime": "2026-08-30T03:56:56.220410Z", "runStartTime": None}, "maxJobDuration": None,
    "model": "accounts/fireworks/models/m", "name": f"accounts/acme/batchInferenceJobs/{NAME}",
    "outputDatasetId": "accounts/acme/datasets/bij-n1729dlh", "precision": "BF16",
    "state": "JOB_STATE_COMPLETED", "status": {"code": "OK", "message": ""}, "waitingOnCapacity": False,
}  # fmt: skip
STORE = "https://storage.googleapis.com/fireworks-artifacts-acme/dataset/bij-n1729dlh"
SIGNED = (
    "?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Expires=599&X-Goog-Signature=0a%2F&X-Goog-SignedHeaders=host"
)
LINKS = {
    "filenameToSignedUrls": {
        "dataset/bij-n1729dlh/BIJOutputSet.jsonl": f"{STORE}/BIJOutputSet.jsonl{SIGNED}",
        "dataset/bij-n1729dlh/error-data": f"{STORE}/error-data{SIGNED}",
    }
}
ANSWER = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 47}}


def test_a_line_has_no_model():
    body = b'{"model": "m", "messages": [{"content":\n "a"}], "max_tokens": 5}'
    line = WIRE.line(JOB, 7, body)
    assert b"\n" not in line
    assert json.loads(line) == {
        "custom_id": "7", "body": {"messages": [{"content": "a"}], "max_tokens": 5},
    }  # fmt: skip


def test_a_dataset_is_made_and_lines_are_sent_into_it():
    bulk = Bulk((memoryview(b'{"a":1}'),), (), "headgate-0192")
    opening = WIRE.opening(JOB, TARGET, bulk)
    assert (opening.method, opening.path) == ("POST", f"{PLACE}/datasets")
    assert json.loads(opening.body) == {
        "datasetId": "headgate-0192",
        "dataset": {"displayName": "headgate batch_ours", "exampleCount": "9", "userUploaded": {}},
    }
    request = WIRE.send(JOB, TARGET, bulk)
    assert (request.method, request.path) == ("POST", f"{PLACE}/datasets/headgate-0192:upload")
    kinds = [value for name, value in request.headers if name == "content-type"]
    assert kinds == ["multipart/form-data; boundary=headgate-0192"]
    assert request.whole() == (
        b'--headgate-0192\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        b'Content-Type: application/jsonl\r\n\r\n{"a":1}\n\r\n--headgate-0192--\r\n'
    )


def test_a_job_is_made_by_a_name_of_ours_and_asked_for_by_it():
    made = WIRE.create(JOB, TARGET)
    assert (made.method, made.path) == ("POST", f"{PLACE}/batchInferenceJobs?batchInferenceJobId={NAME}")
    assert json.loads(made.body) == {
        "displayName": "headgate batch_ours",
        "model": "m",
        "inputDatasetId": "accounts/acme/datasets/headgate-0192",
        "outputDatasetId": f"accounts/acme/datasets/{NAME}-out",
    }
    asked = WIRE.listed(JOB, TARGET, "")
    assert (asked.method, asked.path, asked.body) == ("GET", f"{PLACE}/batchInferenceJobs/{NAME}", b"")
    assert WIRE.found(said(TOLD), JOB, "") == Found(NAME, "")


def test_a_later_part_is_another_job():
    parts = (Part(until=9, lines=9, file="f1", batch="b1"), Part(until=12, lines=3, file="f2"))
    job = msgspec.structs.replace(JOB, passed=Passed(provider="p", upstream="m", parts=parts))
    assert WIRE.create(job, TARGET).path.endswith(f"?batchInferenceJobId={NAME[:-1]}2")
    assert len(f"{NAME}000-out") <= 63  # of what may be a name there


def test_what_else_is_asked_for():
    assert WIRE.readiness(TARGET, "d").path == f"{PLACE}/datasets/d"
    assert WIRE.content(TARGET, "d").path == f"{PLACE}/datasets/d:getDownloadEndpoint"
    assert WIRE.standing(TARGET).path == f"{PLACE}/batchInferenceJobs?pageSize=1"
    ended = WIRE.cancel(TARGET, NAME)
    assert (ended.method, ended.path, ended.body) == ("DELETE", f"{PLACE}/batchInferenceJobs/{NAME}", b"")
    proxied = msgspec.structs.replace(TARGET, base_path="/fw")
    assert WIRE.standing(proxied).path == "/fw/accounts/acme/batchInferenceJobs?pageSize=1"


def test_names_are_the_ends_of_what_is_told():
    assert WIRE.named(said(TOLD)) == NAME
    upload = {"bytes": 409, "filename": "input.jsonl", "id": "accounts/acme/datasets/d-1", "object": "file"}
    assert WIRE.named(said({**upload, "purpose": "dataset"})) == "d-1"


@pytest.mark.parametrize(
    ("state", "status", "found"),
    [("UPLOADING", "OK", False), ("READY", "OK", True), ("STATE_UNSPECIFIED", "OK", False), ("READY", None, True)],
)  # fmt: skip
def test_a_dataset_is_ready_in_its_time(state, status, found):
    assert WIRE.ready(said({"state": state, "status": {"code": status, "message": ""}})) is found


def test_a_dataset_that_cannot_be_used_is_refused():
    with pytest.raises(UpstreamRefused, match="line 3"):
        WIRE.ready(said({"state": "UPLOADING", "status": {"code": "INVALID_ARGUMENT", "message": "line 3"}}))


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("UNSPECIFIED", ""), ("CREATING", ""), ("RUNNING", ""), ("WRITING_RESULTS", ""), ("VALIDATING", ""),
        ("PENDING", ""), ("RE_QUEUEING", ""), ("CREATING_INPUT_DATASET", ""), ("IDLE", ""), ("CANCELLING", ""),
        ("PAUSED", ""), ("DELETING", ""), ("DELETING_CLEANING_UP", ""), ("ANOTHER", ""),
        ("COMPLETED", "completed"), ("EXPIRED", "expired"), ("EARLY_STOPPED", "expired"),
        ("CANCELLED", "cancelled"), ("DELETED", "cancelled"), ("ARCHIVED", "cancelled"),
    ],
)  # fmt: skip
def test_states(state, ended):
    output = "bij-n1729dlh" if ended else ""
    assert WIRE.state(said({**TOLD, "state": f"JOB_STATE_{state}"})) == BatchState(NAME, ended, output)


def test_one_that_failed_has_no_answers_and_says_why_without_the_account():
    message = "accounts/acme/datasets/headgate-0192: invalid role bananas in message 1"
    status = {"code": "INVALID_ARGUMENT", "message": message}
    told = WIRE.state(said({**TOLD, "state": "JOB_STATE_FAILED", "status": status}))
    assert (told.ended, told.output, told.errors) == ("failed", "", "")
    assert [each.message for each in told.why] == ["headgate-0192: invalid role bananas in message 1"]


def test_one_that_was_ended_may_have_left_answers():
    assert WIRE.forgotten(NAME) == BatchState(NAME, "cancelled", f"{NAME}-out")


def test_errors_are_read_before_answers():
    results, errors = LINKS["filenameToSignedUrls"].values()
    assert WIRE.elsewhere(said(LINKS)) == (errors, results)
    assert WIRE.elsewhere(b"{}") == ()


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({"error": {"code": 400, "message": "no"}}, 400), ({"error": {"code": "429", "message": "no"}}, 429),
        ({"error": {"code": 3, "message": "no"}}, 400), ({"error": {"code": 8, "message": "no"}}, 429),
        ({"error": {"code": "INVALID_ARGUMENT", "message": "no"}}, 400), ({"error": {"message": "no"}}, 500),
        ({"error": "no"}, 500), ({"error": {"code": "x", "message": "no"}, "response": None}, 500),
    ],
)  # fmt: skip
def test_lines_that_failed(row, status):
    told = WIRE.answer(said({"custom_id": "7", **row}))
    assert told is not None
    assert (told.n, told.status, json.loads(told.body)["error"]["message"]) == (7, status, "no")


def test_a_line_that_was_answered():
    for more in ({}, {"error": None}):
        assert WIRE.answer(said({"custom_id": "7", "response": ANSWER, **more})) == (7, 200, said(ANSWER))


@pytest.mark.parametrize(
    "data",
    [b"", b"[1]", b"{}", b'{"custom_id": "x", "response": {}}', b'{"custom_id": "7"}', b"[" * 5_000,
     b'{"custom_id": "7", "response": null, "error": null}', b'{"custom_id": "7", "response": "x"}'],
)  # fmt: skip
def test_what_is_no_line_is_said_to_be_none(data):
    with pytest.raises(UpstreamInterrupted):
        WIRE.answer(data)


@pytest.mark.parametrize("data", [b"", b"[1]", b"{}", b"[" * 5_000, b'{"name": "accounts/acme/datasets/"}'])
def test_what_is_no_answer_is_said_to_be_none(data):
    for read in (WIRE.state, WIRE.named, lambda body: WIRE.found(body, JOB, "")):
        with pytest.raises(UpstreamInterrupted):
            read(data)


@pytest.mark.parametrize("name", ["..", "a?b", "a b", "", "a#b"])
def test_a_name_that_would_change_the_path_is_none(name):
    for told in ({**TOLD, "name": f"accounts/acme/batchInferenceJobs/{name}"}, {"id": f"datasets/{name}"}):
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            WIRE.named(said(told))
    if name:
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            WIRE.state(said({**TOLD, "outputDatasetId": name}))


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (403, {"error": {"message": "The API key you provided is invalid.", "code": "UNAUTHORIZED"}}, UpstreamDenied),
        (404, {"code": 5, "details": [], "message": "resource not found"}, UpstreamLacks),
        (400, {"code": 3, "message": "example_count is required for uploaded datasets"}, UpstreamRefused),
        (409, {"code": 6, "message": "it already exists", "details": []}, UpstreamInterrupted),
        (409, {"code": 10, "message": "aborted", "details": []}, UpstreamRefused),
        (409, {"message": "it already exists", "code": 6}, UpstreamInterrupted),
    ],
)  # fmt: skip
def test_refusals(status, told, kind):
    assert type(WIRE.error(Head(status, ()), said(told))) is kind


def test_a_refusal_does_not_tell_the_account():
    told = {"code": 3, "message": "accounts/acme/datasets/d: no such model accounts/fireworks/models/m"}
    assert WIRE.error(Head(400, ()), said(told)).message == "d: no such model accounts/fireworks/models/m"
