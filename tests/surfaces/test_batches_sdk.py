"""OpenAI's own client runs the batch guide against a running gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import openai
import pytest
from tests.answers import default_answer
from tests.stores.books import figures
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import Gateway
from tests.surfaces.test_prepaid import NO_GIFT, give, start
from tests.upstream import Peer, Received, ScriptedUpstream, chat_json, error_json

CHAT, EDITS = "/v1/chat/completions", "/v1/images/edits"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
ABSENT = "file-" + "0" * 24
DONE = {"completed", "failed", "cancelled", "expired"}


def ask(name: str, *, url: str = CHAT, **body) -> dict[str, object]:
    usual = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": f"Say {name}"}],
        "max_tokens": 20,
    }
    return {"custom_id": name, "method": "POST", "url": url, "body": {**usual, **body}}


def order(client: openai.OpenAI, lines, endpoint: str = CHAT, **more):
    """Upload lines, as objects or as they are, and order a batch of them."""
    data = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def wait(client: openai.OpenAI, batch, *, until: set[str] = DONE, within_s: float = 60.0):
    deadline = time.monotonic() + within_s
    while (told := looked_at(client, batch.id))["status"] not in until:
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    return client.batches.retrieve(batch.id)


def looked_at(client: openai.OpenAI, name: str) -> dict:
    """Return a batch without the SDK, which takes 10 ms of CPU for a look."""
    asked = urllib.request.Request(f"{client.base_url}batches/{name}", headers=client.auth_headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def lines_of(client: openai.OpenAI, name: str | None) -> dict[str, dict]:
    if name is None:
        return {}
    rows = [json.loads(line) for line in client.files.content(name).text.splitlines()]
    assert len({row["custom_id"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def client_of(gateway: Gateway) -> openai.OpenAI:
    return openai_client(gateway.base, gateway.key)


@pytest.fixture
def client(simulated) -> openai.OpenAI:
    return client_of(simulated)


def test_the_guide_runs_unchanged(client, simulated):
    asked = [ask(f"r{n}") for n in range(60)]
    asked[7] = ask("r7", temperature=9)
    made = order(client, asked, metadata={"job": "nightly"})
    assert (made.object, made.status, made.endpoint, made.completion_window) == (
        "batch", "validating", CHAT, "24h",
    )  # fmt: skip
    assert made.expires_at == made.created_at + 86_400
    batch = wait(client, made)
    assert (batch.status, batch.errors, batch.model) == ("completed", None, "gpt-4o-mini")
    assert batch.metadata == {"job": "nightly"}
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (60, 59, 1)
    assert batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert set(answers) == {f"r{n}" for n in range(60)} - {"r7"}
    assert list(answers)[:3] == ["r0", "r1", "r2"]
    first = answers["r0"]
    assert (first["error"], first["response"]["status_code"]) == (None, 200)
    assert first["response"]["body"]["choices"][0]["message"]["content"]
    assert first["response"]["request_id"].startswith("req_")
    refused = errors["r7"]["response"]
    assert refused["status_code"] == 400
    assert refused["body"]["error"]["param"] == "temperature"
    used = [row["response"]["body"]["usage"] for row in answers.values()]
    assert batch.usage.input_tokens == sum(each["prompt_tokens"] for each in used)
    assert batch.usage.output_tokens == sum(each["completion_tokens"] for each in used)
    file = client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert batch.id in [each.id for each in client.batches.list(limit=5)]
    found = simulated.command("ledger", "check")
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Say this", "max_tokens": 5}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}),
        ("/v1/moderations", {"model": "omni-moderation-latest", "input": "hello"}),
        ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "a canal"}),
        (
            EDITS,
            {
                "model": "gpt-image-1",
                "prompt": "red",
                "images": [{"image_url": f"data:image/png;base64,{PNG}"}],
            },
        ),
    ],
)
def test_every_endpoint_that_is_here_may_be_in_a_batch(client, endpoint, body):
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
    batch = wait(client, order(client, [line], endpoint))
    assert (batch.status, batch.request_counts.completed) == ("completed", 1), batch
    assert lines_of(client, batch.output_file_id)["a"]["response"]["status_code"] == 200


def test_lines_name_files_and_fail_for_their_own(client, simulated):
    picture = client.files.create(file=("a.png", base64.b64decode(PNG)), purpose="vision").id
    text = client.files.create(file=("a.txt", b"hello"), purpose="user_data").id
    body = {"model": "gpt-image-1", "prompt": "red", "size": "256x256"}
    images = {
        "good": [{"file_id": picture}],
        "text": [{"file_id": text}],
        "none": [{"file_id": ABSENT}],
        "theirs": [{"file_id": "file-abc"}],
        "no": [],
    }
    asked = [
        {"custom_id": name, "method": "POST", "url": EDITS, "body": {**body, "images": given}}
        for name, given in images.items()
    ]
    batch = wait(client, order(client, asked, EDITS))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 1, 4)
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert answers["good"]["response"]["body"]["data"][0]["b64_json"]
    said = {name: row["response"]["body"]["error"] for name, row in errors.items()}
    assert (said["text"]["code"], said["text"]["param"]) == ("invalid_image_file", "images[0].file_id")
    assert said["none"]["message"] == f"No such File object: {ABSENT}"
    assert "it has no file 'file-abc'" in said["theirs"]["message"]
    assert (said["no"]["code"], said["no"]["param"]) == ("empty_array", "images")
    found = simulated.command("ledger", "check")
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    ("lines", "code", "line", "param"),
    [
        ([b"\n"], "invalid_json_line", 1, None),
        ([ask("a"), b"{not json\n"], "invalid_json_line", 2, None),
        ([ask("a"), b"\n", ask("b")], "invalid_json_line", 2, None),
        ([ask("a"), ask("b"), ask("a")], "duplicate_custom_id", 3, "custom_id"),
        ([ask("a", url="/v1/embeddings")], "url_mismatch", 1, "url"),
        ([{**ask("a"), "method": "GET"}], "invalid_method", 1, "method"),
        ([{**ask("a"), "custom_id": None}], "invalid_type", 1, "custom_id"),
        ([ask("a", stream=True)], "invalid_value", 1, "body.stream"),
        ([ask("a"), ask("b", model="gpt-4o")], "model_mismatch", 2, "body.model"),
        ([ask("a", model="no-such-model")], "model_not_found", 1, "body.model"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_with_its_line(client, lines, code, line, param):
    batch = wait(client, order(client, lines))
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.failed_at is not None
    assert batch.errors.object == "list"
    error = batch.errors.data[0]
    assert (error.code, error.line) == (code, line)
    assert error.param == param


def test_a_wrong_order_is_refused_at_once(client):
    file = client.files.create(file=("a.txt", b"x"), purpose="user_data")
    for change, param in (
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": file.id}, "input_file_id"),
        ({"endpoint": "/v1/audio/speech"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
    ):
        usual = {"input_file_id": "file-x", "endpoint": CHAT, "completion_window": "24h"}
        with pytest.raises(openai.APIStatusError) as refused:
            client.batches.create(**{**usual, **change})
        assert refused.value.param == param
    with pytest.raises(openai.NotFoundError, match="No batch found"):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.NotFoundError, match="No batch found"):
        client.batches.cancel("batch_none")


def test_another_project_sees_nothing_of_it(client, simulated):
    batch = wait(client, order(client, [ask("mine")]))
    assert simulated.command("projects", "create", "Others").returncode == 0
    projects = json.loads(simulated.command("projects", "list", "--json").stdout)
    rows = projects["data"] if isinstance(projects, dict) else projects
    other = next(row["id"] for row in rows if row["name"] == "Others")
    made = json.loads(simulated.command("keys", "create", "--name", "o", "--project", other, "--json").stdout)
    stranger = openai_client(simulated.base, made["key"], retries=2)
    time.sleep(0.5)
    assert stranger.batches.list().data == []
    for act in (stranger.batches.retrieve, stranger.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            act(batch.id)
    with pytest.raises(openai.NotFoundError):
        stranger.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")


PRICED = """
[[providers]]
name = "own"
base_url = "{base}"
api_key = "none"
models = ["m"]
[[prices.rows]]
provider = "own"
model = "m"
input = "1"
output = "2"
[batch]
concurrency = 4
tries = 3
"""


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as made:
        yield made


def priced(folder: Path, upstream: ScriptedUpstream, cap: str) -> Gateway:
    (folder / "headgate.toml").write_text(PRICED.format(base=upstream.base_url))
    return Gateway(folder, "--config", "headgate.toml", "--cap", cap)


class Halting:
    """A model that answers 20 calls, and once `go_on` is set the others, each in 20 ms."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self._begun = 0

    async def __call__(self, peer: Peer, request: Received) -> None:
        self._begun += 1
        while self._begun > 20 and not self.go_on.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        await peer.send(default_answer(request))


