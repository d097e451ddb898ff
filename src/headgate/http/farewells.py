"""Telling calls that their callers have gone: some in each turn of the loop.

A balancer that is restarted, or a network that is lost, hangs up on thousands of streams at once, all of
them in one turn of the loop; each call then settles and closes its provider. Others must not wait for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

_AT_ONCE: Final = 100  # in a turn of the loop: some five to ten milliseconds


class Left(Protocol):
    """An answer that nobody reads any more."""

    def leave(self) -> None:
        """Take note of it; nothing is sent from now on."""
        ...

    def tell(self) -> None:
        """Tell its call."""
        ...


class Farewells:
    """The answers whose calls are not told yet, in order. One per edge."""

    __slots__ = ("_awake", "_line", "_told")

    def __init__(self) -> None:
        self._line: deque[Left] = deque()
        self._told = 0  # in this turn
        self._awake = False

    def __len__(self) -> int:
        """Return how many calls are not told yet."""
        return len(self._line)

    def lost(self, left: Left) -> None:
        """Take an answer whose caller has gone; its call is told at once, but where many go together."""
        left.leave()
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._line or self._told >= _AT_ONCE:
            self._line.append(left)
        else:
            self._told += 1
            left.tell()

    def _turn(self) -> None:
        """Tell the next ones; who goes later in this turn counts with them."""
        line = self._line
        self._told = min(_AT_ONCE, len(line))
        self._awake = bool(line)
        if self._awake:
            asyncio.get_running_loop().call_soon(self._turn)
        for _ in range(self._told):
            line.popleft().tell()
