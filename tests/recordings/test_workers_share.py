"""Two workers of one gateway share what they record; and what a crash leaves of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.clients import openai_client
from tests.surfaces.conftest import Gateway
from tests.surfaces.test_workers import children, until
from tests.upstream import Peer, Received, ScriptedUpstream, chat_json, chat_stream, stream_steps

from headgate.stores.sql.database import RECORDINGS
from headgate.stores.sql.sqlite import open_file
from headgate.wire.recorded import State

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process there")
SETTINGS = """
[[providers]]
name = "openai"
base_url = "{base_url}"
api_key = "sk-canary"
[[prices.rows]]
model = "*"
input = 0.15
output = 0.6
"""
CALL: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Say hello"}],
    "max_tokens": 50,
}


def serve(folder: Path, upstream: ScriptedUpstream, *args: str, **environment: str) -> Gateway:
    folder.mkdir(exist_ok=True)
    (folder / "headgate.toml").write_text(SETTINGS.format(base_url=upstream.base_url))
    return Gateway(folder, "--config", "headgate.toml", *args, **environment)


def calls(gateway: Gateway) -> list[dict[str, Any]]:
    return json.loads(gateway.command("usage", "--calls", "--json").stdout)


def paid(gateway: Gateway) -> list[dict[str, Any]]:
    return [call for call in calls(gateway) if call["cost_nano_usd"]]


class Slow:
    """An answer that goes on when a test says so."""

    def __init__(self, *steps: bytes) -> None:
        self._steps = steps
        self.go = threading.Event()

    async def __call__(self, peer: Peer, _: Received) -> None:
        for step in self._steps[:3]:  # the head, and the first event that shows something
            await peer.send(step)
        await asyncio.to_thread(self.go.wait, 30)
        for step in self._steps[3:]:
            await peer.send(step)


def slow_stream() -> Slow:
    head, *rest = stream_steps()
    return Slow(head, *rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_fifty_at_once_with_the_official_sdk_are_one_call(tmp_path: Path, workers: int) -> None:
    with ScriptedUpstream(chat_json("one for all"), chat_stream()) as upstream, ExitStack() as stack:
        gateway = serve(tmp_path, upstream, "--workers", str(workers))
        client = stack.enter_context(openai_client(gateway.base, gateway.key))

        def whole(_: int) -> tuple[str, bool]:
            raw = client.chat.completions.with_raw_response.create(
                **CALL, extra_headers={"Idempotency-Key": "whole"}
            )
            return raw.parse().choices[0].message.content, raw.headers.get("idempotent-replayed") == "true"

        def stream(_: int) -> tuple[str, bool]:
            raw = client.chat.completions.with_raw_response.create(
                **CALL, stream=True, extra_headers={"Idempotency-Key": "stream"}
            )
            text = "".join(part.choices[0].delta.content or "" for part in raw.parse() if part.choices)
            return text, raw.headers.get("idempotent-replayed") == "true"

        with ThreadPoolExecutor(50) as pool:
            wholes = list(pool.map(whole, range(50)))
            streams = list(pool.map(stream, range(50)))
        assert {text for text, _ in wholes} == {"one for all"}
        assert {text for text, _ in streams} == {"Hello there."}
        for replies in (wholes, streams):
            assert sum(replayed for _, replayed in replies) == 49
        assert len(upstream.requests) == 2
        code, _, err = gateway.stop()
        assert (code, err) == (0, "")
        assert len(paid(gateway)) == 2
        assert sum(bool(call["replay_of"]) for call in calls(gateway)) == 98
        assert {call["replay_of"] for call in calls(gateway)} == {
            "",
            *(call["request_id"] for call in paid(gateway)),
        }
        assert gateway.command("ledger", "check").returncode == 0
        assert "recordings.sqlite" in {path.name for path in gateway.data.iterdir()}


def open_stream(
    gateway: Gateway, path: str = "/chat/completions", *, stream: bool = True, **headers: str
) -> Any:
    """Begin to read a stream on a connection of its own, which may come to either worker."""
    body = json.dumps({**CALL, "stream": stream}).encode() if path == "/chat/completions" else None
    given = {
        "authorization": f"Bearer {gateway.key}",
        "content-type": "application/json",
        "connection": "close",
    }
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(gateway.base + path, body, given), timeout=30)


def shown(stream: bytes) -> bytes:
    """Return a stream without what keeps it alive on a slow machine."""
    return stream.replace(b": keep-alive\n\n", b"")


def slots(gateway: Gateway) -> set[str]:
    """The journals in which replays stand."""
    return {path.parent.name for path in gateway.data.glob("journal/*/*") if b"replay" in path.read_bytes()}


def test_callers_of_another_worker_read_along(tmp_path: Path) -> None:
    answer = slow_stream()
    with ScriptedUpstream(answer) as upstream:
        gateway = serve(tmp_path, upstream, "--workers", "2")
        first = open_stream(gateway, idempotency_key="k", x_headgate_resume="60")
        begin = first.readline()
        # Each connection comes to either worker: with so many, both have some.
        joined = [open_stream(gateway, idempotency_key="k") for _ in range(8)]
        path = f"/calls/{first.headers['x-headgate-resume']}/events"
        resumed = [open_stream(gateway, path, last_event_id="1") for _ in range(8)]
        lines = [each.readline() for each in joined]  # while the answer is still on its way
        answer.go.set()
        whole = shown(begin + first.read())
        rest = [shown(each.read()) for each in resumed]
        along = [shown(line + each.read()) for line, each in zip(lines, joined, strict=True)]
        assert whole.startswith(b"id: 1\ndata: ")
        assert set(rest) == {whole[whole.index(b"id: 2\n") :]}
        assert len(set(along)) == 1
        assert along[0].count(b"data: ") == whole.count(b"data: ")
        assert b"id: " not in along[0]
        assert slots(gateway) == {"slot-0", "slot-1"}
        assert len(upstream.requests) == 1
        late = open_stream(gateway, path)
        assert late.read() == whole
        assert (gateway.stop()[0], gateway.command("ledger", "check").returncode) == (0, 0)
        assert len(paid(gateway)) == 1
        assert sum(bool(call["replay_of"]) for call in calls(gateway)) == 17


def again(gateway: Gateway, key: str = "k", *, stream: bool = True) -> tuple[int, dict[str, Any]]:
    """Send the request again: its status, and its error or its answer."""
    try:
        with open_stream(gateway, stream=stream, idempotency_key=key) as answer:
            return answer.status, {"text": answer.read().decode()}
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def kept(gateway: Gateway, question: str) -> list[int]:
    """Ask the file of recordings."""
    with closing(open_file(gateway.data / RECORDINGS, read_only=True)) as sql:
        return [number for (number,) in sql.execute(f"SELECT {question}")]


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("before-connect=kill@2", 200),  # claimed, and nobody was asked
        ("mid-stream=kill@1", 409),
    ],
)
def test_a_killed_gateway_makes_no_call_twice_without_a_word(tmp_path: Path, place: str, status: int) -> None:
    with ScriptedUpstream(chat_json("kept"), chat_stream()) as upstream:
        gateway = serve(tmp_path, upstream, HEADGATE_FAILPOINTS=place)
        once: dict[str, Any] = {**CALL, "extra_headers": {"Idempotency-Key": "kept"}}
        with openai_client(gateway.base, gateway.key) as client:
            answer = client.chat.completions.create(**once)
        until(lambda: kept(gateway, "state FROM recordings") == [State.WHOLE])
        with pytest.raises((OSError, HTTPException)):
            open_stream(gateway, idempotency_key="k").read()
        assert gateway.stop()[0] == -signal.SIGKILL
        asked = len(upstream.requests)
        with_key, gateway = gateway.key, serve(tmp_path, upstream)
        gateway.key = with_key
        with openai_client(gateway.base, gateway.key) as client:
            assert client.chat.completions.create(**once) == answer
        found, said = again(gateway)
        assert found == status, said
        if status == 409:
            lost = paid(gateway)[1]
            assert said["code"] == "idempotent_answer_lost"
            assert lost["request_id"] in said["message"]
            assert f"{lost['cost_nano_usd'] / 1e9:.9f}" in said["message"]
            assert len(upstream.requests) == asked == 2
        else:
            assert "[DONE]" in said["text"]
            assert asked == 1
        assert len(paid(gateway)) == len(upstream.requests) == 2
        assert gateway.stop()[0] == 0
        assert gateway.command("ledger", "check").returncode == 0


def outcome(gateway: Gateway) -> int:
    """Send the request again: its status; 0 where the answer was cut."""
    with suppress(OSError, HTTPException):
        return again(gateway)[0]
    return 0


def test_who_waits_for_a_worker_that_dies_is_not_left_waiting(tmp_path: Path) -> None:
    answer = slow_stream()
    with ScriptedUpstream(answer) as upstream:
        gateway = serve(tmp_path, upstream, "--workers", "2")
        first = open_stream(gateway, idempotency_key="k")
        first.readline()
        (owner,) = kept(gateway, "slot FROM recordings")
        with ThreadPoolExecutor(16) as pool:
            waiting = [pool.submit(outcome, gateway) for _ in range(16)]
            until(lambda: kept(gateway, "1 FROM recordings WHERE wanted_until > 0") == [1])
            os.kill(sorted(children(gateway.process.pid))[owner], signal.SIGKILL)
            assert {each.result(30) for each in waiting} <= {0, 409}
        status, error = again(gateway)
        assert (status, error["code"]) == (409, "idempotent_answer_lost")
        assert len(upstream.requests) == 1
        answer.go.set()
        gateway.stop()
        assert len(paid(gateway)) == 1
        assert gateway.command("ledger", "check").returncode == 0
