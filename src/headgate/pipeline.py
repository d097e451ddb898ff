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
from headgate.admission.bounds import output_bound, priced, rough_input, units_bound
from headgate.attempts import Asked
from headgate.callstate import CallState
from headgate.choices import Choices, come_apart
from headgate.errors import (
    CallerError,
    CallerGone,
    DeadlinePassed,
    GatewayError,
    Internal,
    LoopRefused,
    Unavailable,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamTimeout,
)
from headgate.money.prices import PAR
from headgate.providers import shaping
from headgate.providers.stream import KEEP_ALIVE
from headgate.races import Races
from headgate.relay import error_body, relay
from headgate.settle import HUNG_UP, Ledger, Tab, believable
from headgate.shadows import Shadows
from headgate.values import Usage
from headgate.waits import ends_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from headgate.admission.entrance import Entrance
    from headgate.admission.reserve import Reservations
    from headgate.attempts import Attempts
    from headgate.ports import Exchange, Failpoints, Head, Headers, Reader, Sink, Transport
    from headgate.providers.codec import Codec
    from headgate.routing.routes import Routes
    from headgate.steering import Steering
    from headgate.values import Call, Operation, Target

_NOTHING = Usage()
CUT = 503  # the status of a call that we cut while stopping
COUNT_WITHIN_S = 0.15  # for a caller who has left: reasoning that nobody saw is only in the provider's count


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

    def head(self, call: Call, target: Target, tab: Tab) -> Headers:
        """Return the headers of an answer."""
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

    __slots__ = ("_choices", "_entrance", "_ledger", "_races", "_stages", "answers", "failpoint", "shadows")

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._ledger = stages.ledger
        self._entrance = stages.entrance
        self.answers = stages.answers
        self._choices = Choices(stages, self._attempt)
        self._races = Races(stages)
        self.shadows = Shadows(stages, self._attempt)
        self.failpoint = stages.failpoints.hit  # passes a named place

    async def serve(self, call: Call, sink: Sink, routes: Routes) -> None:
        """Serve one call to its end; never raises but on cancellation."""
        tab: Tab | None = None
        try:
            targets = await self.candidates(call, routes)
            if call.n > 1 and come_apart(call, targets):
                return await self._apart(call, sink, targets, routes)
            tab = await self._admit(call, targets, sink)
            self.failpoint("after-hold")
            if targets[0].steered:
                return await self._steered(call, sink, tab, targets, routes)
            await self._stages.attempts.run(self._attempt, call, sink, tab, targets)
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
            self._stages.fault(call, fault)
            self._refuse(call, sink, tab, Internal("The server had an error while processing your request."))
        finally:
            if tab is not None and not tab.settled:
                self._settle(call, tab, Internal.status, _NOTHING)  # a step of settling raised

    async def _apart(self, call: Call, sink: Sink, targets: tuple[Target, ...], routes: Routes) -> None:
        """Serve a call whose answers are asked for one by one; of the first there may be a shadow."""
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
            await self._stages.attempts.run(watched, call, sink, tab, targets)
        else:
            asked = Asked(watched, call, sink, tab)
            await self._races.run(asked, targets, routes.name_of(call.model), hedge)
        self.shadows.cast(call, tab, routes)

    async def candidates(self, call: Call, routes: Routes) -> tuple[Target, ...]:
        """Return the targets, after what each model's own limits say of the request."""
        principal = call.principal
        assert principal is not None
        targets = routes.candidates(call.model, principal.book, self._ledger.clock.wall(), call.tier)
        if principal.multiplier_ppm != PAR:
            targets = routes.resold(targets, principal.multiplier_ppm)
        if routes.key_rules and principal.name in routes.key_rules:
            targets = tuple(map(routes.key_rules[principal.name].applied, targets))
        if call.units or targets[0].by_unit or (len(targets) > 1 and any(each.by_unit for each in targets)):
            targets = tuple(priced(call, target) for target in targets)
        if targets[0].steered or call.demand is not None:
            targets = self._stages.steering.choose(call, targets, routes)
        if call.shape is not None:
            shaping.prepare(call, targets)
        if window.may_overflow(call, targets[0]):
            model = targets[0].model
            window.check_window(call, model, await self._stages.counter.longest_input(call, targets[0]))
        return targets

    async def _admit(self, call: Call, targets: tuple[Target, ...], sink: Sink) -> Tab:
        """Take the limits, perhaps after a wait for them, then the money."""
        principal = call.principal
        assert principal is not None
        if not self._ledger.journal.accepting:
            raise Unavailable("The gateway cannot write its books now. Try again in a moment.")
        rates, now = self._ledger.rates, self._ledger.clock.monotonic()
        reservations = self._stages.reservations
        gate = rates.gate(principal, call.model, now)
        tokens = max((call.max_output or 0) * call.n, rough_input(call)) if gate.tokens else 0
        ticket = self._entrance.enter(gate, tokens, now)
        if ticket is None:
            ticket = await self._entrance.stand(gate, tokens, call.model, sink, ends_at(call.deadline))
        try:
            hold = reservations.at_once(call, targets)
            if hold is None:
                hold = await reservations.wait(call, targets)
        except BaseException:
            rates.cancel(ticket, self._ledger.clock.monotonic())
            raise
        return Tab(self._ledger, call, hold, ticket)

    async def _attempt(self, call: Call, sink: Sink, tab: Tab, target: Target) -> None:
        stages = self._stages
        codec = stages.codecs[target.host.kind][call.operation]
        call.notes.clear()
        if call.bring is not None:  # not sooner: a refused call is not worth reading files for
            await call.bring(call)
        request = codec.encode(call, target) if call.shape is None else shaping.encode(codec, call, target)
        self.failpoint("before-connect")
        delivery = Delivery(self, self.failpoint, call, sink, tab, target, call.stream or call.flows)
        if call.stream:
            sink.on_quiet(delivery.keep_alive)
        exchange = await (stages.simulator if target.simulated else stages.transport).acquire(target)
        if sink.gone:  # it hung up while we were connecting: no money is spent
            exchange.release()
            raise CallerGone
        try:
            tab.open(target)
            self.failpoint("after-open")
            if target.host.hangup == "cancel":  # else it bills anyway: read to the end, for the usage
                sink.on_gone(partial(delivery.hang_up, exchange))
            exchange.send(request)
            self.failpoint("after-send")
            await self._take_answer(exchange, await exchange.head(), codec, delivery)
        except BaseException as fault:
            exchange.release()  # before anything is counted: what nobody wants must not go on
            if exchange.sent and not tab.settled:
                await self._account(delivery, fault)
            raise
        exchange.release()

    async def _take_answer(self, exchange: Exchange, head: Head, codec: Codec, delivery: Delivery) -> None:
        self.failpoint("after-head")
        if head.rated:
            self._stages.attempts.heard(delivery.tab, delivery.target, head)
        if head.status >= 300:
            delivery.refused = True
            raise delivery.told(codec.error(head, await error_body(exchange)))  # a name for it were a cycle
        delivery.tab.first_byte()
        call, target = delivery.call, delivery.target
        if call.answer_type is not None:
            call.answer_type = head.get(b"content-type") or b""
        reader = codec.reader(call, target)
        if call.shape is not None:
            reader = shaping.checked(reader, call, target)
        if call.face is not None:
            reader = call.face.reader(reader, call)
        delivery.reader = reader
        await relay(exchange, reader, delivery)

    async def _account(self, delivery: Delivery, fault: BaseException) -> None:
        """Settle an attempt that did not end well, or note what it cost us; see `settle`."""
        tab = delivery.tab
        if delivery.refused:
            return
        if not (tab.shown or isinstance(fault, (CallerGone, CallerError))):  # or its key was revoked
            if delivery.answered(fault):  # nothing is counted: the next target, or the error, must not wait
                believed = _believed(delivery)
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
        usage = _believed(delivery)
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
            self._stages.fault(call, fault)
            return rough

    async def settle_counted(self, delivery: Delivery) -> Usage:
        """Settle a complete answer, once those that belong to it are complete, perhaps by our own count."""
        if delivery.call.parent and not delivery.stream:
            self._stages.attempts.free(delivery.tab)  # the others may need its place
            await self._choices.arrive(delivery.call)
        usage, estimated = await self._used(delivery)
        self.settle_whole(delivery, usage, estimated=estimated)
        return usage

    def settle_whole(self, delivery: Delivery, usage: Usage, *, estimated: bool) -> None:
        """Settle a complete answer."""
        self.failpoint("before-settle")
        status = HUNG_UP if delivery.sink.gone else 200
        self._settle(delivery.call, delivery.tab, status, usage, estimated=estimated)
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
            self._stages.fault(call, fault)

    def _tell(self, call: Call, error: GatewayError) -> None:
        try:
            self._ledger.observer.refused(call.operation, error)
        except Exception as fault:
            self._stages.fault(call, fault)


