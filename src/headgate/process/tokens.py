"""Tokens of hosts that are asked with one that expires: fetched at the start, renewed well before the end.

One task for each host, off the path of calls, which only read what is there. A token that cannot be renewed
serves until it expires; then calls to its host are refused, or go to their next target.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headgate.errors import GatewayError
from headgate.ports import Request
from headgate.providers.grants import FORM, asked, read_token
from headgate.values import Deadlines, Host, Model, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.credentials import Bearer, TokenSource
    from headgate.ports import Clock, Transport
    from headgate.providers.grants import Granted

_US = 1_000_000
_RENEW_BEFORE_S = 300  # or at three quarters of a shorter life
_ASSUMED_S = 240  # the life of a token of which it is not said: a command may print one that is old
_LONGEST_WAIT_S = 60.0  # between attempts
_COMMAND_S = 30.0
_MAX_ANSWER = 64 * 1024
_DEADLINES = Deadlines(connect_s=10.0, first_byte_s=20.0, between_frames_s=20.0, total_s=30.0)


class TokenKeeper:
    """Keep the token of one host.

    Args:
        host: with `tokens` and `bearer`.
        transport: to its token endpoint.
        clock: for when a token expires.
        report: told why a token could not be had.
        look_every_s: at the clock, for a machine may have slept in between.
    """

    def __init__(
        self,
        host: Host,
        transport: Transport,
        clock: Clock,
        report: Callable[[str], None],
        look_every_s: float = 15.0,
    ) -> None:
        assert host.tokens is not None
        assert host.bearer is not None
        self._host = host
        self._source: TokenSource = host.tokens
        self._bearer: Bearer = host.bearer
        self._transport = transport
        self._clock = clock
        self._report = report
        self._look_every_s = look_every_s
        self._expires_at = 0
        self._trouble = ""
        self._target = Target(
            host=Host(name=f"tokens of {host.name}", base_url=self._source.url, proxy=host.proxy),
            model=Model(name=""),
            prices=None,
            deadlines=_DEADLINES,
        )

    async def run(self) -> None:
        """Fetch tokens for as long as the process serves."""
        failures, due = 0, 0
        while True:
            if self._clock.wall() >= due:
                wait_s = await self._renew(failures)
                failures = 0 if self._trouble == "" else failures + 1
                due = self._clock.wall() + int(wait_s * _US)
            await asyncio.sleep(min(self._look_every_s, max(0.0, (due - self._clock.wall()) / _US)))

    async def once(self) -> bool:
        """Fetch a token; say whether there is one."""
        await self._renew(0)
        return not self._trouble

    async def _renew(self, failures: int) -> float:
        """Fetch a token; return the seconds until the next one is due."""
        try:
            granted = await self._fetch()
        except (GatewayError, OSError, ValueError, TimeoutError) as fault:
            said = fault.in_full if isinstance(fault, GatewayError) else str(fault)
            self._trouble = said or type(fault).__name__
            self._report(f"no token for provider {self._host.name!r}: {self._trouble}")
            if self._clock.wall() >= self._expires_at:
                self._bearer.renew("", self._trouble)
            return min(2.0**failures, _LONGEST_WAIT_S)
        self._trouble = ""
        life_s = granted.lifetime_s or _ASSUMED_S
        self._expires_at = self._clock.wall() + life_s * _US
        self._bearer.renew(granted.token)
        return float(life_s - min(_RENEW_BEFORE_S, life_s // 4))

    async def _fetch(self) -> Granted:
        if self._source.command:
            return read_token(await self._print())
        return read_token(await self._ask())

    async def _print(self) -> bytes:
        """Return what the command prints.

        Raises:
            ValueError: it failed; says so in its own last words.
            OSError: it cannot be started.
            TimeoutError: it takes too long.
        """
        process = await asyncio.create_subprocess_exec(
            *self._source.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), _COMMAND_S)
        except TimeoutError:
            raise TimeoutError(f"token_command took longer than {_COMMAND_S:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if process.returncode:
            said = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise ValueError(f"token_command ended with {process.returncode}: {said[:300]}")
        return out

    async def _ask(self) -> bytes:
        """Return what the token endpoint answers.

        Raises:
            GatewayError: it cannot be reached, or breaks off.
            ValueError: it refuses.
        """
        exchange = await self._transport.acquire(self._target)
        try:
            exchange.send(self._request())
            head = await exchange.head()
            body = b""
            while len(body) < _MAX_ANSWER and (data := await exchange.read()):
                body += data
        finally:
            exchange.release()
        if head.status != 200:
            said = body[:300].decode("utf-8", "replace")
            raise ValueError(f"{self._source.url} answers {head.status}: {said}")
        return body

    def _request(self) -> Request:
        url = urlsplit(self._source.url)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = (("content-type", FORM), ("accept", "application/json"))
        body = asked(self._source, self._clock.wall() // _US)
        return Request("POST", path, headers, body, "token")
