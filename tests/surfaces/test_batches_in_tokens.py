"""Batches that a grant in tokens covers: whole or not at all, token by token in the books, whatever is killed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.batch_provider import KEY, BatchProvider
from tests.stores.books import figures
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import Gateway
from tests.surfaces.places import every_third
from tests.surfaces.test_batches_sdk import ask, lines_of, order, wait
from tests.surfaces.test_passed_batches import CONFIG
from tests.surfaces.test_prepaid import NO_GIFT, give, start

from headgate.values import Book

MODEL = "gpt-4o-mini"
GIVEN = 100_000


class Lives:
    """One data folder with a grant in tokens and one in money, and the gateways that serve it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "headgate.toml").write_text(NO_GIFT)
        self.gateway: Gateway | None = None
        self.key = ""

    def start(self, workers: int = 1, **environment: str) -> openai.OpenAI:
        self.gateway = start(self.folder, workers, **environment)
        if not self.key:
            made = self.gateway.command("keys", "create", "--name", "t", "--kind", "test", "--json")
            self.key = json.loads(made.stdout)["key"]
        return openai_client(self.gateway.base, self.key, retries=2)

    def spent(self) -> dict[str, int]:
        """What each kind of grant has lost, by its pot."""
        time.sleep(0.7)
        assert self.gateway is not None
        return dict(figures(self.gateway.data, "SELECT kind, sum(spent) FROM pots GROUP BY kind"))

    def check(self) -> None:
        """Look that nothing is held any more, and that the books are whole."""
        assert self.gateway is not None
        held = "SELECT coalesce(sum(amount), 0) FROM slices WHERE slot LIKE 'batch-%'"
        assert figures(self.gateway.data, held) == [(0,)]
        found = self.gateway.command("ledger", "check")
        assert (found.returncode, found.stderr) == (0, ""), found.stdout


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    made = Lives(tmp_path)
    yield made
    if made.gateway is not None:
        made.gateway.stop()


def used_by(client: openai.OpenAI, batch) -> int:
    rows = lines_of(client, batch.output_file_id).values()
    return sum(row["response"]["body"]["usage"]["total_tokens"] for row in rows)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_grant_in_tokens_covers_a_batch_and_money_pays_nothing(lives, workers):
    client = lives.start(workers)
    give(lives.gateway.data, 1_000_000_000)
    give(lives.gateway.data, GIVEN, model="gpt-4o*")
    time.sleep(1.0)
    asked = [ask(f"r{n}") for n in range(50)]
    asked[7] = ask("r7", temperature=9)
    batch = wait(client, order(client, asked))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == (
        "completed",
        49,
        1,
    ), batch.errors
    used = used_by(client, batch)
    assert used > 500
    assert lives.spent() == {"grant": 0, "tokens": used}
    told = client.get(f"/batches/{batch.id}/results", cast_to=object)
    assert (told["charge_nano_usd"], told["charge_tokens"], told["held_nano_usd"]) == (0, used, 0)
    assert told["held_tokens"] > used
    direct = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], max_tokens=9
    )
    assert lives.spent() == {"grant": 0, "tokens": used + direct.usage.total_tokens}
    lives.check()


def test_what_it_cannot_cover_whole_is_paid_in_money(lives):
    client = lives.start()
    give(lives.gateway.data, 1_000_000_000)
    give(lives.gateway.data, 900, model=MODEL)
    time.sleep(1.0)
    batch = wait(client, order(client, [ask(f"r{n}") for n in range(20)]))
    assert (batch.status, batch.request_counts.completed) == ("completed", 20)
    spent = lives.spent()
    assert spent["tokens"] == 0
    assert spent["grant"] > 0
    batch = wait(client, order(client, [ask("r0"), ask("r1")]))
    assert lives.spent() == {"grant": spent["grant"], "tokens": used_by(client, batch)}
    lives.check()


