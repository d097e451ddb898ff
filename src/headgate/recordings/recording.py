"""One answer, recorded while it is given: the sink of its call, and what any number of callers read from.

The call goes on while somebody reads, and for a bounded time when nobody does. What is too long to be kept
passes at the pace of the slowest reader, as without a recording.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, Protocol

from headgate.wire.headers import lines_of
from headgate.wire.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.errors import GatewayError
    from headgate.ports import Headers
    from headgate.values import Call
    from headgate.wire.recorded import Label

_BEHIND: Final = 256 * 1024  # bytes that the slowest reader of an answer that is not kept may be behind


class Reader(Protocol):
    """Somebody who reads a recording."""

    position: int  # how many bytes of the body it has read

    def wake(self) -> None:
        """Look again: there is more, or nothing more will come."""
        ...


class Memory:
    """How many bytes the recordings of a worker may have in memory: each, and all together."""

    __slots__ = ("_each", "_left")

    def __init__(self, each: int, total: int) -> None:
        self._each = each
        self._left = total

    def take(self, size: int, more: int) -> bool:
        """Take bytes for a recording that has some; False where that is too much."""
        if size + more > self._each or more > self._left:
            return False
        self._left -= more
        return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        self._left += size


class Recording:
    """Implements `ports.Sink`.

    Args:
        label: what it is found by.
        call: what is answered.
        memory: where its bytes are counted.
        keep_s: how long the call goes on with no reader.
    """

    __slots__ = (
        "_base", "_body", "_callback", "_keep_s", "_memory", "_quiet", "_quieting", "_readers", "_room",
        "_timer", "away", "broken", "early", "ended", "error", "gone", "kept", "label", "length", "lines",
        "model", "operation", "started", "status", "wanted",
    )  # fmt: skip

    def __init__(self, label: Label, call: Call, memory: Memory, keep_s: float) -> None:
        self.label = label
        self.operation, self.model = call.operation, call.model
        self.gone = False  # nobody waits for it any more
        self.started = False
        self.status = 0  # 0: it has no head yet
        self.lines = b""
        self.length: int | None = None
        self.ended = False  # as it should
        self.early = False  # its head went out before it was known whether anybody answers
        self.broken = False  # an error was told in it, behind its head
        self.error: GatewayError | None = None  # why it never began
        self.kept = True  # it has all of its body
        self.wanted = False  # in another worker
        self.away = asyncio.Event()  # the store knows how it ended
        self._body = bytearray()
        self._base = 0  # how many bytes of the body are no longer here
        self._memory = memory
        self._keep_s = keep_s
        self._readers: set[Reader] = set()
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._callback: Callable[[], None] | None = None
        self._quiet: Callable[[], None] | None = None
        self._quieting = False

    # ── the call's side ─────────────────────────────────────────────────────────────────────────

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Take the head."""
        if self.gone:
            return
        self.started = True
        self.status, self.early = status, self._quieting
        self.lines = headers if isinstance(headers, bytes) else lines_of(headers)
        self.length = length
        self._tell()

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Take a whole answer."""
        self.start(status, lines, len(body))
        self.write(body)
        self.finish()

    def write(self, data: bytes) -> None:
        """Take bytes of the body."""
        if self.gone or self._quieting or not data:
            return
        if self.kept and not self._memory.take(len(self._body), len(data)):
            self._let_go()
        self._body += data
        self._tell()

    def finish(self) -> None:
        """Take note of the end."""
        self.ended = not self.gone
        self._callback = None
        self._rest()
        self._tell()

    async def drained(self) -> None:
        """Wait for the slowest reader, where what it has not read cannot be kept."""
        while not (self.kept or self.gone) and len(self._body) > _BEHIND:
            self._room.clear()
            await self._room.wait()

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Keep whom to call when nobody waits any more."""
        if self.gone:
            callback()
        else:
            self._callback = callback

    def on_quiet(self, callback: Callable[[], None]) -> None:
        """Keep what gives a stream its head early; each reader keeps its own connection alive."""
        self._quiet = callback

    def abort(self) -> None:
        """Take note that no end will come."""
        self._callback = None
        self._leave()

    def fail(self, error: GatewayError | None) -> None:
        """Take note that it never began, and why; None: it has to be asked for anew."""
        self.error = error
        self.abort()

    def follow(self, label: Label) -> None:
        """Take from now on what is recorded elsewhere, and counted there; for nobody it does not go on."""
        self.label = label
        self._memory = Memory(sys.maxsize, sys.maxsize)
        self._keep_s = 0.0

    # ── the readers' side ───────────────────────────────────────────────────────────────────────

    @property
    def size(self) -> int:
        """Return how many bytes of the body have come."""
        return self._base + len(self._body)

    @property
    def read(self) -> bool:
        """Say whether anybody reads."""
        return bool(self._readers)

    def since(self, position: int) -> bytes:
        """Return what has come of the body behind a position, in pieces as they were written."""
        assert position >= self._base, "what a reader has not read is still here"
        return bytes(memoryview(self._body)[position - self._base :])

    def attach(self, reader: Reader) -> bool:
        """Let somebody read from the beginning; False where that is gone."""
        if self._base:
            return False
        self._rest()
        self._readers.add(reader)
        return True

    def detach(self, reader: Reader) -> None:
        """Let somebody go. With the last one the time begins that the call is kept for."""
        self._readers.discard(reader)
        self.took()
        if not (self._readers or self.ended or self.gone):
            if self.kept and self._keep_s:
                self._timer = asyncio.get_running_loop().call_later(self._keep_s, self._expire)
            else:
                self._leave()

    def took(self) -> None:
        """Take note that a reader has read on."""
        if self.kept:
            return
        positions = [reader.position for reader in self._readers]
        read = min(positions, default=self.size)
        del self._body[: read - self._base]
        self._base = read
        if len(self._body) <= _BEHIND:
            self._room.set()

    def recorded(self, *, with_body: bool = True) -> Recorded:
        """Return what is kept of it, or its head."""
        body = bytes(self._body) if with_body else b""
        return Recorded(self.status, self.lines, self.length, self.operation, self.model, body)

    def close(self) -> None:
        """Give back the memory that is counted for it."""
        if self.kept:
            self._memory.give(len(self._body))

    def begin_early(self) -> None:
        """Let a stream begin for which somebody has long waited; nothing of that is recorded but the head."""
        if self._quiet is not None and not (self.status or self.gone):
            self._quieting = True
            self._quiet()
            self._quieting = False

    # ── when nobody waits ───────────────────────────────────────────────────────────────────────

    def _tell(self) -> None:
        for reader in tuple(self._readers):
            reader.wake()

    def _let_go(self) -> None:
        """Keep it no longer: it is too long."""
        self._memory.give(len(self._body))
        self.kept = False
        if not self._readers:
            self._leave()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self.wanted:
            self._timer = asyncio.get_running_loop().call_later(self._keep_s, self._expire)
        else:
            self._leave()

    def _leave(self) -> None:
        """Say that nobody waits any more, or that nothing more will come."""
        self.gone = True
        self._rest()
        callback, self._callback = self._callback, None
        self._room.set()
        if callback is not None:
            callback()
        self._tell()
