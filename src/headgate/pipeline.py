"""The path of a call, in one function. Read this first.

bytes ─ http ─▶ Call ─ identity ─▶ candidates ─▶ limits ─▶ money ─▶ attempts ─▶ relay ─▶ settle

Stages raise `GatewayError`; `serve` alone turns one into an answer: an error body before the head, an
event without `[DONE]` after it. Fallback is allowed until the first byte reaches the caller.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from headgate.admission import window
from headgate.admission.bounds import output_bound, priced, rough_input
from headgate.attempts import Asked
from headgate.choices import Choices, come_apart
from headgate.delivery import Delivery
from headgate.errors import (
    CallerError,
    CallerGone,
    DeadlinePassed,
    GatewayError,
    Internal,
    LoopRefused,
    Unavailable,
    UpstreamError,
)
from headgate.money.prices import PAR
from headgate.providers import shaping
from headgate.providers.stream import KEEP_ALIVE
from headgate.races import Races
from headgate.settle import HUNG_UP, Ledger, Tab
from headgate.shadows import Shadows
from headgate.values import Usage
from headgate.waits import ends_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from headgate.admission.entrance import Entrance
    from headgate.admission.reserve import Reservations
    from headgate.attempts import Attempts
    from headgate.ports import Failpoints, Headers, Sink, Transport
    from headgate.providers.codec import Codec
    from headgate.routing.routes import Routes
    from headgate.steering import Steering
    from headgate.values import Call, Operation, Target

_NOTHING = Usage()
CUT = 503  # the status of a call that we cut while stopping


class Counter(Protocol):
    """Count tokens here, off the loop, when nobody else did."""

    async def input_tokens(self, call: Call, target: Target) -> int:
        """Return the input's tokens, exact where the model's tokenizer is known."""
        ...

    async def longest_input(self, call: Call, target: Target) -> int:
        """Return the tokens of the longest of a call's inputs: each has the window for itself."""
        ...

    async def output_tokens(self, text: str, target: Target) -> int:
        """Return the tokens of a produced text."""
        ...


class Answers(Protocol):
    """Render what goes to the caller besides the provider's bytes."""

    def head(self, call: Call, target: Target, tab: Tab) -> bytes:
        """Return the header lines of an answer."""
        ...

    def early_head(self, call: Call, target: Target, tab: Tab) -> Headers:
        """Return the headers of a stream that goes out before it is known who answers."""
        ...

    def refuse(self, call: Call, error: GatewayError, sink: Sink) -> None:
        """Send an error as the whole answer."""
        ...

    def break_off(self, call: Call, error: GatewayError, sink: Sink, *, shown: bool) -> None:
        """Send an error event into a stream that has begun, perhaps behind some of an answer, and end it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The parts that a pipeline calls, chosen by `app`."""

    ledger: Ledger
    entrance: Entrance
    reservations: Reservations
    transport: Transport
    simulator: Transport
    codecs: Mapping[str, Mapping[Operation, Codec]]
    counter: Counter
    answers: Answers
    attempts: Attempts
    steering: Steering
    failpoints: Failpoints
    fault: Callable[[Call, BaseException], None]  # told of our own bugs


