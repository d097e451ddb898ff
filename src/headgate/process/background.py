"""Supervised background work: one group of tasks, whose failure makes the process not ready."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing, suppress
from time import process_time
from typing import TYPE_CHECKING

from headgate.errors import Unavailable
from headgate.waits import CallRun
from headgate.walks import in_turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headgate.errors import GatewayError
    from headgate.values import Call
    from headgate.waits import Deadline

LAST_WORD_S = 1.0  # for the error events of the answers that are cut, which are counted: words may load first
_RESTS = 4  # times as long as a look took: it has a fifth of the process at most,
_REST_S = 0.2  # or so many looks in a second
_STALL_EVERY_S = 0.05


class Background:
    """The background tasks of a process.

    Args:
        report: told of a task's name and what ended it, when it should not have ended.
    """

    __slots__ = ("_report", "_tasks", "failed")

    def __init__(self, report: Callable[[str, BaseException | None], None]) -> None:
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed = ""  # the name of the first task that ended

    def spawn(self, name: str, run: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task that shall run as long as the process, or until it is cancelled."""
        task = asyncio.get_running_loop().create_task(run, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        self.failed = self.failed or task.get_name()
        self._report(task.get_name(), task.exception())

    async def stop(self) -> None:
        """Cancel what runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Watch:
    """Look at something from time to time, and at once where somebody waits for it.

    Args:
        look: sees what there is now.
        every_s: the longest time between two looks.
    """

    __slots__ = ("_bell", "_look", "_waiting", "every_s")

    def __init__(self, look: Callable[[], Awaitable[None]], every_s: float) -> None:
        self._look = look
        self.every_s = every_s
        self._bell = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Look for as long as the process lives."""
        time = asyncio.get_running_loop().time
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every_s):
                    await self._bell.wait()
            self._bell.clear()
            waiting, self._waiting = self._waiting, []
            began = time()
            await self._look()
            took_s = time() - began
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)
            await asyncio.sleep(min(_RESTS * took_s, _REST_S))  # many who wait one after the other share it

    def wake(self) -> None:
        """Look soon."""
        self._bell.set()

    async def now(self, within_s: float) -> None:
        """Wait until a look that begins after this has ended, but no longer than so."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._bell.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await waiter


class Effort:
    """How much a process works, and how long its main thread had something to do, as the kernel counts it."""

    __slots__ = ("_file",)

    def __init__(self) -> None:
        try:  # nanoseconds of the main thread: on a core, and waiting for one
            self._file = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def close(self) -> None:
        """Give back what it reads from."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def now(self) -> tuple[float, float]:
        """Return both in seconds since some moment; where only the first can be had it is both."""
        worked_s = process_time()
        if self._file < 0:
            return worked_s, worked_s
        ran, waited, _ = os.pread(self._file, 100, 0).split()
        return worked_s, (int(ran) + int(waited)) / 1e9


class Stalls:
    """Watch how late the event loop is.

    Args:
        tell: hears at each look by how many seconds, which share of a core the process had since the last
            one, for which share of the time the loop had something to do, and how long ago it was. It
            returns in how many seconds to look again.
        held_up: each returns how many seconds something waits, by a time of the loop, that is put off from
            turn to turn, so that turns are short; the loop is that late, too.
    """

    __slots__ = ("_held_up", "_tell", "longest_s")

    def __init__(
        self, tell: Callable[[float, float, float, float], float], *held_up: Callable[[float], float]
    ) -> None:
        self.longest_s = 0.0  # ever
        self._tell = tell
        self._held_up = held_up

    async def run(self) -> None:
        """Watch for as long as the process lives, or until it is cancelled."""
        with closing(Effort()) as effort:
            await self._watch(effort)

    async def _watch(self, effort: Effort) -> None:
        loop = asyncio.get_running_loop()
        pause_s, began_s = _STALL_EVERY_S, loop.time()
        worked_s, wanted_s = effort.now()
        while True:
            due_s = loop.time() + pause_s
            await asyncio.sleep(pause_s)
            now_s = loop.time()
            late_s, took_s = now_s - due_s, max(1e-6, now_s - began_s)
            began_s, before = now_s, (worked_s, wanted_s)
            worked_s, wanted_s = effort.now()
            self.longest_s = max(self.longest_s, late_s)
            busy, wanted = (worked_s - before[0]) / took_s, (wanted_s - before[1]) / took_s
            late_s = max(late_s, *(held_up(now_s) for held_up in self._held_up))
            pause_s = self._tell(late_s, busy, max(busy, wanted), took_s)


class Leave:
    """The time in which a process that stops is not ready and takes calls still."""

    __slots__ = ("_hurried", "begun")

    def __init__(self) -> None:
        self.begun = False
        self._hurried = asyncio.Event()

    async def take(self, seconds: float) -> None:
        """Begin it, and wait until it is over."""
        self.begun = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    def hurry(self) -> None:
        """End it now."""
        self._hurried.set()


class Calls:
    """The open calls. This owns their runs; connections come and go."""

    __slots__ = ("_idle", "runs")

    def __init__(self) -> None:
        self.runs: set[CallRun] = set()
        self._idle: asyncio.Event | None = None

    def start(self, run: Coroutine[None, None, None], call: Call | None = None) -> None:
        """Start a call: it runs at once, up to its first wait."""
        begun = CallRun(run.__await__(), self._ended, call)
        self.runs.add(begun)
        if call is not None and call.deadline is not None:
            loop, deadline = asyncio.get_running_loop(), call.deadline
            begun.alarm = loop.call_later(deadline.in_s, _ring, begun, deadline)
        begun.step()

    async def keys(self) -> set[int]:
        """Return whose calls are open."""
        found = set[int]()
        await self.each(lambda call: found.add(call.principal.key) if call.principal else None)
        return found

    async def each(self, look: Callable[[Call], GatewayError | None]) -> None:
        """Look at the open calls; one for which there is an error ends, and answers with it."""

        def end(run: CallRun) -> None:
            error = look(run.call) if run.call is not None and run in self.runs else None
            if error is not None:
                run.end(error)

        await in_turns(self.runs, end)

    def _ended(self, call: CallRun) -> None:
        self.runs.discard(call)
        if call.alarm is not None:
            call.alarm.cancel()
        if self._idle is not None and not self.runs:
            self._idle.set()

    def cut(self) -> None:
        """Cancel the open calls; each is settled for what was seen of it."""
        for call in tuple(self.runs):
            call.cancel()

    async def drain(self, grace_s: float) -> int:
        """Wait for the open calls, then tell the rest that we stop; return how many those were.

        Each answers with the error, and is settled for what was produced; who does not within
        `LAST_WORD_S` is cancelled.
        """
        if await self._idle_within(grace_s):
            return 0
        told = tuple(self.runs)
        for call in told:
            call.end(
                Unavailable("The gateway is shutting down, and the answer was not complete. Send it again.")
            )
        if not await self._idle_within(LAST_WORD_S):
            self.cut()
        for call in told:
            await call.done()
        return len(told)

    async def _idle_within(self, seconds: float) -> bool:
        """Wait until no call is open; say whether that came."""
        if not self.runs:
            return True
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def _ring(call: CallRun, deadline: Deadline) -> None:
    """End a call that is late."""
    error = deadline.late()
    if error is not None:
        call.end(error)
