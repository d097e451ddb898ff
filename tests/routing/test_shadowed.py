"""Shadows in a whole worker: what the caller sees, what is sent, and who pays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.faults.worker import ONE_ATTEMPT, Reply, Worker, chat, worker
from tests.routing.test_routes import BOTH, NOW, routes
from tests.upstream import Peer, Received, ScriptedUpstream, chat_json, chat_stream, error_json

from headgate.settings.upstreams import ConfigError
from headgate.shadows import CALLS, MICROS
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect

pytestmark = pytest.mark.anyio

MAIN, SHADOW = "scripted-1", "gpt-4o-mini"


def settings(budget: str = "1/day", share: float = 100, more: str = "") -> str:
    return (
        ONE_ATTEMPT
        + f"""
[[models]]
name = "smart"
targets = [{{ provider = "compatible", model = "{MAIN}" }}]
[models.shadow]
target = {{ provider = "openai", model = "{SHADOW}" {more} }}
share_percent = {share}
budget = "{budget}"
"""
    )


async def quiet(gateway: Worker) -> None:
    """Wait until no shadow is under way."""
    async with asyncio.timeout(20):
        while tasks := list(gateway.app.pipeline.shadows._tasks):
            await asyncio.wait(tasks)


def outcomes(gateway: Worker) -> dict[str, int]:
    counts = gateway.app.metrics.counts
    return {labels[-1]: count for (name, labels), count in counts.items() if name == CALLS}


def rows(folder: Path) -> list[tuple[str, bytes | None, int, int, int]]:
    """Every call: the name of its account, its parent, its charge, cost and status; in their order."""
    sql = connect(folder, read_only=True)
    try:
        return sql.execute(
            "SELECT a.name, c.parent, c.charge, c.cost, c.status FROM calls c"
            " JOIN accounts a ON a.id = c.account ORDER BY c.seq"
        ).fetchall()
    finally:
        sql.close()


async def test_a_shadow_comes_after_the_answer_changes_nothing_and_the_house_pays_it(tmp_path: Path) -> None:
    may_answer = asyncio.Event()

    async def answer(peer: Peer, request: Received) -> None:
        if request.json()["model"] == SHADOW:
            await may_answer.wait()
        await peer.send(chat_json("seen" if request.json()["model"] == MAIN else "unseen"))

    async with (
        ScriptedUpstream(answer) as upstream,
        worker(tmp_path, upstream.base_url, more=settings()) as gateway,
    ):
        reply = await gateway.ask(chat(model="smart"))
        assert (reply.status, b"unseen" in reply.body) == (200, False)
        await upstream.received(2)
        main, shadow = upstream.requests
        assert (main.json()["model"], shadow.json()["model"]) == (MAIN, SHADOW)
        assert {**main.json(), "model": ""} == {**shadow.json(), "model": ""}
        may_answer.set()
        await quiet(gateway)
        await gateway.books()
        (_, no_parent, charge, _, _), (payer, parent, paid, cost, status) = rows(gateway.app._data)
        assert (no_parent, payer, parent) == (None, "shadow", bytes.fromhex(reply.request_id[4:]))
        assert paid == cost > 0
        assert status == 200
        assert reply.headers["x-headgate-cost"] == f"{charge / 1e9:.9f}"
        assert outcomes(gateway) == {"served": 1}
        sides = {labels[3:] for (name, labels) in gateway.app.metrics.counts if name == MICROS}
        assert sides == {(side, part) for side in ("main", "shadow") for part in ("first_byte", "whole")}
        assert b"headgate_shadow_cost_nano_usd_total" in gateway.app.exposition()
        assert gateway.app.metrics.calls() == 1, "a shadow is no call of a customer"


@pytest.mark.parametrize("stream", [False, True])
async def test_of_several_answers_that_come_one_by_one_the_first_has_a_shadow(
    tmp_path: Path, stream: bool
) -> None:
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, more=settings(), extra="several = false") as gateway,
    ):
        reply = await gateway.ask(chat(model="smart", n=3, stream=stream))
        assert (reply.status, reply.headers["x-headgate-emulated"]) == (200, "n")
        await quiet(gateway)
        assert sorted(each.json()["model"] for each in upstream.requests) == [SHADOW, MAIN, MAIN, MAIN]
        assert "n" not in upstream.requests[-1].json()
        await gateway.books()
        *parts, (payer, parent, paid, cost, status) = rows(gateway.app._data)
        assert (payer, status, paid) == ("shadow", 200, cost)
        assert {part[1] for part in parts} == {bytes.fromhex(reply.request_id[4:])}
        sql = connect(gateway.app._data, read_only=True)
        first = sql.execute("SELECT call FROM calls WHERE call = ?", (parent,)).fetchall()
        sql.close()
        assert len(first) == 1, "its parent is the first of the answers"
        assert outcomes(gateway) == {"served": 1}


async def test_a_shadow_that_fails_costs_nothing_and_hurts_nobody(tmp_path: Path) -> None:
    async def answer(peer: Peer, request: Received) -> None:
        asked = request.json()
        fine = chat_stream("fine") if asked.get("stream") else chat_json("fine")
        await peer.send(error_json(500) if asked["model"] == SHADOW else fine)

    async with (
        ScriptedUpstream(answer) as upstream,
        worker(tmp_path, upstream.base_url, more=settings()) as gateway,
    ):
        for stream in (False, True):
            assert (await gateway.ask(chat(model="smart", stream=stream))).status == 200
            await quiet(gateway)
        assert outcomes(gateway) == {"failed": 2}
        await gateway.books()
        assert [
            (status, charge) for name, _, charge, _, status in rows(gateway.app._data) if name == "shadow"
        ] == [
            (500, 0),
            (500, 0),
        ]


async def test_shadows_stop_when_their_budget_is_reached_and_customers_do_not(tmp_path: Path) -> None:
    budget = settings("0.0001/total")  # one hold fits, and after what it cost no other
    async with (
        ScriptedUpstream(chat_json("fine", prompt_tokens=10, completion_tokens=100)) as upstream,
        worker(tmp_path, upstream.base_url, more=budget) as gateway,
    ):
        replies: list[Reply] = []
        for _ in range(4):
            replies.append(await gateway.ask(chat(model="smart")))
            await quiet(gateway)
        assert [reply.status for reply in replies] == [200] * 4
        assert outcomes(gateway) == {"served": 1, "over_budget": 3}
        assert [request.json()["model"] for request in upstream.requests].count(SHADOW) == 1
        await gateway.books()
        paid = sum(charge for name, _, charge, _, _ in rows(gateway.app._data) if name == "shadow")
        assert 0 < paid <= 100_000


async def test_a_shadow_never_leaves_what_its_call_demands_or_its_conditions(tmp_path: Path) -> None:
    only_streams = settings(more=', region = "us", when = { stream = true }')
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, extra='region = "eu"', more=only_streams) as gateway,
    ):
        await gateway.ask(chat(model="smart"))
        await gateway.ask(chat(model="smart", stream=True), more="x-headgate-demand: region=eu\r\n")
        await quiet(gateway)
        assert [request.json()["model"] for request in upstream.requests] == [MAIN, MAIN]
        await gateway.ask(chat(model="smart", stream=True))
        await quiet(gateway)
        assert upstream.requests[-1].json()["model"] == SHADOW


async def test_a_stop_does_not_wait_for_shadows_and_settles_them(tmp_path: Path) -> None:
    async def answer(peer: Peer, request: Received) -> None:
        if request.json()["model"] == MAIN:
            await peer.send(chat_json("fine"))
        else:
            await peer.hang()

    async with ScriptedUpstream(answer) as upstream:
        async with worker(tmp_path, upstream.base_url, more=settings(), ends=False) as gateway:
            assert (await gateway.ask(chat(model="smart"))).status == 200
            await upstream.received(2)
        assert [(name, status) for name, _, _, _, status in rows(tmp_path / "data")] == [
            ("default", 200),
            ("shadow", 503),
        ]
        assert check(tmp_path / "data", NOW).findings == []


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ('share_percent = 0, budget = "1/day"', "share_percent"),
        ('share_percent = 5, budget = "1/fortnight"', "budget"),
        ("share_percent = 5", "budget"),
        ('share_percent = 5, budget = "1/day", target = {provider = "nobody", model = "x"}', "nobody"),
    ],
)
def test_a_shadow_that_cannot_be_meant_is_refused(tmp_path: Path, said: str, wrong: str) -> None:
    target = "" if "target" in said else ', target = {provider = "openai", model = "x"}'
    toml = f"""
[[models]]
name = "m"
targets = [{{provider = "openai", model = "y"}}]
shadow = {{ {said}{target} }}
"""
    with pytest.raises(ConfigError, match=wrong):
        routes(tmp_path, toml, BOTH)
