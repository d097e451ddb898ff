"""One attempt's answer on its way to the caller: its books first, then its bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.admission.bounds import rough_input, units_bound
from headgate.callstate import CallState, set_at_once
from headgate.errors import UpstreamError, UpstreamInterrupted, UpstreamTimeout
from headgate.providers import shaping
from headgate.relay import error_body, relay
from headgate.settle import Tab, believable
from headgate.values import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.errors import GatewayError
    from headgate.pipeline import Pipeline
    from headgate.ports import Exchange, Head, Reader, Sink
    from headgate.providers.codec import Codec
    from headgate.values import Call, Target

COUNT_WITHIN_S = 0.15  # for a caller who has left: reasoning that nobody saw is only in the provider's count


@set_at_once
class Delivery(CallState):
    """One attempt's answer on its way to the caller: what the relay works on."""

    _pipeline: Pipeline
    failpoint: Callable[[str], None]
    call: Call
    sink: Sink
    tab: Tab
    target: Target
    exchange: Exchange
    stream: bool
    reader: Reader | None = None
    refused: bool = False  # by the provider

    def take(self, head: Head, codec: Codec) -> Awaitable[None] | None:
        """Pass on an answer that is here whole, as nearly all are; of any other return what is to be awaited.

        Raises:
            UpstreamError: the provider broke off or reported an error.
        """
        call, target = self.call, self.target
        self.failpoint("after-head")
        if head.rated:
            self._pipeline.attempts.heard(self.tab, target, head)
        if head.status >= 300:
            return self._refuse(head, codec)
        self.tab.first_byte()
        if call.answer_type is not None:
            call.answer_type = head.get(b"content-type") or b""
        reader = codec.reader(call, target)
        if call.shape is not None:
            reader = shaping.checked(reader, call, target)
        if call.face is not None:
            reader = call.face.reader(reader, call)
        self.reader = reader
        body = None if self.stream else self.exchange.whole()
        if body is None:
            return relay(self.exchange, reader, self)
        if body:
            reader.feed(body)
        reader.finish()
        return self.whole(reader)

    async def _refuse(self, head: Head, codec: Codec) -> None:
        """Raise what the provider has told: that it refuses, or that the caller's time has passed there."""
        self.refused = True
        raise self._told(codec.error(head, await error_body(self.exchange)))  # a name for it were a cycle

    def _told(self, error: GatewayError) -> GatewayError:
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

    def hang_up(self) -> None:
        """Close the upstream, for the caller has gone; at once, unless only the count is still to come."""
        if self.reader is not None and self.reader.awaits_count:
            asyncio.get_running_loop().call_later(COUNT_WITHIN_S, self.exchange.abort)
        else:
            self.exchange.abort()

    def start(self) -> None:
        """Send the head of a stream, if none was sent early."""
        if self.sink.started:
            self.tab.show()
        else:  # and with it the answer is committed to this attempt
            headers = self._pipeline.answers.head(self.call, self.target, self.tab)
            self.tab.show()
            self.sink.start(200, headers, None)

    def whole(self, reader: Reader, booked: Usage | None = None) -> Awaitable[None] | None:
        """Send the complete answer whole, once it is settled.

        Args:
            reader: has read it.
            booked: what it was settled by; None: that is to be done by the provider's count, else what counts
                it here, and sends it then, is returned.
        """
        if booked is None:
            booked = self.settle_told()
            if booked is None:
                return self._counted(reader)
        tab, body = self.tab, reader.end(booked)
        self.failpoint("before-last-byte")
        headers = self._pipeline.answers.head(self.call, self.target, tab)
        tab.show()
        self.sink.whole(200, headers, body)
        return None

    async def _counted(self, reader: Reader) -> None:
        self.whole(reader, await self.settle_counted())

    def believed(self) -> Usage | None:
        """Return the provider's count, unless it cannot be true."""
        reader = self.reader
        if reader is None:
            return None
        usage = reader.usage()
        if usage is None or not believable(usage, self.call, self.target):
            return None
        if usage.output_tokens or self.call.max_output == 0:  # then the text is an echo of the prompt
            return usage
        return None if reader.text() else usage

    def settle_told(self) -> Usage | None:
        """Settle the complete answer by the provider's count; None where there is none, or it must wait."""
        usage = None if self.call.parent else self.believed()
        if usage is not None:
            self._pipeline.settle_whole(self, usage, estimated=False)
        return usage

    async def settle_counted(self) -> Usage:
        """Settle it by our own count."""
        return await self._pipeline.settle_counted(self)
