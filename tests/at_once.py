"""How long something waits, on a machine that has other work: not at all, or as long as a plain wait beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any


def at_once(run: Coroutine[Any, Any, Any]) -> Any:
    """Return what it returns, or raise what it raises, without a turn of the loop."""
    try:
        run.send(None)
    except StopIteration as done:
        return done.value
    run.close()
    raise AssertionError("it waits")


class Beside:
    """A plain wait that begins now."""

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._wait = asyncio.ensure_future(self._took(seconds))

    async def _took(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return self.so_far()

    def so_far(self) -> float:
        """Return the time since it began."""
        return time.monotonic() - self._began

    async def took(self) -> float:
        """Return how long it took in the end."""
        return await self._wait
