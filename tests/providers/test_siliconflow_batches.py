"""SiliconFlow's wire of batches: what is asked for, and what is read of answers."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.providers.passed import job_of, said, target_of

from headgate.errors import UpstreamFailed, UpstreamInterrupted, UpstreamRefused
from headgate.ports import Head
from headgate.providers.batches import BatchState, Found
from headgate.providers.siliconflowbatches import SiliconFlowBatches
from headgate.values import Call

NOW_S = 1_741_690_000


class At:
    """A clock that stands."""

    def wall(self) -> int:
        return NOW_S * 1_000_000


WIRE = SiliconFlowBatches(At())
TARGET, JOB = target_of("siliconflow"), job_of()
NAME = "batch_rdyqgrcgjg"
URL = "https://s3.example/out/a.jsonl?Expires=1&Signature=x%2Fy%3D"
# As the reference shows one that waits, with a file's name that lists add.
TOLD = {
    "id": NAME, "object": "batch", "endpoint": "/v1/chat/completions", "errors": None,
    "input_file_id": "file-there", "completion_window": "24h", "status": "in_queue", "output_file_id": None,
    "error_file_id": None, "created_at": 1741685413, "in_progress_at": None, "expires_at": 1741771813,
    "finalizing_at": None, "completed_at": None, "failed_at": None, "expired_at": None, "cancelling_at": None,
    "cancelled_at": None, "request_counts": None, "metadata": {"headgate_batch": "batch_ours"},
    "file_name": "batch.jsonl",
}  # fmt: skip
FILE = {
    "id": "file-jkvytbjtow", "object": "file", "bytes": 8509, "createdAt": 1741685396,
    "filename": "requests.jsonl", "purpose": "batch",
}  # fmt: skip


def call_of(messages: object) -> Call:
    call = Call(bytes(16), "chat", 0)
    call.members = {"messages": msgspec.Raw(json.dumps(messages).encode())}
    return call


def test_an_order_names_ours_and_the_model_of_all_lines():
    made = WIRE.create(JOB, TARGET)
    assert (made.method, made.path) == ("POST", "/v1/batches")
    assert json.loads(made.body) == {
        "input_file_id": "file-there",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"headgate_batch": "batch_ours"},
        "replace": {"model": "m"},
    }
    assert (WIRE.most_lines, WIRE.most_bytes, WIRE.operations) == (5_000, 999_000_000, {"chat"})


@pytest.mark.parametrize(
    ("roles", "taken"),
    [
        (["user"], True), (["system", "user", "assistant", "user"], True), (["user", "assistant"], False),
        (["user", "assistant", "tool", "user"], False), (["developer", "user"], False), ([], True),
    ],
)  # fmt: skip
def test_messages_are_those_that_its_guide_allows(roles, taken):
    call = call_of([{"role": role, "content": "x"} for role in roles])
    assert WIRE.takes(call, TARGET) is taken


@pytest.mark.parametrize("messages", [{}, "x", [1], [{"content": "x"}]])
def test_what_are_no_messages_its_line_will_say(messages):
    assert WIRE.takes(call_of(messages), TARGET)
    assert WIRE.takes(Call(bytes(16), "chat", 0), TARGET)


def test_names_are_in_an_envelope_or_bare():
    envelope = {"code": 20000, "message": "Ok", "status": True, "data": FILE}
    assert WIRE.named(said(envelope)) == "file-jkvytbjtow"
    assert WIRE.named(said(FILE)) == "file-jkvytbjtow"
    assert WIRE.named(said(TOLD)) == NAME


@pytest.mark.parametrize(
    ("told", "raised", "message"),
    [
        ({"code": 20012, "message": "Too long", "status": False, "data": None}, UpstreamRefused, "Too long"),
        ({"code": 20012, "message": "Too long", "data": "x"}, UpstreamRefused, "Too long"),
        ({"code": 20012}, UpstreamRefused, "refused the request .20012"),
        ({"code": 50505, "message": "Overloaded", "data": None}, UpstreamFailed, "Overloaded"),
        ({"code": 20000, "data": {}}, UpstreamInterrupted, "cannot be read"),
    ],
)
def test_an_envelope_without_a_file_says_why(told, raised, message):
    with pytest.raises(raised, match=message):
        WIRE.named(said(told))


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ("validating", ""), ("in_queue", ""), ("in_progress", ""), ("finalizing", ""), ("cancelling", ""),
        ("another", ""), ("completed", "completed"), ("failed", "failed"), ("expired", "expired"),
        ("cancelled", "cancelled"),
    ],
)  # fmt: skip
def test_states(status, ended):
    told = WIRE.state(said({**TOLD, "status": status, "output_file_id": URL}))
    assert told == BatchState(NAME, ended, f"{NAME}.told")


OTHER = "https://b.example/e"


@pytest.mark.parametrize(
    ("output", "errors", "names", "addresses"),
    [
        (URL, None, (f"{NAME}.told", ""), (URL,)),
        (None, URL, (f"{NAME}.told", ""), (URL,)),
        (URL, OTHER, (f"{NAME}.told", ""), (OTHER, URL)),
        (URL, "file-e", (f"{NAME}.told", "file-e"), (URL,)),
        ("file-o", URL, (f"{NAME}.told", "file-o"), (URL,)),
        ("file-o", "file-e", ("file-o", "file-e"), ()),
        (None, "file-e", ("file-e", ""), ()),
    ],
)
def test_an_address_is_not_kept_and_a_name_of_a_file_is(output, errors, names, addresses):
    told = said({**TOLD, "status": "completed", "output_file_id": output, "error_file_id": errors})
    state = WIRE.state(told)
    assert (state.ended, state.output, state.errors) == ("completed", *names)
    for name in filter(None, names):
        apart = name.endswith(".told")
        path = f"/v1/batches/{NAME}" if apart else f"/v1/files/{name}/content"
        assert (WIRE.points(name), WIRE.content(TARGET, name).path) == (apart, path)
    if addresses:
        assert WIRE.elsewhere(told) == addresses
    else:
        with pytest.raises(UpstreamInterrupted, match="where answers lie"):
            WIRE.elsewhere(told)
    assert WIRE.unpacking() is None


@pytest.mark.parametrize(
    ("told", "ended"),
    [
        ({"status": "completed"}, ""),
        ({"status": "completed", "error_file_id": URL}, "completed"),
        ({"status": "completed", "completed_at": NOW_S - 599}, ""),
        ({"status": "completed", "completed_at": NOW_S - 600}, "completed"),
        ({"status": "expired", "expired_at": NOW_S - 1}, ""),
        ({"status": "expired", "expired_at": NOW_S - 600}, "expired"),
        ({"status": "cancelled"}, "cancelled"),  # of one that never ran there are none
        ({"status": "cancelled", "cancelled_at": NOW_S - 1}, ""),
        ({"status": "cancelled", "cancelled_at": NOW_S - 1, "error_file_id": URL}, "cancelled"),
        ({"status": "failed", "failed_at": NOW_S}, "failed"),
        ({"status": "completed", "error_file_id": URL, "request_counts": {"completed": 2, "failed": 1}}, ""),
        (
            {
                "status": "completed",
                "output_file_id": URL,
                "completed_at": NOW_S,
                "request_counts": {"completed": 2, "failed": 1},
            },
            "",
        ),
        ({"status": "completed", "output_file_id": URL, "request_counts": {"failed": 1}}, "completed"),
        ({"status": "completed", "output_file_id": URL, "request_counts": {}}, "completed"),
        ({"status": "completed", "output_file_id": URL, "request_counts": {"failed": None}}, "completed"),
    ],
)
def test_what_has_no_answers_yet_has_not_ended_for_ten_minutes(told, ended):
    assert WIRE.state(said({**TOLD, **told})).ended == ended


def test_all_addresses_are_seen_and_no_names_of_files():
    assert WIRE.standing(TARGET).path == "/v1/batches"
    rows = [
        TOLD, {**TOLD, "output_file_id": URL, "errors": []}, {**TOLD, "error_file_id": "https://b.example/e"},
        {**TOLD, "output_file_id": "file-o"},
    ]  # fmt: skip
    assert WIRE.lies(said({"data": rows})) == (URL, "https://b.example/e")
    assert WIRE.lies(b'{"data": []}') == ()
    for body in (b"[]", b"{}", b"<html>"):
        with pytest.raises(UpstreamInterrupted):
            WIRE.lies(body)


def test_why_it_failed():
    errors = ["Line 1 is wrong", {"code": 20012, "message": "no", "line": 2}]
    why = WIRE.state(said({**TOLD, "status": "failed", "errors": errors})).why
    assert [(each.code, each.message, each.line) for each in why] == [
        ("batch_failed", "Line 1 is wrong", None),
        ("20012", "no", 2),
    ]


def test_ours_is_found_by_its_name_or_its_file():
    other = {**TOLD, "id": "other", "input_file_id": "file-other", "metadata": None}
    page = {"object": "list", "data": [other, TOLD], "first_id": "other", "last_id": NAME, "has_more": False}
    assert WIRE.found(said(page), JOB, "") == Found(NAME, "")
    assert WIRE.found(said({**page, "data": [other, {**TOLD, "metadata": {}}]}), JOB, "") == Found(NAME, "")
    assert WIRE.found(said({**page, "data": [other]}), JOB, "") == Found("", "")
    failed = {**other, "errors": ["no"], "output_file_id": URL}
    assert WIRE.found(said({**page, "data": [failed, TOLD]}), JOB, "") == Found(NAME, "")


ANSWERED = {"choices": [], "usage": {}}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({"response": {"status_code": 200, "body": ANSWERED}, "error": None}, 200),
        ({"response": {"body": ANSWERED}}, 200),
        ({"response": {"status_code": None, "body": ANSWERED}}, 200),
        ({"response": {"status_code": 429, "body": ANSWERED}}, 429),
        ({"response": {"body": {"code": 20012, "message": "no", "data": None}}}, 400),
        ({"response": {"body": {"code": 50505, "message": "no"}}}, 500),
        ({"response": {"body": {"error": {"code": "404", "message": "no"}}}}, 404),
        ({"response": {"body": {"error": "no"}}}, 500),
        ({"response": {"body": {}}}, 500),
        ({"response": None, "error": {"code": 20015, "message": "no"}}, 400),
        ({"response": None, "error": {"code": "503", "message": "no"}}, 503),
        ({"response": None, "error": {"code": None, "message": "no"}}, 500),
        ({"response": None, "error": "no"}, 500),
        ({"response": {"status_code": 422}, "error": {"code": "x", "message": "no"}}, 422),
        ({"response": None, "error": {"code": "batch_expired", "message": "no"}}, None),
        ({"response": None, "error": {"code": "batch_cancelled", "message": "no"}}, None),
    ],
)
def test_lines(row, status):
    told = WIRE.answer(said({"id": "batch_req_1", "custom_id": "7", **row}))
    assert (told and told.status) == status
    if told is not None:
        body = (row.get("response") or {}).get("body")
        error = row.get("error")
        why = {"code": None, "message": error} if isinstance(error, str) else error
        assert (told.n, json.loads(told.body)) == (7, {"error": why} if body is None else body)


@pytest.mark.parametrize(
    "data",
    [b"", b"[1]", b"{}", b'{"custom_id": "x"}', b'{"custom_id": "7"}', b'{"custom_id": "7", "response": {}}', b"[" * 5_000],
)  # fmt: skip
def test_what_is_no_answer_is_said_to_be_none(data):
    for read in (WIRE.state, WIRE.answer, lambda body: WIRE.found(body, JOB, "")):
        with pytest.raises(UpstreamInterrupted):
            read(data)
    with pytest.raises(UpstreamInterrupted):
        WIRE.answer(said({"custom_id": "7", "response": {"body": 1}}))


@pytest.mark.parametrize("name", ["..", "a/b", "a?b", "a b", ""])
def test_a_name_that_would_change_the_path_is_none(name):
    for read, told in (
        (WIRE.named, {"id": name}),
        (WIRE.named, {"data": {"id": name}}),
        (WIRE.state, {**TOLD, "id": name}),
    ):
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            read(said(told))
    if name:
        with pytest.raises(UpstreamInterrupted, match="which is no name"):
            WIRE.state(said({**TOLD, "status": "completed", "output_file_id": name}))


def test_refusals_are_told_in_its_own_words():
    refused = WIRE.error(Head(400, ()), said({"code": 20012, "message": "No such file", "data": None}))
    assert (type(refused), refused.message) == (UpstreamRefused, "No such file")
    assert WIRE.error(Head(401, ()), b'"Invalid token"').kind == WIRE.error(Head(401, ()), b"").kind
