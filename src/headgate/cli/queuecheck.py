"""What `headgate doctor` says of the broker that calls workers to batches: RabbitMQ, or a stream of Redis."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from headgate.cli.output import counted
from headgate.cli.redischeck import Seen
from headgate.program import without_password

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection
    from taskiq import AsyncBroker

    from headgate.config import Config

_PATIENCE_S: Final = 3.0
_OFTEN_S: Final = 15.0  # whoever serves sends a sign of life each 10 s: what waits for longer nobody takes
_MANY: Final = 1_000  # calls that wait: a tenth of what a broker keeps of them
_ELSEWHERE: Final = "If one does already, its storage.queue or storage.redis_prefix is another."
_AWAY: Final = "Until then workers look by themselves for what is to be done, so batches run."


class Queue(NamedTuple):
    """A queue as its broker tells of it."""

    place: str  # and what is there
    took_ms: float
    name: str
    waiting: int  # calls that nobody has taken yet
    heard: bool  # somebody takes them
    who: str  # takes them, for people


def look(config: Config) -> Seen:
    """Ask the broker how it and our queue are; changes nothing."""
    url, name = config.storage.queue, f"{config.storage.redis_prefix}.batches"
    if url.startswith("amqp"):
        return asyncio.run(_rabbitmq(url, name, config))
    return _redis(url, name, config)


def _judged(queue: Queue, config: Config) -> Seen:
    """Say whether calls are taken."""
    waiting = counted(queue.waiting, "call") + (" waits" if queue.waiting == 1 else " wait")
    says = f"{queue.place}, {queue.took_ms:.1f} ms away: {queue.name}, {queue.who}, {waiting}"
    measured = {"ask": round(queue.took_ms, 3)}
    if not queue.heard:
        here = config.batch.run == "here"
        start = "Start `headgate serve`" if here else "Start `headgate worker`"
        other = "" if here else ", or let those who take calls run batches: [batch] run = 'here'"
        return Seen("warning", says, f"Nobody takes them. {start} with this configuration{other}.", measured)
    if queue.waiting > _MANY:
        advice = "More than the workers take. Start more of them, or look in their logs for what keeps them."
        return Seen("warning", says, advice, measured)
    return Seen("ok", says, "", measured)


# ── RabbitMQ ────────────────────────────────────────────────────────────────────────────────────────


async def _rabbitmq(url: str, name: str, config: Config) -> Seen:
    import logging

    import aio_pika
    from aiormq.exceptions import AMQPError

    from headgate.stores.broker.wires import open_broker

    place, ours = without_password(url), open_broker(url, name)  # imported before the broker's time begins
    for library in ("aio_pika", "aiormq"):  # they would write the same to the terminal
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            connection = await aio_pika.connect(url)
    except (AMQPError, OSError, ValueError) as fault:
        return _unreachable(url, fault)
    try:
        async with asyncio.timeout(_PATIENCE_S), connection:
            return await _queue(connection, place, name, ours, config)
    except (AMQPError, OSError) as fault:
        advice = f"Let the user configure, write and read {name} and {name}.dead there. {_AWAY}"
        return Seen("fault", f"{place}: {name} cannot be used: {_said(fault)}", advice)


async def _queue(
    connection: AbstractConnection, place: str, name: str, ours: AsyncBroker, config: Config
) -> Seen:
    from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

    began = time.perf_counter()
    channel = await connection.channel()
    took_ms = (time.perf_counter() - began) * 1000
    where = f"{place}, {_product(connection)}"
    try:
        await channel.get_exchange(name, ensure=True)
        dead = await channel.declare_queue(f"{name}.dead", passive=True)
        work = await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        advice = f"The first server or worker that reaches it makes it. {_ELSEWHERE}"
        return Seen("note", f"{where}: no queue {name} yet", advice, {"ask": round(took_ms, 3)})
    try:
        await _as_servers_do(ours)
    except ChannelPreconditionFailed as fault:
        advice = (
            f"Stop all servers and workers, delete it (rabbitmqctl delete_queue {name}, and {name}.dead), "
            "and start them again: what is in it only calls workers, and is not missed."
        )
        return Seen(
            "fault", f"{where}: {name} is not the quorum queue that it shall be: {_said(fault)}", advice
        )
    found, unheard = work.declaration_result, dead.declaration_result.message_count or 0
    who = f"{found.consumer_count} listen" if found.consumer_count != 1 else "1 listens"
    if unheard:
        who += f", {unheard:,} were taken by nobody within ten minutes"
    kind = f"quorum queue {name}"
    waiting = found.message_count or 0
    return _judged(Queue(where, took_ms, kind, waiting, bool(found.consumer_count), who), config)


async def _as_servers_do(broker: AsyncBroker) -> None:
    """Declare what is there already as a server does at its start: that changes nothing, or is refused."""
    try:
        await broker.startup()
    finally:
        await broker.shutdown()


def _product(connection: AbstractConnection) -> str:
    transport = connection.transport
    told: dict[str, Any] = transport.connection.server_properties if transport is not None else {}
    return f"{told.get('product', 'a broker')} {told.get('version', '')}".strip()


def _unreachable(url: str, fault: BaseException) -> Seen:
    """Say why nobody may come in, and what to do."""
    from aiormq.exceptions import InvalidFrameError, ProbableAuthenticationError

    parts, place = urlsplit(url), without_password(url)
    user = unquote(parts.username or "guest")
    says, advice = _said(fault), "Start the broker, or mend storage.queue."
    if isinstance(fault, ProbableAuthenticationError):
        says = f"it refuses the login of {user!r}"
        advice = "Mend the user or the password in storage.queue, or make that user (rabbitmqctl add_user)."
    elif isinstance(fault, InvalidFrameError):  # it closes where it should open
        vhost = unquote(parts.path[1:]) or "/"
        says = f"there is no virtual host {vhost!r} for {user!r}"
        advice = (
            f"Make it (rabbitmqctl add_vhost {vhost}), let that user in (rabbitmqctl set_permissions), or "
            "mend what follows the port in storage.queue."
        )
    elif isinstance(fault, TimeoutError):
        says = f"no answer within {_PATIENCE_S:g} s"
        advice = "Is it a broker of AMQP 0.9.1 that listens there, and is it awake? Else mend storage.queue."
    elif "WRONG_VERSION_NUMBER" in says:
        says, advice = "it does not speak TLS at this port", "Write amqp://, or name the port of TLS, 5671."
    return Seen("fault", f"{place} cannot be used: {says}", f"{advice} {_AWAY}")


def _said(fault: BaseException) -> str:
    return (str(fault) or type(fault).__name__)[:200]


# ── Redis ───────────────────────────────────────────────────────────────────────────────────────────


def _redis(url: str, name: str, config: Config) -> Seen:
    from redis import AuthenticationError, Redis, RedisError, ResponseError

    place = without_password(url)
    try:
        with Redis.from_url(
            url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S, decode_responses=True
        ) as client:
            began = time.perf_counter()
            client.ping()
            took_ms = (time.perf_counter() - began) * 1000
            try:
                return _judged(_stream(client, place, took_ms, name), config)
            except (ResponseError, LookupError):
                says = f"{place}, {took_ms:.1f} ms away: no stream {name} yet"
                advice = f"The first worker that reaches it makes it. {_ELSEWHERE}"
                return Seen("note", says, advice, {"ask": round(took_ms, 3)})
    except AuthenticationError as fault:
        advice = f"Mend the user or the password in storage.queue. {_AWAY}"
        return Seen("fault", f"{place} refuses the login: {_said(fault)}", advice)
    except (RedisError, OSError, ValueError) as fault:
        advice = f"Start it, or mend storage.queue. {_AWAY}"
        return Seen("fault", f"{place} cannot be used: {_said(fault)}", advice)


def _stream(client: Any, place: str, took_ms: float, name: str) -> Queue:
    """Return what a stream tells. Raises `LookupError` where it has no group of ours."""
    (group,) = [each for each in client.xinfo_groups(name) if each["name"] == name] or [None]
    if group is None:
        raise LookupError(name)
    oldest = client.xrange(name, min=f"({group['last-delivered-id']}", count=1)
    waiting = len(client.xrange(name, min=f"({group['last-delivered-id']}", count=_MANY + 1))
    seconds, micros = client.time()
    waits_s = seconds + micros / 1e6 - int(oldest[0][0].partition("-")[0]) / 1000 if oldest else 0.0
    who = f"the oldest for {waits_s:.0f} s" if waits_s > _OFTEN_S else f"{group['pending']} being worked on"
    version = client.info("server").get("redis_version", "?")
    kind = f"stream {name}"
    return Queue(f"{place}, Redis {version}", took_ms, kind, waiting, waits_s <= _OFTEN_S, who)
