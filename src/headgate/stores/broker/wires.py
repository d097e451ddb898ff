"""The brokers of taskiq, set up so that nothing waits for ever and nothing grows.

RabbitMQ: a quorum queue, publisher confirms (aio-pika's default), a bound on length and age. Redis: a stream
that is trimmed, since taskiq-redis never does that, and whose lock of dead consumers ends by itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_redis import RedisStreamBroker

if TYPE_CHECKING:
    from pamqp.common import FieldTable
    from taskiq import AsyncBroker

AT_ONCE: Final = 4  # messages that one consumer holds: the rest are for others
SILENT_S: Final = 10  # a broker that says nothing for so long is gone
_CONNECT_S: Final = 5.0
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
    broker = AioPikaBroker(
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
    return RedisStreamBroker(
        url,
        queue_name=name,
        consumer_group_name=name,
        mkstream=True,
        maxlen=_MOST,
        idle_timeout=_REDELIVERED_MS,
        unacknowledged_lock_timeout=_CONNECT_S,
        xread_count=AT_ONCE,
        socket_connect_timeout=_CONNECT_S,
        socket_timeout=SILENT_S,
        max_connection_pool_size=4,
    )
