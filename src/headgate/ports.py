"""Every seam on one page. Read this second, after `pipeline.py`.

A port is a question that is answered atomically, not get and set. Only `app.py` chooses who
implements one. What people manage has its own seam beside what they do: `ops/desk.py`.
"""

from __future__ import annotations

import os
import sys
import time
from struct import Struct, iter_unpack
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

import msgspec

from headgate.values import Book, MonotonicNs, NanoUSD, Prices, Units, Usage, WallMicros
from headgate.wire.forms import Buffer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from headgate.channels import Channel
    from headgate.errors import GatewayError
    from headgate.money.pots import Batch, Outcome
    from headgate.money.shares import Answer, Ask
    from headgate.values import Call, Target

# ── time, ids, failpoints ───────────────────────────────────────────────────────────────────────


class Clock(Protocol):
    """The only source of time. Tests move it by hand."""

    def wall(self) -> WallMicros:
        """Return the wall time in integer microseconds UTC."""
        ...

    def monotonic(self) -> MonotonicNs:
        """Return a time that only grows, in nanoseconds, for durations and deadlines."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic_ns)  # asked ten times per call: no frame of ours between

    def wall(self) -> WallMicros:
        """Return the wall time in integer microseconds UTC."""
        return time.time_ns() // 1_000


def since_boot_ns() -> MonotonicNs:
    """Return a monotonic time that runs on while the machine sleeps, where the system has one."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()


_ID = Struct(">Q8s").pack


