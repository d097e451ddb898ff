"""How a session is opened: limits and money before a provider is asked, then a WebSocket on either side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from headgate.admission.budget import Hold
from headgate.channels import NORMAL, Channel
from headgate.errors import CallerGone, GatewayError, Internal, Unavailable
from headgate.identity.standing import allow
from headgate.live.session import Session, SessionLimits
from headgate.live.till import Till
from headgate.money.cost import unit_price
from headgate.ports import Declined, Sink
from headgate.settle import Tab

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.admission.gates import Ticket
    from headgate.pipeline import Pipeline, Stages
    from headgate.routing.doors import Seat
    from headgate.routing.routes import Routes
    from headgate.values import Call, Target

_LONGEST_SPEECH_S = 1_600  # seconds: of one turn, which is at most what `_TRANSCRIPT` of a session holds
_FIRST_BOUND = 4_096  # tokens: what the first response may read, until more is said


class Door(NamedTuple):
    """A caller who waits for an answer to its handshake."""

    sink: Sink
    accept: Callable[[], Channel]  # answers it; raises `CallerGone`


class _Way(NamedTuple):
    """A connection to a provider, and the room that it takes there."""

    provider: Channel
    seat: Seat | None


class Sessions:
    """Serve sessions. One per process.

    Args:
        pipeline: of calls, whose stages are used here.
        stages: the same.
        new_id: makes the ids of calls.
        stopping: says whether the gateway is stopping.
        limits: how long a session may last.
    """

    __slots__ = ("_limits", "_new_id", "_pipeline", "_stages", "_stopping")

    def __init__(
        self,
        pipeline: Pipeline,
        stages: Stages,
        new_id: Callable[[], bytes],
        stopping: Callable[[], bool],
        limits: SessionLimits | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._stages = stages
        self._new_id = new_id
        self._stopping = stopping
        self._limits = limits or SessionLimits()

    async def serve(self, call: Call, sink: Sink, accept: Callable[[], Channel], routes: Routes) -> None:
        """Serve one session to its end; never raises but on cancellation.

        Args:
            call: the session's own, which is never in the books: its responses are.
            sink: where the caller waits for an answer to its handshake.
            accept: answers it; raises `CallerGone`.
            routes: where models are.
        """
        ledger, door, ticket = self._stages.ledger, Door(sink, accept), None
        till: Till | None = None
        try:
            targets = await self._pipeline.fitting(call, routes)
            ticket = await self._enter(call, sink)
            till = Till(self._stages, call, self._new_id, targets, sink)
            await till.secure(_FIRST_BOUND, till.limit())
            await self._converse(call, door, till, ticket, routes)
        except GatewayError as error:
            ledger.observer.refused(call.operation, error)
            self._pipeline.refuse(call, error, sink)
        except CallerGone:
            pass  # before there was a session: nothing was used
        except asyncio.CancelledError:
            sink.abort()
            raise
        except Exception as fault:
            self._stages.fault(call, fault)
            self._pipeline.refuse(
                call, Internal("The server had an error while processing your request."), sink
            )
        finally:
            if till is not None:
                till.release()
            if ticket is not None:
                ledger.rates.settle(ticket, 0, ledger.clock.monotonic())

    async def _enter(self, call: Call, sink: Sink) -> Ticket:
        """Count the session in, as a request and as a call at once; perhaps after a wait."""
        principal, ledger, entrance = call.principal, self._stages.ledger, self._stages.entrance
        assert principal is not None
        if not ledger.journal.accepting:
            raise Unavailable("The gateway cannot write its books now. Try again in a moment.")
        now = ledger.clock.monotonic()
        gate = ledger.rates.gate(principal, call.model, now)
        return entrance.enter(gate, 0, now) or await entrance.stand(gate, 0, call.model, sink)

    async def _converse(self, call: Call, door: Door, till: Till, ticket: Ticket, routes: Routes) -> None:
        """Hold a session with the first provider that opens one, and give its room back."""
        way = await self._connect(call, till, ticket, door.sink)
        try:
            await self._relay(call, door, way.provider, till, routes)
        finally:
            if way.seat is not None:
                self._stages.attempts.doors.leave(way.seat)

    async def _connect(self, call: Call, till: Till, ticket: Ticket, sink: Sink) -> _Way:
        """Return the way to the first provider that opens a WebSocket, asked like those of other calls.

        Raises:
            GatewayError: none does, or has room.
            CallerGone: the caller hung up meanwhile.
        """
        ways: list[_Way] = []

        async def attempt(call: Call, sink: Sink, tab: Tab, target: Target) -> None:
            del sink
            ways.append(_Way(await self._open(call, target), tab.seat))
            till.targets, tab.seat = (target,), None  # the session has the seat until it ends

        ledger = self._stages.ledger
        tab = Tab(ledger, call, Hold(0, ledger.clock.wall(), (), ()), ticket)  # only its turns are booked
        await self._stages.attempts.run(attempt, call, sink, tab, till.targets)
        return ways[0]

    async def _open(self, call: Call, target: Target) -> Channel:
        stages = self._stages
        codec = stages.codecs[target.host.kind][call.operation]
        transport = stages.simulator if target.simulated else stages.transport
        opened = await transport.converse(target, codec.encode(call, target))
        if isinstance(opened, Declined):
            raise codec.error(opened.head, opened.body)
        return opened

    async def _relay(self, call: Call, door: Door, provider: Channel, till: Till, routes: Routes) -> None:
        """Accept the caller, and pass events until the end."""
        try:
            client = door.accept()
        except CallerGone:
            provider.close(NORMAL)
            raise

        def scribe(model: str) -> Till:
            return self._scribe(call, model, routes, door.sink)

        session = Session(call, client, provider, till, scribe)
        try:
            await session.run(self._stages.ledger.clock, self._stopping, self._limits)
        except GatewayError:
            pass  # ended once more while it was ending
        except Exception as fault:
            self._stages.fault(call, fault)

    def _scribe(self, call: Call, model: str, routes: Routes, sink: Sink) -> Till:
        """Return what is held for transcriptions by a model.

        Raises:
            NotFound: nobody here has it.
            PermissionRefused: the key may not use it.
        """
        principal = call.principal
        assert principal is not None
        allow(principal, call.operation, model)
        at = self._stages.ledger.clock.wall()
        targets = routes.candidates(model, principal.book, at)
        targets = routes.resold(targets, principal.multiplier_ppm)[:1]
        till = Till(self._stages, call, self._new_id, targets, sink)
        till.model = model
        prices = targets[0].prices
        if prices is not None and unit_price("second", prices) is not None:
            till.units = (("second", _LONGEST_SPEECH_S),)
        return till
