"""Calls that come while there is much to do: begun a few in each turn of the loop, or refused.

A turn first sends the answers that have come, then begins calls and sends what they ask of providers, and
gives refusals while those work: a call that is served waits for little but the turn in which it came. Nothing
of a refused call but its head is looked at, and its answer is made beforehand. Where that head was refused
before it is not even made a request until it is begun: what a refusal takes, others lack.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from time import thread_time_ns
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.admission.lobby import Lobby
from headgate.admission.refusals import Refusals
from headgate.admission.shedding import Place
from headgate.errors import GatewayError
from headgate.http.answers import whose
from headgate.http.callers import identify
from headgate.http.connection import serve
from headgate.http.errors import render
from headgate.http.unread import Unread
from headgate.wire.headers import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.errors import Crowded
    from headgate.http.connection import Connection
    from headgate.http.dataplane import Service
    from headgate.http.edge import Edge
    from headgate.http.incoming import Incoming
    from headgate.outbox import Outbox
    from headgate.ports import Sink
    from headgate.providers.registry import FaceMaker
    from headgate.values import MonotonicNs, Operation, Principal

_NS: Final = 1_000_000_000
_VARIANTS: Final = 64  # of the time to come back
_KEPT: Final = 1_000


class Arrival(NamedTuple):
    """A call that has come; `face` makes the errors of one that is not in OpenAI's form."""

    principal: Principal
    operation: Operation
    face: FaceMaker | None
    incoming: Incoming
    sink: Sink

    @property
    def gone(self) -> bool:
        """Say whether its caller is."""
        return self.sink.gone


class Unlooked(NamedTuple):
    """A call of which only the head is known."""

    refusal: Unread
    connection: Connection
    data: bytes
    came: MonotonicNs

    @property
    def principal(self) -> Principal:
        """Return whose it is."""
        return self.refusal.principal

    @property
    def gone(self) -> bool:
        """Say whether its caller is."""
        return not self.connection.waits(self.refusal)


