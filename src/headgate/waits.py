"""How a call waits, without a task of its own.

A call mostly waits once: for its provider. `CallRun` steps its coroutine by hand, and a `Wait` resumes
it in the callback that brought what it waited for, so that no future, no task and no turn of the loop
lies between. Whatever else a coroutine awaits moves it into an ordinary task, where it stays; what
needs a task from the start (`asyncio.timeout`) says so by `own_task` before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.callstate import CallState, set_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

    from headgate.errors import GatewayError
    from headgate.values import Call, MonotonicNs


class Wait:
    """Something that one coroutine at a time waits for, any number of times.

    In a task it takes the part of a future; there the coroutine goes on in the loop's next turn. A
    `types.coroutine` may yield it instead, which is one generator less.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancellation", "_loop", "resume")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.resume: Callable[[], object] | None = None  # set while somebody waits
        self._asyncio_future_blocking = True  # whenever a task is given it
        self._cancellation: asyncio.CancelledError | None = None
        self._loop = loop

    def __await__(self) -> Generator[Wait, None, None]:
        """Wait until `wake`."""
        yield self

    def wake(self) -> None:
        """Let who waits go on, at once; the caller must be done with its own work."""
        resume = self.resume
        if resume is not None:
            self.resume = None
            resume()

    # ── what a task asks of a future ────────────────────────────────────────────────────────────

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that it belongs to."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Wait], object], *, context: Context) -> None:
        """Take the task's way to go on, which has just said that it no longer blocks."""
        self._asyncio_future_blocking = True
        self.resume = partial(self._loop.call_soon, callback, self, context=context)

    def result(self) -> None:
        """Return nothing: what came is where the waiter looks for it."""
        cancellation, self._cancellation = self._cancellation, None
        if cancellation is not None:
            raise cancellation

    def cancel(self, msg: object = None) -> bool:
        """Wake the waiting task with a cancellation."""
        if self.resume is None:
            return False
        self._cancellation = asyncio.CancelledError(msg)
        self.wake()
        return True


@coroutine
def own_task() -> Generator[None, None, None]:
    """Go on in a task: for what needs one, such as `asyncio.timeout`."""
    yield


class Deadline(NamedTuple):
    """When a call must have its answer, as its caller says."""

    at_ns: MonotonicNs
    in_s: float  # from the beginning of the call
    late: Callable[[], GatewayError | None]  # what is then said; None: it holds no more
    whole: bool = True  # for the whole answer; else for its first byte


def ends_at(deadline: Deadline | None) -> MonotonicNs | None:
    """Return when it is; None where there is none."""
    return None if deadline is None else deadline.at_ns


_ENDED = object()


@set_at_once
class CallRun(CallState):
    """Run a coroutine: by hand while it waits for `Wait`s, else in a task.

    Args:
        run: of a coroutine that was not started yet: what an `await` of it steps. It must not raise but when
            it is cancelled.
        ended: called once with this object.
        call: what it serves.
    """

    _run: Generator[Any, Any, None]  # what it awaits
    _ended: Callable[[CallRun], None]
    call: Call | None = None
    alarm: asyncio.TimerHandle | None = None  # ends it at its deadline
    _wait: Wait | None = None
    _task: asyncio.Task[None] | None = None
    _rest: _Rest | None = None  # what the task runs

    def step(self) -> None:
        """Begin, or go on, until it waits again or ends."""
        try:
            waited = next(self._run, _ENDED)
        except BaseException:
            self._ended(self)
            raise
        if isinstance(waited, Wait):
            self._wait = waited
            waited.resume = self.step
        elif waited is _ENDED:
            self._ended(self)
        else:
            self._move(waited)

    def cancel(self) -> None:
        """Raise `CancelledError` in the coroutine where it waits."""
        if self._task is not None:
            self._task.cancel()
            return
        self._throw(asyncio.CancelledError())

    def end(self, error: Exception) -> None:
        """Raise an error in the coroutine where it waits; it answers with it, and settles."""
        if self._task is None:
            self._throw(error)
        elif self._rest is not None:
            self._rest.instead = error
            self._task.cancel()

    def _throw(self, error: BaseException) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.resume = None
        try:
            waited = self._run.throw(error)
        except (StopIteration, asyncio.CancelledError):
            self._ended(self)
        else:
            self._move(waited)

    async def done(self) -> None:
        """Wait until it has ended, if it is in a task; else it ended or waits for a `Wait`."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _move(self, waited: object) -> None:
        """Carry on in a task, which begins with what the coroutine waits for."""
        self._wait = None
        self._rest = _Rest(self._run, waited)
        self._task = asyncio.get_running_loop().create_task(self._rest)
        self._task.add_done_callback(lambda _: self._ended(self))


class _Rest(Coroutine[Any, Any, None]):
    """The rest of a coroutine, from what it waits for on: what a task takes over.

    `instead` is an error to raise in place of the cancellation that comes next.
    """

    __slots__ = ("_run", "_waited", "instead")

    def __init__(self, run: Generator[Any, Any, None], waited: object) -> None:
        self.instead: Exception | None = None
        self._run = run
        self._waited: list[object] = [waited]

    def send(self, value: object) -> object:
        """Give out what is waited for; then go on."""
        return self._waited.pop() if self._waited else self._run.send(value)

    def throw(self, *said: Any) -> object:
        """Raise in the coroutine where it waits."""
        instead, self.instead = self.instead, None
        if instead is None:
            return self._run.throw(*said)
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()  # it goes on
        return self._run.throw(instead)

    def close(self) -> None:
        """End the coroutine."""
        self._run.close()

    def __await__(self) -> Generator[Any, Any, None]:
        """Never asked: a task steps it."""
        return self._run
