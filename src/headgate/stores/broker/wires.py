"""The brokers of taskiq, set up so that nothing waits for ever and nothing grows.

RabbitMQ: a quorum queue, publisher confirms (aio-pika's default), a bound on length and age. Redis: a stream
that is trimmed, since taskiq-redis never does that.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aio_pika.exceptions import AMQPError
from redis.asyncio import Redis
from taskiq import AckableMessage
from taskiq.utils import maybe_awaitable
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_redis import RedisStreamBroker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from pamqp.common import FieldTable
    from taskiq import AsyncBroker

Answer = TypeVar("Answer")

AT_ONCE: Final = 4  # messages that one consumer holds: the rest are for others
SILENT_S: Final = 10  # a broker that says nothing for so long is gone
_CONNECT_S: Final = 5.0
_ACK_S: Final = 0.5  # for what is under way at the end
_MOST: Final = 10_000  # messages that wait: beyond these the oldest are dropped
_OLDEST_MS: Final = 600_000
_REDELIVERED_MS: Final = 180_000  # of a consumer that died; longer than a visit takes
_LIBRARIES: Final = ("aio_pika", "aiormq", "taskiq")


def open_broker(url: str, name: str) -> AsyncBroker:
    """Return a broker that is not connected yet.

    Args:
        url: `amqp://`, `amqps://`, `redis://` or `rediss://`.
        name: of the queue, and of all that belongs to it.
    """
    for library in _LIBRARIES:  # they would write the same trouble to the terminal, again and again
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    return _rabbitmq(url, name) if url.startswith("amqp") else _redis(url, name)


def _rabbitmq(url: str, name: str) -> AsyncBroker:
    bounds: FieldTable = {"x-max-length": _MOST, "x-message-ttl": _OLDEST_MS}
    work = Queue(name=name, arguments=bounds, timeout=_CONNECT_S)
    broker = _Queue(
        url,
        qos=AT_ONCE,
        exchange=Exchange(name=name, timeout=_CONNECT_S),
        task_queues=[work],
        dead_letter_queue=Queue(name=f"{name}.dead", arguments=bounds, timeout=_CONNECT_S),
        timeout=_CONNECT_S,
        heartbeat=SILENT_S,
    )
    broker.is_worker_process = True
    return broker


def _redis(url: str, name: str) -> AsyncBroker:
    return _Stream(
        url,
        queue_name=name,
        consumer_group_name=name,
        mkstream=True,
        maxlen=_MOST,
        idle_timeout=_REDELIVERED_MS,
        xread_count=AT_ONCE,
        socket_connect_timeout=_CONNECT_S,
        socket_timeout=SILENT_S,
        max_connection_pool_size=4,
    )


class _Queue(AioPikaBroker):
    """A queue of RabbitMQ whose messages may outlive the connection that they came over."""

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield messages."""
        async with aclosing(super().listen()) as messages:
            async for message in messages:
                yield AckableMessage(data=message.data, ack=_while_connected(message.ack))


def _while_connected(ack: Callable[[], Awaitable[None] | None]) -> Callable[[], Awaitable[None]]:
    async def once() -> None:
        try:
            await maybe_awaitable(ack())
        except (AMQPError, RuntimeError, OSError):
            return  # the connection is lost, which is told; the message comes again, to another worker

    return once


class _Stream(RedisStreamBroker):
    """A stream in Redis that is read with single commands.

    The library claims what dead consumers held in a pipeline under a lock. Claiming is atomic, so there is
    nothing to lock; and a pipeline that is cancelled while it looks for its scripts keeps its connection.

    What is under way when it ends is waited for, or ended: redis-py asks anew, over a connection that nobody
    would close, where the one that it asked over is cut.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._ended = False
        self._asked: set[asyncio.Future[Any]] = set()

    async def shutdown(self) -> None:
        """End it, with its connections."""
        self._ended = True
        under_way = tuple(self._asked)
        if under_way:
            await asyncio.wait(under_way, timeout=_ACK_S)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await super().shutdown()

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield messages: new ones, and those of consumers that have died."""
        async with Redis(connection_pool=self.connection_pool) as redis:
            while not self._ended:
                for number, fields in await self._while_open(self._next(redis)):
                    ack = self._ack_generator(number, self.queue_name)
                    yield AckableMessage(data=fields[b"data"], ack=self._acknowledging(ack))

    async def _next(self, redis: Redis) -> list[tuple[str, dict[bytes, bytes]]]:
        """Wait a little for new messages; return them, and those that dead consumers held."""
        name, whose = self.queue_name, (self.consumer_group_name, self.consumer_name)
        fetched: Any = await redis.xreadgroup(*whose, {name: ">"}, count=self.count, block=self.block)
        claimed: Any = await redis.xautoclaim(name, *whose, self.idle_timeout, count=self.count)
        found = [*(fetched[0][1] if fetched else ()), *claimed[1]]
        return [(number, fields) for number, fields in found if fields]  # others were trimmed meanwhile

    def _acknowledging(self, ack: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def once() -> None:
            if not self._ended:  # else it comes again, to another worker
                await self._while_open(ack())

        return once

    async def _while_open(self, asking: Awaitable[Answer]) -> Answer:
        task = asyncio.ensure_future(asking)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return await task
