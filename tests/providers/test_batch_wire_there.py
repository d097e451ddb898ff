"""OpenAI's wire of batches, as a provider's: what is asked for, and what is read."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.providers.passed import job_of, target_of

from headgate.errors import UpstreamInterrupted
from headgate.providers.batches import Bulk, Found, OpenAIBatches
from headgate.wire.batchjobs import Part, Passed

WIRE = OpenAIBatches()
TARGET, JOB = target_of(), job_of(endpoint="/v1/embeddings", created_at=10_000 * 1_000_000)


def test_a_line_is_one_line_with_its_number():
    line = WIRE.line(JOB, 7, b'{"model":\n "m"}')
    assert b"\n" not in line
    assert json.loads(line) == {
        "custom_id": "7", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m"},
    }  # fmt: skip


def test_an_order_names_ours():
    request = WIRE.create(JOB, TARGET)
    assert (request.method, request.path) == ("POST", "/v1/batches")
    assert json.loads(request.body) == {
        "input_file_id": "file-there",
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
        "metadata": {"headgate_batch": "batch_ours"},
    }


def test_a_later_part_has_a_name_of_its_own():
    parts = (Part(until=9, lines=9, file="f1", batch="b1"), Part(until=12, lines=3, file="f2"))
    job = msgspec.structs.replace(JOB, passed=Passed(provider="p", upstream="m", parts=parts))
    told = json.loads(WIRE.create(job, TARGET).body)
    assert (told["input_file_id"], told["metadata"]) == ("f2", {"headgate_batch": "batch_ours.2"})
    assert WIRE.found(page(("a", 10_001, "batch_ours"), more=False), job, "") == Found("", "")
    assert WIRE.found(page(("a", 10_001, "batch_ours.2")), job, "") == Found("a", "")


def test_an_upload_is_a_form_with_the_purpose_and_one_content_type():
    request = WIRE.send(JOB, TARGET, Bulk((memoryview(b"line"),), (), "x"))
    assert request.path == "/v1/files"
    kinds = [value for name, value in request.headers if name == "content-type"]
    assert kinds == ["multipart/form-data; boundary=x"]
    assert request.whole().startswith(
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    )
    assert request.whole().endswith(b"line\n\r\n--x--\r\n")


def page(*rows: tuple[str, int, str], more: bool = True) -> bytes:
    data = [
        {"id": name, "status": "in_progress", "created_at": at, "metadata": {"headgate_batch": ours}}
        for name, at, ours in rows
    ]
    return json.dumps({"object": "list", "data": data, "has_more": more}).encode()


def test_ours_is_found_among_others_and_older_ones_are_not_looked_through():
    assert WIRE.found(page(("a", 10_001, "x"), ("b", 10_000, "batch_ours")), JOB, "") == Found("b", "")
    assert WIRE.found(page(("a", 10_001, "x"), ("b", 10_000, "y")), JOB, "") == Found("", "b")
    assert WIRE.found(page(("a", 10_001, "x"), ("b", 100, "y")), JOB, "") == Found("", "")
    assert WIRE.found(page(("a", 10_001, "x"), more=False), JOB, "") == Found("", "")
    assert WIRE.found(page(more=False), JOB, "") == Found("", "")


def test_a_host_that_keeps_no_metadata_is_known_by_the_file():
    row = {"id": "b", "status": "in_progress", "created_at": 10_000, "input_file_id": "file-there"}
    told = json.dumps({"data": [{**row, "id": "a", "input_file_id": "file-of-another"}, row]}).encode()
    assert WIRE.found(told, JOB, "") == Found("b", "")


def test_where_the_oldest_come_first_all_are_looked_through():
    assert WIRE.found(page(("a", 100, "x"), ("b", 200, "y")), JOB, "") == Found("", "b")
    assert WIRE.found(page(("a", 100, "x"), ("b", 100, "y")), JOB, "") == Found("", "b")
    assert WIRE.found(page(("a", 100, "x"), ("b", 10_001, "batch_ours")), JOB, "") == Found("b", "")


GARBLED = (
    b'{"custom_id": "3", "id": "\xe9", "data": "\xe9", "response": {"status_code": 200}, "error": "\xe9"}'
)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"custom_id": "x", "response": null}', b"[" * 5_000, GARBLED]
)
def test_what_is_no_answer_is_said_to_be_none(data):
    with pytest.raises(UpstreamInterrupted):
        WIRE.answer(data)
    with pytest.raises(UpstreamInterrupted):
        WIRE.state(data)
    with pytest.raises(UpstreamInterrupted):
        WIRE.found(data, JOB, "")


@pytest.mark.parametrize("n", ["0", "-1", " 1", "1_0", "\u0661", "1" * 10, "9" * 5_000])
def test_a_line_that_was_not_sent_has_no_answer(n):
    told = {"custom_id": n, "response": {"status_code": 200, "body": {}}}
    with pytest.raises(UpstreamInterrupted, match="not sent"):
        WIRE.answer(json.dumps(told).encode())


def test_a_line_was_answered_or_was_not_run():
    body = {
        "id": "x",
        "custom_id": "3",
        "response": {"status_code": 429, "request_id": "r", "body": {"a": 1}},
    }
    assert WIRE.answer(json.dumps({**body, "error": None}).encode()) == (3, 429, b'{"a": 1}')
    for code, found in (("batch_expired", None), ("batch_cancelled", None), ("odd", 500)):
        why = {"custom_id": "3", "response": None, "error": {"code": code, "message": "no"}}
        answer = WIRE.answer(json.dumps(why).encode())
        assert (answer and answer.status) == found


@pytest.mark.parametrize("name", ["", "..", "a/b", "a?b", "a b", "ä", "a\r\nb"])
def test_a_name_that_would_change_the_path_is_none(name):
    with pytest.raises(UpstreamInterrupted, match="which is no name"):
        WIRE.named(json.dumps({"id": name}).encode())
    if name:
        state = {"id": "b", "status": "completed", "output_file_id": name}
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            WIRE.state(json.dumps(state).encode())
