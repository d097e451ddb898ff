"""One connection to a Redis, on which no wait is longer than `BOUND_S`.

What goes wrong once takes it out of use at once: calls go on without Redis, and it is looked for in the
background. A connection on which anything went wrong, a cancellation too, is closed and never used again:
what comes on it could be the answer to another question.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError

from headgate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

Word: TypeAlias = "str | int | bytes"
BOUND_S: Final = 0.05
_CONNECT_S: Final = 0.25  # with TLS and a password
_GRACE_S: Final = 0.005  # what has arrived while our own loop was late is read first
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.5
_STEADY_S: Final = 5.0  # after so long it is looked for quickly again
_MARK_MS: Final = 60_000
_LONGEST: Final = 200  # of what it says


class Script:
    """A Lua script of this folder, with what all of them have in common before it."""

    __slots__ = ("digest", "text")

    def __init__(self, name: str) -> None:
        folder = Path(__file__).parent
        parts = (folder / "common.lua", folder / f"{name}.lua")
        self.text = "\n".join(path.read_text(encoding="utf-8") for path in parts)
        # It names the script and protects nothing: Redis itself finds scripts by their SHA-1.
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Watcher(Protocol):
    """Hears how a link does."""

    def lost(self, said: str) -> None:
        """Hear that Redis is out of use, and why."""
        ...

    def found(self) -> None:
        """Hear that it is in use again."""
        ...


class Link:
    """A connection to one Redis.

    Args:
        url: where it is: `redis://`, `rediss://` or `unix://`, with its password.
        stem: with what all names of this gateway begin.
        watcher: told when it is lost and found.
    """

    def __init__(self, url: str, stem: str, watcher: Watcher) -> None:
        self.stem = stem
        self.up = False
        self.calls = 0  # that were answered
        self.faults = 0
        self._url = url
        self._watcher = watcher
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()
        self._fell = asyncio.Event()
        self._said = ""
        self._closed = False

    async def run(self) -> None:
        """Look for Redis for as long as the process lives, whenever it is out of use."""
        pause_s = _FIRST_PAUSE_S
        time = asyncio.get_running_loop().time
        since = time()
        while True:
            if self.up:
                await self._fell.wait()
                pause_s = _FIRST_PAUSE_S if time() - since > _STEADY_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
            if await self.look():
                since = time()
            else:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def look(self) -> bool:
        """Connect, and try to write; say whether that went well."""
        async with self._turn:
            if self.up or self._closed:
                return self.up
            self._fell.clear()
            try:
                await self._bounded(self._connect(), _CONNECT_S)
                # What cannot be written, be it full or a replica, is of no use.
                await self._bounded(self._ask("SET", f"{self.stem}mark", "1", "PX", _MARK_MS), BOUND_S)
            except (RedisError, OSError, TimeoutError, UnicodeError, ValueError) as fault:
                await self._drop()
                self._lost(fault)
                return False
            self.up = True
            self._said = ""
            self._watcher.found()
            return True

    async def run_script(self, script: Script, keys: Sequence[str], words: Sequence[Word]) -> object:
        """Run a script. See `call`."""
        try:
            return await self.call("EVALSHA", script.digest, len(keys), *keys, *words)
        except NoScriptError:
            return await self.call("EVAL", script.text, len(keys), *keys, *words)

    async def call(self, *words: Word) -> object:
        """Ask something; return the answer.

        Raises:
            Unavailable: no answer in time, a refusal, or Redis is out of use; it may have been done.
            NoScriptError: the script is not there yet.
        """
        if not self.up:
            raise Unavailable("Redis is out of use.")
        async with self._turn:
            if not self.up:
                raise Unavailable("Redis is out of use.")
            try:
                answer = await self._bounded(self._ask(*words), BOUND_S)
            except NoScriptError:
                raise
            except (RedisError, OSError, TimeoutError) as fault:
                await self._fall(fault)
                raise Unavailable(f"Redis: {self._said}") from fault
            except BaseException:
                await self._drop()
                self.up = False
                self._fell.set()
                raise
        self.calls += 1
        return answer

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        self.up = False
        await self._drop()

    # ── the connection ───────────────────────────────────────────────────────────────────────────

    async def _connect(self) -> None:
        await self._drop()
        connection = connection_to(self._url)
        self._connection = connection
        connect: Callable[[], Awaitable[None]] = connection.connect
        await connect()

    async def _ask(self, *words: Word) -> object:
        connection = self._connection
        assert connection is not None
        await connection.send_command(*words, check_health=False)
        return await connection.read_response()

    @staticmethod
    async def _bounded(work: Coroutine[None, None, object], bound_s: float) -> object:
        """Wait for work no longer than so, and a little more where our own loop was late."""
        task = asyncio.get_running_loop().create_task(work)
        try:
            for patience_s in (bound_s, _GRACE_S):
                await asyncio.wait({task}, timeout=patience_s)
                if task.done():
                    return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        raise TimeoutError(f"no answer within {bound_s * 1000:g} ms")

    async def _fall(self, fault: Exception) -> None:
        """Take it out of use."""
        await self._drop()
        self.up = False
        self._lost(fault)
        self._fell.set()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def _lost(self, fault: Exception) -> None:
        """Say it, once until it is found again."""
        self.faults += 1
        first, self._said = not self._said, plain_fault(fault)
        if first:
            self._watcher.lost(self._said)


def connection_to(url: str) -> AbstractConnection:
    """Return a connection that is not open yet, on which nothing is tried again."""
    terms = dict(parse_url(url))
    kind = cast("Callable[..., AbstractConnection]", terms.pop("connection_class", Connection))
    return kind(
        **{
            **terms,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "driver_info": None,
        }
    )


def plain_fault(fault: Exception) -> str:
    """Return in words what went wrong; never a password."""
    if isinstance(fault, AuthenticationError):
        return "it refuses the user or the password"
    if isinstance(fault, ResponseError):
        return f"it says {str(fault)[:_LONGEST]!r}"
    return str(fault)[:_LONGEST] or type(fault).__name__
