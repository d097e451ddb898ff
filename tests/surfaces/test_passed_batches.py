"""Batches that a provider's own batch API runs: sent, looked at, fetched, and each line paid once."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.batch_provider import KEY, BatchProvider, chat, error
from tests.stores.books import figures
from tests.surfaces.lives import Lives
from tests.surfaces.test_batches_sdk import ABSENT, DONE, EDITS, PNG, ask, lines_of, order, wait

CONFIG = """
[[providers]]
name = "there"
base_url = "{base}"
api_key = "{key}"
models = ["m-there"]
batch = "provider"
[[models]]
name = "m"
targets = [{{ provider = "there", model = "m-there" }}]
[[prices.rows]]
provider = "there"
model = "m-there"
input = "1"
output = "2"
"""
EACH = 20 * 500 + 10 * 1_000  # nano-USD of a line: half of the price


@pytest.fixture
def provider() -> Iterator[BatchProvider]:
    with BatchProvider() as made:
        yield made


@pytest.fixture
def lives(tmp_path: Path, provider: BatchProvider) -> Iterator[Lives]:
    made = Lives(tmp_path, CONFIG.format(base=provider.base, key=KEY), EACH)
    yield made
    if made.gateway is not None:
        made.gateway.stop()


def lines(count: int, **body) -> list[dict[str, object]]:
    return [ask(f"mine {n}", model="m", **body) for n in range(count)]


def test_the_provider_runs_it_and_the_caller_sees_only_us(lives, provider):
    client = lives.start()
    asked = lines(300, max_completion_tokens=20, max_tokens=None)
    asked[7] = ask("mine 7", model="m", temperature=9)
    batch = wait(client, order(client, asked))
    assert (batch.status, batch.model, batch.errors) == ("completed", "m", None)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (299, 1)
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert list(answers)[:2] == ["mine 0", "mine 1"]
    row = answers["mine 8"]["response"]
    assert row["body"]["model"] == "m"
    assert row["body"]["choices"][0]["message"]["content"] == "answer to Say mine 8"
    assert row["request_id"] != "req_there"
    assert errors["mine 7"]["response"]["body"]["error"]["param"] == "temperature"
    assert provider.calls == 0
    assert len(provider.batches) == 1
    sent = provider.lines
    assert len(sent) == 299
    assert {line["body"]["model"] for line in sent} == {"m-there"}
    assert not any("mine" in line["custom_id"] for line in sent)
    told = json.dumps(batch.to_dict()) + json.dumps(answers) + json.dumps(errors)
    assert "there" not in told
    lives.check(299)
    costs = figures(lives.gateway.data, "SELECT sum(cost) FROM calls")
    assert costs == [(299 * (20 * 1_000 + 10 * 2_000),)]  # no batch price is known, so none is assumed


def configured(lives, old: str, new: str) -> None:
    path = lives.folder / "headgate.toml"
    said = path.read_text()
    assert old in said
    path.write_text(said.replace(old, new))


SMALL = ('batch = "provider"', 'batch = "provider"\nbatch_lines = 25')


def test_what_is_too_much_for_one_becomes_several(lives, provider):
    configured(lives, *SMALL)
    client = lives.start()
    asked = lines(60)
    asked[30] = ask("mine 30", model="m", temperature=9)
    batch = wait(client, order(client, asked))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 59, 1)
    assert list(lines_of(client, batch.output_file_id)) == [f"mine {n}" for n in range(60) if n != 30]
    sizes = [len(provider.files[each["input_file_id"]].splitlines()) for each in provider.batches.values()]
    assert sizes == [25, 25, 9]
    assert [each["metadata"]["headgate_batch"] for each in provider.batches.values()] == [
        batch.id,
        f"{batch.id}.2",
        f"{batch.id}.3",
    ]
    lives.check(59)


def test_a_part_that_is_refused_fails_its_own_lines_alone(lives, provider):
    configured(lives, *SMALL)
    provider.refuse_line = "30"
    client = lives.start()
    batch = wait(client, order(client, lines(60)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == (
        "completed",
        35,
        25,
    )
    errors = lines_of(client, batch.error_file_id)
    assert set(errors) == {f"mine {n}" for n in range(25, 50)}
    assert errors["mine 25"]["response"]["body"]["error"]["message"] == "Line 30 is refused"
    lives.check(35)


def test_parts_are_cancelled_together(lives, provider):
    configured(lives, *SMALL)
    provider.ends = None
    provider.answer = lambda line: chat(line) if int(line["custom_id"]) % 25 == 1 else None
    client = lives.start()
    made = order(client, lines(60))
    deadline = time.monotonic() + 30
    while len(provider.batches) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    client.batches.cancel(made.id)
    while provider.asked.count("POST batches/cancel") < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    provider.ends = "completed"
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("cancelled", 3, 57)
    lives.check(3)


@pytest.mark.parametrize("place", ["batch-intended=kill@2", "batch-passed=kill@2", "batch-passed=kill@3"])
def test_a_kill_between_parts_makes_none_twice(lives, provider, place):
    configured(lives, *SMALL)
    client = lives.start(place)
    made = order(client, lines(60))
    lives.died()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed, len(provider.batches)) == ("completed", 60, 3)
    lives.check(60)


def test_a_target_says_who_runs_its_batches(lives, provider):
    configured(lives, 'batch = "provider"\n', "")
    configured(lives, 'model = "m-there" }', 'model = "m-there", batch = "provider" }')
    client = lives.start()
    batch = wait(client, order(client, lines(5)))
    assert (batch.status, provider.calls, len(provider.batches)) == ("completed", 0, 1)
    lives.gateway.stop()
    configured(lives, 'model = "m-there", batch = "provider" }', 'model = "m-there", batch = "own" }')
    configured(lives, 'models = ["m-there"]\n', 'models = ["m-there"]\nbatch = "provider"\n')
    client = lives.start()
    batch = wait(client, order(client, lines(5)))
    assert (batch.status, provider.calls, len(provider.batches)) == ("completed", 5, 1)


def test_a_known_host_has_its_own_version(lives, provider):
    path = lives.folder / "headgate.toml"
    said = path.read_text().replace('provider = "there"\nmodel', 'provider = "zhipuai"\nmodel')  # its price
    path.write_text(said.replace('"there"', '"zhipu"'))
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.request_counts.completed, provider.calls) == ("completed", 3, 0)
    assert {line["url"] for line in provider.lines} == {"/v4/chat/completions"}
    lives.check(3)


def test_one_whose_answers_are_asked_for_one_by_one_is_ours(lives, provider):
    configured(lives, 'batch = "provider"\n', 'batch = "provider"\nseveral = false\n')
    client = lives.start()
    assert wait(client, order(client, lines(2))).status == "completed"
    assert (provider.calls, len(provider.batches)) == (0, 1)
    batch = wait(client, order(client, [*lines(2), ask("two", model="m", n=2)]))
    assert (batch.request_counts.completed, provider.calls, len(provider.batches)) == (3, 4, 1)


def test_a_provider_that_doubles_loses_and_makes_up_lines(lives, provider):
    provider.spoil = lambda rows: [*rows[1:], rows[2], {**rows[3], "custom_id": "999"}, {"custom_id": "x"}]
    client = lives.start()
    batch = wait(client, order(client, lines(6)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 5, 1)
    lives.check(5)


@pytest.mark.parametrize("place", ["", "batch-fetched=kill@1"])
def test_answers_that_nobody_can_read_stay_where_they_are(lives, provider, place):
    provider.spoil = lambda rows: [
        {**row, "custom_id": "x"} if row["custom_id"] == "2" else row for row in rows
    ]
    client = lives.start(place)
    made = order(client, lines(3))
    if place:
        lives.died()
        client = lives.start()
    batch = wait(client, made)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    assert not provider.removed
    lives.check(2)


def test_files_that_lines_name_go_with_them(lives, provider):
    client = lives.start(cap="9/total")
    name = client.files.create(file=("a.pdf", b"%PDF-1.7 hello"), purpose="user_data").id
    asked = [ask(each, model="m", messages=read(file)) for each, file in (("a", name), ("b", ABSENT))]
    batch = wait(client, order(client, asked))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 1, 1)
    [line] = provider.lines
    assert line["body"]["messages"][0]["content"][1]["file"] == {
        "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjcgaGVsbG8=",
    }  # fmt: skip
    error = lines_of(client, batch.error_file_id)["b"]["response"]["body"]["error"]
    assert error["message"] == f"No such File object: {ABSENT}"
    lives.check(1)


def test_a_file_that_is_gone_when_the_answers_come_changes_nothing(lives, provider):
    provider.ends = None
    client = lives.start(cap="9/total")
    name = client.files.create(file=("a.pdf", b"%PDF-1.7 hello"), purpose="user_data").id
    batch = order(client, [ask("a", model="m", messages=read(name))])
    batch = wait(client, batch, until={"in_progress"})
    deadline = time.monotonic() + 10
    while not provider.batches and time.monotonic() < deadline:
        time.sleep(0.05)
    client.files.delete(name)
    provider.ends = "completed"
    batch = wait(client, batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1)
    lives.check(1)


def test_edits_go_as_json(lives, provider):
    provider.answer = lambda _: (200, {"created": 1, "data": [{"b64_json": "QQ=="}]})
    path = lives.folder / "headgate.toml"
    path.write_text(path.read_text() + "[prices.rows.units]\nimage = 0.04\n")
    client = lives.start(cap="9/total")
    picture = client.files.create(file=("a.png", base64.b64decode(PNG)), purpose="vision").id
    body = {"model": "m", "prompt": "red", "images": [{"file_id": picture}]}
    line = {"custom_id": "a", "method": "POST", "url": EDITS, "body": body}
    batch = wait(client, order(client, [line], EDITS))
    assert (batch.status, batch.request_counts.completed) == ("completed", 1), batch
    assert provider.lines[0]["url"] == EDITS
    assert provider.lines[0]["body"] == {
        "model": "m-there", "prompt": "red", "images": [{"image_url": f"data:image/png;base64,{PNG}"}],
    }  # fmt: skip
    lives.stop()
    assert figures(lives.gateway.data, "SELECT sum(charge) FROM calls") == [(20_000_000,)]
    assert lives.gateway.command("ledger", "check").returncode == 0


def read(file: str) -> list[dict[str, object]]:
    parts = [{"type": "text", "text": "Read this"}, {"type": "file", "file": {"file_id": file}}]
    return [{"role": "user", "content": parts}]


def test_without_the_setting_we_run_it(lives, provider):
    path = lives.folder / "headgate.toml"
    path.write_text(path.read_text().replace('batch = "provider"\n', ""))
    client = lives.start()
    batch = wait(client, order(client, lines(5)))
    assert (batch.status, provider.calls, provider.batches) == ("completed", 5, {})


def test_its_errors_are_those_of_their_lines(lives, provider):
    def some(line):
        n = int(line["custom_id"])
        if n % 3 == 1:
            return 400, error("This is refused")
        return (500, error("This broke")) if n % 3 == 2 else chat(line)

    provider.answer = some
    client = lives.start()
    batch = wait(client, order(client, lines(30)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == (
        "completed",
        10,
        20,
    )
    errors = lines_of(client, batch.error_file_id)
    assert {row["response"]["status_code"] for row in errors.values()} == {400, 500}
    assert errors["mine 0"]["response"]["body"]["error"]["message"] == "This is refused"
    lives.check(10)


def test_what_it_did_not_run_in_time_has_expired(lives, provider):
    provider.ends = "expired"
    provider.answer = lambda line: chat(line) if int(line["custom_id"]) <= 4 else None
    client = lives.start()
    batch = wait(client, order(client, lines(10)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 4, 6)
    row = lines_of(client, batch.error_file_id)["mine 9"]
    assert (row["response"], row["error"]["code"]) == (None, "batch_expired")
    lives.check(4)


def test_what_it_does_not_tell_is_an_error_of_its_own(lives, provider):
    provider.answer = lambda line: chat(line) if line["custom_id"] == "1" else None
    client = lives.start()
    batch = wait(client, order(client, lines(2)))
    assert batch.status == "completed"
    assert lines_of(client, batch.error_file_id)["mine 1"]["error"]["code"] == "batch_incomplete"
    lives.check(1)


def test_a_cancel_is_passed_on_and_what_was_run_is_paid(lives, provider):
    provider.ends = None
    provider.answer = lambda line: chat(line) if int(line["custom_id"]) <= 3 else None
    client = lives.start()
    made = order(client, lines(8))
    deadline = time.monotonic() + 20
    while not provider.batches and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.batches.cancel(made.id).status == "cancelling"
    while "POST batches/cancel" not in provider.asked and time.monotonic() < deadline:
        time.sleep(0.05)
    provider.ends = "completed"
    batch = wait(client, made)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("cancelled", 3, 5)
    assert provider.asked.count("POST batches/cancel") == 1
    assert lines_of(client, batch.error_file_id)["mine 7"]["error"]["code"] == "batch_cancelled"
    lives.check(3)


@pytest.mark.parametrize("what", ["POST files", "POST batches"])
def test_a_refusal_ends_it_with_what_was_said(lives, provider, what):
    provider.refuse[what] = (400, error("file-there0 is too much for us"))
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert batch.status == "failed"
    assert "is too much for us" in batch.errors.data[0].message
    assert ("file-there0" in batch.errors.data[0].message) == (what == "POST files")  # it had named none yet
    provider.refuse.clear()
    assert wait(client, order(client, lines(3))).status == "completed"
    lives.check(3)


@pytest.mark.parametrize("what", ["POST files", "POST batches", "it fails"])
def test_what_it_refuses_is_ours_where_that_is_asked_for(lives, provider, what):
    configured(lives, 'batch = "provider"\n', 'batch = "provider-first"\n')
    if what == "it fails":
        provider.ends = "failed"
    else:
        provider.refuse[what] = (400, error("too much for us"))
    client = lives.start()
    asked = lines(6)
    asked[2] = ask("mine 2", model="m", temperature=9)
    batch = wait(client, order(client, asked))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 5, 1)
    assert provider.calls == 5
    provider.refuse.clear()
    provider.ends = "completed"
    assert wait(client, order(client, lines(3))).status == "completed"
    assert provider.calls == 5
    lives.check(8)


def test_a_kill_when_it_comes_back_costs_no_line_and_no_charge(lives, provider):
    configured(lives, 'batch = "provider"\n', 'batch = "provider-first"\n')
    provider.refuse["POST batches"] = (400, error("too much for us"))
    client = lives.start("batch-claimed=kill@2")
    made = order(client, lines(60))
    lives.died()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, batch.request_counts.completed) == ("completed", 60)
    assert len(lines_of(client, batch.output_file_id)) == 60
    lives.check(60)


def test_one_that_fails_there_fails_here(lives, provider):
    provider.ends = "failed"
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert (batch.status, batch.errors.data[0].code) == ("failed", "invalid_json_line")
    lives.check(0)


def test_a_wrong_key_is_told_without_it(lives, provider):
    path = lives.folder / "headgate.toml"
    path.write_text(path.read_text().replace(KEY, "sk-wrong-one"))
    client = lives.start()
    batch = wait(client, order(client, lines(3)))
    assert batch.status == "failed"
    assert "refused the gateway's own credential" in batch.errors.data[0].message
    assert "sk-wrong" not in batch.errors.data[0].message
    lives.check(0)


def test_an_unclear_order_is_looked_up_and_not_made_again(lives, provider):
    provider.lose_create = 1
    client = lives.start()
    batch = wait(client, order(client, lines(4)))
    assert (batch.status, len(provider.batches)) == ("completed", 1)
    lives.check(4)


def test_trouble_there_only_costs_time(lives, provider):
    provider.refuse["GET batches"] = (500, error("boom"))
    client = lives.start()
    made = order(client, lines(4))
    deadline = time.monotonic() + 20
    while provider.asked.count("GET batches") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    provider.refuse.clear()
    assert wait(client, made).status == "completed"
    lives.check(4)


@pytest.mark.parametrize(
    "place",
    [
        "batch-begun=kill@1", "batch-intended=kill@1", "batch-passed=kill@1", "batch-fetched=kill@1",
        "batch-claimed=kill@2", "after-open=kill@20", "before-settle=kill@20", "after-settle=kill@20",
        "batch-before-output=kill@1", "batch-after-output=kill@1", "batch-file-written=kill@1",
    ],
)  # fmt: skip
def test_a_kill_costs_no_line_and_no_charge(lives, provider, place):
    client = lives.start(place)
    made = order(client, lines(60))
    lives.died()
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id), until=DONE)
    assert (batch.status, batch.request_counts.completed) == ("completed", 60), batch
    assert len(lines_of(client, batch.output_file_id)) == 60
    assert len(provider.batches) == 1
    lives.check(60)
    if place.startswith(("after-settle", "batch-before", "batch-after")):  # it was billed once, too
        assert figures(lives.gateway.data, "SELECT sum(cost) FROM calls") == [(60 * 40_000,)]


def test_a_stop_and_a_start_go_on_asking(lives, provider):
    provider.ends = None
    client = lives.start()
    made = order(client, lines(10))
    deadline = time.monotonic() + 20
    while not provider.batches and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lives.gateway.stop()[0] == 0
    provider.ends = "completed"
    client = lives.start()
    batch = wait(client, client.batches.retrieve(made.id))
    assert (batch.status, len(provider.batches), batch.request_counts.completed) == ("completed", 1, 10)
    lives.check(10)
