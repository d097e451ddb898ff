"""The gateway's own probes in a whole worker: what they ask, book and spend, and whom they leave alone."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.faults.worker import INPUT, MODELS, OUTPUT, Worker, chat, worker
from tests.upstream import ScriptedUpstream, chat_json, error_json, json_answer

from headgate.routing.probes import ProbeTerms
from headgate.stores.sql.database import connect
from headgate.values import Book, Target

pytestmark = pytest.mark.anyio
ONCE = "\n[retries]\nattempts = 1\n"


def probes(*targets: str, budget: str = "0.10/day") -> str:
    return f"\n[probes]\nevery_s = 86400\ntargets = {json.dumps(targets)}\nbudget = {json.dumps(budget)}\n"


async def made(gateway: Worker, count: int) -> None:
    """Wait for the first probes, which are made as a worker starts."""
    async with asyncio.timeout(20):
        while gateway.app.lookout.probing is None or gateway.app.lookout.probing.made < count:
            await asyncio.sleep(0.005)


def target(gateway: Worker) -> Target:
    return gateway.app.routes.candidates(MODELS[0], Book.REAL, gateway.app.clock.wall())[0]


def asked(gateway: Worker, query: str) -> list[Any]:
    with closing(connect(gateway._folder, read_only=True)) as sql:
        return sql.execute(query).fetchall()


async def test_a_probe_is_a_call_of_its_own_account_and_counts_as_a_probe(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("pong")) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE + probes(f"openai/{MODELS[0]}")) as gateway,
    ):
        await made(gateway, 1)
        await gateway.ask(chat())
        [probe, call] = upstream.requests
        body = probe.json()
        assert body["messages"] == [{"role": "user", "content": "ping"}]
        assert body["max_tokens"] == 16
        assert call.json() != body
        await gateway.books()
        accounts = asked(
            gateway,
            "SELECT accounts.name, calls.charge, calls.input, calls.output FROM calls"
            " JOIN accounts ON accounts.id = calls.account ORDER BY call",
        )
        assert [row[0] for row in accounts] == ["probes", "default"]
        assert accounts[0][1] == accounts[0][2] * INPUT + accounts[0][3] * OUTPUT > 0
        report = await gateway.app.lookout.report()
        [found] = [each for host in report.providers if host.provider == "openai" for each in host.targets]
        assert (found.served, found.attempts) == (2, 2)
        await gateway.app.lookout._keep()
        rows = asked(gateway, "SELECT probe, served, failed FROM uptime ORDER BY probe")
        assert rows == [(0, 1, 0), (1, 1, 0)]
        assert report.probes is not None
        assert (report.probes.made, report.probes.served, report.probes.paused) == (1, 1, "")


async def test_probes_rest_when_their_budget_is_used_up_and_callers_do_not_notice(tmp_path: Path) -> None:
    settings = ONCE + probes(
        f"openai/{MODELS[0]}", budget="0.00002/day"
    )  # one of 16 tokens: $0.0000123 at most
    async with (
        ScriptedUpstream(chat_json("pong", prompt_tokens=8, completion_tokens=16)) as upstream,
        worker(tmp_path, upstream.base_url, more=settings) as gateway,
    ):
        await made(gateway, 1)
        prober = gateway.app.prober()
        for _ in range(3):
            await prober.probe(target(gateway))
        assert len(upstream.requests) == 1
        probing = gateway.app.lookout.probing
        assert probing is not None
        assert probing.paused == "their budget is used up"
        assert (await gateway.ask(chat())).status == 200
        await gateway.books()
        [(spent, amount)] = asked(
            gateway,
            "SELECT sum(calls.charge), budgets.amount FROM calls JOIN accounts ON accounts.id = calls.account"
            " JOIN budgets ON budgets.ref = accounts.id AND budgets.origin = 'config'"
            " WHERE accounts.name = 'probes'",
        )
        assert 0 < spent <= amount == 20_000


async def test_a_failed_probe_counts_for_the_breaker_and_one_that_is_out_is_left_alone(
    tmp_path: Path,
) -> None:
    async with (
        ScriptedUpstream(*[error_json(500)] * 5, chat_json("pong")) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE + probes(f"openai/{MODELS[0]}")) as gateway,
    ):
        await made(gateway, 1)
        prober, at = gateway.app.prober(), target(gateway)
        for _ in range(4):
            await prober.probe(at)
        health = gateway.app.outward.health
        assert not health.admits(at, gateway.app.clock.monotonic())
        for _ in range(5):
            await prober.probe(at)
        assert len(upstream.requests) == 5
        [breaker] = health.breakers.values()
        breaker._out_until = gateway.app.clock.monotonic()  # its time is over
        await asyncio.gather(*(prober.probe(at) for _ in range(5)))  # one at a time: the first is it
        assert len(upstream.requests) == 6
        assert health.unwell(gateway.app.clock.monotonic()) == []
        await gateway.app.lookout._keep()
        assert asked(gateway, "SELECT probe, served, failed FROM uptime WHERE served + failed") == [(1, 1, 5)]


@pytest.mark.parametrize(("status", "counted"), [(429, (0, 0)), (400, (0, 0)), (401, (0, 1))])
async def test_what_a_probe_meets_counts_as_it_does_for_calls(
    tmp_path: Path, status: int, counted: tuple[int, int]
) -> None:
    async with (
        ScriptedUpstream(error_json(status)) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE + probes(f"openai/{MODELS[0]}")) as gateway,
    ):
        await made(gateway, 1)
        assert gateway.app.lookout._probes.get(("openai", MODELS[0]), (0, 0)) == counted


async def test_probes_rest_while_their_account_is_suspended(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("pong")) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE + probes(f"openai/{MODELS[0]}")) as gateway,
    ):
        await made(gateway, 1)
        with closing(connect(gateway._folder)) as sql:
            sql.execute("UPDATE accounts SET status = 'suspended' WHERE name = 'probes'")
            sql.execute("INSERT INTO changes (kind, ref, at) SELECT 'account', public_id, 1 FROM accounts")
        await gateway.app._changes.now(10.0)
        await gateway.app.prober().probe(target(gateway))
        assert len(upstream.requests) == 1
        probing = gateway.app.lookout.probing
        assert probing is not None
        assert "suspended" in probing.paused


async def test_models_are_probed_by_what_they_make_and_unknown_ones_are_said(tmp_path: Path) -> None:
    vector = json_answer({
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    })  # fmt: skip
    async with (
        ScriptedUpstream(vector) as upstream,
        worker(
            tmp_path, upstream.base_url, more=ONCE + probes("openai/text-embedding-3-small", "nobody")
        ) as gateway,
    ):
        await made(gateway, 1)
        assert [request.path for request in upstream.requests] == ["/v1/embeddings"]
        prober = gateway.app.prober()
        assert [each.model.name for each in prober.targets()] == ["text-embedding-3-small"]
        probing = gateway.app.lookout.probing
        assert probing is not None
        assert "`nobody` does not exist" in probing.paused


async def test_a_target_that_is_chosen_by_the_call_is_probed_like_any_other(tmp_path: Path) -> None:
    model = """
