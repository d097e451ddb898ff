"""Providers' health in a whole worker: what `/status`, the page, the metrics and the database say of faults."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.faults.worker import MODELS, Worker, chat, parse, worker
from tests.upstream import Peer, Received, ScriptedUpstream, chat_json, error_json, http_answer

from headgate.cli.root import cli
from headgate.stores.sql import uptime
from headgate.stores.sql.database import connect
from headgate.vitals import DAYS

pytestmark = pytest.mark.anyio
ONCE = "\n[retries]\nattempts = 1\n"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HOUR_US = 3_600_000_000


async def get(gateway: Worker, path: str, accept: str = "*/*", *, monitor: bool = False) -> Any:
    """Return the answer to a GET without a key."""
    address = (gateway.app.monitor if monitor else gateway.app.server).addresses[0]
    reader, writer = await asyncio.open_connection(*address)
    head = f"GET {path} HTTP/1.1\r\nHost: gateway\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    raw = await reader.read()
    writer.close()
    return parse(raw)


async def status(gateway: Worker) -> dict[str, Any]:
    gateway.app.lookout._looked_ns = -(10**12)
    return json.loads((await get(gateway, "/status")).body)


def target_of(found: dict[str, Any], provider: str, model: str) -> dict[str, Any]:
    [host] = [each for each in found["providers"] if each["provider"] == provider]
    return next(each for each in host["targets"] if each["model"] == model)


async def shown(data: Path) -> str:
    """What the command says."""
    return (await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--data", str(data)])).stdout


async def test_a_breaker_that_opens_is_seen_in_all_places(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("hi"), *[error_json(500)] * 5) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE) as gateway,
    ):
        for _ in range(6):
            await gateway.ask(chat())
        found = await status(gateway)
        target = target_of(found, "openai", MODELS[0])
        assert (target["state"], target["errors"], target["served"]) == ("out", {"failed": 5}, 1)
        assert (target["attempts"], target["retries"], target["times_out"]) == (6, 0, 1)
        assert (target["recent_attempts"], target["failure_rate"]) == (6, 0.8333)
        assert found["at"] + 20 < target["until"] < found["at"] + 40
        assert target["uptime"] == round(1 / 6, 6)
        assert found["state"] == "out"
        said = f"out until {datetime.fromtimestamp(target['until'], UTC):%H:%M:%S} UTC"
        async with asyncio.timeout(10):  # a server tells commands once a second
            while said not in await shown(tmp_path / "data"):
                await asyncio.sleep(0.1)
        text = (await get(gateway, "/metrics")).body.decode()
        where = f'model="{MODELS[0]}"'
        assert f'headgate_target_state{{key="",{where},provider="openai",state="out"}} 1.0' in text
        assert (
            f'headgate_target_attempts_total{{key="",{where},outcome="failed",provider="openai"}} 5.0' in text
        )
        assert f'headgate_target_uptime_ratio{{{where},provider="openai"}} 0.16' in text
        page = (await get(gateway, "/status?lang=en", BROWSER)).body.decode()
        assert "No provider answers now." in page
        assert "server error 5" in page
        assert "没有服务商响应" in (await get(gateway, "/status?lang=zh", BROWSER)).body.decode()
        assert (await gateway.ask(chat())).status == 500  # in panic, the last answer repeats
        assert target_of(await status(gateway), "openai", MODELS[0])["state"] == "panic"


async def test_a_country_that_is_not_served_is_told_with_what_to_do(tmp_path: Path) -> None:
    body = {
        "error": {
            "code": "unsupported_country_region_territory",
            "message": "no",
            "type": "request_forbidden",
        }
    }
    answer = http_answer(json.dumps(body).encode(), 403, [("content-type", "application/json")])
    async with (
        ScriptedUpstream(answer) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE) as gateway,
    ):
        for _ in range(5):
            reply = await gateway.ask(chat())
            assert json.loads(reply.body)["error"]["code"] == "unsupported_country_region_territory"
        [provider] = [each for each in (await status(gateway))["providers"] if each["provider"] == "openai"]
        assert (provider["state"], provider["kind"]) == ("out", "region")
        assert provider["says"].startswith("It does not serve the country or region")
        assert "proxy" in provider["says"]
        page = (await get(gateway, "/status", BROWSER)).body.decode()
        assert "It does not serve the country or region" in page


async def test_nothing_private_is_told_to_everybody(tmp_path: Path) -> None:
    asked = "scripted-of-tenant-acme"
    async with (
        ScriptedUpstream(chat_json("hi")) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE) as gateway,
    ):
        assert (await gateway.ask(chat(model=asked))).status == 200
        for accept in ("*/*", BROWSER):
            said = (await get(gateway, "/status", accept)).body.decode()
            for word in (asked, "acme", "canary", upstream.base_url, "127.0.0.1", "default", "acct_", "key_"):
                assert word not in said, word
        assert target_of(await status(gateway), "compatible", "other")["served"] == 1
        everything = await gateway.app.lookout.report()
        assert asked in {each.model for host in everything.providers for each in host.targets}


async def test_the_page_can_be_turned_off_and_the_second_listener_has_it_all_the_same(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE + "[status]\npublic = false\n") as gateway,
    ):
        await gateway.app.monitor.bind("127.0.0.1", 0)
        await gateway.app.monitor.start()
        assert (await get(gateway, "/status")).status == 404
        assert (await get(gateway, "/status", BROWSER)).status == 404
        assert b'href="/status"' not in (await get(gateway, "/", BROWSER)).body
        assert json.loads((await get(gateway, "/status", monitor=True)).body)["object"] == "status"


async def test_uptime_is_kept_for_ninety_days(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("hi")) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE) as gateway,
    ):
        now = gateway.app.clock.wall()
        with closing(connect(gateway._folder)) as sql:
            for back in (DAYS + 1, DAYS - 1):
                row = uptime.Tried("openai", MODELS[0], False, 3, 1)
                uptime.add(sql, [row, row], now - back * 24 * HOUR_US)
        await gateway.ask(chat())
        target = target_of(await status(gateway), "openai", MODELS[0])
        assert [(day["served"], day["failed"]) for day in target["days"]] == [(6, 2), (1, 0)]
        gateway.app.lookout._prune()
        with closing(connect(gateway._folder)) as sql:
            assert sql.execute("SELECT count(*) FROM uptime").fetchone() == (2,)


async def test_a_database_that_is_locked_loses_no_uptime(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("hi")) as upstream,
        worker(tmp_path, upstream.base_url, more=ONCE) as gateway,
    ):
        lookout = gateway.app.lookout
        await gateway.ask(chat())
        told: list[str] = []
        lookout._trouble = told.append
        whole = lookout._connect

        def impatient() -> Any:
            sql = whole()
            sql.execute("PRAGMA busy_timeout = 0")
            return sql

        with closing(connect(gateway._folder)) as sql:
            lookout._connect = impatient  # type: ignore[assignment]
            sql.execute("BEGIN IMMEDIATE")
            await lookout._keep()
            sql.execute("ROLLBACK")
        assert told == ["database is locked"]
        await asyncio.gather(*(lookout._keep() for _ in range(5)))
        with closing(connect(gateway._folder)) as sql:
            assert sql.execute("SELECT served, failed FROM uptime").fetchall() == [(1, 0)]


async def test_each_key_of_a_provider_is_seen_by_its_number(tmp_path: Path) -> None:
    async def answer(peer: Peer, request: Received) -> None:
        bad = request.get("authorization") == "Bearer sk-canary-2"
        await peer.send(error_json(401) if bad else chat_json("hi"))

    keys = """
