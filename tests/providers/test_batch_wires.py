"""The wires of the batch APIs that are not OpenAI's: what is asked for, and what is read of answers."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from headgate.errors import UpstreamInterrupted, UpstreamRefused
from headgate.ports import Head
from headgate.providers.anthropic import MessageBatches
from headgate.providers.azurebatches import AzureBatches
from headgate.providers.batches import Bulk, Found
from headgate.providers.gemini import ContentBatches, vectors
from headgate.providers.mistral import MistralBatches
from headgate.providers.xaibatches import XaiBatches
from headgate.values import Book, Host, Model, Target
from headgate.wire.batchjobs import BatchJob, Part, Passed

CLAUDE, GEMINI, AZURE, MISTRAL = MessageBatches(), ContentBatches(), AzureBatches(), MistralBatches()
EVERY = (CLAUDE, GEMINI, AZURE, MISTRAL)
CALL = bytes(range(16))
NOW = 1_800_000_000 * 1_000_000  # 2027-01-15T08:00:00Z
PARTS = (Part(until=9, lines=9, file="f1", batch="b1"), Part(until=12, lines=3, file="f2", intended=NOW))
JOB = BatchJob(
    id="batch_ours", call=CALL, account=1, project=1, key=1, member=0, book=Book.REAL,
    endpoint="/v1/chat/completions", input_file="file-ours", created_at=NOW, expires_at=1,
    passed=Passed(provider="p", upstream="m", parts=PARTS),
)  # fmt: skip


def target(path: str = "/v1", **host) -> Target:
    headers = (("x-key", "k"), ("content-type", "application/json"))
    made = Host(name="p", base_url="http://p", **host)
    return Target(host=made, model=Model(name="m-1"), prices=None, headers=headers, base_path=path)


def said(value: object) -> bytes:
    return json.dumps(value).encode()


GARBLED = b'{"id": "\xe9", "status": "\xe9", "name": "\xe9", "custom_id": "\xe9", "key": "\xe9"}'  # no UTF-8


@pytest.mark.parametrize("wire", EVERY)
@pytest.mark.parametrize("data", [b"", b"[]", b"7", b'{"custom_id": "x", "key": "x"}', b"[" * 5_000, GARBLED])
def test_what_is_no_answer_is_said_to_be_none(wire, data):
    for read in (wire.state, wire.named, wire.reading(JOB)):
        with pytest.raises(UpstreamInterrupted):
            read(data)
    with pytest.raises(UpstreamInterrupted):
        wire.found(data if data[:2] != b'{"' else b'{"data": 7, "operations": 7}', JOB, "")
    assert not wire.mine(data, JOB)


@pytest.mark.parametrize("wire", EVERY)
@pytest.mark.parametrize("name", ["..", "a/b", "files/../b", "a?b", "a b", "ä", "a\r\nb", ""])
def test_a_name_that_would_change_the_path_is_none(wire, name):
    told = {"id": name, "processing_status": "in_progress", "name": name}
    with pytest.raises(UpstreamInterrupted, match="which is no name"):
        wire.named(said(told))


def test_ids_at_anthropic_are_ours_and_of_its_form():
    line = json.loads(CLAUDE.line(JOB, 50_000, b'{"model":\n "m"}'))
    assert line == {"custom_id": f"{CALL.hex()}-50000", "params": {"model": "m"}}
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", line["custom_id"])
    other = {"custom_id": f"{'f' * 32}-1", "result": {"type": "succeeded", "message": {}}}
    with pytest.raises(UpstreamInterrupted, match="was not sent"):
        CLAUDE.answer(said(other), JOB)


def test_a_batch_at_anthropic_is_made_with_its_requests():
    bulk = Bulk((memoryview(b'{"a":1},\n{"b":2}'),), {"2026-10-21", "2023-06-01"}, "x")
    request = CLAUDE.send(JOB, target(), bulk)
    assert (request.method, request.path) == ("POST", "/v1/messages/batches")
    assert json.loads(request.whole()) == {"requests": [{"a": 1}, {"b": 2}]}
    assert dict(request.headers) == {
        "x-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ({"type": "succeeded", "message": {"a": 1}}, (10, 200, b'{"a": 1}')),
        ({"type": "canceled"}, None),
        ({"type": "expired"}, None),
        (
            {
                "type": "errored",
                "error": {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
            },
            (10, 529, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}'),
        ),
        (
            {"type": "errored", "error": {"type": "invalid_request_error", "message": "x"}},
            (10, 400, b'{"type":"error","error":{"type":"invalid_request_error","message":"x"}}'),
        ),
    ],
)
def test_results_of_anthropic(result, answer):
    line = said({"custom_id": f"{CALL.hex()}-10", "result": result})
    assert CLAUDE.answer(line, JOB) == answer
    assert CLAUDE.mine(line, JOB)
    assert not CLAUDE.mine(line.replace(b'-10"', b'-9"'), JOB)  # that is one of the part before
    if answer is not None and answer[1] >= 400:
        assert CLAUDE.error(Head(answer[1], ()), answer[2]).message == "x"


def test_results_of_a_kind_that_is_not_known_are_none():
    with pytest.raises(UpstreamInterrupted, match="future"):
        CLAUDE.answer(said({"custom_id": f"{CALL.hex()}-10", "result": {"type": "future"}}), JOB)


def test_states_at_anthropic():
    def batch(status: str, url: str | None = "http://elsewhere/x", **counts: int) -> bytes:
        row = {"id": "b", "processing_status": status, "results_url": url, "request_counts": counts}
        return said({**row, "created_at": "2027-01-15T08:00:00Z"})

    for status in ("in_progress", "canceling"):
        assert CLAUDE.state(batch(status, None, processing=3)).ended == ""
    for counts, how in (
        ({"succeeded": 3}, "completed"),
        ({"expired": 1}, "expired"),
        ({"canceled": 1}, "cancelled"),
    ):
        state = CLAUDE.state(batch("ended", **counts))
        assert (state.ended, state.output) == (how, "b")
    assert CLAUDE.state(batch("ended", None)).output == ""
    assert CLAUDE.content(target(), "b").path == "/v1/messages/batches/b/results"  # at nobody else's URL


def test_which_batch_at_anthropic_may_be_ours():
    def row(name: str, at: str, status: str, count: int) -> dict[str, object]:
        counts = {"processing": count} if status != "ended" else {"succeeded": count - 1, "errored": 1}
        return {"id": name, "created_at": at, "processing_status": status, "request_counts": counts}

    now, long_ago, later = "2027-01-15T08:00:05Z", "2027-01-14T08:00:05Z", "2027-01-15T11:00:00Z"
    page = [
        row("z", later, "in_progress", 3),
        row("a", now, "ended", 3),
        row("b1", now, "ended", 3),
        row("c", now, "ended", 4),
    ]
    told = {"data": page, "has_more": True, "last_id": "c"}
    assert CLAUDE.found(said(told), JOB, "") == Found("", "c", ("a",), unsure=False)
    told = {"data": [row("d", now, "in_progress", 3), row("e", long_ago, "in_progress", 3)], "has_more": True}
    assert CLAUDE.found(said(told), JOB, "c") == Found("", "", (), unsure=True)
    assert CLAUDE.found(said({"data": [], "has_more": False}), JOB, "") == Found("", "")


def test_a_file_at_google_is_sent_with_what_it_is():
    request = GEMINI.send(JOB, target("/v1beta"), Bulk((memoryview(b'{"key":"1"}'),), (), "x"))
    headers = dict(request.headers)
    assert request.path == "/upload/v1beta/files"
    assert headers["content-type"] == "multipart/related; boundary=x"
    assert headers["x-goog-upload-protocol"] == "multipart"
    assert b'{"file":{"displayName":"batch_ours.2","mimeType":"application/jsonl"}}' in request.whole()
    assert GEMINI.named(b'{"file": {"name": "files/abc"}}') == "abc"
    assert (
        GEMINI.content(target("/at/v1beta"), "abc").path == "/at/download/v1beta/files/abc:download?alt=media"
    )


def test_an_order_at_google_names_ours():
    request = GEMINI.create(JOB, target("/v1beta"))
    assert request.path == "/v1beta/models/m-1:batchGenerateContent"
    assert json.loads(request.body) == {
        "batch": {"display_name": "headgate batch_ours.2", "input_config": {"file_name": "files/f2"}}
    }
    ours = {"name": "batches/b2", "metadata": {"displayName": "headgate batch_ours.2"}}
    other = {"name": "batches/b1", "metadata": {"displayName": "headgate batch_ours"}}
    assert GEMINI.found(said({"operations": [other, ours]}), JOB, "") == Found("b2", "")
    assert GEMINI.found(said({"operations": [other], "nextPageToken": "a&b"}), JOB, "") == Found("", "a&b")
    assert GEMINI.listed(JOB, target(), "a&b").path == "/v1/batches?pageSize=100&pageToken=a%26b"
    assert GEMINI.found(b"{}", JOB, "") == Found("", "")


@pytest.mark.parametrize(
    ("told", "ended", "output"),
    [
        ({"metadata": {"state": "BATCH_STATE_RUNNING"}}, "", ""),
        ({"metadata": {"state": "JOB_STATE_PENDING", "output": {"responsesFile": "files/o"}}}, "", ""),
        (
            {"metadata": {"state": "BATCH_STATE_SUCCEEDED", "output": {"responsesFile": "files/o"}}},
            "completed",
            "o",
        ),
        (
            {"metadata": {"state": "JOB_STATE_SUCCEEDED"}, "response": {"responsesFile": "files/o"}},
            "completed",
            "o",
        ),
        ({"metadata": {"state": "BATCH_STATE_CANCELLED"}, "done": True}, "cancelled", ""),
        ({"metadata": {"state": "BATCH_STATE_EXPIRED"}}, "expired", ""),
        ({"done": True, "error": {"code": 3, "message": "no"}}, "failed", ""),
        ({"done": True, "response": {"responsesFile": "files/o"}}, "completed", "o"),
    ],
)
def test_states_at_google(told, ended, output):
    state = GEMINI.state(said({"name": "batches/b", **told}))
    assert (state.id, state.ended, state.output) == ("b", ended, output)


@pytest.mark.parametrize(
    ("code", "status"),
    [(3, 400), (8, 429), (13, 500), (14, 503), (400, 400), (503, 503), (77, 500), (1, None)],
)
def test_errors_of_lines_at_google(code, status):
    answer = GEMINI.reading(JOB)(said({"key": "4", "error": {"code": code, "message": "no"}}))
    assert (answer and (answer.n, answer.status)) == (status and (4, status))
    if answer is not None:
        assert GEMINI.error(Head(answer.status, ()), answer.body).message == "no"


@pytest.mark.parametrize(
    ("place", "version", "prefix", "query"),
    [
        ("/openai/deployments", "2024-10-21", "/openai", "api-version=2024-10-21"),
        ("/openai/v1", "", "/openai/v1", ""),
        ("/openai/v1", "preview", "/openai/v1", "api-version=preview"),
    ],
)
def test_paths_at_azure(place, version, prefix, query):
    there = target(place, kind="azure", api_version=version)
    end = f"?{query}" if query else ""
    assert AZURE.create(JOB, there).path == f"{prefix}/batches{end}"
    assert AZURE.look(there, "b").path == f"{prefix}/batches/b{end}"
    assert AZURE.cancel(there, "b").path == f"{prefix}/batches/b/cancel{end}"
    assert AZURE.content(there, "f").path == f"{prefix}/files/f/content{end}"
    assert AZURE.readiness(there, "f").path == f"{prefix}/files/f{end}"
    assert (
        AZURE.listed(JOB, there, "b").path
        == f"{prefix}/batches?{query + '&' if query else ''}limit=100&after=b"
    )
    assert json.loads(AZURE.create(JOB, there).body)["endpoint"] == "/chat/completions"
    assert json.loads(AZURE.line(JOB, 1, b"{}"))["url"] == "/chat/completions"


def test_a_file_at_azure_is_used_once_it_is_processed():
    assert [AZURE.ready(said({"status": each})) for each in ("pending", "running", "processed", "Processed")] == [
        False, False, True, True,
    ]  # fmt: skip
    with pytest.raises(UpstreamRefused):
        AZURE.ready(said({"status": "error"}))


def test_times_and_states_at_azure_are_read_in_either_form():
    row = {"id": "b", "status": "Completed", "output_file_id": "f", "error_file_id": ""}
    assert AZURE.state(said(row)).ended == "completed"
    at = {"created_at": "2027-01-15T08:00:05.2491382+00:00", "metadata": {"headgate_batch": "x"}}
    assert AZURE.found(said({"data": [{**row, **at}], "has_more": True}), JOB, "") == Found("", "b")
    with pytest.raises(UpstreamInterrupted):
        AZURE.found(said({"data": [{**row, "created_at": "soon"}], "has_more": True}), JOB, "")


def left(wire, to: Target | None = None) -> list[str]:
    """Return the paths of what is deleted of a batch whose first part was answered."""
    first = Part(until=9, lines=9, file="f1", batch="b1", output="o1", errors="e1")
    passed = Passed(provider="p", upstream="m", parts=(first, PARTS[1]))
    asked = wire.leavings(msgspec.structs.replace(JOB, passed=passed), to or target())
    assert {request.method for request in asked} <= {"DELETE"}
    return [request.path for request in asked]


def test_files_that_a_batch_leaves_are_deleted():
    assert left(MISTRAL) == [f"/v1/files/{name}" for name in ("f1", "o1", "e1", "f2")]
    dated = target("/openai/deployments", api_version="2024-10-21")
    assert left(AZURE, dated)[0] == "/openai/files/f1?api-version=2024-10-21"
    assert left(XaiBatches()) == ["/v1/files/f1", "/v1/files/f2"]  # answers there are no file
    assert left(CLAUDE) == left(GEMINI) == []
    assert MISTRAL.leavings(msgspec.structs.replace(JOB, passed=None), target()) == ()


def test_jobs_at_mistral():
    assert json.loads(MISTRAL.line(JOB, 7, b"{}")) == {"custom_id": "7", "body": {}}
    assert json.loads(MISTRAL.create(JOB, target()).body) == {
        "input_files": ["f2"], "endpoint": "/v1/chat/completions", "model": "m-1",
        "metadata": {"headgate_batch": "batch_ours.2"}, "timeout_hours": 24,
    }  # fmt: skip
    for status, how in (("RUNNING", ""), ("SUCCESS", "completed"), ("TIMEOUT_EXCEEDED", "expired")):
        assert MISTRAL.state(said({"id": "j", "status": status, "output_file": "o"})).ended == how
    full = [{"id": f"j{n}", "status": "QUEUED", "metadata": None} for n in range(100)]
    assert MISTRAL.found(said({"data": full, "total": 101}), JOB, "") == Found("", "1")
    assert MISTRAL.found(said({"data": full[:5]}), JOB, "1") == Found("", "")
    ours = {"id": "j", "status": "QUEUED", "metadata": {"headgate_batch": "batch_ours.2"}}
    assert MISTRAL.found(said({"data": [*full[:5], ours]}), JOB, "1") == Found("j", "")
    path = MISTRAL.listed(msgspec.structs.replace(JOB, created_at=1_795_788_000_000_000), target(), "1").path
    since = "created_after=2026-11-27T13%3A00%3A00Z"  # an hour before
    assert path == f"/v1/batch/jobs?page=1&page_size=100&order_by=-created&{since}"


def test_a_first_part_has_the_name_of_its_batch():
    job = msgspec.structs.replace(JOB, passed=Passed(provider="p", upstream="m", parts=PARTS[:1]))
    assert json.loads(AZURE.create(job, target()).body)["metadata"] == {"headgate_batch": "batch_ours"}


def embedding(key: str, *, count: object = 4, **error: object) -> bytes:
    response = {"embedding": {"values": [0.5, float(key.split(".")[1])]}, "tokenCount": count}
    return said({"key": key, **({"error": error} if error else {"response": response})})


VECTORS = msgspec.structs.replace(JOB, endpoint="/v1/embeddings")


def test_texts_of_one_line_are_lines_at_google():
    body = said({"requests": [{"content": 1}, {"content": 2}]})
    lines = [json.loads(line) for line in GEMINI.line(VECTORS, 7, body).split(b"\n")]
    assert lines == [{"key": "7.0.2", "request": {"content": 1}}, {"key": "7.1.2", "request": {"content": 2}}]
    path = "/v1beta/models/m-1:asyncBatchEmbedContent"
    assert GEMINI.create(VECTORS, target("/v1beta")).path == path


def test_vectors_of_one_line_are_put_together_in_any_order():
    read = GEMINI.reading(VECTORS)
    assert read(embedding("7.1.2", count="3")) is None
    assert json.loads(read(embedding("8.0.1")).body)["usageMetadata"] == {"promptTokenCount": 4}
    assert read(embedding("7.1.2", count="3")) is None  # doubled
    answer = read(embedding("7.0.2"))
    assert (answer.n, answer.status) == (7, 200)
    assert json.loads(answer.body) == {
        "embeddings": [{"values": [0.5, 0.0]}, {"values": [0.5, 1.0]}],
        "usageMetadata": {"promptTokenCount": 7},
    }
    assert "usageMetadata" not in json.loads(read(embedding("9.0.1", count=None)).body)


def test_one_text_that_fails_fails_its_line():
    read = GEMINI.reading(VECTORS)
    assert read(embedding("7.0.2")) is None
    assert read(embedding("7.1.2", code=3, message="no")).status == 400
    assert read(embedding("8.0.2")) is None
    assert read(embedding("8.1.2", code=1, message="cancelled")) is None


def test_no_more_is_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(vectors, "_MOST_KEPT", 120)
    read = GEMINI.reading(VECTORS)
    assert [read(embedding("1.0.2")), read(embedding("2.0.2"))] == [None, None]
    with pytest.raises(UpstreamInterrupted, match="out of order"):
        read(embedding("3.0.2"))
    assert read(embedding("2.1.2")).n == 2
    assert read(embedding("1.1.2")) is None  # its first text is gone
