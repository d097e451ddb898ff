"""An outage of one provider, with several workers: few calls meet it, and all are served elsewhere."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.surfaces.conftest import Gateway
from tests.surfaces.test_workers import ask, booked
from tests.upstream import ScriptedUpstream, error_json

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process there")
SETTINGS = """
[[providers]]
name = "down"
kind = "openai"
base_url = "{down}"
api_key = "sk-canary"
[[providers]]
name = "up"
kind = "openai"
base_url = "{up}"
api_key = "sk-canary"
[[models]]
name = "gpt-4o-mini"
targets = [{{ provider = "down", model = "gpt-4o-mini" }}, {{ provider = "up", model = "gpt-4o-mini" }}]
[[prices.rows]]
model = "*"
input = 0.15
output = 0.6
"""


def says_out(gateway: Gateway) -> bool:
    """Say whether a target is shown as out; what workers see of one another is shown each second."""
    return any('"out"' in gateway.command("status", "--json").stdout for _ in range(30))


def test_four_workers_meet_an_outage_at_most_ten_times_in_all(tmp_path: Path) -> None:
    with ScriptedUpstream(error_json(500, "down")) as down, ScriptedUpstream() as up:
        (tmp_path / "headgate.toml").write_text(SETTINGS.format(down=down.base_url, up=up.base_url))
        gateway = Gateway(tmp_path, "--config", "headgate.toml", "--workers", "4")
        try:
            made = [ask(gateway) for _ in range(40)]
            with ThreadPoolExecutor(4) as pool:
                made += pool.map(lambda _: ask(gateway), range(40))
            assert {status for status, _ in made} == {200}
            assert 5 <= len(down.requests) <= 10
            assert len(up.requests) == 80
            assert booked(gateway) == {request_id for _, request_id in made}
            assert says_out(gateway)
        finally:
            gateway.stop()
        assert gateway.command("ledger", "check").returncode == 0