class Pipeline:
    """Serve calls. One per process."""

    __slots__ = (
        "_ask", "_choices", "_codecs", "_entrance", "_fault", "_ledger", "_races", "_reservations",
        "_simulator", "_stages", "_transport", "answers", "attempts", "failpoint", "shadows",
    )  # fmt: skip

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._ledger = stages.ledger
        self._entrance, self._reservations = stages.entrance, stages.reservations
        self._transport, self._simulator, self._codecs = stages.transport, stages.simulator, stages.codecs
        self.answers = stages.answers
        self.attempts, self._ask = stages.attempts, self._attempt  # bound once, not by each call
        self._choices = Choices(stages, self._attempt)
        self._races = Races(stages)
        self.shadows = Shadows(stages, self._attempt)
        self.failpoint = stages.failpoints.hit  # passes a named place
        self._fault = stages.fault

    async def serve(self, call: Call, sink: Sink, routes: Routes) -> None:
        """Serve one call to its end; never raises but on cancellation."""
        tab: Tab | None = None
        try:
            targets = self.candidates(call, routes)
            if call.n > 1 and come_apart(call, targets):
                return await self._apart(call, sink, targets, routes)
            tab = await self._admit(call, targets, sink)
            self.failpoint("after-hold")
            if targets[0].steered:
                return await self._steered(call, sink, tab, targets, routes)
            await self.attempts.run(self._ask, call, sink, tab, targets)
        except GatewayError as error:
            self._refuse(call, sink, tab, error)
        except CallerGone:
            if tab is not None:
                self._settle(call, tab, HUNG_UP, _NOTHING)
        except asyncio.CancelledError:  # the gateway is stopping
            if tab is not None:
                self._settle(call, tab, CUT, _NOTHING)
            sink.abort()
            raise
        except Exception as fault:
            self._fault(call, fault)
            self._refuse(call, sink, tab, Internal("The server had an error while processing your request."))
        finally:
            if tab is not None and not tab.settled:
                self._settle(call, tab, Internal.status, _NOTHING)  # a step of settling raised

    async def _apart(self, call: Call, sink: Sink, targets: tuple[Target, ...], routes: Routes) -> None:
        """Serve a call whose answers are asked for one by one; of the first there may be a shadow."""
        if window.may_overflow(call, targets[0]):
            await self._measure(call, targets[0])
        first, tab = await self._choices.serve(call, sink, targets)
        if targets[0].steered:
            self.shadows.cast(first, tab, routes)

    async def _steered(
        self, call: Call, sink: Sink, tab: Tab, targets: tuple[Target, ...], routes: Routes
    ) -> None:
        """Make the attempts of a call whose targets were chosen for it, and learn of them."""
        watched = self._stages.steering.watching(self._attempt, targets)
        _, hedge = routes.extras_of(call.model)
        if hedge is None:
            await self.attempts.run(watched, call, sink, tab, targets)
        else:
            asked = Asked(watched, call, sink, tab)
            await self._races.run(asked, targets, routes.name_of(call.model), hedge)
        self.shadows.cast(call, tab, routes)

    async def fitting(self, call: Call, routes: Routes) -> tuple[Target, ...]:
        """Return the targets, after what the first model's own limits say of the request."""
        targets = self.candidates(call, routes)
        if window.may_overflow(call, targets[0]):
            await self._measure(call, targets[0])
        return targets

    async def _measure(self, call: Call, target: Target) -> None:
        """Count an input that may be longer than the window."""
        window.check_window(call, target.model, await self._stages.counter.longest_input(call, target))

    def candidates(self, call: Call, routes: Routes) -> tuple[Target, ...]:
        """Return the targets that a call may take, in the order in which they are asked."""
        principal = call.principal
        assert principal is not None
        at = call.at or self._ledger.clock.wall()
        targets = routes.candidates(call.model, principal.book, at, call.tier)
        if principal.multiplier_ppm != PAR:
            targets = routes.resold(targets, principal.multiplier_ppm)
        if routes.key_rules and principal.name in routes.key_rules:
            targets = tuple(map(routes.key_rules[principal.name].applied, targets))
        first = targets[0]
        if call.units or first.by_unit or (len(targets) > 1 and any(each.by_unit for each in targets)):
            targets = tuple(map(partial(priced, call), targets))
        if first.steered or call.demand is not None:
            targets = self._stages.steering.choose(call, targets, routes)
        if call.shape is not None:
            shaping.prepare(call, targets)
        return targets

    async def _admit(self, call: Call, targets: tuple[Target, ...], sink: Sink) -> Tab:
        """Take the model's own limits, then ours, perhaps after a wait for them, then the money."""
        if window.may_overflow(call, targets[0]):
            await self._measure(call, targets[0])
        principal, ledger = call.principal, self._ledger
        assert principal is not None
        if not ledger.journal.accepting:
            raise Unavailable("The gateway cannot write its books now. Try again in a moment.")
        now = ledger.clock.monotonic()
        gate = ledger.rates.gate(principal, call.model, now)
        tokens = 0
        if gate.tokens:
            tokens = rough_input(call)
            if call.max_output is not None:
                tokens = max(tokens, call.max_output * call.n)
        ticket = self._entrance.enter(gate, tokens, now)
        if ticket is None:
            ticket = await self._entrance.stand(gate, tokens, call.model, sink, ends_at(call.deadline))
        try:
            hold = self._reservations.at_once(call, targets)
            if hold is None:
                hold = await self._reservations.wait(call, targets)
        except BaseException:
            ledger.rates.cancel(ticket, ledger.clock.monotonic())
            raise
        return Tab(ledger, call, hold, ticket)

    async def _attempt(self, call: Call, sink: Sink, tab: Tab, target: Target) -> None:
        codec = self._codecs[target.host.kind][call.operation]
        if call.notes:  # of an attempt before this one
            call.notes.clear()
        if call.bring is not None:  # not sooner: a refused call is not worth reading files for
            await call.bring(call)
        request = codec.encode(call, target) if call.shape is None else shaping.encode(codec, call, target)
        self.failpoint("before-connect")
        if call.stream:
            sink.on_quiet(partial(self._keep_alive, call, sink, tab, target))
        exchange = await (self._simulator if target.simulated else self._transport).acquire(target)
        if sink.gone:  # it hung up while we were connecting: no money is spent
            exchange.release()
            raise CallerGone
        delivery = Delivery(
            self, self.failpoint, call, sink, tab, target, exchange, call.stream or call.flows
        )
        try:
            tab.open(target)
            self.failpoint("after-open")
            if target.host.hangup == "cancel":  # else it bills anyway: read to the end, for the usage
                sink.on_gone(delivery.hang_up)
            exchange.send(request)
            self.failpoint("after-send")
            rest = delivery.take(await exchange.head(), codec)
            if rest is not None:
                await rest
        except BaseException as fault:
            exchange.release()  # before anything is counted: what nobody wants must not go on
            if exchange.sent and not tab.settled:
                await self._account(delivery, fault)
            raise
        exchange.release()

    def _keep_alive(self, call: Call, sink: Sink, tab: Tab, target: Target) -> None:
        """Tell a caller who has long heard nothing that its stream lives.

        Proxies give up what is silent for a minute, so the head goes out before anybody has answered. What
        fails from then on is told by an event under the status 200; another target may still be asked,
        since none of an answer was shown.
        """
        if not sink.started:
            sink.start(200, self.answers.early_head(call, target, tab), None)
        sink.write(KEEP_ALIVE if call.face is None else call.face.keep_alive)

    async def _account(self, delivery: Delivery, fault: BaseException) -> None:
        """Settle an attempt that did not end well, or note what it cost us; see `settle`."""
        tab = delivery.tab
        if delivery.refused:
            return
        if not (tab.shown or isinstance(fault, (CallerGone, CallerError))):  # or its key was revoked
            if delivery.answered(fault):  # nothing is counted: the next target, or the error, must not wait
                believed = delivery.believed()
                tab.lose(believed or delivery.roughly(), estimated=believed is None)
            return
        usage, estimated = delivery.roughly(), True
        try:
            if not isinstance(fault, (asyncio.CancelledError, DeadlinePassed)):  # no time to count
                usage, estimated = await self._used(delivery)
        finally:
            self._settle(delivery.call, tab, _status(fault), usage, estimated=estimated)

    async def _used(self, delivery: Delivery) -> tuple[Usage, bool]:
        """Return what an attempt has used so far, and whether that is our own count."""
        usage = delivery.believed()
        if usage is not None:
            return usage, False
        call, target = delivery.call, delivery.target
        text = delivery.reader.text() if delivery.reader is not None else ""
        rough, counter = delivery.roughly(), self._stages.counter
        given = await self._counted(call, counter.input_tokens(call, target), rough.input_tokens)
        made = 0 if call.measures is None else rough.output_tokens
        if text:
            made = await self._counted(call, counter.output_tokens(text, target), rough.output_tokens)
        if call.operation == "completions":  # an echoed prompt is text too, but none that was made
            made = min(made, output_bound(call, target))
        return Usage(given, made, more=rough.more), True

    async def _counted(self, call: Call, counting: Awaitable[int], rough: int) -> int:
        """Return a count, or a rough one when counting fails: what was shown is never free."""
        try:
            return await counting
        except Exception as fault:
            self._fault(call, fault)
            return rough

    async def settle_counted(self, delivery: Delivery) -> Usage:
        """Settle a complete answer, once those that belong to it are complete, perhaps by our own count."""
        if delivery.call.parent and not delivery.stream:
            self.attempts.free(delivery.tab)  # the others may need its place
            await self._choices.arrive(delivery.call)
        usage, estimated = await self._used(delivery)
        self.settle_whole(delivery, usage, estimated=estimated)
        return usage

    def settle_whole(self, delivery: Delivery, usage: Usage, *, estimated: bool) -> None:
        """Settle a complete answer. A bug on the way changes nothing for the caller."""
        self.failpoint("before-settle")
        try:
            delivery.tab.settle(HUNG_UP if delivery.sink.gone else 200, usage, estimated=estimated)
        except Exception as fault:
            self._fault(delivery.call, fault)
        self.failpoint("after-settle")

    async def count_input(self, call: Call, routes: Routes) -> int:
        """Return the tokens of a call's input at its first target; nothing is asked of it.

        Raises:
            NotFound: nobody serves the model.
        """
        principal = call.principal
        assert principal is not None
        targets = routes.candidates(call.model, principal.book, self._ledger.clock.wall(), call.tier)
        return await self._stages.counter.input_tokens(call, targets[0])

    def refuse(self, call: Call, error: GatewayError, sink: Sink) -> None:
        """Answer a call that never began."""
        self.answers.refuse(call, error, sink)

    def _refuse(self, call: Call, sink: Sink, tab: Tab | None, error: GatewayError) -> None:
        """Answer with an error: as a body when nothing was shown, else as an event.

        The frames that it came through go with it: they hold what was sent, perhaps a file of many megabytes,
        and the error.
        """
        error.__traceback__ = error.__context__ = None
        if tab is not None:
            tab.withdrawn = not tab.sent and not isinstance(error, UpstreamError)
            self._settle(call, tab, error.http_status, _NOTHING)
        if tab is None or not tab.sent:
            self._tell(call, error)
        if sink.started:
            if call.stream:
                self.answers.break_off(call, error, sink, shown=tab is None or tab.shown)
            else:
                sink.abort()
        else:
            self.answers.refuse(call, error, sink)

    def _settle(self, call: Call, tab: Tab, status: int, usage: Usage, *, estimated: bool = False) -> None:
        """Settle. A bug on the way changes nothing for the caller; the end of the call tries once more."""
        try:
            tab.settle(status, usage, estimated=estimated)
        except Exception as fault:
            self._fault(call, fault)

    def _tell(self, call: Call, error: GatewayError) -> None:
        try:
            self._ledger.observer.refused(call.operation, error)
        except Exception as fault:
            self._fault(call, fault)


def _status(fault: BaseException) -> int:
    """Return the status of an answer that ended by a fault."""
    if isinstance(fault, GatewayError):
        return fault.http_status
    if isinstance(fault, CallerGone):
        return HUNG_UP
    return CUT if isinstance(fault, asyncio.CancelledError) else Internal.status


def refuse_loop(hop: bytes | None, instance: str) -> None:
    """Refuse a request that this gateway itself has sent.

    Raises:
        LoopRefused: the hop header names this instance.
    """
    if hop is not None and hop.decode("latin-1") == instance:
        raise LoopRefused(
            "This request has already passed through this gateway: a provider's base_url points back at it."
        )
