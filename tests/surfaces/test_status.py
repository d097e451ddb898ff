"""`headgate status` beside a server: what all of its workers see, what a dead one leaves, what a restart keeps."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.conftest import Gateway
from tests.surfaces.test_workers import children, until
from tests.upstream import ScriptedUpstream, chat_json, error_json

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process there")
SETTINGS = """
[retries]
attempts = 1
[[providers]]
name = "first"
base_url = "{base_url}"
api_key = "sk-canary"
[[models]]
name = "chat"
targets = [{{ provider = "first", model = "m-1" }}]
"""


def ask(gateway: Gateway) -> int:
    """Make one call on a connection of its own; return its status."""
    request = urllib.request.Request(
        gateway.base + "/chat/completions",
        json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]}).encode(),
        {"authorization": f"Bearer {gateway.key}", "content-type": "application/json", "connection": "close"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:  # no worker listens just now
        return 0


def told(gateway: Gateway) -> dict[str, Any]:
    """Return what `headgate status` says."""
    result = gateway.command("status", "--json")
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def only(found: dict[str, Any]) -> dict[str, Any]:
    [provider] = found["providers"]
    [target] = provider["targets"]
    return dict(target)


def fetched(gateway: Gateway, path: str) -> str:
    request = urllib.request.Request(gateway.base.removesuffix("/v1") + path, headers={"connection": "close"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def settings(folder: Path, base_url: str) -> str:
    (folder / "h.toml").write_text(SETTINGS.format(base_url=base_url))
    return str(folder / "h.toml")


def served(gateway: Gateway) -> dict[str, Any]:
    """Return what `GET /status` says."""
    found: dict[str, Any] = json.loads(fetched(gateway, "/status"))
    return found


def test_all_workers_are_seen_from_everywhere(tmp_path: Path) -> None:
    with ScriptedUpstream(chat_json("hi"), *[error_json(500)] * 12, chat_json("hi")) as upstream:
        gateway = Gateway(tmp_path, "--workers", "2", "--config", settings(tmp_path, upstream.base_url))
        try:
            assert only(told(gateway))["attempts"] == 0
            assert [ask(gateway) for _ in range(13)].count(500) == 12
            until(lambda: only(served(gateway))["attempts"] == 13)
            for _ in range(6):  # whichever worker answers
                until(lambda: only(served(gateway))["errors"] == {"failed": 12})
                assert 'outcome="failed",provider="first"} 12.0' in fetched(gateway, "/metrics")
            found = told(gateway)
            assert (found["serving"], found["workers"], only(found)["served"]) == (True, 2, 1)
            assert only(found)["state"] in {"out", "panic"}
            assert gateway.command("status").returncode == 1
            before = children(gateway.process.pid)
            for victim in before:
                os.kill(victim, signal.SIGKILL)
            until(lambda: len(children(gateway.process.pid) - before) == 2)
            until(lambda: ask(gateway) == 200)
            until(lambda: only(served(gateway))["served"] == 2)
            assert only(served(gateway))["errors"] == {"failed": 12}
        finally:
            gateway.stop()
    assert gateway.command("ledger", "check").returncode == 0


def test_a_dead_server_is_told_as_it_was_and_uptime_outlasts_it(tmp_path: Path) -> None:
    with ScriptedUpstream(error_json(500), chat_json("hi")) as upstream:
        config = settings(tmp_path, upstream.base_url)
        gateway = Gateway(tmp_path, "--config", config)
        try:
            assert [ask(gateway) for _ in range(4)] == [500, 200, 200, 200]
        finally:
            gateway.stop()
        assert "No server runs on this folder" in gateway.command("status").stdout
        dead = told(gateway)
        assert (dead["serving"], only(dead)["errors"], only(dead)["uptime"]) == (False, {"failed": 1}, 0.75)
        again = Gateway(tmp_path, "--config", config)
        again.key = gateway.key
        try:
            assert only(told(again))["attempts"] == 0
            assert ask(again) == 200
            until(lambda: only(served(again))["uptime"] == 0.8)
        finally:
            again.stop(signal.SIGKILL)
        assert (told(again)["serving"], only(told(again))["served"]) == (False, 1)


def test_the_simulator_is_told_as_what_it_is(simulated: Gateway) -> None:
    found = told(simulated)
    assert (found["serving"], found["simulated"], found["state"]) == (True, True, "well")
    assert "simulator" in simulated.command("status").stdout
