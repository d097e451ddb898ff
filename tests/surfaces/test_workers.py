"""Several workers on one data folder: served by all, replaced when they die, ended with their supervisor."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.surfaces.conftest import HEADGATE, Gateway, InstalledGateway, plain_environment
from tests.surfaces.forks import run as run_forked

from headgate.supervisor import Post

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process there")


def children(pid: int) -> set[int]:
    """Return the child processes of a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(word) for word in text.split()}


def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def ask(gateway: Gateway, text: str = "Say hello") -> tuple[int, str]:
    """Make one call on a connection of its own; return its status and request id."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], "max_tokens": 20}
    request = urllib.request.Request(
        gateway.base + "/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {gateway.key}", "content-type": "application/json", "connection": "close"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.headers["x-request-id"]


def booked(gateway: Gateway) -> set[str]:
    lines = gateway.command("usage", "--calls", "--json").stdout
    return {call["request_id"] for call in json.loads(lines)}


def test_every_worker_serves_and_the_books_have_every_call(tmp_path: Path) -> None:
    gateway = InstalledGateway(tmp_path, "--workers", "3")
    try:
        assert len(children(gateway.process.pid)) == 3
        assert gateway.said.count("Ctrl-C") == 1
        made = {ask(gateway)[1] for _ in range(30)}
        wrote = [each.name for each in (gateway.data / "journal").iterdir()]
        assert sorted(wrote) == ["slot-0", "slot-1", "slot-2"]
        assert booked(gateway) == made
    finally:
        code, out, err = gateway.stop()
    assert (code, err) == (0, "")
    assert out.splitlines() == ["Stopping.", "Stopped."]
    assert gateway.command("ledger", "check").returncode == 0
    assert booked(gateway) == made


def test_a_worker_that_dies_is_replaced_and_its_journal_replayed(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "2")
    try:
        made = {ask(gateway)[1] for _ in range(10)}
        before = children(gateway.process.pid)
        for victim in before:
            os.kill(victim, signal.SIGKILL)
        until(lambda: len(children(gateway.process.pid) - before) == 2)
        until(lambda: answers(gateway))
        made |= {ask(gateway)[1] for _ in range(10)}
        assert made <= booked(gateway)
    finally:
        code, out, _ = gateway.stop()
    assert code == 0
    assert out.count("was ended by signal 9; it is started again.") == 2
    assert gateway.command("ledger", "check").returncode == 0


def counted(gateway: Gateway) -> float:
    """Return how many calls the metrics know, whichever worker is asked."""
    with urllib.request.urlopen(gateway.base.removesuffix("/v1") + "/metrics", timeout=20) as answer:
        text = answer.read().decode()
    rows = [line for line in text.splitlines() if line.startswith("headgate_calls_total{")]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


def test_any_worker_tells_the_metrics_of_all(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "3")
    try:
        for _ in range(12):
            ask(gateway)
        until(lambda: all(counted(gateway) == 12 for _ in range(6)))
        for victim in children(gateway.process.pid):
            os.kill(victim, signal.SIGKILL)
        until(lambda: answers(gateway))
        ask(gateway)
        until(lambda: counted(gateway) == 14)
    finally:
        gateway.stop()


def answers(gateway: Gateway) -> bool:
    try:
        return ask(gateway)[0] == 200
    except OSError:
        return False


def test_workers_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "2")
    made = {ask(gateway)[1] for _ in range(5)}
    workers = children(gateway.process.pid)
    gateway.process.kill()
    gateway.process.communicate(timeout=20)
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    again = Gateway(tmp_path, "--workers", "1")
    again.stop()
    assert booked(again) == made
    assert again.command("ledger", "check").returncode == 0


def test_fewer_workers_replay_the_slots_of_more(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "4")
    made = {ask(gateway)[1] for _ in range(12)}
    workers = children(gateway.process.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # so that none can end in order
    gateway.process.kill()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    gateway.process.communicate(timeout=20)
    again = Gateway(tmp_path, "--workers", "2")
    try:
        assert booked(again) == made
    finally:
        assert again.stop()[0] == 0
    assert again.command("ledger", "check").returncode == 0


def test_a_second_supervisor_is_refused_and_names_the_first(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "2")
    try:
        start = [HEADGATE, "serve", "--workers", "2"]
        words = [*start, "--port", "0", "--data", str(gateway.data)]
        second = run_forked(words, tmp_path, plain_environment(), timeout=30)
        assert second.returncode == 3
        assert str(gateway.process.pid) in second.stderr
        port = gateway.base.rsplit(":", 1)[1].removesuffix("/v1")
        words = [*start, "--port", port, "--data", str(tmp_path / "other")]
        elsewhere = run_forked(words, tmp_path, plain_environment(), timeout=30)
        assert elsewhere.returncode == 3
        assert f"127.0.0.1:{port} is taken by another program" in elsewhere.stderr
    finally:
        assert gateway.stop(signal.SIGINT)[0] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_monitor_port_that_is_taken_is_said_and_ends_the_start(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = tmp_path / "headgate.toml"
        settings.write_text(f"[server]\nmonitor_port = {port}\n")
        words = [HEADGATE, "serve", "--port", "0", "--workers", workers, "--config", str(settings)]
        words += ["--data", str(tmp_path / "data")]
        refused = run_forked(words, tmp_path, plain_environment(), timeout=30)
    assert refused.returncode == 3
    assert f"127.0.0.1:{port} is taken by another program" in refused.stderr
    assert "monitor_port under [server]" in refused.stderr


def streamed(gateway: Gateway, text: list[str]) -> None:
    """Ask for a stream that would take a minute; keep what comes of it."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    request = urllib.request.Request(
        gateway.base + "/chat/completions",
        json.dumps(body).encode(),
        {
            "authorization": f"Bearer {gateway.key}",
            "content-type": "application/json",
            "x-headgate-sim": "chunk_ms=300; tokens=200",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        text.append(answer.readline().decode())
        text.append(answer.read().decode())


def known(gateway: Gateway) -> bool:
    """Say whether the worker that is asked knows the gateway's key."""
    headers = {"authorization": f"Bearer {gateway.key}", "connection": "close"}
    try:
        with urllib.request.urlopen(urllib.request.Request(gateway.base + "/models", headers=headers)):
            return True
    except urllib.error.HTTPError as refused:
        return refused.code != 401


def test_a_revoked_key_is_refused_by_every_worker_and_its_streams_end(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "--workers", "3")
    try:
        texts: list[list[str]] = [[] for _ in range(6)]
        streams = [threading.Thread(target=streamed, args=(gateway, text)) for text in texts]
        for stream in streams:
            stream.start()
        until(lambda: all(texts))
        assert gateway.command("keys", "revoke", "first").returncode == 0
        until(lambda: not any(known(gateway) for _ in range(9)), 5.0)
        for stream in streams:
            stream.join(10.0)
        for first, rest in texts:
            assert first.startswith("data: {")
            assert "This key has been revoked" in rest
            assert "[DONE]" not in rest
    finally:
        gateway.stop()
    assert gateway.command("ledger", "check").returncode == 0
    assert len(booked(gateway)) == 6


CREW = """
import sys
from headgate.ports import SystemClock
from headgate.supervisor import Crew, Supervisor

def run(post):
    raise OSError("no such disk")

crew = Crew(count=2, run=run, replay=lambda slot: True, say=print, stop_s=1.0)
sys.exit(Supervisor(crew, SystemClock()).serve())
"""


def test_a_worker_that_cannot_start_says_why_and_ends_the_start() -> None:
    ran = subprocess.run([sys.executable, "-c", CREW], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert "OSError: no such disk" in ran.stderr
    assert "started again" not in ran.stdout


def test_a_worker_does_not_wait_for_a_supervisor_that_sleeps() -> None:
    listening, speaking = os.pipe()
    while select.select([], [speaking], [], 0)[1]:
        os.write(speaking, bytes(4096))
    Post(0, 0, speaking).beat()
    os.read(listening, 4096)
    Post(0, 0, speaking).beat()
    os.close(speaking)
    with open(listening, "rb") as pipe:
        heard = pipe.read()
    assert heard.endswith(b"\0.")
    assert heard.count(b".") == 1
