"""Copy one answer from a provider to a caller: frame by frame, with back-pressure both ways."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from headgate.errors import QuotaExceeded, UpstreamError
from headgate.waits import own_task

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from headgate.ports import Exchange, Reader, Sink
    from headgate.settle import Tab
    from headgate.values import Usage

_MAX_ERROR_BODY = 256 * 1024
_TAIL_S = 0.2  # how long an upstream may take to end its body after its last event


class Answering(Protocol):
    """The caller's side of one answer."""

    sink: Sink
    tab: Tab
    stream: bool

    def start(self) -> None:
        """Send the head of a stream."""
        ...

    def whole(self, reader: Reader) -> Awaitable[None] | None:
        """Settle a complete answer and send it whole; return what is to be awaited where we count it."""
        ...

    def settle_told(self) -> Usage | None:
        """Settle the complete answer by the provider's count, and return it; None where it gave none."""
        ...

    async def settle_counted(self) -> Usage:
        """Settle it by our own count; return what was booked."""
        ...

    def failpoint(self, name: str) -> None:
        """Pass a named place."""
        ...


def relay(exchange: Exchange, reader: Reader, answer: Answering) -> Awaitable[None]:
    """Copy an answer as it comes; it is settled before its last byte reaches the caller.

    Raises:
        UpstreamError: the provider broke off or reported an error.
        CallerGone: nobody reads any more.
        QuotaExceeded: the stream ran past what was held for it.
    """
    return (_relay_stream if answer.stream else _relay_parts)(exchange, reader, answer)


async def _relay_parts(exchange: Exchange, reader: Reader, answer: Answering) -> None:
    while data := await exchange.read():
        reader.feed(data)
    reader.finish()
    counting = answer.whole(reader)
    if counting is not None:
        await counting


async def _relay_stream(exchange: Exchange, reader: Reader, answer: Answering) -> None:
    sink, tab = answer.sink, answer.tab
    ended = False
    while not reader.done:
        data = await exchange.read()
        if not data:
            ended = True
            break
        out = reader.feed(data)
        if out:
            if not tab.shown:
                answer.start()
                answer.failpoint("first-frame")
            sink.write(out)
            answer.failpoint("mid-stream")
            if not tab.progress(reader):
                raise QuotaExceeded("The stream was cut: it ran past the tokens that were reserved for it.")
            await sink.drained()
    tail = reader.finish()
    booked = answer.settle_told()
    tail += reader.end(booked if booked is not None else await answer.settle_counted())
    answer.failpoint("before-last-byte")
    if not tab.shown:
        answer.start()
    sink.write(tail)
    sink.finish()
    if not ended:
        await _end(exchange)


async def _end(exchange: Exchange) -> None:
    """Give the upstream a moment to end its body, so that its connection can be used again."""
    await own_task()
    try:
        async with asyncio.timeout(_TAIL_S):
            while await exchange.read():
                pass
    except TimeoutError:
        exchange.abort()


async def error_body(exchange: Exchange) -> bytes:
    """Read a refusal's body, or what came of it: its status alone says what to do."""
    parts: list[bytes] = []
    size = 0
    try:
        while size < _MAX_ERROR_BODY and (data := await exchange.read()):
            parts.append(data)
            size += len(data)
    except UpstreamError:
        return b"".join(parts)
    return b"".join(parts)
