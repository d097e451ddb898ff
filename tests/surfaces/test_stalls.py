"""Requests that are dear to read stop the loop of a gateway for moments only: others and probes are answered meanwhile.

`make stalls` sends each 20 times and holds the loop to 250 ms; elsewhere the machine is shared with other tests.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.surfaces.conftest import Gateway

RUNS = int(os.environ.get("HEADGATE_RUNS", "1"))
STALL_S = float(os.environ.get("HEADGATE_STALL_S", "1.5"))
MB = 1 << 20


def chat(content: object, **more: object) -> bytes:
    said = [{"role": "user", "content": content}]
    return json.dumps({"model": "gpt-4.1-mini", "messages": said, "max_tokens": 5, **more}).encode()


def image() -> bytes:
    url = "data:image/png;base64," + base64.b64encode(bytes(7 * MB)).decode()
    return chat([{"type": "image_url", "image_url": {"url": url}}])


def tools() -> bytes:
    one = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    return chat("x", tools=[one] * 50_000)


DEAR: dict[str, Callable[[], bytes]] = {
    "1 MB of one letter": lambda: chat("a" * MB),
    "1 MB of spaces and letters": lambda: chat(" a" * (MB // 2)),
    "an image of 10 MB": image,
    "50,000 tools": tools,
    "8 MB of small integers": lambda: chat("x", metadata={"n": list(range(1_000_000))}),
    "10 MB of brackets": lambda: b'{"model": "gpt-4.1-mini", "messages": ' + b"[" * (10 * MB),
    "10 MB of one string": lambda: chat("x", user="u" * (9 * MB)),
    "100,000 messages": lambda: json.dumps(
        {"model": "gpt-4.1-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}] * 100_000}
    ).encode(),
}


def send(gateway: Gateway, body: bytes) -> int:
    """Make a call; return its status."""
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            said, status = json.loads(refused.read()), refused.code
    assert said["error"]["message"]
    return status


@contextmanager
def probed(root: str) -> Iterator[list[float]]:
    """Ask for its health all the time; how long that took, in seconds."""
    took, over = list[float](), threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            with urllib.request.urlopen(f"{root}/healthz", timeout=60) as answer:
                assert answer.status == 200
            took.append(time.monotonic() - began)
            time.sleep(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def longest(root: str) -> float:
    with urllib.request.urlopen(f"{root}/metrics", timeout=10) as answer:
        found = re.search(r"^headgate_loop_stall_max_seconds\S* (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path / "served", "--cap", "50/total")
    send(made, chat("warm"))  # the tokenizer is loaded once
    yield made
    made.stop()


def test_what_is_dear_to_read_stops_nobody_else(gateway: Gateway) -> None:
    root = gateway.base.removesuffix("/v1")
    before = longest(root)
    told = dict[str, int]()
    for name, make in DEAR.items():
        body = make()
        with probed(root) as took:
            told[name] = max(send(gateway, body) for _ in range(RUNS))
        took.sort()
        print(f"{name}: {told[name]}; health {1000 * took[-1]:.0f} ms at most, {len(took)} probes")
        assert took[-1] <= STALL_S + 0.1, name
    print(f"the loop: {1000 * longest(root):.0f} ms at most, {1000 * before:.0f} ms at its start")
    assert all(status in {200, 400, 413, 429} for status in told.values()), told
    assert longest(root) <= max(before, STALL_S)
    assert send(gateway, chat("and now")) == 200
    assert gateway.command("ledger", "check").returncode == 0
    assert gateway.stop()[0] == 0
