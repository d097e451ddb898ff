"""Passes: what one key's calls may take of all their meters for a moment without looking at them.

A busy key meets its meters thousands of times a second, and finds them the same but for what it took itself.
So a gate looks at them once, and its calls of the next moment take from what it saw: a subtraction each.
What they took is booked when the pass is closed: when its time is over and somebody asks, or sooner, when
another gate of the account looks at its meters. So who looks at a meter sees all that was taken of it, and no
call passes that would not have passed each meter by itself. All is booked as of when the last of it was
taken: what a full meter lacks begins to be refilled a little late. So less is let through, never more.
Of meters shared with other machines a pass lets in what is in hand (`leased.py`); passes are closed before
the store is told, and before it is heard (`sharing.py`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakValueDictionary

import msgspec

from headgate.admission.durations import in_go

if TYPE_CHECKING:
    from headgate.admission.meters import Count, Group, TokenGroup
    from headgate.values import MonotonicNs

LASTS_NS: Final = 10_000_000  # opening and booking one costs as much as a tenth of a call
_UNBOUND: Final = 1 << 62
_FORM = b"x-ratelimit-limit-KIND: %d\r\nx-ratelimit-remaining-KIND: %%d\r\nx-ratelimit-reset-KIND: %%b\r\n"


class Holder(Protocol):
    """Whose pass it is."""

    def book(self) -> None:
        """Book what was taken."""
        ...


class Turnstile:
    """What all gates of an account pass their calls through: one of them has a pass at a time.

    Args:
        among: those whose pass is open.
    """

    __slots__ = ("__weakref__", "_among", "_holder")

    def __init__(self, among: set[Turnstile]) -> None:
        self._among = among
        self._holder: Holder | None = None

    def open(self, holder: Holder) -> None:
        """Let a gate have the pass; that of another one is closed."""
        self._holder = holder
        self._among.add(self)

    def close(self) -> None:
        """Book what the calls of the pass have taken."""
        holder, self._holder = self._holder, None
        if holder is not None:
            self._among.discard(self)
            holder.book()


class Turnstiles:
    """The turnstiles of accounts, for as long as a gate or a ticket knows them."""

    __slots__ = ("_known", "_open")

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, Turnstile] = WeakValueDictionary()
        self._open: set[Turnstile] = set()

    def of(self, account: int) -> Turnstile:
        """Return that of an account."""
        found = self._known.get(account)
        if found is None:
            found = self._known[account] = Turnstile(self._open)
        return found

    def close(self) -> None:
        """Book what the calls of all passes have taken."""
        for turnstile in tuple(self._open):
            turnstile.close()


@lru_cache(maxsize=4_096)
def forms(kind: bytes, limit: int) -> tuple[bytes, bytes]:
    """Return the `x-ratelimit-*` header lines of a full meter, and of one with less left, refilled later."""
    form = _FORM.replace(b"KIND", kind) % limit
    return form % (limit, b"0ms"), form


class Told(msgspec.Struct, gc=False, eq=False):
    """The tightest meter of a kind, as it was seen, and how it is told."""

    limit: int
    unit: int  # of the meter
    refill_ms: int  # of it, in the same as what it lacks
    lacked: int
    full: bytes
    form: bytes

    def lines(self, lack: int) -> bytes:
        """Return its header lines where it lacks something."""
        left = self.limit + -lack // self.unit
        return self.form % (max(left, 0), in_go(-(-lack // self.refill_ms)))


_UNTOLD: Final = Told(0, 0, 0, 0, b"", b"")  # there is no limit


class Pass:
    """What a gate saw of its meters, and what was taken since."""

    __slots__ = (
        "at_once", "back", "began", "calls", "ended", "free", "full", "last", "most", "places", "requests",
        "room", "tokens", "until", "unused",
    )  # fmt: skip

    def __init__(self, now: MonotonicNs) -> None:
        self.began = self.last = now  # last: when something was taken last, as of when all is booked
        self.until = now + LASTS_NS
        self.most = self.room = _UNBOUND  # calls that may be let in, and tokens that there is room for
        self.calls = 0  # that were
        self.places = self.at_once = _UNBOUND  # for calls at once; and with those of calls that have ended
        self.free = _UNBOUND  # what of the room is neither reserved nor used
        self.back = 0  # what its calls had reserved and did not use
        self.ended = 0  # of the room no longer reserved, but used; and what calls of before had reserved
        self.unused: dict[MonotonicNs, int] = {}  # what these did not use, by when they had reserved it
        self.full = _UNBOUND  # the room less all of that: what of it is not free is told as taken
        self.requests = _UNTOLD
        self.tokens: list[Told] = []

    def book(self, requests: Group, tokens: TokenGroup, counts: tuple[Count, ...]) -> None:
        """Take from the meters what was taken."""
        if self.calls:
            requests.take(self.calls, self.last)
            for count in counts:
                count.begin(self.calls)
                count.end(self.at_once - self.places)
        used = self.room - self.free  # or reserved, by calls that are open
        reserved = used - self.ended
        if self.calls or used or reserved:
            tokens.book(used + self.back, self.back, reserved, self.last)
        for since, amount in self.unused.items():
            tokens.release(amount, since, self.last)


CLOSED: Final = Pass(-LASTS_NS)