[[models]]
name = "fast"
choice = "least_latency"
targets = [{ provider = "openai", model = "gpt-4o-mini" }, { provider = "compatible", model = "scripted-1" }]
"""
    async with (
        ScriptedUpstream(chat_json("pong")) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE + model + probes("fast")) as gateway,
    ):
        await made(gateway, 1)
        prober = gateway.app.prober()
        for each in prober.targets():
            assert each.steered
            await prober.probe(each)
        probing = gateway.app.lookout.probing
        assert probing is not None
        assert (probing.made, probing.served, probing.paused) == (3, 3, "")
        assert {request.json()["model"] for request in upstream.requests} == set(MODELS)


async def test_without_the_setting_nothing_is_probed_and_no_account_is_made(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("pong")) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        assert [
            task.get_name() for task in gateway.app.background._tasks if task.get_name() == "probes"
        ] == []
        assert asked(gateway, "SELECT name FROM accounts") == [("default",)]
        assert upstream.requests == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"every_s": 5, "targets": ("a",)}, "every_s"),
        ({"every_s": 60}, "targets"),
        ({"every_s": 60, "targets": ("a",), "budget": "much"}, "budget"),
        ({"budget": "1/hour"}, "budget"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, Any], said: str) -> None:
    assert said in ProbeTerms(**given).wrong()
    assert not ProbeTerms(every_s=60, targets=("a",)).wrong()
