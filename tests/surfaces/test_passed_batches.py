"""Batches that a provider's own batch API runs: sent, looked at, fetched, and each line paid once."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.batch_provider import KEY, BatchProvider, chat, error
from tests.stores.books import figures
from tests.surfaces.conftest import Gateway
from tests.surfaces.test_batches_sdk import DONE, ask, lines_of, order, wait

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


class Lives:
    """One data folder, and the gateways that serve it one after another."""

    def __init__(self, folder: Path, provider: BatchProvider) -> None:
        self.folder = folder
        (folder / "headgate.toml").write_text(CONFIG.format(base=provider.base, key=KEY))
        self.gateway: Gateway | None = None
        self.key = ""

    def start(self, failpoints: str = "", cap: str = "1/total") -> openai.OpenAI:
        self.gateway = Gateway(
            self.folder, "--config", "headgate.toml", "--cap", cap, HEADGATE_FAILPOINTS=failpoints
        )
        self.key = self.key or self.gateway.key
        return openai.OpenAI(base_url=self.gateway.base, api_key=self.key, max_retries=2)

    def died(self) -> None:
        """Wait until a failpoint has killed the gateway."""
        assert self.gateway is not None
        assert self.gateway.process.wait(30) == -signal.SIGKILL
        self.gateway.stop()

    def check(self, paid: int) -> None:
        """Compare the books with what the lines cost; nothing is held any more."""
        assert self.gateway is not None
        time.sleep(0.6)
        data = self.gateway.data
        assert figures(data, "SELECT coalesce(sum(charge), 0) FROM calls") == [(paid * EACH,)]
        assert figures(data, "SELECT count(*) FROM calls WHERE charge > 0") == [(paid,)]
        held = "SELECT coalesce(sum(amount), 0) FROM slices WHERE slot LIKE 'batch-%'"
        assert figures(data, held) == [(0,)]
        found = self.gateway.command("ledger", "check")
        assert (found.returncode, found.stderr) == (0, ""), found.stdout


@pytest.fixture
def lives(tmp_path: Path, provider: BatchProvider) -> Iterator[Lives]:
    made = Lives(tmp_path, provider)
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
    lives.check(0)
    provider.refuse.clear()
    assert wait(client, order(client, lines(3))).status == "completed"


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
        "batch-begun=kill@1",
        "batch-intended=kill@1",
        "batch-passed=kill@1",
        "batch-fetched=kill@1",
        "batch-claimed=kill@2",
        "after-open=kill@20",
        "before-settle=kill@20",
        "after-settle=kill@20",
        "batch-before-output=kill@1",
        "batch-after-output=kill@1",
        "batch-file-written=kill@1",
    ],
)
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