@pytest.fixture
def halting() -> Iterator[Halting]:
    made = Halting()
    yield made
    made.go_on.set()


def stopped(gateway: Gateway) -> None:
    """Stop a gateway, which books all that is in its journal."""
    code, _, said = gateway.stop()
    assert code == 0, said


def money(gateway: Gateway, query: str) -> list:
    return figures(gateway.data, query)


def test_one_that_does_not_fit_is_refused_and_what_fits_is_paid_by_the_line(tmp_path, upstream):
    gateway = priced(tmp_path, upstream, "0.01/total")
    client = client_of(gateway)
    try:
        dear = wait(client, order(client, [ask(f"d{n}", model="m", max_tokens=5_000) for n in range(3)]))
        assert dear.status == "failed"
        error = dear.errors.data[0]
        assert error.code == "insufficient_quota"
        assert "This batch may cost up to $0.01" in error.message
        assert "$0.01 is left" in error.message
        batch = wait(client, order(client, [ask(f"c{n}", model="m", max_tokens=100) for n in range(40)]))
        assert (batch.status, batch.request_counts.completed) == ("completed", 40), batch
        used = [row["response"]["body"]["usage"] for row in lines_of(client, batch.output_file_id).values()]
        stopped(gateway)
        due = sum(500 * row["prompt_tokens"] + 1_000 * row["completion_tokens"] for row in used)  # half
        assert money(gateway, "SELECT sum(charge), count(*) FROM calls") == [(due, 40)]
        assert money(gateway, "SELECT charge FROM batches WHERE status = 'completed'") == [(due,)]
        assert money(gateway, "SELECT sum(amount) FROM slices WHERE slot LIKE 'batch-%'") in (
            [(0,)],
            [(None,)],
        )
        found = gateway.command("ledger", "check")
        assert (found.returncode, found.stderr) == (0, ""), found.stdout
    finally:
        gateway.stop()