class Crowd:
    """Let calls wait, begin them, and turn them away. One per process.

    Args:
        service: the process.
        worked: returns for how many nanoseconds the loop has worked, since some moment.
    """

    __slots__ = (
        "_begins", "_edge", "_next", "_outbox", "_refusals", "_service", "_timer", "_turning", "_uncounted",
        "_variants", "_whose", "_worked", "lobby",
    )  # fmt: skip
    _edge: Edge
    _outbox: Outbox

    def __init__(self, service: Service, worked: Callable[[], int] = thread_time_ns) -> None:
        self._service = service
        self._worked = worked
        self.lobby = Lobby[Arrival | Unlooked]()
        self._begins = False  # a call, just now
        self._turning = False  # the next turn of the loop begins some
        self._refusals: Refusals[Callable[[], None]] = Refusals()
        self._uncounted: Counter[Operation] = Counter()  # refused unread
        self._timer: asyncio.Handle | None = None
        self._variants: list[tuple[Crowded, bytes, bytes]] = []
        self._next = 0
        self._whose: dict[int, bytes] = {}

    def join(self, edge: Edge, outbox: Outbox) -> None:
        """Take where calls come from, and through what they are sent on."""
        self._edge, self._outbox = edge, outbox
        outbox.on_many = self._service.shedder.watch

    def takes(self, operation: Operation, face: FaceMaker | None, incoming: Incoming, sink: Sink) -> bool:
        """Take a call, to be begun later or refused; say whether that was done."""
        if self._begins:
            self._begins = False
            return False
        service = self._service
        if service.shedder.full:
            self._edge.unread = self._unread
        try:
            principal = identify(service, incoming).principal
        except GatewayError:
            return False  # the route says why
        now = service.clock.monotonic()
        arrival = Arrival(principal, operation, face, incoming, sink)
        place = service.shedder.place(principal, now)
        if place is Place.OUT:
            self._refuse(arrival, now)
            return True
        self._enter(arrival, place, now)
        return True

    def _enter(self, arrival: Arrival | Unlooked, place: Place, now: MonotonicNs) -> None:
        """Let a call wait in the lobby."""
        first, last = place is Place.FIRST, arrival.principal.priority == "batch"
        self.lobby.enter(arrival, arrival.principal.key, now, first=first, last=last)
        if not self._turning:
            if self._timer is not None:
                self._timer.cancel()
            self._plan()

    def _unread(self, connection: Connection, data: bytes) -> Unread | None:
        """Refuse a call whose head was refused before, or let it wait; nothing else of it is looked at."""
        service, edge = self._service, self._edge
        if not service.shedder.full:
            edge.unread = None
            return None
        known = edge.known.find(data)
        if known is None:
            return None
        head, size, length = known
        refusal = head.unread
        if refusal is None or refusal.keyring is not service.keyring or len(data) != size + length:
            return None
        if length > head.route.max_body_bytes:
            return None
        now, principal = service.clock.monotonic(), refusal.principal
        if not service.shedder.refuses(principal.key, now):
            place = service.shedder.place(principal, now)
            if place is not Place.OUT:
                self._enter(Unlooked(refusal, connection, data, now), place, now)
                return refusal
        self._refuse_unread(connection, refusal, now, now)
        return refusal

    def _refuse_unread(
        self, connection: Connection, refusal: Unread, now: MonotonicNs, came: MonotonicNs
    ) -> None:
        self._uncounted[refusal.operation] += 1
        self._let_wait(partial(self._answer, connection, refusal), now, came)

    def _answer(self, connection: Connection, refusal: Unread) -> None:
        """Give the refusal of a call that was not read."""
        edge = self._edge
        _, lines, body = self._variant()
        request_id = edge.new_id().hex().encode()
        last = b"x-request-id: req_%b\r\n%b%b" % (request_id, refusal.lines, body)
        connection.refuse_unread(refusal, edge.heads.make(503, lines, last))

    def held_up_s(self, _now_s: float) -> float:
        """Return how long the first call has waited already."""
        return self.lobby.age_ns(self._service.clock.monotonic()) / _NS

    def _turn(self) -> None:
        """Do what there is to do in a turn of the loop; one that breaks is not the last."""
        self._turning = True
        try:
            self._go_on()
        finally:
            self._begins = False
            self._plan()

    def _plan(self) -> None:
        """Come back in the next turn while calls wait, and else when refusals are due."""
        loop = asyncio.get_running_loop()
        self._turning = bool(self.lobby)
        if self._turning:
            self._timer = loop.call_soon(self._turn)
        elif self._refusals:
            self._timer = loop.call_later(self._refusals.pause_ns / _NS, self._turn)
        else:
            self._timer = None

    def _go_on(self) -> None:
        """Begin some of those who wait, and refuse who has waited too long."""
        service, lobby = self._service, self.lobby
        self._edge.outbox.flush()  # answers that have come
        shedder, now, began_ns = service.shedder, service.clock.monotonic(), self._worked()
        turn_ns, worked_ns = shedder.turn_ns, 0
        lobby.turn(now, refuses=not shedder.in_order)
        while (arrival := lobby.next(worked_ns, turn_ns)) is not None:
            if not arrival.gone:
                shedder.begun()
                self._begin(arrival)
                worked_ns = self._worked() - began_ns
        self._outbox.flush()  # providers work while others are refused
        now = service.clock.monotonic()
        if shedder.full and not shedder.few:
            self._refuse_late(now)
        refusals = self._refusals
        refusals.turn(now)
        while (refusal := refusals.next()) is not None:
            refusal()
        for operation, times in self._uncounted.items():
            service.refused(operation, self._variants[0][0], times)
        self._uncounted.clear()

    def _refuse_late(self, now: MonotonicNs) -> None:
        shedder = self._service.shedder
        until = now - shedder.leeway_ns
        while (arrival := self.lobby.late(until)) is not None:
            shedder.refused(batch=arrival.principal.priority == "batch")
            if isinstance(arrival, Unlooked):
                self._refuse_unread(arrival.connection, arrival.refusal, now, arrival.came)
            else:
                self._refuse(arrival, now)

    def _begin(self, arrival: Arrival | Unlooked) -> None:
        self._begins = True
        if isinstance(arrival, Unlooked):
            arrival.connection.read(arrival.data, arrival.came)
        else:
            serve(arrival.incoming, arrival.sink, self._edge.events)
        self._begins = False

    def _refuse(self, arrival: Arrival, now: MonotonicNs) -> None:
        """Make the refusal of a call, and let it wait."""
        error, lines, body = self._variant()
        principal, incoming = arrival.principal, arrival.incoming
        named = self._whose.get(principal.key)
        if named is None:
            if len(self._whose) >= _KEPT:
                self._whose.clear()
            named = self._whose[principal.key] = lines_of(whose(principal))
        request_id, known = incoming.request_id, incoming.head.unread
        if known is None or known.keyring is not self._service.keyring:
            self._learn(arrival, named, body)
        head = b"%bx-request-id: %b\r\n%b" % (lines, request_id.encode(), named)
        if arrival.face is not None:
            body = arrival.face(incoming.head.header).error(error, request_id)
            head += b"request-id: %b\r\n" % request_id.encode()
        self._service.refused(arrival.operation, error)
        self._let_wait(partial(arrival.sink.whole, 503, head, body), now, incoming.received_ns)

    def _let_wait(self, refusal: Callable[[], None], now: MonotonicNs, came: MonotonicNs) -> None:
        """Let a refusal wait to be given."""
        self._refusals.enter(refusal, now, came)
        if self._timer is None and not self._turning:
            self._plan()

    def _learn(self, arrival: Arrival, named: bytes, body: bytes) -> None:
        """Keep how calls with this head are refused unread, where that is always the same."""
        head, principal = arrival.incoming.head, arrival.principal
        caller = head.memo  # none is kept of a key that expires
        if arrival.face is None and head.usual and caller is not None and not principal.networks:
            lines = b"%bcontent-length: %d\r\n\r\n" % (named, len(body))
            head.unread = Unread(caller.keyring, principal, arrival.operation, lines)

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
