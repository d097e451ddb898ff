"""Windows survive the process: an orderly stop loses nothing, a kill at most the last second."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.surfaces.conftest import Gateway

from headgate.stores.sql.database import connect

RPD = 50


def ask(gateway: Gateway, key: str, model: str = "gpt-4o-mini") -> tuple[int, dict[str, str]]:
    body = {"model": model, "messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 20}
    request = urllib.request.Request(
        gateway.base + "/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json", "connection": "close"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as refusal:
        return refusal.code, dict(refusal.headers)


def left(headers: dict[str, str]) -> int:
    return int(headers["x-ratelimit-remaining-requests"])


def limit_key(gateway: Gateway, **limits: int) -> None:
    """Give the only key limits, and wait until every worker knows them."""
    with closing(connect(gateway.data)) as sql:
        numbers = ", ".join(f"{name} = {number}" for name, number in limits.items())
        sql.execute(f"UPDATE keys SET {numbers}")
        sql.execute("INSERT INTO changes (kind, ref, at) SELECT 'key', public_id, 0 FROM keys")
    time.sleep(1.0)


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_windows_survive_the_process(how: signal.Signals, workers: str, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", workers)
    key = gateway.key
    limit_key(gateway, rpd=RPD, tpd=1_000_000)
    for _ in range(9):
        status, headers = ask(gateway, key)
        assert status == 200
    time.sleep(0.4)  # by then every worker has told the others what it has used
    status, headers = ask(gateway, key)
    before = left(headers), int(headers["x-ratelimit-remaining-tokens"])
    if how == signal.SIGKILL:
        time.sleep(1.6)  # a second between two savings, and the saving itself
        for worker in (
            Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
        ):
            os.kill(int(worker), signal.SIGKILL)
    gateway.process.send_signal(how)
    gateway.process.wait(30)
    again = Gateway(tmp_path, "--workers", workers)
    try:
        _, headers = ask(again, key)
        slack = 1 if workers == "1" else 4  # what each worker does not know of the others
        assert before[0] - slack <= left(headers) <= before[0] + slack - 1
        assert abs(int(headers["x-ratelimit-remaining-tokens"]) - before[1]) < 200 * slack
    finally:
        again.stop()
        gateway.stop()


def test_four_workers_serve_what_one_would(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "4")
    try:
        limit_key(gateway, rpd=10_000)  # of which 7 come back in a minute
        began, told = time.monotonic(), [left(ask(gateway, gateway.key)[1]) for _ in range(40)]
        back = 1 + int((time.monotonic() - began) / 8)
        assert all(10_000 - n - 1 <= seen <= 10_000 - n + back for n, seen in enumerate(told, 1)), told
        limit_key(gateway, rpm=120, rpd=0)
        began = time.monotonic()
        with ThreadPoolExecutor(12) as pool:
            statuses = list(pool.map(lambda _: ask(gateway, gateway.key)[0], range(360)))
        allowed = 120 + 2 * (time.monotonic() - began)
        served = statuses.count(200)
        assert set(statuses) == {200, 429}
        assert served <= allowed * 1.01, (served, allowed)
        assert served >= 0.9 * 120
    finally:
        gateway.stop()


def test_a_worker_that_dies_frees_its_calls_at_once(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "2")
    try:
        limit_key(gateway, concurrency=2)
        with ThreadPoolExecutor(4) as pool:
            held = [pool.submit(hang, gateway) for _ in range(2)]
            end = time.monotonic() + 10
            while ask(gateway, gateway.key)[0] != 429:
                assert time.monotonic() < end
            children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text()
            for worker in children.split():
                os.kill(int(worker), signal.SIGKILL)
            for each in held:
                assert each.exception() is not None
        end = time.monotonic() + 20
        while not served(gateway):
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        gateway.stop()


def hang(gateway: Gateway) -> None:
    """Make a call that never ends, once the probes below leave room for it."""
    while True:
        status = ask(gateway, gateway.key, "sim-hang")[0]
        assert status == 429
        time.sleep(0.02)


def served(gateway: Gateway) -> bool:
    try:
        return ask(gateway, gateway.key)[0] == 200
    except OSError:
        return False
