"""What is asked for, the lines that come in, and the lines and objects that go out."""

from __future__ import annotations

import json

import pytest

from headgate.errors import CallerError
from headgate.values import Usage
from headgate.wire.batches import (
    BatchCounts,
    BatchError,
    BatchTimes,
    BatchView,
    LineRefused,
    answered,
    read_line,
    read_order,
    shown,
    unanswered,
)

CHAT = "/v1/chat/completions"
ORDER = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}
KEPT, AFTER = "output_expires_after", {"anchor": "created_at", "seconds": 3600}
LINE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m"}}


def test_an_order_is_read():
    more = {"metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}
    order = read_order(json.dumps({**ORDER, **more}).encode(), [CHAT])
    assert (order.input_file_id, order.endpoint, order.metadata, order.kept_s) == (
        "file-1",
        CHAT,
        {"a": "b"},
        3600,
    )


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"endpoint": None}, "endpoint", "missing_required_parameter"),
        ({"input_file_id": None}, "input_file_id", "missing_required_parameter"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"endpoint": "/v1/audio/speech"}, "endpoint", "invalid_value"),
        ({"completion_window": 24}, "completion_window", "invalid_type"),
        ({"input_file_id": 5}, "input_file_id", "invalid_type"),
        ({"metadata": []}, "metadata", "invalid_type"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a", "string_above_max_length"),
        ({"metadata": {f"n{n}": "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({"output_expires_after": 3600}, "output_expires_after", "invalid_type"),
        ({"output_expires_after": {"seconds": 3600}}, f"{KEPT}.anchor", "missing_required_parameter"),
        ({"output_expires_after": {**AFTER, "anchor": "used_at"}}, f"{KEPT}.anchor", "invalid_value"),
        ({"output_expires_after": {**AFTER, "seconds": 5}}, f"{KEPT}.seconds", "integer_below_min_value"),
        ({"output_expires_after": {**AFTER, "seconds": "5"}}, f"{KEPT}.seconds", "invalid_type"),
        ({"output_expires_after": {**AFTER, "days": 5}}, f"{KEPT}.days", "unknown_parameter"),
    ],
)
def test_a_wrong_order_is_refused(change, param, code):
    with pytest.raises(CallerError) as refused:
        read_order(json.dumps({**ORDER, **change}).encode(), [CHAT])
    assert (refused.value.param, refused.value.code) == (param, code)


def test_an_order_that_is_no_object_is_refused():
    with pytest.raises(CallerError, match="must be an object"):
        read_order(b"[]", [CHAT])


@pytest.mark.parametrize("body", [b"{", b'{"endpoint": "\xe9"}', b'{"metadata": {"a": "\xe9"}}'])
def test_an_order_that_is_no_json_is_refused(body):
    with pytest.raises(CallerError, match="could not parse the JSON body"):
        read_order(body, [CHAT])


def test_a_line_is_read():
    assert read_line(json.dumps(LINE).encode(), 1, CHAT) == ("a", b'{"model": "m"}')


@pytest.mark.parametrize(
    ("data", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (b"[" * 100_000, "invalid_json_line", None),
        ({**LINE, "custom_id": 7}, "invalid_type", "custom_id"),
        ({**LINE, "custom_id": ""}, "invalid_custom_id", "custom_id"),
        ({**LINE, "custom_id": "x" * 513}, "invalid_custom_id", "custom_id"),
        ({**LINE, "custom_id": "x\0"}, "invalid_custom_id", "custom_id"),
        ({**LINE, "method": "GET"}, "invalid_method", "method"),
        ({**LINE, "url": "/v1/embeddings"}, "url_mismatch", "url"),
        ({"method": "POST", "url": CHAT, "body": {}}, "missing_required_parameter", "custom_id"),
        ({"custom_id": "a", "url": CHAT, "body": {}}, "missing_required_parameter", "method"),
        ({"custom_id": "a", "method": "POST", "body": {}}, "missing_required_parameter", "url"),
        ({"custom_id": "a", "method": "POST", "url": CHAT}, "missing_required_parameter", "body"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_its_number(data, code, param):
    with pytest.raises(LineRefused) as refused:
        read_line(data if isinstance(data, bytes) else json.dumps(data).encode(), 7, CHAT)
    error = refused.value.error
    assert (error.code, error.param, error.line) == (code, param, 7)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\r", "it is empty"),
        (json.dumps(LINE).encode("utf-8-sig"), "byte order mark"),
        (b"\xff\xfe{", "UTF-8"),
        (json.dumps({**LINE, "custom_id": "caf\xe9"}, ensure_ascii=False).encode("latin-1"), "is not UTF-8"),
        (json.dumps({**LINE, "method": "\xe9"}, ensure_ascii=False).encode("latin-1"), "is not UTF-8"),
        (json.dumps({**LINE, "url": "\xe9"}, ensure_ascii=False).encode("latin-1"), "is not UTF-8"),
    ],
)
def test_a_line_that_a_spreadsheet_spoilt_is_told_why(data, why):
    with pytest.raises(LineRefused) as refused:
        read_line(data, 1, CHAT)
    assert why in refused.value.error.message


def test_an_output_is_one_line():
    line = answered("batch_req_1", "a\n", 200, "req_1", b'{\r\n  "x": "\\n"\n}\n')
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "id": "batch_req_1", "custom_id": "a\n", "error": None,
        "response": {"status_code": 200, "request_id": "req_1", "body": {"x": "\n"}},
    }  # fmt: skip
    late = json.loads(unanswered("batch_req_2", "b", "batch_expired"))
    assert late["response"] is None
    assert late["error"] == {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }


def test_the_object_has_what_the_description_asks_for():
    view = BatchView(
        "batch_1", CHAT, "m", "file-1", "failed", 5_000_000, 9_000_000, BatchTimes(failed=6_000_000),
        BatchCounts(3, 1, 1), Usage(10, 5, cached_tokens=2, reasoning_tokens=1), (BatchError("c", "m", None, 2),),
    )  # fmt: skip
    assert shown(view) == {
        "id": "batch_1", "object": "batch", "endpoint": CHAT, "model": "m", "input_file_id": "file-1",
        "errors": {"object": "list", "data": (BatchError("c", "m", None, 2),)},
        "completion_window": "24h", "status": "failed", "output_file_id": None, "error_file_id": None,
        "created_at": 5, "in_progress_at": None, "expires_at": 9, "finalizing_at": None, "completed_at": None,
        "failed_at": 6, "expired_at": None, "cancelling_at": None, "cancelled_at": None,
        "request_counts": {"total": 3, "completed": 1, "failed": 1},
        "usage": {
            "input_tokens": 10, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 15,
        },
        "metadata": None,
    }  # fmt: skip
