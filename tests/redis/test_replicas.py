"""Three replicas on one PostgreSQL and one Redis: limits hold together, and changes are everywhere (R-26, R-27)."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.postgres import fresh_database
from tests.redis.fleet import Pace, Reply, port_of, request
from tests.redis.server import RedisServer
from tests.surfaces.conftest import HEADGATE, Gateway, plain_environment
from tests.surfaces.forks import run

pytestmark = [pytest.mark.redis, pytest.mark.services("postgresql"), pytest.mark.timeout(240)]


class Replicas:
    """Replicas as people run them: a data folder each, one pepper, one database, one Redis."""

    def __init__(self, folder: Path, database: str, redis: RedisServer, count: int = 3) -> None:
        self.redis, self.database = redis, database
        self.all: list[Gateway] = []
        for number in range(count):
            place = folder / f"replica-{number}"
            (place / "data").mkdir(parents=True)
            if number:
                shutil.copy(self.all[0].data / "pepper", place / "data")
            (place / "headgate.toml").write_text(
                f'[storage]\nredis = "{redis.url}"\ndatabase = "{database}"\nnode = "replica-{number}"\n'
            )
            self.all.append(Gateway(place, "--config", "headgate.toml"))
        self.ports = [port_of(replica) for replica in self.all]

    def command(self, *args: str) -> str:
        """Run a command beside the first replica."""
        first = self.all[0]
        words = [HEADGATE, *args, "--data", str(first.data)]
        done = run(words, first.folder, plain_environment(HEADGATE_DATABASE=self.database), 60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def key(self, name: str, *limits: str) -> str:
        """Make a key that the simulator answers; return it once every replica takes it."""
        made = self.command("keys", "create", "--name", name, "--kind", "test", "--json", *limits)
        key: str = json.loads(made)["key"]
        for port in self.ports:
            while status(port, key) != 200:
                time.sleep(0.02)
        return key

    def stop(self) -> list[str]:
        return [replica.stop()[2] for replica in self.all]


@pytest.fixture
def replicas(own_redis: RedisServer, tmp_path: Path) -> Iterator[Replicas]:
    with fresh_database() as database:
        some = Replicas(tmp_path, database, own_redis)
        try:
            yield some
        finally:
            some.stop()


def status(port: int, key: str) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request(key))
        return int(connection.recv(4096).split()[1])


def pour(ports: list[int], key: str, per_s: float, seconds: float) -> list[Reply]:
    """Call every replica at an even pace."""

    async def run() -> list[Reply]:
        paces = [Pace(port, key, per_s) for port in ports]
        await asyncio.gather(*(pace.run(time.monotonic() + seconds) for pace in paces))
        assert not any(pace.broken for pace in paces)
        return [reply for pace in paces for reply in pace.replies]

    return asyncio.run(run())


def served(replies: list[Reply]) -> list[float]:
    assert {reply.status for reply in replies} <= {200, 429}
    return sorted(reply.began for reply in replies if reply.status == 200)


def test_limits_hold_together(replicas: Replicas) -> None:
    minute, day = replicas.key("minute", "--rpm", "300"), replicas.key("day", "--rpd", "120")
    passed = served(pour(replicas.ports, minute, 30, 6))
    allowed = 300 + 5 * (passed[-1] - passed[0])
    assert 0.9 * allowed <= len(passed) + 3 <= 1.01 * allowed + 3, (len(passed), allowed)  # 3: in `key`
    replies = pour(replicas.ports, day, 20, 4)
    assert 115 <= len(served(replies)) + 3 <= 121
    late = [reply.left for reply in replies if reply.status == 429]
    assert set(late) <= {0, 1}


def test_a_replica_that_dies_gives_its_calls_back(replicas: Replicas) -> None:
    key = replicas.key("few", "--concurrency", "4")
    first, second, _ = replicas.ports
    with ExitStack() as hanging:
        for _ in range(4):
            hang(hanging, first, key)
        assert status(second, key) == 429
        replicas.all[0].process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        while status(second, key) != 200:
            assert time.monotonic() - began < 9  # dead after 5 s without a word, and asked each 0.1 s
            time.sleep(0.1)


def hang(hanging: ExitStack, port: int, key: str) -> None:
    """Begin a call that never ends, once there is room for it."""
    end = time.monotonic() + 10
    while True:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request(key).replace(b'"gpt-4o-mini"', b'"sim-hang"   '))
        connection.settimeout(1)
        try:
            assert connection.recv(4096).startswith(b"HTTP/1.1 429")
            connection.close()
        except TimeoutError:
            hanging.enter_context(connection)
            return
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("bus", ["up", "down"])
def test_a_revoked_key_is_refused_everywhere(replicas: Replicas, bus: str) -> None:
    keys = [replicas.key(f"key-{number}") for number in range(3)]
    if bus == "down":
        replicas.redis.signal(signal.SIGSTOP)
        time.sleep(3)
    took = []
    for number, key in enumerate(keys):
        replicas.command("keys", "revoke", f"key-{number}")
        began, left = time.monotonic(), set(replicas.ports)
        while left:
            left = {port for port in left if status(port, key) != 401}
            assert time.monotonic() - began < 10
        took.append(time.monotonic() - began)
    with suppress(ProcessLookupError):
        replicas.redis.signal(signal.SIGCONT)
    print(f"bus {bus}: revoked everywhere after {', '.join(f'{each:.2f}' for each in took)} s")
    assert max(took) < 2  # 1 s, on a machine with other work
