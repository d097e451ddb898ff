"""A loop whose time jumps: first come, first run, so that a thousand replicas take seconds."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from tests.leases.simloop import SimLoop, _running

Result = TypeVar("Result")
START = 1_790_035_200_000_000  # 2026-09-22 00:00 UTC


class FleetLoop(SimLoop):
    """Also the clock of everybody in it."""

    def __init__(self) -> None:
        super().__init__(0)
        self._queue: deque[asyncio.Handle] = deque()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def run_until(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Run until a coroutine has ended."""
        queue, timers = self._queue, self._timers
        with _running(self):
            task = self.create_task(main)
            while not task.done():
                while timers and (not queue or timers[0][0] <= self.now):
                    when, _, timer = heapq.heappop(timers)
                    self.now = max(self.now, when)
                    queue.append(timer)
                handle = queue.popleft()
                if not handle.cancelled():
                    handle._run()
            assert not self.faults, self.faults[0]
            return task.result()

    # ── ports.Clock ──────────────────────────────────────────────────────────────────────────────

    def wall(self) -> int:
        return START + int(self.now * 1e6)

    def monotonic(self) -> int:
        return int(self.now * 1e9)
