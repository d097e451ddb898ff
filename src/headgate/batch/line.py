"""One line as a call on the path of all others: where its answer goes, and what it was charged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from headgate.money.credit import taken
from headgate.values import Usage
from headgate.wire.batchjobs import held_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.errors import GatewayError
    from headgate.ports import Headers, Journal, Mark, Observer, Open, Settle, Sink
    from headgate.settle import Tab
    from headgate.values import Call, NanoUSD, Target
    from headgate.wire.batchjobs import Claim, KeptBatch


class Running:
    """A line that a worker runs."""

    __slots__ = (
        *("batch", "carried", "charge", "claim", "drawn"),
        *("free", "given_up", "offset", "usage", "waits"),
    )

    def __init__(self, batch: KeptBatch, claim: Claim) -> None:
        self.batch = batch
        self.claim = claim
        self.free = bool(claim.paid or claim.unsure)  # the house pays
        self.offset: NanoUSD = 0  # of its money that calls which came apart have taken
        self.charge: NanoUSD = claim.paid
        self.drawn: dict[int, int] = {}  # by pot, in this run
        self.usage = Usage()
        self.carried = 0  # bytes of it in memory, where these are counted
        self.waits = False  # at its provider, which takes it as a call at its batch API
        self.given_up = False  # its batch does not wait for it any more

    def take(self, amount: NanoUSD, *, whole: bool) -> tuple[NanoUSD, NanoUSD]:
        """Return where the money, or the tokens, of a call begins and how much it is.

        Args:
            amount: what the call may cost, in the same unit.
            whole: it is the line; else one of several calls that the line has come apart into.
        """
        claim = self.claim
        if self.free:
            return claim.start, 0
        if whole:
            return claim.start, claim.bound
        start = claim.start + self.offset
        amount = min(amount, claim.bound - self.offset)
        self.offset += amount
        return start, amount

    def settled(self, opened: Open, settled: Settle) -> None:
        """Take in what a call of the line was charged."""
        used, own = settled.usage, self.usage
        self.usage = Usage(
            own.input_tokens + used.input_tokens,
            own.output_tokens + used.output_tokens,
            cached_tokens=own.cached_tokens + used.cached_tokens,
            reasoning_tokens=own.reasoning_tokens + used.reasoning_tokens,
        )
        self.charge += settled.tokens if self.batch.job.in_tokens else settled.charge
        for pot in opened.pots:
            self.drawn[pot] = self.drawn.get(pot, 0) + settled.charge
        if opened.sources:
            for part in taken(opened.sources, settled.charge, settled.tokens):
                self.drawn[part.source.pot] = self.drawn.get(part.source.pot, 0) + part.amount

    def left(self) -> tuple[tuple[int, int], ...]:
        """Return what of its money is not spent, by pot."""
        claim, job = self.claim, self.batch.job
        drawn, before = dict(self.drawn), claim.paid
        left = []
        for pot, amount in held_of(job, claim.start, claim.bound):
            spent = drawn.pop(pot, 0)
            if pot in job.pots:
                spent += claim.paid
            else:
                earlier = min(before, amount)
                before -= earlier
                spent += earlier
            left.append((pot, amount - spent))
        return tuple(left)


class LineSink:
    """Where the answer of a line goes. Implements `ports.Sink`."""

    gone = False

    def __init__(self) -> None:
        self.started = False
        self.status = 0
        self.error: GatewayError | None = None
        self.aborted = False  # by who stops
        self.ended = asyncio.Event()
        self._parts: list[bytes] = []

    @property
    def body(self) -> bytes:
        """Return the body of the answer."""
        return b"".join(self._parts)

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Take a head."""
        del headers, length
        self.started, self.status = True, status

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Take a whole answer."""
        self.start(status, lines, len(body))
        self.write(body)
        self.finish()

    def write(self, data: bytes) -> None:
        """Take bytes of the body."""
        self._parts.append(bytes(data))

    def finish(self) -> None:
        """End the answer."""
        self.ended.set()

    async def drained(self) -> None:
        """Be ready for more."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Never go."""

    def on_quiet(self, callback: Callable[[], None]) -> None:
        """Need no sign of life."""

    def abort(self) -> None:
        """Take note that there will be no answer."""
        self.aborted = True
        self.ended.set()


class LineAnswers:
    """What a pipeline renders for callers, kept for whoever writes the output. Implements `Answers`."""

    def head(self, call: Call, target: Target, tab: Tab) -> bytes:
        """Return no headers."""
        del call, target, tab
        return b""

    early_head = head

    def refuse(self, call: Call, error: GatewayError, sink: Sink, *, shown: bool = False) -> None:
        """Keep the error."""
        del call, shown
        assert isinstance(sink, LineSink)
        sink.error = error
        sink.finish()

    break_off = refuse


class LineJournal:
    """Notes with each call of a line whose slices its money is in. Implements `ports.Journal`.

    Args:
        journal: of the worker.
        running: the lines that run, by the ids of their calls.
    """

    def __init__(self, journal: Journal, running: dict[bytes, Running]) -> None:
        self._journal = journal
        self._running = running
        self.mark: Callable[[Mark], None] = journal.mark
        self.settle: Callable[[Settle], None] = journal.settle

    @property
    def accepting(self) -> bool:
        """Say whether a priced call may open."""
        return self._journal.accepting

    def open(self, record: Open) -> None:
        """Append; raises `Unavailable`."""
        line = self._running.get(record.call) or self._running[record.parent]
        self._journal.open(msgspec.structs.replace(record, purse=line.batch.slot))


class LineObserver:
    """Tells lines what they were charged, and whoever counts calls. Implements `ports.Observer`."""

    def __init__(self, observer: Observer, running: dict[bytes, Running]) -> None:
        self._observer = observer
        self._running = running

    def refused(self, operation: str, error: GatewayError) -> None:
        """Count a refusal."""
        self._observer.refused(operation, error)

    def settled(self, opened: Open, settled: Settle) -> None:
        """Count a settled call."""
        line = self._running.get(opened.call) or self._running.get(opened.parent)
        if line is not None:
            line.settled(opened, settled)
        self._observer.settled(opened, settled)
