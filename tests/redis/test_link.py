"""One connection to Redis: every wait is bounded, and what anything went wrong on is never used again."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from tests.at_once import Beside, at_once
from tests.redis.heard import STEM, Heard, found, opened
from tests.redis.server import RedisServer, free_port

from headgate.errors import Unavailable
from headgate.stores.redis.link import BOUND_S, Link, Script, connection_to

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
LATER_S = 0.05  # than a plain wait


async def test_nobody_there_is_said_without_address_and_password() -> None:
    heard = Heard()
    link = Link(f"redis://:geheim@127.0.0.1:{free_port()}", STEM, heard)
    assert not await link.look()
    assert not await link.look()
    assert len(heard.said) == 1
    assert "geheim" not in heard.said[0]
    with pytest.raises(Unavailable):
        await link.call("PING")


async def test_a_frozen_redis_costs_one_bounded_wait_and_then_nothing(own_redis: RedisServer) -> None:
    link = await opened(own_redis)
    own_redis.signal(signal.SIGSTOP)
    plain = Beside(BOUND_S)
    with pytest.raises(Unavailable, match="no answer within 50 ms"):
        await link.call("PING")
    took = plain.so_far()
    assert BOUND_S <= took < await plain.took() + LATER_S
    for _ in range(100):
        with pytest.raises(Unavailable):
            at_once(link.call("PING"))
    assert link._connection is None
    assert not await link.look()
    own_redis.signal(signal.SIGCONT)
    await found(link)
    assert await link.call("PING") == b"PONG"
    await link.close()


async def test_the_answer_to_a_cancelled_question_is_given_to_nobody(own_redis: RedisServer) -> None:
    link = await opened(own_redis)
    await link.call("SET", "mine", "secret")
    await link.call("SET", "yours", "plain")
    for delay_s in (0, 0, 0.0001, 0.0003, 0.001, 0.003):
        own_redis.signal(signal.SIGSTOP)
        asked = asyncio.create_task(link.call("GET", "mine"))
        await asyncio.sleep(delay_s)
        used = link._connection
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        own_redis.signal(signal.SIGCONT)
        if delay_s:  # it was sent
            assert link._connection is None
            assert not link.up
        await found(link)
        assert link._connection is not used or not delay_s
        assert await link.call("GET", "yours") == b"plain"
    await link.close()


async def test_who_waits_behind_a_lost_answer_does_not_wait_again(own_redis: RedisServer) -> None:
    link = await opened(own_redis)
    own_redis.signal(signal.SIGSTOP)
    plain = Beside(BOUND_S)
    found = await asyncio.gather(*(link.call("PING") for _ in range(20)), return_exceptions=True)
    took = plain.so_far()
    assert all(isinstance(one, Unavailable) for one in found)
    assert took < await plain.took() + LATER_S
    own_redis.signal(signal.SIGCONT)
    await link.close()


async def test_a_loop_that_is_late_itself_loses_no_answer(redis: RedisServer) -> None:
    link = await opened(redis)
    asked = asyncio.create_task(link.call("PING"))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, time.sleep, 3 * BOUND_S)
    assert await asked == b"PONG"
    asked = asyncio.create_task(link.call("BLPOP", "nothing", "0.02"))
    await asyncio.sleep(0.005)
    time.sleep(3 * BOUND_S)  # the answer came, and the deadline passed, while nobody could look
    assert await asked is None
    assert link.up
    await link.close()


@pytest.mark.parametrize(
    ("fault", "repair", "said"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "maxmemory"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "read only|READONLY"),
    ],
    ids=["full", "read-only"],
)
async def test_a_redis_that_cannot_be_written_is_out_of_use(
    own_redis: RedisServer, fault: tuple[str, ...], repair: tuple[str, ...], said: str
) -> None:
    link = await opened(own_redis)
    own_redis.ask(*fault)
    with pytest.raises(Unavailable, match=said):
        await link.call("SET", "a", "b")
    for _ in range(3):
        assert not await link.look()
    assert len(link._watcher.said) == 2  # found, and lost once
    own_redis.ask(*repair)
    await found(link)
    await link.close()


async def test_it_is_looked_for_in_the_background(own_redis: RedisServer) -> None:
    link = await opened(own_redis)
    run = asyncio.create_task(link.run())
    own_redis.kill()
    with pytest.raises(Unavailable):
        await link.call("PING")
    await asyncio.sleep(0.5)
    own_redis.start()
    began = time.monotonic()
    while not link.up:
        await asyncio.sleep(0.01)
        assert time.monotonic() - began < 5
    assert await link.call("PING") == b"PONG"
    run.cancel()
    await link.close()


async def test_scripts_are_sent_once_and_again_after_they_were_forgotten(redis: RedisServer) -> None:
    link = await opened(redis)
    script = Script("leave")
    for _ in range(2):
        assert await link.run_script(script, ["workers"], ["me", "stem", 0, -1]) == 0
        redis.ask("SCRIPT", "FLUSH")
    await link.close()


async def test_a_password_a_user_and_a_database_are_those_of_the_url(own_redis: RedisServer) -> None:
    own_redis.ask("ACL", "SETUSER", "gate", "on", ">p@ss", "~*", "&*", "+@all")
    own_redis.ask("CONFIG", "SET", "requirepass", "other")
    link = Link(f"redis://gate:p%40ss@127.0.0.1:{own_redis.port}/3", STEM, Heard())
    await found(link)
    assert await link.call("ACL", "WHOAMI") == b"gate"
    await link.close()
    wrong = Link(f"redis://gate:wrong@127.0.0.1:{own_redis.port}/3", STEM, Heard())
    assert not await wrong.look()
    assert wrong._watcher.said == ["it refuses the user or the password"]


async def test_a_unix_socket_will_do(tmp_path) -> None:
    server = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "r.sock"))
    try:
        link = Link(f"unix://{tmp_path}/r.sock?db=2", STEM, Heard())
        await found(link)
        assert await link.call("PING") == b"PONG"
        await link.close()
    finally:
        server.kill()


async def test_nothing_is_tried_again_by_the_library() -> None:
    connection = connection_to("redis://127.0.0.1:1/0?socket_timeout=9&retry_on_timeout=yes")
    assert connection.retry.get_retries() <= 1
    began = time.monotonic()
    with pytest.raises(Exception, match="Connect"):
        await connection.connect()
    assert time.monotonic() - began < 1
