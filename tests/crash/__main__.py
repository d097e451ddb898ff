"""`python -m tests.crash --kills 40`: kill -9 under load, restart, reconcile."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.crash.client import Got, keep_calling
from tests.crash.oracle import PROMPT_TOKENS, Oracle

from headgate.failpoints import NAMES

HEADGATE = str(Path(sys.executable).with_name("headgate"))
CLIENTS = 50
PER_INPUT, PER_OUTPUT = 1_000, 2_000  # nano-USD per token, as the configuration below says
CONFIG = """
[[providers]]
name = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key = "sk-oracle"

[storage]
journal_segment_kb = 64

[prices]
rows = [{{ provider = "openai", model = "gpt-4o-mini", input = 1.0, output = 2.0 }}]
"""


class Run:
    """One loop of kills over one data folder."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder = folder
        self.kills = kills
        self.chance = random.Random(seed)
        self.seed = seed
        self.oracle = Oracle(seed)
        self.got: list[Got] = []
        self.open_at_kill: list[int] = []
        self.hit: Counter[str] = Counter()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def serve(self, failpoint: str = "") -> subprocess.Popen[bytes]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "HEADGATE_FAILPOINTS": failpoint}
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [HEADGATE, "serve", "--port", str(self.port), "--data", str(self.folder / "data"),
                 "--config", str(self.folder / "headgate.toml"), "--cap", "1000/month"],
                cwd=self.folder, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HEADGATE, *args, "--data", str(self.folder / "data")],
            capture_output=True,
            text=True,
            check=False,
        )

    async def ready(self, server: subprocess.Popen[bytes]) -> float:
        """Wait for /readyz; return the seconds that it took."""
        began = time.monotonic()
        while time.monotonic() - began < 20:
            if server.poll() is not None:
                raise AssertionError((self.folder / "server.log").read_text()[-3000:])
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
            except OSError:
                answer = b""
            if b" 200 " in answer[:20]:
                return time.monotonic() - began
            await asyncio.sleep(0.02)
        raise AssertionError("the server was not ready within 20 s")

    def open_calls(self) -> int:
        return sum(not call.finished for call in self.oracle.calls)

    async def kill_once(self, number: int, key: str) -> None:
        failpoint = NAMES[number] if number < len(NAMES) else ""
        spec = f"{failpoint}=kill@{1 if failpoint == 'rotate' else 3 if failpoint.startswith('drain') else self.chance.randint(40, 90)}"
        server = self.serve(spec if failpoint else "")
        took = await self.ready(server)
        stop = asyncio.Event()
        before = len(self.oracle.calls)
        clients = [
            asyncio.create_task(keep_calling(self.port, key, self.chance.getrandbits(32), self.got, stop))
            for _ in range(CLIENTS)
        ]
        deadline = time.monotonic() + (15 if failpoint else 0.3 + self.chance.random())
        while time.monotonic() < deadline and server.poll() is None:
            await asyncio.sleep(0.005)
        died_at_failpoint = server.poll() is not None
        in_flight = sum(not call.finished for call in self.oracle.calls[before:])
        server.kill()
        server.wait()
        stop.set()
        await asyncio.gather(*clients)
        self.open_at_kill.append(in_flight)
        if failpoint:
            self.hit[failpoint] += died_at_failpoint
        served = len(self.oracle.calls) - before
        where = f"at {failpoint}" if failpoint else "at random"
        print(
            f"kill {number + 1:3}/{self.kills} {where:24} ready in {took:.2f} s, {served:4} calls, {in_flight:3} open",
            flush=True,
        )

    async def loop(self) -> list[str]:
        await self.oracle.start()
        (self.folder / "headgate.toml").write_text(CONFIG.format(port=self.oracle.port))
        made = self.command("keys", "create", "--name", "crash", "--json")
        if made.returncode:  # the folder is made by the first start
            server = self.serve()
            await self.ready(server)
            server.terminate()
            server.wait()
            made = self.command("keys", "create", "--name", "crash", "--json")
        key = json.loads(made.stdout)["key"]
        for number in range(self.kills):
            await self.kill_once(number, key)
        server = self.serve()
        await self.ready(server)
        server.terminate()
        assert server.wait(timeout=60) == 0, "the last stop was not clean"
        return self.reconcile()

    def reconcile(self) -> list[str]:
        """Compare the three records; return what differs."""
        said = json.loads(self.command("usage", "--calls", "--json").stdout)
        lines = said["calls"] if isinstance(said, dict) else said
        rows = {line["request_id"]: line for line in lines}
        wrong = [f"{len(lines) - len(rows)} calls were booked twice"] if len(rows) != len(lines) else []
        upstream = {call.request_id: call for call in self.oracle.calls}
        for request_id, call in upstream.items():
            row = rows.get(request_id)
            if row is None:
                wrong.append(f"{request_id}: the upstream served it and the books do not have it")
                continue
            due = PROMPT_TOKENS * PER_INPUT + call.planned * PER_OUTPUT
            if not row["estimated"] and row["status"] == 200 and row["cost_nano_usd"] != due:
                wrong.append(f"{request_id}: booked {row['cost_nano_usd']}, the upstream produced {due}")
            if row["estimated"] and row["cost_nano_usd"] > 1_000 * 200 + 100 * PER_OUTPUT:
                wrong.append(f"{request_id}: estimated {row['cost_nano_usd']} above its hold")
        for got in self.got:
            row = rows.get(got.request_id)
            if got.complete and (row is None or row["estimated"] or row["status"] != 200):
                wrong.append(f"{got.request_id}: the client has the whole answer, the books say {row}")
        estimated = sum(row["estimated"] for row in rows.values())
        allowed = sum(self.open_at_kill) + CLIENTS * self.kills
        if estimated > allowed:
            wrong.append(f"{estimated} estimates, at most {allowed} calls were open at the kills")
        check = self.command("ledger", "check")
        if check.returncode:
            wrong.append(f"ledger check: {check.stdout}{check.stderr}")
        missed = [name for name in NAMES[: self.kills] if not self.hit[name]]
        if missed:
            wrong.append(f"failpoints that were never reached: {missed}")
        print(f"{len(rows)} calls booked, {estimated} by estimate, {len(self.got)} seen by clients")
        return wrong


def histogram(counts: list[int]) -> str:
    buckets = Counter("0" if n == 0 else "1-4" if n < 5 else "5-19" if n < 20 else "20+" for n in counts)
    return ", ".join(f"{name}: {buckets[name]}" for name in ("0", "1-4", "5-19", "20+"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"{options.kills} kills, seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), options.kills, seed)
        wrong = asyncio.run(run.loop())
    print(f"calls open at the kills: {histogram(run.open_at_kill)}")
    if sum(n >= 5 for n in run.open_at_kill) * 2 <= len(run.open_at_kill):
        wrong.append("fewer than half of the kills met 5 open calls")
    for line in wrong[:30]:
        print("WRONG", line)
    print(f"{0 if wrong else options.kills} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
