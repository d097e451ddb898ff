"""Calls workers to batches, and answers such calls, over a connection that is made as often as it takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask

_TASK: Final = "headgate.batch"
_PUBLISH_S: Final = 2.0
_START_S: Final = 8.0
_SIGN_OF_LIFE_S: Final = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_CLOSE_S: Final = 2.0


class Answering(Protocol):
    """Who runs batches here."""

    async def visit(self, batch: str) -> None:
        """Work on a batch, for a bounded time; a message is acknowledged when this returns."""
        ...


class Terms(NamedTuple):
    """Where the broker is, and what is ours there."""

    url: str
    name: str = "headgate.batches"


class Caller:
    """A process's connection to the broker.

    Args:
        terms: where the broker is.
        answering: who runs batches here; None: this process only calls others.
        trouble: told when the broker is lost, and when it is back, once each.
    """

    def __init__(self, terms: Terms, answering: Answering | None, trouble: Callable[[str], None]) -> None:
        self._open = _opener(terms)
        self._answering = answering
        self._trouble = trouble
        self._task: AsyncTaskiqDecoratedTask[[str], Coroutine[Any, Any, None]] | None = None
        self._lost = asyncio.Event()
        self._told = False
        self._helpers: list[asyncio.Task[None]] = []
        self.up = False

    async def call(self, batch: str, times: int = 1) -> bool:
        """Say that a batch has work, to so many workers; False: the broker did not confirm it.

        A broker that is away costs at most two seconds, and the next call none until it is back.
        """
        task = self._task
        if task is None or not self.up:
            return False
        try:
            async with asyncio.timeout(_PUBLISH_S):
                for _ in range(times):
                    await task.kiq(batch)
        except Exception as fault:  # whatever the library raises: the answer is that nobody was told
            self._lose(_named(fault))
            return False
        return True

    async def run(self) -> None:
        """Keep the connection as long as the process serves."""
        pause_s = _FIRST_PAUSE_S
        while True:
            broker = self._open()
            self._lost = asyncio.Event()
            start = asyncio.create_task(broker.startup())
            try:
                async with asyncio.timeout(_START_S):
                    await asyncio.shield(start)
                pause_s = _FIRST_PAUSE_S
                await self._serve(broker)
            except Exception as fault:  # any library's: it is told, and tried again
                self._lose(_named(fault))
            finally:
                self.up, self._task = False, None
                await _made(start)
                await _close(broker)
                await _end(self._helpers)  # those that ended with the connection
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _serve(self, broker: AsyncBroker) -> None:
        """Call and answer until the connection is lost."""

        async def visit(batch: str) -> None:
            if batch and self._answering is not None:
                await self._answering.visit(batch)

        self._task = broker.register_task(visit, task_name=_TASK)
        finish = asyncio.Event()
        spawn = asyncio.get_running_loop().create_task
        self._helpers = [spawn(self._signs())]
        if self._answering is not None:
            self._helpers.append(spawn(self._listen(broker, finish)))
        self.up = True
        if self._told:
            self._told = False
            self._trouble("The broker of batches is back.")
        try:
            await self._lost.wait()
        finally:
            finish.set()
            await _end(self._helpers)

    async def _listen(self, broker: AsyncBroker, finish: asyncio.Event) -> None:
        from taskiq.receiver import Receiver

        from headgate.stores.broker.wires import AT_ONCE

        receiver = Receiver(broker, max_async_tasks=AT_ONCE, validate_params=False, run_startup=False)
        lost, why = self._lost, "it ended the subscription"
        try:
            await receiver.listen(finish)
        except Exception as fault:  # any library's
            why = _named(fault)
        if lost is self._lost:
            self._lose(why)

    async def _signs(self) -> None:
        """Send something now and then: a broker that is frozen is found out before it is needed."""
        while True:
            await asyncio.sleep(_SIGN_OF_LIFE_S)
            await self.call("")

    def _lose(self, why: str) -> None:
        self.up = False
        self._lost.set()
        if not self._told:
            self._told = True
            self._trouble(f"The broker of batches is away ({why}). Workers look by themselves meanwhile.")


def _opener(terms: Terms) -> Callable[[], AsyncBroker]:
    from headgate.stores.broker.wires import (
        open_broker,  # the extra `queue`, which the settings have asked for
    )

    return lambda: open_broker(*terms)


def _named(fault: BaseException) -> str:
    """Return what went wrong, without the address, which may hold a password."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return type(fault).__name__


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """End tasks of ours; one whose library swallows its cancellation ends with the connection."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSE_S)


async def _made(start: asyncio.Task[None]) -> None:
    """Wait until a connection is made, or is not: one that is cut aio-pika makes again, for ever."""
    await asyncio.wait({start}, timeout=_START_S)
    if not start.done():
        start.cancel()
    elif not start.cancelled():
        start.exception()  # it was told


async def _close(broker: AsyncBroker) -> None:
    """End a connection, which may be to a broker that is frozen."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await broker.shutdown()
    except Exception:
        return  # it was lost before: that is told, and the next one is a new one
