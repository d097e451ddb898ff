"""OpenAI's wire of batches, as a provider's: what is asked for, and what is read."""

from __future__ import annotations

import json

import pytest

from headgate.errors import UpstreamInterrupted
from headgate.providers.batches import OpenAIBatches
from headgate.values import Book, Host, Model, Target
from headgate.wire.batchjobs import BatchJob, Passed

WIRE = OpenAIBatches()
TARGET = Target(
    host=Host(name="p", base_url="http://p/v1"),
    model=Model(name="m"),
    prices=None,
    headers=(("authorization", "Bearer k"), ("content-type", "application/json")),
    base_path="/v1",
)
JOB = BatchJob(
    id="batch_ours", call=bytes(16), account=1, project=1, key=1, member=0, book=Book.REAL,
    endpoint="/v1/embeddings", input_file="file-ours", created_at=10_000 * 1_000_000, expires_at=1,
    passed=Passed(provider="p", upstream="m", file="file-there"),
)  # fmt: skip


def test_a_line_is_one_line_with_its_number():
    line = WIRE.line(7, "/v1/embeddings", b'{"model":\n "m"}')
    assert line.count(b"\n") == 1
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


def test_an_upload_is_a_form_with_the_purpose_and_one_content_type():
    form = WIRE.form("x")
    request = WIRE.upload(TARGET, form, (memoryview(b"line\n"),), "name")
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
    assert WIRE.found(page(("a", 10_001, "x"), ("b", 10_000, "batch_ours")), JOB) == ("b", "")
    assert WIRE.found(page(("a", 10_001, "x"), ("b", 10_000, "y")), JOB) == ("", "b")
    assert WIRE.found(page(("a", 10_001, "x"), ("b", 100, "y")), JOB) == ("", "")
    assert WIRE.found(page(("a", 10_001, "x"), more=False), JOB) == ("", "")
    assert WIRE.found(page(more=False), JOB) == ("", "")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"custom_id": "x", "response": null}', b"[" * 5_000])
def test_what_is_no_answer_is_said_to_be_none(data):
    with pytest.raises(UpstreamInterrupted):
        WIRE.answer(data)
    with pytest.raises(UpstreamInterrupted):
        WIRE.state(data)
    with pytest.raises(UpstreamInterrupted):
        WIRE.found(data, JOB)


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