[[providers]]
name = "keyed"
base_url = "{}"
api_keys = ["sk-canary-1", "sk-canary-2"]
models = ["m-*"]
"""
    async with (
        ScriptedUpstream(answer) as upstream,
        worker(tmp_path, upstream.base_url, more=keys.format(upstream.base_url)) as gateway,
    ):
        target: dict[str, Any] = {"keys": []}
        while [key["state"] for key in target["keys"]] != ["well", "out"]:
            assert (await gateway.ask(chat(model="m-1"))).status == 200
            target = target_of(await status(gateway), "keyed", "other")
        one, two = target["keys"]
        assert target["state"] == "impaired"
        assert (one["key"], one["state"], one["errors"], one["failure_rate"]) == ("1", "well", {}, 0.0)
        assert one["served"] == one["attempts"] == target["served"]
        assert one["retries"] == 5
        assert (type(one["first_byte_ms"]), two["first_byte_ms"]) == (int, None)
        assert (two["errors"], two["attempts"], two["failure_rate"]) == ({"denied": 5}, 5, 1.0)
        assert "sk-canary" not in json.dumps(await status(gateway))
        text = (await get(gateway, "/metrics")).body.decode()
        assert (
            'headgate_target_attempts_total{key="2",model="m-1",outcome="denied",provider="keyed"} 5.0'
            in text
        )
