"""Bodies of answers from where batches are: whole, or line by line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.errors import UpstreamInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from headgate.ports import Exchange
    from headgate.providers.batches import Unpacking
    from headgate.values import Target

_MOST_ANSWER: Final = 16 * 1024 * 1024
LONGEST: Final = 128 * 1024 * 1024  # of a line, or of a page of them
_SLOW_S: Final = 3_600.0  # a file may take so long


def patient(target: Target) -> Target:
    """Return a target that may take long for a file."""
    deadlines = msgspec.structs.replace(target.deadlines, first_byte_s=_SLOW_S, total_s=_SLOW_S)
    return msgspec.structs.replace(target, deadlines=deadlines)


class Body(Protocol):
    """What is read piece by piece."""

    def read(self) -> Awaitable[bytes]:
        """Wait for more of it; b"" at its end. Raises `UpstreamError`."""
        ...


class Bounded:
    """A body that is not read beyond some bytes.

    Args:
        body: it.
        most: bytes of it.
    """

    __slots__ = ("_body", "_left")

    def __init__(self, body: Body, most: int) -> None:
        self._body = body
        self._left = most

    async def read(self) -> bytes:
        """Wait for more of it. Raises `UpstreamInterrupted`: it is longer than it may be."""
        data = await self._body.read()
        self._left -= len(data)
        if self._left < 0:
            raise UpstreamInterrupted("The answers at the provider have no end.")
        return data


async def lines_in(exchange: Body) -> AsyncIterator[bytes]:
    """Yield the lines of a body that are not empty. Raises `UpstreamError`."""
    begun: list[bytes] = []  # of a line that has not ended: a long one comes in thousands of pieces
    size = 0
    while data := await exchange.read():
        end, *following = data.split(b"\n")
        begun.append(end)
        size += len(end)
        if size > LONGEST:
            raise UpstreamInterrupted("A line of the provider's answers has no end.")
        if following:
            *whole, rest = b"".join(begun), *following
            begun, size = [rest], len(rest)
            for line in filter(bytes.strip, whole):
                yield line
        await asyncio.sleep(0)
    if (line := b"".join(begun)).strip():
        yield line


async def unpacked(exchange: Body, unpacking: Unpacking) -> AsyncIterator[bytes]:
    """Yield the answers in a body that is no lines. Raises `UpstreamError`."""
    more = True
    while more:
        more = bool(data := await exchange.read())
        for line in _fed(unpacking, data):
            yield line
            await asyncio.sleep(0)


def _fed(unpacking: Unpacking, data: bytes) -> Iterator[bytes]:
    """Yield the answers that are whole once these bytes are there; none of them: there are no more."""
    try:
        if data:
            yield from unpacking.feed(data)
        else:
            unpacking.finish()
    except ValueError as fault:
        raise UpstreamInterrupted(f"The provider's answers to a batch cannot be read: {fault}.") from fault


async def whole_of(exchange: Exchange, most: int = _MOST_ANSWER) -> bytes:
    """Return a body, as far as anybody would read it. Raises `UpstreamError`."""
    parts, size = [], 0
    while size < most and (data := await exchange.read()):
        parts.append(data)
        size += len(data)
    return b"".join(parts)
