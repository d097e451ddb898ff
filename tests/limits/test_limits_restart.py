"""Windows survive the process: an orderly stop loses nothing, a kill at most the last second."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from tests.surfaces.conftest import Gateway

from headgate.stores.sql.database import connect

RPD = 50


def ask(gateway: Gateway, key: str) -> tuple[int, dict[str, str]]:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 20}
    request = urllib.request.Request(
        gateway.base + "/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as refusal:
        return refusal.code, dict(refusal.headers)


def left(headers: dict[str, str]) -> int:
    return int(headers["x-ratelimit-remaining-requests"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_windows_survive_the_process(how: signal.Signals, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    key = gateway.key
    with closing(connect(gateway.data)) as sql:
        sql.execute("UPDATE keys SET rpd = ?, tpd = 1000000", (RPD,))
        sql.execute("INSERT INTO changes (kind, ref, at) SELECT 'key', public_id, 0 FROM keys")
    end = time.monotonic() + 5
    while "x-ratelimit-limit-requests" not in ask(gateway, key)[1]:
        assert time.monotonic() < end
    for _ in range(9):
        status, headers = ask(gateway, key)
        assert status == 200
    before = left(headers), int(headers["x-ratelimit-remaining-tokens"])
    if how == signal.SIGKILL:
        time.sleep(1.6)  # a second between two savings, and the saving itself
    gateway.process.send_signal(how)
    gateway.process.wait(30)
    again = Gateway(tmp_path)
    try:
        _, headers = ask(again, key)
        assert before[0] - 1 <= left(headers) <= before[0]  # one call more; less than one came back meanwhile
        assert abs(int(headers["x-ratelimit-remaining-tokens"]) - before[1]) < 200
    finally:
        again.stop()
        gateway.stop()
