"""Who stops while the broker is being reached leaves nothing behind that would keep the process."""

from __future__ import annotations

import asyncio

from headgate.stores.broker.caller import Caller, Terms

_SLOW_S = 0.5


async def _hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a connection, say nothing, and end it."""
    await asyncio.sleep(_SLOW_S)
    writer.close()


def test_a_stop_while_the_broker_is_silent_ends_everything():
    async def stopped() -> list[str]:
        server = await asyncio.start_server(_hold, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        caller = Caller(Terms(f"amqp://guest:guest@127.0.0.1:{port}/"), None, lambda _said: None)
        running = asyncio.create_task(caller.run())
        await asyncio.sleep(_SLOW_S / 2)
        running.cancel()
        await asyncio.wait({running}, timeout=10)
        assert running.cancelled()
        await asyncio.sleep(_SLOW_S)
        server.close()
        return [
            task.get_coro().__qualname__ for task in asyncio.all_tasks() if task is not asyncio.current_task()
        ]

    loop = asyncio.new_event_loop()  # not `asyncio.run`, whose own end would wait for what is left
    try:
        assert loop.run_until_complete(stopped()) == []
    finally:
        loop.close()