def test_images_are_paid_in_money(lives):
    client = lives.start()
    give(lives.gateway.data, 5_000_000_000)
    give(lives.gateway.data, 10_000_000, model="*")
    time.sleep(1.0)
    url = "/v1/images/generations"
    body = {"model": "dall-e-3", "prompt": "a canal", "size": "1024x1024"}
    line = {"custom_id": "a", "method": "POST", "url": url, "body": body}
    batch = wait(client, order(client, [line], url))
    assert batch.status == "completed", batch
    spent = lives.spent()
    assert spent["tokens"] == 0
    assert spent["grant"] > 0
    lives.check()


def test_one_without_enough_of_either_fails_and_holds_nothing(lives):
    client = lives.start()
    give(lives.gateway.data, 900, model=MODEL)
    time.sleep(1.0)
    batch = wait(client, order(client, [ask(f"r{n}") for n in range(20)]))
    assert (batch.status, batch.errors.data[0].code) == ("failed", "insufficient_quota")
    assert lives.spent() == {"tokens": 0}
    assert client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], max_tokens=9
    ).choices
    lives.check()


def test_answers_that_come_one_by_one_take_tokens_each(lives):
    client = lives.start()
    give(lives.gateway.data, GIVEN, model=MODEL)
    time.sleep(1.0)
    batch = wait(client, order(client, [ask("a", n=3)]))
    assert batch.request_counts.completed == 1
    assert lives.spent() == {"tokens": used_by(client, batch)}
    lives.check()


@pytest.mark.parametrize(
    "place",
    every_third([
        "batch-before-output", "batch-begun", "batch-claimed", "after-open", "before-settle", "after-settle",
        "batch-read", "batch-after-output", "batch-published", "drain-before-commit", "drain-after-commit",
    ]),
)  # fmt: skip
def test_a_kill_takes_no_token_twice(lives, place):
    client = lives.start()
    give(lives.gateway.data, GIVEN, model=MODEL)
    time.sleep(1.0)
    lives.gateway.stop()
    client = lives.start(HEADGATE_FAILPOINTS=f"{place}=kill@{2 if 'settle' in place else 1}")
    batch = order(client, [ask(f"r{n}") for n in range(8)])
    assert lives.gateway.process.wait(30) == -signal.SIGKILL
    lives.gateway.stop()
    client = lives.start()
    batch = wait(client, batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 8)
    spent, used = lives.spent()["tokens"], used_by(client, batch)
    paid = figures(lives.gateway.data, "SELECT coalesce(sum(amount), 0) FROM entries WHERE kind = 4")
    assert paid == [(spent,)]
    assert spent <= used
    if place.startswith(("batch-", "drain-")):  # else the house pays for a call that was cut
        assert spent == used
    lives.check()


def test_tokens_cover_a_batch_that_its_provider_runs(tmp_path):
    with BatchProvider() as provider:
        (tmp_path / "headgate.toml").write_text(NO_GIFT + CONFIG.format(base=provider.base, key=KEY))
        gateway = start(tmp_path)
        try:
            client = openai_client(gateway.base, gateway.key, retries=2)
            give(gateway.data, 9_000, model="m", book=Book.REAL)
            time.sleep(1.0)
            batch = wait(client, order(client, [ask(f"r{n}", model="m") for n in range(9)]))
            assert (batch.status, batch.request_counts.completed, provider.calls) == ("completed", 9, 0), (
                batch.errors
            )
            time.sleep(0.7)
            assert figures(gateway.data, "SELECT kind, spent FROM pots") == [("tokens", 9 * 30)]
            found = gateway.command("ledger", "check")
            assert (found.returncode, found.stderr) == (0, ""), found.stdout
        finally:
            gateway.stop()


def test_a_cancel_gives_back_what_was_not_used(lives):
    client = lives.start()
    give(lives.gateway.data, GIVEN, model=MODEL)
    time.sleep(1.0)
    made = wait(client, order(client, [ask(f"r{n}") for n in range(500)]), until={"in_progress"})
    batch = wait(client, client.batches.cancel(made.id))
    assert batch.status == "cancelled"
    counts = batch.request_counts
    assert counts.completed + counts.failed == 500
    assert lives.spent() == {"tokens": used_by(client, batch)}
    lives.check()
