"""`headgate doctor` on the broker: in, there, as it shall be, and heard; and what to do where it is not."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.broker.test_caller import BROKERS, Worker, connected, named, remove, run, until
from tests.redis.server import free_port
from tests.surfaces.conftest import HEADGATE, plain_environment

from headgate.stores.broker import Caller, Terms

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.services("rabbitmq", "redis")


@pytest.fixture(params=BROKERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return which broker it is."""
    return str(request.param)


def address(kind: str) -> str:
    url, port = BROKERS[kind]
    return url.format(port=port)


async def queue_of(folder: Path, url: str, prefix: str, more: str = "") -> dict[str, Any]:
    """Ask the doctor; return what it says of the queue."""
    (folder / "headgate.toml").write_text(f'[storage]\nqueue = "{url}"\nredis_prefix = "{prefix}"\n{more}')
    command = [HEADGATE, "doctor", "--json", "--config", "headgate.toml", "--port", str(free_port())]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=plain_environment(), stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert err == b""
    (found,) = [each for each in json.loads(out)["findings"] if each["about"] == "queue"]
    assert (found["state"] == "fault") == (process.returncode != 0)
    return dict(found)


def test_a_queue_that_is_heard_is_well(kind: str, tmp_path: Path) -> None:
    async def test() -> None:
        prefix, url, worker = named(), address(kind), Worker()
        at = Terms(url, f"{prefix}.batches")
        api = Caller(at, None, print)
        try:
            async with connected(api, Caller(at, worker, print)):
                assert await api.call("batch_1")
                await until(lambda: worker.visits == ["batch_1"])
                found = await queue_of(tmp_path, url, prefix)
        finally:
            await remove(kind, at.name)
        assert found["state"] == "ok", found
        assert "0 calls wait" in found["says"]
        assert ("quorum queue" in found["says"] and "1 listens" in found["says"]) == (kind == "amqp")
        assert found["measured"]["ask"] > 0

    run(test)


def test_a_queue_that_is_not_there_is_not_made(kind: str, tmp_path: Path) -> None:
    async def test() -> None:
        prefix, url = named(), address(kind)
        for _ in range(2):
            found = await queue_of(tmp_path, url, prefix)
            assert found["state"] == "note", found
            assert f"{prefix}.batches yet" in found["says"]
            assert "storage.redis_prefix" in found["advice"]

    run(test)


@pytest.mark.parametrize("here", [False, True], ids=["workers", "here"])
def test_a_queue_that_nobody_hears_says_what_to_start(kind: str, here: bool, tmp_path: Path) -> None:
    async def test() -> None:
        prefix, url = named(), address(kind)
        at = Terms(url, f"{prefix}.batches")
        api = Caller(at, None, print)
        try:
            async with connected(api):
                if kind == "redis":
                    await long_ago(url, at.name)
                for number in range(3):
                    assert await api.call(f"batch_{number}")
                found = await queue_of(tmp_path, url, prefix, '[batch]\nrun = "here"\n' if here else "")
        finally:
            await remove(kind, at.name)
        assert found["state"] == "warning", found
        assert ("3 calls wait" if kind == "amqp" else "4 calls wait") in found["says"]
        assert ("headgate serve" if here else "headgate worker") in found["advice"]

    run(test)


async def long_ago(url: str, name: str) -> None:
    """Put a call into a stream that is a minute old."""
    from redis.asyncio import Redis

    async with Redis.from_url(url) as redis:
        await redis.xadd(name, {"data": "?"}, id=f"{int(time.time() - 60) * 1000}-1")


def test_another_queue_of_that_name_is_found(tmp_path: Path) -> None:
    async def test() -> None:
        import aio_pika

        prefix, url = named(), address("amqp")
        name = f"{prefix}.batches"
        connection = await aio_pika.connect(url)
        try:
            async with connection:
                channel = await connection.channel()
                await channel.declare_exchange(name, durable=True)
                for queue in (name, f"{name}.dead"):
                    await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "classic"})
                found = await queue_of(tmp_path, url, prefix)
        finally:
            await remove("amqp", name)
        assert found["state"] == "fault"
        assert "is not the quorum queue that it shall be" in found["says"]
        assert f"rabbitmqctl delete_queue {name}" in found["advice"]

    run(test)


@pytest.mark.parametrize(
    ("url", "said", "advice"),
    [
        ("amqp://guest:geheim@127.0.0.1:5672/", "refuses the login of 'guest'", "the password"),
        ("amqp://guest:guest@127.0.0.1:5672/no-such", "no virtual host 'no-such'", "add_vhost no-such"),
        ("amqp://me:geheim@127.0.0.1:{closed}/", "Connect call failed", "Start the broker"),
        ("amqps://me:geheim@127.0.0.1:5672/", "does not speak TLS", "5671"),
        ("amqp://me:geheim@127.0.0.1:6379/", "no answer within", "AMQP 0.9.1"),
        ("redis://me:geheim@127.0.0.1:6379/9", "refuses the login", "the password"),
        ("redis://me:geheim@127.0.0.1:{closed}/9", "refused", "Start it"),
    ],
)
def test_a_broker_that_lets_nobody_in_says_why(url: str, said: str, advice: str, tmp_path: Path) -> None:
    async def test() -> None:
        found = await queue_of(tmp_path, url.format(closed=free_port()), named())
        assert found["state"] == "fault"
        assert said in found["says"]
        assert advice in found["advice"]
        assert "workers look by themselves" in found["advice"]
        assert "geheim" not in json.dumps(found)

    run(test)


def test_offline_no_broker_is_asked(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "headgate.toml").write_text('[storage]\nqueue = "amqp://127.0.0.1:1/"\n')
        command = [HEADGATE, "doctor", "--offline", "--config", "headgate.toml", "--port", str(free_port())]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=plain_environment(), stdout=-1
        )
        out, _ = await process.communicate()
        assert b"queue" not in out
        assert process.returncode == 0

    run(test)
