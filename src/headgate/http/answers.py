"""What goes to the caller besides the provider's bytes: response headers and errors."""

from __future__ import annotations

from string import punctuation
from typing import TYPE_CHECKING
from urllib.parse import quote

from headgate.http.errors import VERSION, render, stream_event
from headgate.values import BUILT_IN, NANO_PER_USD, Book
from headgate.wire.headers import lines_of

if TYPE_CHECKING:
    from headgate.admission.rate import Rates
    from headgate.errors import GatewayError
    from headgate.ports import Clock, Sink
    from headgate.settle import Tab
    from headgate.values import Call, MonotonicNs, Principal, Target

Headers = list[tuple[bytes, bytes]]
_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_JSON = (b"content-type", b"application/json")
_JSON_LINE = b"content-type: application/json\r\n"
_LINES = b"%bx-request-id: %b\r\nopenai-processing-ms: %d\r\n%b"
_WITH_COST = _LINES + b"x-headgate-cost: %d.%09d\r\n"
_SIMULATED = (b"x-headgate-simulated", b"true")
_PROVIDER = b"x-headgate-provider"
_KNOWN = 10_000
_KEPT = " Its Idempotency-Key gives this answer again as it is: to have it made anew, use another one."
_NO_CACHE = (b"cache-control", b"no-cache")
_PLAIN = punctuation.replace("%", " ")


def value_of(text: str) -> bytes:
    """Return a text as a header's value: what is not ASCII in it is percent-encoded, as in URLs."""
    return text.encode() if text.isascii() else quote(text, safe=_PLAIN).encode()


def _queued(waited_ns: int) -> bytes:
    """Return the header line that says how long a call has waited in lines; b"" below 1 ms."""
    waited_ms = waited_ns // 1_000_000
    return b"x-headgate-queued-ms: %d\r\n" % waited_ms if waited_ms else b""


class HttpAnswers:
    """Render answers for HTTP callers. Implements `pipeline.Answers`."""

    __slots__ = ("_fixed", "_monotonic", "_rates")

    def __init__(self, clock: Clock, rates: Rates) -> None:
        self._monotonic = clock.monotonic
        self._rates = rates
        self._fixed: dict[tuple[int, str, bool], bytes] = {}

    def head(self, call: Call, target: Target, tab: Tab) -> bytes:
        """Return the header lines of an answer; a settled call says what it cost."""
        now = self._monotonic()
        principal = call.principal
        assert principal is not None
        ticket = tab.ticket
        limits = ticket.gate.lines(now)
        if ticket.queued_ns or tab.waited_ns:
            limits += _queued(ticket.queued_ns + tab.waited_ns)
        fixed = self._fixed.get((principal.key, target.host.name, call.stream))
        fixed = fixed or self._fix(call, target, principal)
        request_id, took_ms = call.request_id.encode(), (now - call.received_ns) // 1_000_000
        if call.stream or call.flows:
            lines = _LINES % (fixed, request_id, took_ms, limits)
        else:
            dollars, nanos = divmod(tab.charge, NANO_PER_USD)
            lines = _WITH_COST % (fixed, request_id, took_ms, limits, dollars, nanos)
        if call.answer_type:
            lines = lines.replace(_JSON_LINE, b"content-type: %b\r\n" % call.answer_type.strip(), 1)
        if call.operation == "embeddings":
            lines += lines_of([(b"openai-model", value_of(target.model.name))])
        if target.notice:
            lines += lines_of([(name.encode(), value.encode()) for name, value in target.notice])
        if call.face is not None:
            lines += b"request-id: %b\r\n" % call.request_id.encode() + call.face.limits(call, lines)
        if tab.attempts > 1:
            lines += b"x-headgate-attempts: %d\r\n" % tab.attempts
            if tab.hedge:
                lines += b"x-headgate-hedge: %b\r\n" % tab.hedge
        if call.notes:
            lines += lines_of([(note.name.encode(), value_of(note.value)) for note in call.notes])
        return lines

    def early_head(self, call: Call, target: Target, tab: Tab) -> bytes:
        """Return the header lines of a stream before it is known who answers: they name nobody."""
        named = lines_of([(_PROVIDER, value_of(target.host.name))])
        return self.head(call, target, tab).replace(named, b"", 1)

    def _fix(self, call: Call, target: Target, principal: Principal) -> bytes:
        """Return, and keep, the header lines that every answer of a key from a provider has."""
        rows = [
            _STREAM if call.stream else _JSON,
            VERSION,
            *whose(principal),
            (_PROVIDER, value_of(target.host.name)),
        ]
        if call.stream:
            rows.append(_NO_CACHE)
        if target.simulated and target.host.kind != BUILT_IN:
            rows.append(_SIMULATED)
        if len(self._fixed) >= _KNOWN:
            self._fixed.clear()
        fixed = self._fixed[principal.key, target.host.name, call.stream] = lines_of(rows)
        return fixed

    def refuse(self, call: Call, error: GatewayError, sink: Sink) -> None:
        """Send an error as the whole answer, with what is left of the caller's limits."""
        now = self._monotonic()
        principal = call.principal
        limits = b"" if principal is None else self._rates.lines(principal, call.model, now)
        status, headers, body = render(error, call.request_id)
        headers.append(processing(now - call.received_ns))
        if call.face is not None:
            body = call.face.error(error, call.request_id)
            headers.append((b"request-id", call.request_id.encode()))
            limits += call.face.limits(call, limits)
        if principal is not None:
            headers += whose(principal)
            if principal.book is Book.SIM:
                headers.append(_SIMULATED)
        sink.start(status, lines_of(headers) + limits, len(body))
        sink.write(body)
        sink.finish()

    @staticmethod
    def break_off(call: Call, error: GatewayError, sink: Sink, *, shown: bool) -> None:
        """Send an error event into a stream that has begun; no `[DONE]` follows it.

        What is kept under an Idempotency-Key is given again for as long as that is known, so the event says
        so; where nothing of an answer was shown the call is made again.
        """
        call.broken, face = True, call.face
        if call.keyed and shown:
            error.message += _KEPT
        sink.write(stream_event(error) if face is None else face.event(error, call.request_id))
        sink.finish()


def refuse(request_id: str, error: GatewayError, sink: Sink) -> None:
    """Send an error in OpenAI's shape as the whole answer."""
    status, headers, body = render(error, request_id)
    sink.start(status, headers, len(body))
    sink.write(body)
    sink.finish()


def whose(principal: Principal) -> Headers:
    """Return the headers that say for whom a request was served."""
    return [
        (b"openai-organization", principal.account_id.encode()),
        (b"openai-project", principal.project_id.encode()),
    ]


def processing(took_ns: MonotonicNs) -> tuple[bytes, bytes]:
    """Return the header that says how long we had a request."""
    return (b"openai-processing-ms", b"%d" % (took_ns // 1_000_000))