def test_what_it_has_made_is_kept_whatever_files_of_callers_may_be(tmp_path):
    with ScriptedUpstream(chat_json("x" * 400_000)) as upstream:
        toml = PRICED.format(base=upstream.base_url) + "[files]\nfile_mb = 1\nproject_gb = 0.001\n"
        (tmp_path / "headgate.toml").write_text(toml)
        gateway = Gateway(tmp_path, "--config", "headgate.toml", "--cap", "1/total")
        client = client_of(gateway)
        try:
            batch = wait(client, order(client, [ask(f"c{n}", model="m") for n in range(4)]), within_s=20)
            assert (batch.status, batch.request_counts.completed) == ("completed", 4)
            assert client.files.retrieve(batch.output_file_id).bytes > 1_600_000
            assert len(lines_of(client, batch.output_file_id)) == 4
            with pytest.raises(openai.BadRequestError, match="the 1,000,000 bytes that they may have"):
                order(client, [ask("d", model="m")])
            client.files.delete(batch.output_file_id)
            assert wait(client, order(client, [ask("d", model="m")])).status == "completed"
        finally:
            gateway.stop()


def test_limits_of_the_provider_slow_it_and_fail_nothing(tmp_path):
    limited = error_json(
        429, "Rate limit reached", code="rate_limit_exceeded", headers=[("retry-after", "1")]
    )
    broken = error_json(500, "boom")
    with ScriptedUpstream(*[chat_json("ok")] * 3, *[limited] * 4, broken, chat_json("fine")) as upstream:
        gateway = priced(tmp_path, upstream, "1/total")
        client = client_of(gateway)
        try:
            batch = wait(client, order(client, [ask(f"c{n}", model="m") for n in range(20)]))
            assert (batch.status, batch.request_counts.completed) == ("completed", 20), batch
        finally:
            gateway.stop()


def test_what_breaks_down_each_time_fails_after_its_tries(tmp_path):
    with ScriptedUpstream(error_json(500, "boom")) as upstream:
        gateway = priced(tmp_path, upstream, "1/total")
        client = client_of(gateway)
        try:
            batch = wait(client, order(client, [ask("a", model="m")]))
            assert (batch.status, batch.request_counts.failed) == ("completed", 1)
            row = lines_of(client, batch.error_file_id)["a"]
            assert row["response"]["status_code"] == 500
            assert money(gateway, "SELECT sum(charge) FROM calls") == [(0,)]
        finally:
            gateway.stop()


def test_a_cancelled_one_keeps_what_it_has(tmp_path, halting):
    with ScriptedUpstream(halting) as upstream:
        gateway = priced(tmp_path, upstream, "1/total")
        client = client_of(gateway)
        try:
            made = order(client, [ask(f"c{n}", model="m") for n in range(300)])
            running = wait(client, made, until={"in_progress"})
            cancelled = client.batches.cancel(running.id)
            assert (cancelled.status, cancelled.cancelling_at is None) == ("cancelling", False)
            halting.go_on.set()
            batch = wait(client, cancelled)
            assert batch.status == "cancelled"
            answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
            assert len(answers) + len(errors) == 300
            assert errors["c299"]["response"] is None
            assert errors["c299"]["error"]["code"] == "batch_cancelled"
            with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
                client.batches.cancel(batch.id)
            stopped(gateway)
            assert gateway.command("ledger", "check").returncode == 0
        finally:
            gateway.stop()


