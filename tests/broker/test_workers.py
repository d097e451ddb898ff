"""One that takes orders and two workers, on PostgreSQL and RabbitMQ: lost workers and a lost broker cost time only."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from tests.broker.hose import Hose
from tests.broker.test_caller import named, remove, run
from tests.crash.server import Server, cost
from tests.postgres import fresh_database
from tests.surfaces.conftest import HEADGATE, plain_environment
from tests.surfaces.forks import run as run_forked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.services("postgresql", "rabbitmq"), pytest.mark.timeout(240)]
LINES = 240
GAP_MS = 15  # a tenth of an answer's time
GIVEN, MADE = 20, 10
BODY = {"model": "crash-model", "messages": [{"role": "user", "content": f"plan {GIVEN} {MADE} {GAP_MS}"}]}


class Member(Server):
    """One process of a fleet, with a data folder of its own."""

    words = ("serve",)

    def __init__(self, folder: Path, oracle: int, storage: str) -> None:
        folder.mkdir()
        super().__init__(folder, oracle)
        config = folder / "headgate.toml"
        rest = f'[batch]\nconcurrency = 8\nsilent_s = 3\n[files]\nstorage = "{folder.parent / "files"}"\n'
        config.write_text(config.read_text().replace("[storage]\n", f"[storage]\n{storage}") + rest)


class Worker(Member):
    """One that runs lines."""

    words = ("worker",)

    def join(self, other: Server) -> None:
        """Take over the pepper."""
        self.data.mkdir(mode=0o700)
        (self.data / "pepper").write_bytes((other.data / "pepper").read_bytes())
        (self.data / "pepper").chmod(0o600)


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[int]:
    """Run a provider that notes what it did."""
    command = [sys.executable, "-m", "tests.crash.oracle", str(tmp_path / "oracle.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


@pytest.fixture
def database() -> Iterator[str]:
    """Make a database, and remove it."""
    with fresh_database() as address:
        yield address


class Fleet:
    """One that takes orders, two that run lines, and a broker that can be cut."""

    def __init__(self, folder: Path, oracle: int, storage: str, hose: Hose) -> None:
        self.hose = hose
        self.api = Member(folder / "api", oracle, storage)
        self.workers = [Worker(folder / f"worker-{n}", oracle, storage) for n in (1, 2)]
        self.client = openai.AsyncOpenAI(api_key="none")

    async def start(self, failpoint: str = "") -> None:
        """Start all, and make a key; the first worker may have a place where it dies."""
        await self.api.start()
        key = (await self.api.ask("keys", "create", "--name", "batches"))["key"]
        self.client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{self.api.port}/v1", api_key=key)
        for worker in self.workers:
            worker.join(self.api)
            await worker.start(failpoint if worker is self.workers[0] else "")

    async def stop(self) -> None:
        """Stop all."""
        await self.client.close()
        for server in (*self.workers, self.api):
            if server.alive:
                await server.stop()

    async def order(self) -> str:
        """Order the batch."""
        rows = [
            {"custom_id": f"line-{n}", "method": "POST", "url": "/v1/chat/completions", "body": BODY}
            for n in range(LINES)
        ]
        data = "\n".join(map(json.dumps, rows)).encode()
        file = await self.client.files.create(file=("in.jsonl", data), purpose="batch")
        batch = await self.client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        return batch.id

    async def until(self, name: str, done: int) -> Any:
        """Wait until so many lines are done."""
        while True:
            batch = await self.client.batches.retrieve(name)
            counts = batch.request_counts
            assert batch.status in {"validating", "in_progress", "finalizing", "completed"}, batch.errors
            if counts is not None and counts.completed + counts.failed >= done:
                return batch
            await asyncio.sleep(0.05)

    async def completed(self, name: str) -> Any:
        """Wait until the batch is done."""
        while (batch := await self.client.batches.retrieve(name)).status != "completed":
            assert batch.status in {"in_progress", "finalizing"}
            await asyncio.sleep(0.1)
        return batch

    async def check(self, batch: Any) -> None:
        """Compare outputs and books: one output and one charge for each line."""
        text = (await self.client.files.content(batch.output_file_id)).text
        rows = [json.loads(line) for line in text.splitlines()]
        assert sorted(row["custom_id"] for row in rows) == sorted(f"line-{n}" for n in range(LINES))
        assert batch.error_file_id is None
        due, charged = LINES * cost(GIVEN, MADE) // 2, 0
        for _ in range(50):  # a worker drains in its own time
            charged = (await self.api.ask("usage"))["total"]["cost_nano_usd"]
            if charged >= due:
                break
            await asyncio.sleep(0.2)
        assert charged == due
        assert (await self.api.ask("ledger", "check"))["findings"] == []


@asynccontextmanager
async def fleet(
    folder: Path, oracle: int, database: str, *, failpoint: str = "", cap: str = ""
) -> AsyncIterator[Fleet]:
    name = named()
    async with Hose(5672) as hose:
        storage = (
            f'database = "{database}"\nredis_prefix = "{name}"\n'
            f'queue = "amqp://guest:guest@127.0.0.1:{hose.port}/"\n'
        )
        made = Fleet(folder, oracle, storage, hose)
        made.api.words = ("serve", "--cap", cap) if cap else ("serve",)
        try:
            await made.start(failpoint)
            yield made
        finally:
            await made.stop()
            await remove("amqp", f"{name}.batches")


@pytest.mark.parametrize(("place", "cap"), [("after-send", "1000/month"), ("after-settle", "")])
def test_a_worker_that_is_killed_loses_and_doubles_no_line(
    tmp_path: Path, oracle: int, database: str, place: str, cap: str
) -> None:
    async def test() -> None:
        async with fleet(tmp_path, oracle, database, failpoint=f"{place}=kill@30", cap=cap) as made:
            name, lost = await made.order(), made.workers[0]
            assert await lost.died(60)
            await made.until(name, 100)
            await lost.start()  # its journal is read, and what it held is free
            await made.check(await made.completed(name))

    run(test, 200)


def test_a_broker_that_is_away_costs_time_only(tmp_path: Path, oracle: int, database: str) -> None:
    async def test() -> None:
        async with fleet(tmp_path, oracle, database) as made:
            await made.hose.cut()
            name = await made.order()
            await made.until(name, 60)
            await made.hose.open()
            await made.check(await made.completed(name))

    run(test, 200)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "set storage.database"),
        (("--database", "postgresql://a@127.0.0.1:1/b"), "set files.storage"),
    ],
)
def test_a_worker_that_shares_too_little_says_what_to_do(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    command = [HEADGATE, "worker", "--data", "data", *words]
    done = run_forked(command, tmp_path, plain_environment(), 30)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "data").exists()
