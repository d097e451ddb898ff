"""An event loop without real time, in which a seed decides what runs next.

Every step of every task is one choice among all that could run, so two tasks are interleaved at each of
their awaits. Time stands while anything can run, and then jumps to the next timer. A worker can be
frozen: nothing of it runs until it is thawed, as after SIGSTOP.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any, TypeVar

Result = TypeVar("Result")
OWNER: ContextVar[str] = ContextVar("owner", default="")


class SimLoop(asyncio.AbstractEventLoop):
    """Just enough of a loop for tasks, futures, events and timeouts."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.steps = 0
        self.frozen: set[str] = set()
        self.faults: list[dict[str, Any]] = []
        self._chance = Random(seed)
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()

    # ── what asyncio asks ────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context or copy_context())
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        handle = asyncio.TimerHandle(when, callback, args, self, context or copy_context())
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, run: Coroutine[Any, Any, Result], **options: Any) -> asyncio.Task[Result]:  # type: ignore[override]
        return asyncio.Task(run, loop=self, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context)

    # ── running ──────────────────────────────────────────────────────────────────────────────────

    def spawn(self, owner: str, run: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start a task that belongs to an owner, as does everything that it starts."""
        context = copy_context()
        context.run(OWNER.set, owner)
        return self.create_task(run, context=context)

    def run(self, main: Coroutine[Any, Any, Result], most_steps: int = 2_000_000) -> Result:
        """Run until a coroutine has ended."""
        with _running(self):
            task = self.create_task(main)
            while not task.done():
                self.steps += 1
                assert self.steps < most_steps, "it does not end"
                self._step()
            return task.result()

    def _step(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(self._timers)[2])
        able = [handle for handle in self._ready if not self._is_frozen(handle)]
        if not able:
            assert self._timers, "everything waits for something that nobody does"
            self.now = max(self.now, self._timers[0][0])
            return
        handle = self._chance.choice(able)
        self._ready.remove(handle)
        if not handle.cancelled():
            handle._run()

    def _is_frozen(self, handle: asyncio.Handle) -> bool:
        return bool(self.frozen) and handle._context.get(OWNER, "") in self.frozen  # type: ignore[attr-defined]


@contextmanager
def _running(loop: SimLoop) -> Any:
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)
