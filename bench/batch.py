"""Run a batch of many lines, and see what it takes: lines a second, CPU and memory, beside direct calls.

    make bench-batch                        50,000 lines of 1.2 KB
    make bench-batch ARGS="--lines 2000"

The exit status says whether every line was answered and is in the books, once; a missed goal is printed and
is no failure.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import books
import machine
import servers
from load import Generator, Load, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

LINES, LINE_BYTES = 50_000, 1_200
MB_GOAL = 300.0
BOUNDARY = "headgate-bench"
FIELD = "Content-Disposition: form-data; name="
LOOK_S = 0.25
LINES_A_S = 50  # slower than that is an end
ENDED = ("completed", "failed", "expired", "cancelled")
TEXT = "Say in one sentence why the sky is blue. "


class Client:
    """Asks a gateway for what batches need."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """Return a body.

        Raises:
            Unusable: the gateway refuses.
        """
        head = {"Authorization": f"Bearer {self._key}", "Content-Type": kind}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60.0)
        try:
            connection.request(method, path, body, head)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise servers.Unusable(f"{method} {path}: {answer.status} {said[:500].decode(errors='replace')}")
        return said

    def upload(self, content: bytes) -> str:
        """Bring an input; return the id of its file."""
        parts = (
            f'--{BOUNDARY}\r\n{FIELD}"purpose"\r\n\r\nbatch\r\n'.encode(),
            f'--{BOUNDARY}\r\n{FIELD}"file"; filename="in.jsonl"\r\n\r\n'.encode(),
            content,
            f"\r\n--{BOUNDARY}--\r\n".encode(),
        )
        said = self.ask("POST", "/v1/files", b"".join(parts), f"multipart/form-data; boundary={BOUNDARY}")
        return str(json.loads(said)["id"])

    def order(self, file: str) -> str:
        """Order a batch; return its id."""
        wanted = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return str(json.loads(self.ask("POST", "/v1/batches", json.dumps(wanted).encode()))["id"])

    def batch(self, name: str) -> dict[str, Any]:
        """Return a batch as it is now."""
        found: dict[str, Any] = json.loads(self.ask("GET", f"/v1/batches/{name}"))
        return found


def lines(count: int) -> bytes:
    """Return an input of so many requests."""
    text = TEXT * (LINE_BYTES // len(TEXT) - 5)  # beside the words of a line
    body = {"model": "gpt-4o-mini", "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    return b"\n".join(json.dumps({"custom_id": f"line-{n}", **line}).encode() for n in range(count))


class Seen(NamedTuple):
    """What a batch has taken."""

    batch: dict[str, Any]
    read_s: float  # until its first line ran
    took_s: float  # in all
    cpu_us: float  # of a line
    most_mb: float
    others: float  # of a core, that processes of others had meanwhile


def run(client: Client, server: servers.Server, layout: machine.Layout, count: int) -> Seen:
    """Order a batch and watch it to its end, and until its calls are in the books."""
    file = client.upload(lines(count))
    pids = {"gateway": server.pid}
    began, start = machine.read(pids), time.monotonic()
    name, read_s, most_mb, batch = client.order(file), 0.0, 0.0, dict[str, Any]()
    latest = start + 60 + count / LINES_A_S
    while batch.get("status") not in ENDED and time.monotonic() < latest:
        time.sleep(LOOK_S)
        batch = client.batch(name)
        most_mb = max(most_mb, machine.tree_rss_mb(server.pid))
        done = batch["request_counts"]["completed"]
        read_s = read_s or (time.monotonic() - start if done else 0.0)
        print(f"\r  {done} of {count} lines", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    took_s = time.monotonic() - start
    wait_for(lambda: not servers.metrics(server.port).get(servers.UNDRAINED), 60.0, 0.2)
    window = machine.between(began, machine.read(pids), layout, frozenset())
    return Seen(batch, read_s, took_s, window.cpu["gateway"] / count * 1e6, most_mb, window.others)


def answered(client: Client, batch: dict[str, Any]) -> int:
    """Return how many lines of the output are answers, each of another request."""
    if not batch.get("output_file_id"):
        return 0
    found = client.ask("GET", f"/v1/files/{batch['output_file_id']}/content").splitlines()
    rows = [json.loads(line) for line in found]
    return len({row["custom_id"] for row in rows if row["response"]["status_code"] == 200})


def measure(binary: Path, count: int, folder: Path) -> list[str]:
    """Do it all, print what was seen, and return what was wrong."""
    layout = machine.choose_layout()
    mock_binary, generator = servers.build_tools()
    mock = servers.start_mock(mock_binary, folder, layout.load)
    headgate = servers.Headgate(binary, folder / "main", mock.port, (layout.gateway, layout.load))
    running = [mock]
    try:
        server, _ = headgate.start()
        running.append(server)
        key = headgate.create_key()
        client = Client(server.port, key)
        direct, sent = _direct(Generator(generator, layout.load), server, key, layout)
        seen = run(client, server, layout, count)
        failures = report(seen, direct, count)
        if (found := answered(client, seen.batch)) != count:
            failures.append(f"{found} of {count} lines have an answer")
        if server.stop():
            failures.append(f"the gateway ended badly: {server.last_words()}")
        return failures + books.compare(headgate, books.Sent(json=sent + count))
    finally:
        for process in running:
            process.kill()


def _direct(
    generator: Generator, server: servers.Server, key: str, layout: machine.Layout
) -> tuple[float, int]:
    """Return the CPU microseconds of a direct call of the same size, and how many were made."""
    sent, pids, cpu_us = 0, {"gateway": server.pid}, 0.0
    for _ in range(2):  # the first warms it up
        began = machine.read(pids)
        outcome = generator.run(Load(60.0, most=5_000, extra_bytes=LINE_BYTES - 300), server.port, key)
        if not outcome.right:
            raise servers.Unusable(f"direct calls: {outcome.verdict}")
        wait_for(lambda: not servers.metrics(server.port).get(servers.UNDRAINED), 60.0, 0.2)
        window = machine.between(began, machine.read(pids), layout, frozenset())
        sent, cpu_us = sent + outcome.sent, window.cpu["gateway"] / outcome.sent * 1e6
    return cpu_us, sent


def report(seen: Seen, direct_us: float, count: int) -> list[str]:
    """Print the figures; return what was wrong with the batch."""
    met = "met" if seen.most_mb <= MB_GOAL else "MISSED"
    rate, times = count / seen.took_s, seen.cpu_us / direct_us
    print(f"  {count} lines in {seen.took_s:.1f} s, {rate:.0f}/s; the first after {seen.read_s:.1f} s")
    print(f"  CPU of a line {seen.cpu_us:.0f} us, of a direct call {direct_us:.0f} us: {times:.2f}x")
    print(f"  memory at most {seen.most_mb:.0f} MB  <= {MB_GOAL:.0f}  {met}")
    print(f"  others had {100 * seen.others:.0f} % of a core")
    counts = seen.batch["request_counts"]
    if seen.batch["status"] == "completed" and counts["completed"] == count:
        return []
    return [f"the batch is {seen.batch['status']}, {counts}, {seen.batch.get('errors')}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 where everything was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--headgate", type=Path, default=servers.OWN, help="the command to measure")
    options = parser.parse_args(argv)
    return servers.conclude("batch", lambda folder: measure(options.headgate, options.lines, folder))


if __name__ == "__main__":
    sys.exit(main())
