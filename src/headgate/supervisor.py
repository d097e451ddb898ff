"""Several worker processes on one data folder: start them, watch them, replay what a dead one left.

The supervisor is one thread without an event loop, so it may fork at any time: it waits for signals and
for what its workers say. A worker that dies is started again in its slot, after its journal was replayed.
Where the supervisor itself is killed, its workers see a pipe close, end their calls and go; the lock of
the data folder is theirs too until then, so no second supervisor comes in between.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ports import Clock
    from headgate.values import MonotonicNs

_SECOND: Final = 1_000_000_000
_TICK_S: Final = 1.0
_SETTLED_S: Final = 5.0  # a worker that lived so long has started well
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_SILENT_S: Final = 30.0  # a worker that says nothing for so long is frozen, and killed
_SLEPT_S: Final = 5.0  # we ourselves were stopped: what the workers did not say meanwhile means nothing
_KILL_AFTER_S: Final = 15.0  # beyond the time that open calls have to end
_READY: Final = b"\0"  # ends the text that a worker sends when it serves


@dataclass(slots=True)
class Post:
    """A worker's side: which slot it has, and how it talks with its supervisor."""

    slot: int
    orphaned: int  # a descriptor that becomes readable when the supervisor is gone
    _voice: int

    def ready(self, text: str) -> None:
        """Say that calls are served; the first worker's text is shown to people."""
        os.write(self._voice, text.encode() + _READY)

    def beat(self) -> None:
        """Say that the event loop runs. To be called each second; never waits for who sleeps."""
        if select.select([], [self._voice], [], 0)[1]:
            os.write(self._voice, b".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What a supervisor supervises."""

    count: int
    run: Callable[[Post], int]  # in the worker, to its end; returns the exit code
    replay: Callable[[int], bool]  # book what a dead worker's journal holds; False: not possible now
    say: Callable[[str], None]  # to people
    stop_s: float  # how long a worker may take to stop in order


@dataclass(slots=True)
class _Worker:
    """A running worker."""

    slot: int
    pid: int
    voice: int  # we read it
    started: MonotonicNs
    heard: MonotonicNs
    said: bytearray = field(default_factory=bytearray)
    ready: bool = False


class Supervisor:
    """Run a crew until a signal. POSIX only."""

    def __init__(self, crew: Crew, clock: Clock) -> None:
        self._crew = crew
        self._clock = clock
        self._workers: dict[int, _Worker] = {}  # by pid
        self._due: dict[int, MonotonicNs] = {}  # slot: when it is started again
        self._pause_s: dict[int, float] = {}
        self._unreplayed: set[int] = set()  # slots that are not started before this was done
        self._announced = False
        self._stopping_since: MonotonicNs = 0
        self._code = 0
        self._bell, self._ringer = socket.socketpair()
        self._alive_read, self._alive_write = os.pipe()

    def serve(self) -> int:
        """Start the workers and watch them to the end; return the exit code."""
        names = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        before = {name: signal.signal(name, _wake) for name in names}
        for end in (self._bell, self._ringer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        try:
            for slot in range(self._crew.count):
                self._start(slot)
            last = self._clock.monotonic()
            while self._workers or (self._due and not self._stopping_since):
                last = self._turn(last)
        finally:
            signal.set_wakeup_fd(-1)
            for name, handler in before.items():
                signal.signal(name, handler)
            self._close()
        return self._code

    def _turn(self, last: MonotonicNs) -> MonotonicNs:
        """Wait for something to happen and act on it; return the time."""
        voices = {worker.voice: worker for worker in self._workers.values()}
        bell = self._bell.fileno()
        readable, _, _ = select.select([bell, *voices], [], [], self._wait_s())
        now = self._clock.monotonic()
        for number in readable:
            if number == bell:
                self._hear_signals(self._bell.recv(4096), now)
            else:
                self._hear(voices[number], now)
        self._bury(now)
        if now - last > _SLEPT_S * _SECOND:
            for worker in self._workers.values():
                worker.heard = now
        self._watch(now)
        self._restart(now)
        return now

    def _wait_s(self) -> float:
        now = self._clock.monotonic()
        return min([_TICK_S, *(max(0.0, (due - now) / _SECOND) for due in self._due.values())])

    # ── workers ──────────────────────────────────────────────────────────────────────────────────

    def _start(self, slot: int) -> None:
        listening, speaking = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(slot, speaking)
        os.close(speaking)
        os.set_blocking(listening, False)
        now = self._clock.monotonic()
        self._workers[pid] = _Worker(slot, pid, listening, now, now)

    def _become(self, slot: int, voice: int) -> None:
        """Be the worker of a slot, in the process that was forked; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for name in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(name, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the supervisor passes it on
            for worker in self._workers.values():
                os.close(worker.voice)
            os.close(self._alive_write)
            self._bell.close()
            self._ringer.close()
            code = self._crew.run(Post(slot, self._alive_read, voice))
        except Exception:  # the end of this process: nobody above could say it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _hear(self, worker: _Worker, now: MonotonicNs) -> None:
        """Take what a worker says."""
        try:
            data = os.read(worker.voice, 65536)
        except BlockingIOError:
            return
        worker.heard = now
        if worker.ready or not data:
            return
        worker.said += data
        if _READY in worker.said:
            worker.ready = True
            if not self._announced and all(each.ready for each in self._workers.values()):
                self._announced = True
                first = min(self._workers.values(), key=lambda each: each.slot)
                self._crew.say(first.said.partition(_READY)[0].decode())

    def _bury(self, now: MonotonicNs) -> None:
        """Take note of the workers that have ended."""
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            del self._workers[worker.pid]
            os.close(worker.voice)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping_since:
                self._end_one(worker, code)
            elif not self._announced and not worker.ready and code > 0:
                self._code = code  # it has said why: a start that cannot succeed
                self._stop(now)
            else:
                self._replace(worker, code, now)

    def _end_one(self, worker: _Worker, code: int) -> None:
        if code:  # where this fails, the next start replays it
            self._code = self._code or 1
            self._crew.replay(worker.slot)

    def _replace(self, worker: _Worker, code: int, now: MonotonicNs) -> None:
        """Replay what a dead worker left and start its slot again, ever more slowly if it keeps dying."""
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        settled = now - worker.started > _SETTLED_S * _SECOND
        pause_s = _FIRST_PAUSE_S if settled else self._pause_s.get(worker.slot, _FIRST_PAUSE_S)
        self._pause_s[worker.slot] = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._crew.say(f"Worker {worker.slot} (process {worker.pid}) {how}; it is started again.")
        self._unreplayed.add(worker.slot)
        self._due[worker.slot] = now + int(pause_s * _SECOND)
        self._catch_up(worker.slot)

    def _catch_up(self, slot: int) -> bool:
        """Book what a dead worker left; say whether nothing is missing."""
        if slot in self._unreplayed and self._crew.replay(slot):
            self._unreplayed.discard(slot)
        return slot not in self._unreplayed

    def _restart(self, now: MonotonicNs) -> None:
        if self._stopping_since:
            return
        for slot in [slot for slot, due in self._due.items() if due <= now]:
            if self._catch_up(slot):
                del self._due[slot]
                self._start(slot)
            else:
                self._due[slot] = now + int(_TICK_S * _SECOND)

    def _watch(self, now: MonotonicNs) -> None:
        """Kill a worker that is frozen, or does not end."""
        over = self._stopping_since and now - self._stopping_since > (
            (self._crew.stop_s + _KILL_AFTER_S) * _SECOND
        )
        for worker in self._workers.values():
            silent = worker.ready and now - worker.heard > _SILENT_S * _SECOND
            if silent or over:
                os.kill(worker.pid, signal.SIGKILL)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def _hear_signals(self, numbers: bytes, now: MonotonicNs) -> None:
        for number in numbers:
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop(now)

    def _stop(self, now: MonotonicNs) -> None:
        """Tell every worker to end its calls; a second time, to cut them."""
        if not self._stopping_since:
            self._stopping_since = now
            self._crew.say("Stopping.")
        for worker in self._workers.values():
            os.kill(worker.pid, signal.SIGTERM)

    def _close(self) -> None:
        self._bell.close()
        self._ringer.close()
        os.close(self._alive_read)
        os.close(self._alive_write)


def _wake(_number: int, _frame: object) -> None:
    """Let the wake-up descriptor say it."""