class CallIds:
    """Make call ids: UUIDv7 (RFC 9562), ordered by time within a process."""

    __slots__ = ("_last", "_random", "_wall", "at")

    def __init__(self, clock: Clock) -> None:
        self._wall = clock.wall
        self._last = self.at = 0  # `at`: when the last one was made
        self._random: list[bytes] = []

    def next(self) -> bytes:
        """Return the 16 bytes of a new id."""
        # 48 bits of milliseconds, the version, 12 bits of sub-millisecond: ids of one process are in order.
        now = self.at = self._wall()
        head = (now // 1000 << 16) + 0x7000 + now % 1000 * 4
        if head <= self._last:
            head = self._last + 1
            head += 0 if head & 0xFFF else 0xF000  # the next millisecond, of the same version
        self._last = head
        if not self._random:
            pool = bytearray(os.urandom(4096))
            pool[::8] = bytes(byte & 0x3F | 0x80 for byte in pool[::8])  # the variant
            self._random = [drawn for (drawn,) in iter_unpack("8s", pool)]
        return _ID(head, self._random.pop())


class Failpoints(Protocol):
    """Named places in real code where a test may kill, raise or wait."""

    def hit(self, name: str) -> None:
        """Do what was asked for at this place; nothing in production."""
        ...


# ── the caller's side ───────────────────────────────────────────────────────────────────────────


# Names and values; or whole lines, `name: value` with CR LF after each, whose maker has checked them.
Headers: TypeAlias = "Sequence[tuple[bytes, bytes]] | bytes"


class Sink(Protocol):
    """Where a call's answer goes: `start` once, then `write` any number of times, then `finish` once.

    The call's task outlives it: after the caller has gone all three do nothing, and `gone` is True.
    """

    gone: bool
    started: bool  # the answer has a head

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Send the head. `length` is the body's length in bytes, None for a stream."""
        ...

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole answer: `start`, `write` and `finish` in one."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes of the body: whole frames of a stream, or a part of a sized body."""
        ...

    def finish(self) -> None:
        """End the answer; the connection may serve its next request."""
        ...

    async def drained(self) -> None:
        """Wait until the caller has read enough to send more. Returns at once if it has, or is gone."""
        ...

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back once, on the loop, when the caller goes before `finish`."""
        ...

    def on_quiet(self, callback: Callable[[], None]) -> None:
        """Call back, on the loop, each time the caller was sent nothing for a while; the last one counts."""
        ...

    def abort(self) -> None:
        """Cut the connection without ending the answer."""
        ...


# ── the provider's side ─────────────────────────────────────────────────────────────────────────


class Request(msgspec.Struct, frozen=True, gc=False):
    """One upstream HTTP request. `headers` are constant per target, so a transport may cache them."""

    method: str
    path: str  # origin form, as sent on the request line
    headers: tuple[tuple[str, str], ...]  # without host, content-length and x-client-request-id
    body: bytes
    request_id: str  # sent as x-client-request-id
    tail: tuple[Buffer, ...] = ()  # the rest of a long body, sent as fast as the provider takes it

    def whole(self) -> bytes:
        """Return the body in one."""
        return b"".join((self.body, *self.tail))


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of an upstream answer; header names are in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    rated: bool = False  # some of them may say what is left of a limit

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


class Declined(msgspec.Struct, frozen=True):
    """A plain answer to a request for a WebSocket."""

    head: Head
    body: bytes


class Exchange(Protocol):
    """One request and its answer on a ready connection. Used once.

    Every wait is bounded by the target's deadlines and raises `UpstreamTimeout`; a broken connection
    or broken framing raises `UpstreamInterrupted`. `reused` says that the connection served before.
    """

    reused: bool
    sent: bool

    def send(self, request: Request) -> None:
        """Write the request to the ready connection."""
        ...

    def head(self) -> Awaitable[Head]:
        """Wait for the head of the final answer (1xx are skipped)."""
        ...

    def read(self) -> Awaitable[bytes]:
        """Wait for more of the body (all that has arrived); b"" when it ended as framed."""
        ...

    def whole(self) -> bytes | None:
        """Return the body where nothing was read of it and all is here; None: it is to be read."""
        ...

    def abort(self) -> None:
        """Close the connection now; a pending wait raises `CallerGone`. May be called twice."""
        ...

    def release(self) -> None:
        """Give the connection back after the body ended; a connection in any other state is closed."""
        ...


class Transport(Protocol):
    """Bytes to a provider."""

    async def acquire(self, target: Target) -> Exchange:
        """Return an exchange on a ready connection, from the pool or a new one.

        Raises:
            UpstreamTimeout: not connected within `deadlines.connect_s`.
            UpstreamInterrupted: refused, no such host, TLS or proxy failure.
        """
        ...

    async def converse(self, target: Target, request: Request) -> Channel | Declined:
        """Open a WebSocket on a connection of its own, within `first_byte_s`, too; raises the same."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Reader(Protocol):
    """The answer of one attempt, as it comes. Turns provider bytes into OpenAI bytes.

    `done` is True once the provider has said that its answer is complete.
    """

    done: bool

    @property
    def awaits_count(self) -> bool:
        """Say whether the text is complete and only the provider's count is still to come."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body, cut anywhere; return whole frames of the OpenAI wire (maybe none)."""
        ...

    def finish(self) -> bytes:
        """Take note of the end of the body; return the frames that it completes, but not the last bytes.

        Raises:
            UpstreamInterrupted: the body ended early or is not the provider's wire.
        """
        ...

    def end(self, booked: Usage) -> bytes:
        """Return the last bytes; where they show a usage, it is the booked one."""
        ...

    def usage(self) -> Usage | None:
        """Return the provider's own count, or None while it has given none."""
        ...

    def produced(self) -> int:
        """Return a running count of output tokens seen so far (an estimate, never falling)."""
        ...

    def text(self) -> str:
        """Return the text produced so far, for a local count when the provider gave none."""
        ...


class Face(Protocol):
    """Another API's form in which one call of chat was asked and is answered; OpenAI's own needs none."""

    keep_alive: ClassVar[bytes]  # what a stream says while there is nothing to say

    def read(self, body: bytes, target_of: Callable[[str], Target | None]) -> bytes:
        """Return the body of the same call as OpenAI's chat.

        Args:
            body: valid UTF-8 of bounded depth.
            target_of: returns the first target of a model, for what may be asked of it.

        Raises:
            CallerError: what is wrong with it.
        """
        ...

    def weigh(self, call: Call) -> None:
        """Note on a parsed call what its chat form does not show of its input and its price."""
        ...

    def reader(self, inner: Reader, call: Call) -> Reader:
        """Return a reader that shows the answer in the caller's form."""
        ...

    def limits(self, call: Call, lines: bytes) -> bytes:
        """Return header lines on what is left of limits, from OpenAI's."""
        ...

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """Return the body of an error."""
        ...

    def event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the event that ends a stream which has begun."""
        ...


# ── the books ───────────────────────────────────────────────────────────────────────────────────


class Source(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a hold that a grant covers."""

    pot: int
    grant: int
    amount: NanoUSD  # of a grant in tokens: what the call may cost, which the house pays
    tokens: int = 0  # of a grant in tokens: how many are held


class Lost(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an attempt used that came to nothing: its provider may bill it, the caller does not pay it."""

    attempt: int
    usage: Usage
    estimated: bool = False  # it is our own count


class Open(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Journal record: attempt `attempt` of a call is about to be sent. Money is nano-USD."""

    call: bytes  # 16 bytes, UUIDv7
    attempt: int
    at: WallMicros
    book: Book
    account: int
    project: int
    key: int
    member: int
    operation: str
    model: str  # as the caller named it
    provider: str
    upstream_model: str
    prices: Prices | None  # what the customer pays; None: unpriced
    costs: Prices | None  # what the provider takes
    hold: NanoUSD
    input_bound: int  # tokens: the bound that the hold rests on
    parent: bytes = b""
    streamed: bool = False
    pots: tuple[int, ...] = ()  # whose slices the hold is in (`pots.id`)
    sources: tuple[Source, ...] = ()  # prepaid: the grants that the hold is in, the first to be charged first
    lost: tuple[Lost, ...] = ()  # of the attempts before this one
    units: Units = ()  # the bound in other units than tokens that the hold rests on
    replay_of: str = ""  # the call whose recorded answer this one is given, in hex
    purse: str = ""  # whose slices the hold is in, where that is not the worker's: a batch's own


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Journal record: a stream has produced so much."""

    call: bytes
    attempt: int
    at: WallMicros
    usage: Usage


class Settle(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Journal record: what the call really cost. One per call; `attempt` is the last one.

    `charge` is what the customer pays, at most the hold; `absorbed` what was above it; `costs` what
    each attempt costs us at its provider, by attempt number: a lost one by what it had used. Of a call
    that a grant in tokens covers, `promoted` is what its customer would have paid and `tokens` what the
    grant lost; `charge` is 0.
    """

    call: bytes
    attempt: int
    at: WallMicros
    status: int  # HTTP status of the answer; 499: the caller hung up
    usage: Usage
    charge: NanoUSD
    absorbed: NanoUSD
    costs: tuple[NanoUSD, ...]
    estimated: bool = False
    first_byte_us: int = 0  # from OPEN to the first byte
    duration_us: int = 0
    promoted: NanoUSD = 0
    tokens: int = 0
    lost: tuple[Lost, ...] = ()  # attempts whose cost is not that of `usage`


class Journal(Protocol):
    """The append-only record that the hot path writes instead of a database. Never awaits."""

    def open(self, record: Open) -> None:
        """Append; in the operating system's hands on return. Raises `Unavailable` when it cannot."""
        ...

    def mark(self, record: Mark) -> None:
        """Append a checkpoint of a stream."""
        ...

    def settle(self, record: Settle) -> None:
        """Append the settlement of an open call."""
        ...

    @property
    def accepting(self) -> bool:
        """Say whether a priced call may open: not after an I/O error, nor with the bound reached."""
        ...


class Forgotten(Exception):
    """A store of shared meters does not know a worker that it has known: nothing is in its hand any more."""


class SharedMeters(Protocol):
    """What the workers of a gateway count together; see `money/shares.py`. A power cut may lose it."""

    async def exchange(self, slot: int, asks: Sequence[Ask], now: MonotonicNs) -> list[Answer]:
        """Take what a worker says and give what it wants, meter by meter, in one atomic step.

        Raises:
            Unavailable: the store does not answer; nothing was taken or given.
            Forgotten: the worker was taken for dead, or the store has lost everything. The same.
        """
        ...

    async def forget(self, slot: int, now: MonotonicNs) -> None:
        """Bury a dead worker: what was in its hand counts as spent, its open calls are over."""
        ...

    async def lacks(self, since: MonotonicNs, now: MonotonicNs) -> list[tuple[str, int]]:
        """Return what the meters lack that somebody asked for since, in millionths of a unit, hands too."""
        ...


class Leases(Protocol):
    """Who may spend how much of each pot, shared by all workers. See `money/pots.py`.

    Both methods raise `Unavailable` when the store does not answer: nobody knows whether it did anything.
    """

    async def join(self, slot: str, now: WallMicros) -> int:
        """Enter service in a slot and return its new epoch; whoever had the slot before is fenced."""
        ...

    async def exchange(self, batch: Batch) -> Outcome:
        """Apply a batch in one transaction: what is given back, then answers, then wants in their order.

        A pot that does not exist yet is made, with `spent` from the books; one whose budget or grant is
        gone limits nothing. With a later epoch in the slot nothing is done and `fenced` is set. A turn that
        was applied is not applied again: `repeated` is set, and the lots say what it was granted.
        """
        ...


class Mail(msgspec.Struct, frozen=True):
    """A mail to one person."""

    to: str
    subject: str
    text: str


class Mailer(Protocol):
    """Sends mail. It waits, so it is called in a thread."""

    def send(self, mail: Mail) -> None:
        """Send a mail.

        Raises:
            Unavailable: it cannot be sent now.
        """
        ...


class Observer(Protocol):
    """Told of each finished call, after its settlement. Must not raise and must not wait."""

    def refused(self, operation: str, error: GatewayError) -> None:
        """Count a call that was refused before any attempt."""
        ...

    def settled(self, opened: Open, settled: Settle) -> None:
        """Count a settled call."""
        ...
