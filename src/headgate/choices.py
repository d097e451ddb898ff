"""Several answers to one call (`n`) where a target gives one at a time: as many calls, answered as one.

Each is a call of its own in the books, with the caller's call as its parent: its own hold, attempts and
settlement. All holds are taken before anything is sent. Limits count one request, and the tokens of all.
The caller gets one head, one id, choices in order, and the sum of what was used.

=====================  ==========================================================================
one of them fails      what becomes of the others
=====================  ==========================================================================
of a whole answer      none is paid: they wait for one another before they are settled
of a stream            they are cut, and paid where they were shown, like a stream that broke off
=====================  ==========================================================================
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.admission.bounds import rough_input
from headgate.admission.gates import Ticket
from headgate.errors import CallerGone, GatewayError, Internal, QuotaExceeded, Unavailable, UpstreamError
from headgate.providers import compat
from headgate.providers.edits import usage_object
from headgate.providers.frames import data_of
from headgate.providers.stream import DONE, KEEP_ALIVE
from headgate.settle import HUNG_UP, Tab
from headgate.values import NANO_PER_USD, Call, Shape, Usage
from headgate.waits import ends_at, own_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.attempts import Attempt
    from headgate.pipeline import Stages
    from headgate.ports import Headers, Sink
    from headgate.values import Target

_encode = msgspec.json.encode
_NOTHING: Final = Usage()
_CUT: Final = 503
_RANDOM: Final = (1 << 62) - 1  # of a UUIDv7
_OURS: Final = (b"x-request-id:", b"x-headgate-cost:")  # header lines that say something of one of them
_ALIKE: Final = ("id", "created", "model", "system_fingerprint", "service_tier")


def come_apart(call: Call, targets: Sequence[Target]) -> bool:
    """Say whether the answers of a call are asked for one by one: some target gives no more at a time."""
    return call.operation == "chat" and not all(target.host.several for target in targets)


def total(used: Sequence[Usage]) -> Usage:
    """Return the sum of what was used."""
    sums: dict[str, Any] = {
        name: sum(getattr(usage, name) for usage in used)
        for name in Usage.__struct_fields__
        if isinstance(getattr(_NOTHING, name), int)
    }
    more: dict[str, int] = {}
    for usage in used:
        for unit, count in usage.more:
            more[unit] = more.get(unit, 0) + count
    return Usage(**sums, more=tuple(more.items()))


class Meeting:
    """Where the calls of a whole answer wait for one another before any of them is settled."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._failed = False
        self._ready = asyncio.Event()

    async def arrive(self) -> None:
        """Wait until all have their answers.

        Raises:
            Unavailable: another one failed.
        """
        self._expected -= 1
        if not self._expected:
            self._ready.set()
        await self._ready.wait()
        if self._failed:
            raise Unavailable("Another of the answers that were asked for at once failed.")

    def fail(self) -> None:
        """Let nobody be settled."""
        if not self._ready.is_set():
            self._failed = True
            self._ready.set()


class _Answer:
    """The one answer that the caller gets."""

    def __init__(self, call: Call, sink: Sink) -> None:
        self.call = call
        self.sink = sink
        self.started = False
        self.parts: list[_Part] = []
        self._alike: dict[str, Any] = {}

    def begin(self, headers: Headers) -> None:
        """Send the head of a stream, by what the first of them says."""
        self.started = True
        self.sink.start(200, b"\r\n".join([*self._lines(headers), b""]), None)

    def _lines(self, headers: Headers) -> list[bytes]:
        assert isinstance(headers, bytes)
        lines = [line for line in headers.split(b"\r\n") if line and not line.startswith(_OURS)]
        return [*lines, b"x-request-id: " + self.call.request_id.encode(), b"x-headgate-emulated: n"]

    def pass_on(self, frames: bytes, index: int) -> None:
        """Pass on chunks of one of them, as chunks of its choice."""
        out = []
        for frame in frames.split(b"\n\n"):
            data = data_of(frame)
            if data is None or data == b"[DONE]":
                continue
            chunk = msgspec.json.decode(data)
            if not chunk.get("choices"):  # its own count
                continue
            if not self._alike:
                self._alike = {name: chunk[name] for name in _ALIKE if name in chunk}
            chunk |= self._alike
            for choice in chunk["choices"]:
                choice["index"] = index
            out.append(b"data: %b\n\n" % _encode(chunk))
        if out:
            self.sink.write(b"".join(out))

    def end(self) -> None:
        """Send what is left: the whole answer, or the end of the stream."""
        used = total([part.tab.used for part in self.parts])
        if not self.call.stream:
            charge = sum(part.tab.charge for part in self.parts)
            cost = b"x-headgate-cost: %d.%09d" % divmod(charge, NANO_PER_USD)
            head = b"\r\n".join([*self._lines(self.parts[0].headers), cost, b""])
            self.sink.whole(200, head, self._whole(used))
            return
        last = compat.usage_chunk(used, self.call, self._alike) if self.call.include_usage else b""
        self.sink.write(last + DONE)
        self.sink.finish()

    def _whole(self, used: Usage) -> bytes:
        bodies = [msgspec.json.decode(part.body) for part in self.parts]
        whole = bodies[0]
        whole["choices"] = [
            {**choice, "index": index} for index, body in enumerate(bodies) for choice in body["choices"]
        ]
        whole["usage"] = usage_object(used, "chat")
        return _encode(whole)


