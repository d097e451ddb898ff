"""Refusals of calls beyond what the process can serve: made beforehand, and given a moment later.

Nothing of such a call but its head is looked at. Its answer waits for some forty milliseconds, and longer
among very many, so that who asks again at once on the same connection takes the less of the time that those
need who are served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import thread_time_ns
from typing import TYPE_CHECKING, Final

from headgate.admission.shedding import wait_ns
from headgate.errors import GatewayError
from headgate.http.answers import whose
from headgate.http.callers import identify
from headgate.http.errors import render
from headgate.wire.headers import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.errors import Crowded
    from headgate.http.dataplane import Service
    from headgate.http.incoming import Incoming
    from headgate.ports import Sink
    from headgate.providers.registry import FaceMaker
    from headgate.values import MonotonicNs, Operation

_NS: Final = 1_000_000_000
_TOGETHER_NS: Final = 2_000_000  # those that are due so soon are given together
_VARIANTS: Final = 64  # of the time to come back
_KEPT: Final = 1_000


class Crowd:
    """Turn calls away. One per process.

    Args:
        service: the process.
        worked: returns for how many nanoseconds the loop has worked, since some moment.
    """

    __slots__ = ("_begun_ns", "_held", "_next", "_service", "_variants", "_whose", "_worked")

    def __init__(self, service: Service, worked: Callable[[], int] = thread_time_ns) -> None:
        self._service = service
        self._worked = worked
        self._held: deque[tuple[MonotonicNs, Sink, bytes, bytes]] = deque()
        self._variants: list[tuple[Crowded, bytes, bytes]] = []
        self._next = 0
        self._begun_ns = 0  # what it had worked when the first call of this turn came; 0: none yet
        self._whose: dict[int, bytes] = {}

    def turns_away(
        self, operation: Operation, face: FaceMaker | None, incoming: Incoming, sink: Sink
    ) -> bool:
        """Refuse a call if there is no room for it; say whether that was done."""
        service = self._service
        try:
            principal = identify(service, incoming).principal
        except GatewayError:
            return False  # the route says why
        now = incoming.received_ns
        worked_ns = self._worked()
        if not self._begun_ns:
            self._begun_ns = worked_ns
            asyncio.get_running_loop().call_soon(self._end_turn)
        if service.shedder.admits(principal, now, worked_ns - self._begun_ns):
            return False
        error, lines, body = self._variant()
        named = self._whose.get(principal.key)
        if named is None:
            if len(self._whose) >= _KEPT:
                self._whose.clear()
            named = self._whose[principal.key] = lines_of(whose(principal))
        request_id = incoming.request_id
        head = b"%bx-request-id: %b\r\n%b" % (lines, request_id.encode(), named)
        if face is not None:
            body = face(incoming.head.header).error(error, request_id)
            head += b"request-id: %b\r\n" % request_id.encode()
        service.refused(operation, error)
        wait = wait_ns(len(self._held))
        if not self._held:
            asyncio.get_running_loop().call_later(wait / _NS, self._answer)
        self._held.append((now + wait, sink, head, body))
        return True

    def _variant(self) -> tuple[Crowded, bytes, bytes]:
        """Return the next of some refusals, which differ in when to come back: error, headers, body."""
        if not self._variants:
            for _ in range(_VARIANTS):
                error = self._service.shedder.refusal()
                _, headers, body = render(error, "")
                kept = [row for row in headers if row[0] != b"x-request-id"]
                self._variants.append((error, lines_of(kept), body))
        self._next = (self._next + 1) % _VARIANTS
        return self._variants[self._next]

    def _end_turn(self) -> None:
        self._begun_ns = 0

    def _answer(self) -> None:
        """Give the refusals whose time has come."""
        held, now = self._held, self._service.clock.monotonic()
        while held and held[0][0] <= now + _TOGETHER_NS:
            _, sink, head, body = held.popleft()
            sink.whole(503, head, body)
        if held:
            asyncio.get_running_loop().call_later((held[0][0] - now) / _NS, self._answer)
