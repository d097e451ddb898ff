"""The clients in docs/recordings.md, as they stand there, on a line that is cut."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import OpenAI
from tests.surfaces.conftest import Gateway

PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"


def client(language: str) -> str:
    """The program of a language: the only one on the page that is whole."""
    page = PAGE.read_text(encoding="utf-8")
    every = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    [program] = [each for each in every if "DONE" in each]
    return program


class CutLine:
    """A line to the gateway whose first connections are cut after some bytes of their answers."""

    def __init__(self, base: str, cuts: list[int]) -> None:
        where = urlsplit(base)
        self._gateway = (where.hostname, where.port)
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more, and wait for that: else its thread may take what comes to the next one's descriptor."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            cut = self._cuts[self.connections] if self.connections < len(self._cuts) else None
            self.connections += 1
            threading.Thread(target=self._relay, args=(near, cut), daemon=True).start()

    def _relay(self, near: socket.socket, cut: int | None) -> None:
        with near, socket.create_connection(self._gateway) as far:
            asking = threading.Thread(target=_pump, args=(near, far), daemon=True)
            asking.start()
            left = cut
            while data := far.recv(65536):
                near.sendall(data if left is None else data[:left])
                if left is not None and (left := left - len(data)) <= 0:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
            near.shutdown(socket.SHUT_RD)
            asking.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        return  # it was cut


def play_calls(gateway: Gateway) -> list[dict[str, object]]:
    return json.loads(gateway.command("usage", "--calls", "--json").stdout)


@pytest.mark.parametrize("language", ["python", pytest.param("js", marks=pytest.mark.node)])
def test_the_clients_on_the_page_get_all_of_it_and_pay_once(
    simulated: Gateway,
    tmp_path: Path,
    language: str,
) -> None:
    program = tmp_path / ("client.py" if language == "python" else "client.mjs")
    source = client(language)
    assert sum(map(bool, source.splitlines())) == 10
    assert max(map(len, source.splitlines())) <= 150
    program.write_text(source, encoding="utf-8")
    command = [sys.executable if language == "python" else "node", str(program)]

    def run(*cuts: int) -> str:
        line = CutLine(simulated.base, list(cuts))
        environment = {**simulated.client_environment(), "OPENAI_BASE_URL": line.base}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        line.close()
        assert done.returncode == 0, done.stderr
        assert line.connections > len(cuts)
        return done.stdout

    whole = run()
    before = {call["request_id"] for call in play_calls(simulated)}
    # Before the head, in the head, at any place of an event and between two, and at last in peace.
    assert run(0, 200, *range(1300, 1600, 15)) == whole
    made = [call for call in play_calls(simulated) if call["request_id"] not in before]
    assert len(whole) > 20
    assert sum(not call["replay_of"] for call in made) == 1
    assert sum(bool(call["cost_nano_usd"]) for call in made) == 1


def test_the_retry_that_an_sdk_makes_by_itself_is_answered_and_costs_nothing(simulated: Gateway) -> None:
    before = {call["request_id"] for call in play_calls(simulated)}
    line = CutLine(simulated.base, [0, 300])  # before the answer, and in it
    client = OpenAI(base_url=line.base, api_key=simulated.key, max_retries=3)
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Tell me of locks."}],
        extra_headers={"Idempotency-Key": "locks"},
    )
    client.close()
    line.close()
    made = [call for call in play_calls(simulated) if call["request_id"] not in before]
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.parse().choices[0].message.content
    assert line.connections == 3
    assert sum(not call["replay_of"] for call in made) == 1