class _Part:
    """One of the calls, and the sink of its answer. Implements `ports.Sink`."""

    def __init__(self, answer: _Answer, call: Call, tab: Tab, index: int) -> None:
        self.call = call
        self.tab = tab
        self.gone = answer.sink.gone
        self.started = False
        self.headers: Headers = b""
        self.body = b""
        self._answer = answer
        self._index = index
        self._callback: Callable[[], None] | None = None

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Take the head of a stream; the first one is the caller's."""
        del status, length  # errors are raised, so it is 200; and it is a stream
        self.started = True
        if not self._answer.started:
            self._answer.begin(headers)

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Take a whole answer."""
        del status
        self.headers, self.body = lines, body

    def write(self, data: bytes) -> None:
        """Take frames of a stream, or a comment."""
        if data == KEEP_ALIVE:
            self._answer.sink.write(data)
        else:
            self._answer.pass_on(data, self._index)

    def finish(self) -> None:
        """Take note of the end; the caller's comes when all have ended."""

    async def drained(self) -> None:
        """Wait until the caller has read enough."""
        await self._answer.sink.drained()

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Keep whom to call when nobody wants the answer any more."""
        self._callback = callback

    def on_quiet(self, callback: Callable[[], None]) -> None:
        """Leave it to the one sink."""
        self._answer.sink.on_quiet(callback)

    def abort(self) -> None:
        """Do nothing: the caller is told by whoever answers all."""

    def leave(self) -> None:
        """Say that nobody wants the answer any more."""
        self.gone = True
        if self._callback is not None:
            self._callback()


class Choices:
    """Serve calls that come apart. One per pipeline.

    Args:
        stages: of the pipeline.
        attempt: makes one attempt of a call.
    """

    def __init__(self, stages: Stages, attempt: Attempt) -> None:
        self._stages = stages
        self._attempt = attempt
        self._meetings: dict[bytes, Meeting] = {}

    async def arrive(self, call: Call) -> None:
        """Wait, before a part of a whole answer is settled, until the others have theirs."""
        meeting = self._meetings.get(call.parent)
        if meeting is not None:
            await meeting.arrive()

    async def serve(self, call: Call, sink: Sink, targets: tuple[Target, ...]) -> tuple[Call, Tab]:
        """Serve a call to its end; return the first of its answers' calls.

        Raises:
            GatewayError: nothing was sent to anybody.
            CallerGone: the caller hung up.
        """
        await own_task()
        stages = self._stages
        ledger, principal = stages.ledger, call.principal
        assert principal is not None
        if not ledger.journal.accepting:
            raise Unavailable("The gateway cannot write its books now. Try again in a moment.")
        now = ledger.clock.monotonic()
        gate = ledger.rates.gate(principal, call.model, now)
        tokens = max(call.max_output or 0, rough_input(call)) * call.n if gate.tokens else 0
        ticket = stages.entrance.enter(gate, tokens, now)
        if ticket is None:
            ticket = await stages.entrance.stand(gate, tokens, call.model, sink, ends_at(call.deadline))
        answer = _Answer(call, sink)
        try:
            if call.bring is not None:  # once for all
                await call.bring(call)
            await self._hold(answer, targets, Ticket(gate, 0, open=False))
            await self._run(answer, targets)
            return answer.parts[0].call, answer.parts[0].tab
        finally:
            now = ledger.clock.monotonic()
            used = total([part.tab.used for part in answer.parts])
            if any(part.tab.sent for part in answer.parts):
                ledger.rates.settle(ticket, used.input_tokens + used.output_tokens, now)
            else:
                ledger.rates.cancel(ticket, now)

    async def _hold(self, answer: _Answer, targets: tuple[Target, ...], ticket: Ticket) -> None:
        """Hold the money of all, or of none.

        Raises:
            GatewayError: not all can be had.
        """
        call, stages = answer.call, self._stages
        for index in range(call.n):
            child = _child(call, index)
            try:
                hold = await stages.reservations.reserve(child, targets)
            except BaseException as fault:
                for part in answer.parts:
                    part.tab.settle(_CUT, _NOTHING)
                answer.parts.clear()
                if isinstance(fault, QuotaExceeded):
                    fault.message += (
                        f" This model gives one answer at a time, so n={call.n} is that many calls."
                    )
                raise
            answer.parts.append(_Part(answer, child, Tab(stages.ledger, child, hold, ticket), index))

    async def _run(self, answer: _Answer, targets: tuple[Target, ...]) -> None:
        """Ask for all at once; what goes wrong with one goes wrong with all."""
        call, parts = answer.call, answer.parts
        meeting = self._meetings[call.id] = Meeting(call.n if not call.stream else 0)
        answer.sink.on_gone(lambda: _leave(parts))
        tasks = [asyncio.ensure_future(self._one(part, targets)) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if any(task.done() and task.exception() is not None for task in tasks):
                meeting.fail()
                _cut(zip(parts, tasks, strict=True))
            found = await asyncio.gather(*tasks, return_exceptions=True)
        except (asyncio.CancelledError, GatewayError):  # the gateway is stopping, or the call was ended
            for task in tasks:
                task.cancel()
            meeting.fail()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        finally:
            del self._meetings[call.id]
        self._finish(answer, [fault for fault in found if fault is not None])

    def _finish(self, answer: _Answer, faults: list[BaseException]) -> None:
        call, sink = answer.call, answer.sink
        if sink.gone:
            return
        if not faults:
            answer.end()
            return
        errors = [fault for fault in faults if isinstance(fault, GatewayError)]
        told = [error for error in errors if isinstance(error, UpstreamError)] or errors
        error = told[0] if told else Internal("The server had an error while processing your request.")
        if answer.started:
            self._stages.answers.break_off(call, error, sink, shown=True)
        else:
            self._stages.answers.refuse(call, error, sink)

    async def _one(self, part: _Part, targets: tuple[Target, ...]) -> None:
        """Serve one of them; it is settled on every way out."""
        call, tab, status = part.call, part.tab, Internal.status
        try:
            attempt = self._attempt
            if targets[0].steered:
                attempt = self._stages.steering.watching(attempt, targets)
            await self._stages.attempts.run(attempt, call, part, tab, targets)
        except GatewayError as error:
            status = error.http_status
            raise
        except CallerGone:
            status = HUNG_UP
            raise
        except asyncio.CancelledError:
            status = _CUT
            raise
        except Exception as fault:
            self._stages.fault(call, fault)
            raise
        finally:
            if not tab.settled:
                tab.settle(status, _NOTHING)


def _leave(parts: Iterable[_Part]) -> None:
    for part in parts:
        part.leave()


def _cut(running: Iterable[tuple[_Part, asyncio.Future[None]]]) -> None:
    """End what still runs: as if its caller had left where something of it was shown, else unpaid."""
    for part, task in running:
        if part.tab.shown:
            part.leave()
        else:
            task.cancel()


def _child(call: Call, index: int) -> Call:
    """Return the call for one of the answers."""
    child = copy_of(call, index)
    child.n = 1
    child.members = {name: raw for name, raw in call.members.items() if name != "n"}
    return child


def copy_of(call: Call, index: int) -> Call:
    """Return a copy of a call, with an id of its own and the call as its parent."""
    child = msgspec.structs.replace(call, id=_id_of(call.id, index), parent=call.id, notes=[])
    if call.shape is not None:
        child.shape = Shape(call.shape.wanted)
        child.shape.spare_input = call.shape.spare_input
    return child


def _id_of(parent: bytes, index: int) -> bytes:
    """Return an id of its own: the parent's instant, and of its 62 random bits the ones that follow."""
    low = int.from_bytes(parent[8:])
    return parent[:8] + ((low & ~_RANDOM) | ((low + index + 1) & _RANDOM)).to_bytes(8)