def test_it_goes_on_after_a_stop_and_a_start(tmp_path, halting):
    halting.go_on.set()
    with ScriptedUpstream(halting) as upstream:
        gateway = priced(tmp_path, upstream, "1/total")
        client = client_of(gateway)
        key = gateway.key
        made = order(client, [ask(f"c{n}", model="m") for n in range(400)])
        while not looked_at(client, made.id)["request_counts"]["completed"]:
            time.sleep(0.02)
        stopped(gateway)
        before = money(gateway, "SELECT count(*) FROM batch_lines WHERE state = 1")
        assert before == [(0,)]  # a clean stop gives back what it does not run
        assert money(gateway, "SELECT count(*) > 0 FROM batch_lines WHERE state = 0") == [(1,)]
        gateway = Gateway(tmp_path, "--config", "headgate.toml", "--cap", "1/total")
        gateway.key = key
        try:
            client = client_of(gateway)
            batch = wait(client, client.batches.retrieve(made.id))
            assert (batch.status, batch.request_counts.completed) == ("completed", 400)
            assert len(lines_of(client, batch.output_file_id)) == 400
            stopped(gateway)
            assert money(gateway, "SELECT count(*) FROM calls WHERE charge > 0") == [(400,)]
            assert gateway.command("ledger", "check").returncode == 0
        finally:
            gateway.stop()


def test_one_that_nobody_can_serve_fails_and_does_not_wait(tmp_path):
    (tmp_path / "headgate.toml").write_text("")
    gateway = Gateway(tmp_path, "--config", "headgate.toml")
    client = client_of(gateway)
    try:
        batch = wait(client, order(client, [ask("a")]))
        assert batch.status == "failed"
        assert "No provider is configured" in batch.errors.data[0].message
    finally:
        gateway.stop()


def test_credit_is_held_over_two_grants_and_what_is_left_comes_back(tmp_path):
    (tmp_path / "headgate.toml").write_text(NO_GIFT)
    gateway = start(tmp_path, workers=2)
    made = json.loads(gateway.command("keys", "create", "--name", "t", "--kind", "test", "--json").stdout)
    client = openai_client(gateway.base, made["key"], retries=2)
    try:
        give(gateway.data, 20_000, seconds=3_600)
        give(gateway.data, 1_000_000)
        time.sleep(1.0)
        lines = [ask(f"c{n}", max_tokens=16) for n in range(60)]
        batch = wait(client, order(client, lines))
        assert (batch.status, batch.request_counts.completed) == ("completed", 60), batch
        time.sleep(1.0)
        (spent,) = money(gateway, "SELECT sum(charge) FROM calls")[0]
        first, second = (
            row[0] for row in money(gateway, "SELECT spent FROM pots WHERE kind = 'grant' ORDER BY id")
        )
        assert 0 < first <= 20_000  # of the first lines
        assert first + second == spent
        assert money(gateway, "SELECT sum(amount) FROM slices WHERE slot LIKE 'batch-%'") in (
            [(0,)],
            [(None,)],
        )
        dear = wait(client, order(client, [ask(f"d{n}", max_tokens=4_000) for n in range(2_000)]))
        assert (dear.status, dear.errors.data[0].code) == ("failed", "insufficient_quota")
        assert "is left of the account's credit" in dear.errors.data[0].message
        found = gateway.command("ledger", "check")
        assert (found.returncode, found.stderr) == (0, ""), found.stdout
    finally:
        gateway.stop()


def wait_until_refused(client: openai.OpenAI) -> None:
    deadline = time.monotonic() + 10
    with suppress(openai.AuthenticationError):
        while client.models.list():
            assert time.monotonic() < deadline


def test_the_lines_of_a_revoked_key_fail_and_cost_nothing(tmp_path, halting):
    with ScriptedUpstream(halting) as upstream:
        gateway = priced(tmp_path, upstream, "1/total")
        client = client_of(gateway)
        try:
            made = json.loads(gateway.command("keys", "create", "--name", "b", "--json").stdout)
            time.sleep(0.5)
            doomed = openai_client(gateway.base, made["key"], retries=2)
            batch = wait(
                doomed, order(doomed, [ask(f"c{n}", model="m") for n in range(300)]), until={"in_progress"}
            )
            assert gateway.command("keys", "revoke", made["id"]).returncode == 0
            wait_until_refused(doomed)
            halting.go_on.set()
            batch = wait(client, client.batches.retrieve(batch.id))
            assert batch.status == "completed"
            errors = lines_of(client, batch.error_file_id)
            assert errors
            assert {row["response"]["status_code"] for row in errors.values()} == {401}
            assert len(errors) + len(lines_of(client, batch.output_file_id)) == 300
            stopped(gateway)
            assert gateway.command("ledger", "check").returncode == 0
        finally:
            gateway.stop()