class Delivery(CallState):
    """One attempt's answer on its way to the caller: what the relay works on."""

    _pipeline: Pipeline
    failpoint: Callable[[str], None]
    call: Call
    sink: Sink
    tab: Tab
    target: Target
    stream: bool
    reader: Reader | None = None
    refused: bool = False  # by the provider

    def told(self, error: GatewayError) -> GatewayError:
        """Return what the provider has told: that it refused, or that the caller's time has passed there."""
        self.refused = isinstance(error, UpstreamError)
        return error

    def answered(self, fault: BaseException) -> bool:
        """Say whether the provider had begun to answer before the fault, and may bill that.

        An error that it reports in place of an answer, under whatever status, is a refusal.
        """
        reader = self.reader
        if reader is None:
            return False
        cut = isinstance(fault, (UpstreamInterrupted, UpstreamTimeout))
        reported = isinstance(fault, UpstreamError) and not cut
        return not reported or bool(reader.produced() or reader.usage())

    def roughly(self) -> Usage:
        """Return what was used so far, as far as that is known without counting."""
        made = self.reader.produced() if self.reader is not None else 0
        return Usage(rough_input(self.call), made, more=units_bound(self.call, self.target))

    def hang_up(self, exchange: Exchange) -> None:
        """Close the upstream, for the caller has gone; at once, unless only the count is still to come."""
        if self.reader is not None and self.reader.awaits_count:
            asyncio.get_running_loop().call_later(COUNT_WITHIN_S, exchange.abort)
        else:
            exchange.abort()

    def start(self) -> None:
        """Send the head of a stream, if none was sent early."""
        if self.sink.started:
            self.tab.show()
        else:  # and with it the answer is committed to this attempt
            headers = self._pipeline.answers.head(self.call, self.target, self.tab)
            self.tab.show()
            self.sink.start(200, headers, None)

    def keep_alive(self) -> None:
        """Tell a caller who has long heard nothing that its stream lives.

        Proxies give up what is silent for a minute, so the head goes out before anybody has answered. What
        fails from then on is told by an event under the status 200; another target may still be asked,
        since none of an answer was shown.
        """
        if not self.sink.started:
            head = self._pipeline.answers.early_head(self.call, self.target, self.tab)
            self.sink.start(200, head, None)
        face = self.call.face
        self.sink.write(KEEP_ALIVE if face is None else face.keep_alive)

    def whole(self, body: bytes) -> None:
        """Send a whole answer."""
        headers = self._pipeline.answers.head(self.call, self.target, self.tab)
        self.tab.show()
        self.sink.whole(200, headers, body)

    def settle_told(self) -> Usage | None:
        """Settle the complete answer by the provider's count; None where there is none, or it must wait."""
        usage = None if self.call.parent else _believed(self)
        if usage is not None:
            self._pipeline.settle_whole(self, usage, estimated=False)
        return usage

    async def settle_counted(self) -> Usage:
        """Settle it by our own count."""
        return await self._pipeline.settle_counted(self)


def _status(fault: BaseException) -> int:
    """Return the status of an answer that ended by a fault."""
    if isinstance(fault, GatewayError):
        return fault.http_status
    if isinstance(fault, CallerGone):
        return HUNG_UP
    return CUT if isinstance(fault, asyncio.CancelledError) else Internal.status


def _believed(delivery: Delivery) -> Usage | None:
    """Return the provider's count, unless it cannot be true."""
    reader = delivery.reader
    usage = reader.usage() if reader is not None else None
    if reader is None or usage is None or not believable(usage, delivery.call, delivery.target):
        return None
    if usage.output_tokens or delivery.call.max_output == 0:  # then the text is an echo of the prompt
        return usage
    return None if reader.text() else usage


def refuse_loop(hop: bytes | None, instance: str) -> None:
    """Refuse a request that this gateway itself has sent.

    Raises:
        LoopRefused: the hop header names this instance.
    """
    if hop is not None and hop.decode("latin-1") == instance:
        raise LoopRefused(
            "This request has already passed through this gateway: a provider's base_url points back at it."
        )
