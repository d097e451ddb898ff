"""The meters that one key's calls for one model pass: resolved once, then a few integer compares a call."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from headgate.admission.durations import MS_NS, go_duration
from headgate.admission.leased import group, token_group
from headgate.admission.passes import CLOSED, Pass, Told, forms
from headgate.callstate import set_at_once
from headgate.errors import RateLimited
from headgate.values import MonotonicNs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.admission.meters import Bucket, Count, Kind, TokenBucket
    from headgate.admission.passes import Turnstile
    from headgate.values import Principal

_WORDS: dict[Kind, str] = {
    "rpm": "requests per min (RPM)",
    "tpm": "tokens per min (TPM)",
    "rpd": "requests per day (RPD)",
    "tpd": "tokens per day (TPD)",
}
_COUNT_RETRY_NS = 1_000_000_000  # nobody knows when another call ends


@set_at_once
class Ticket(msgspec.Struct, gc=False, eq=False):
    """One admitted call: what it took, until it is settled."""

    gate: Gate
    tokens: int
    since: MonotonicNs = 0  # when it was admitted
    taken_of: Pass = CLOSED  # any other: it was admitted when that was booked
    open: bool = True
    queued_ns: int = 0  # how long it has waited before


class Hall:
    """What the gates of a process have in common.

    Args:
        count_failed: calls that fail at their provider count.
    """

    __slots__ = ("changed", "count_failed", "freed")

    def __init__(self, *, count_failed: bool = True) -> None:
        self.count_failed = count_failed
        self.changed: list[Gate] = []  # whose buckets have changed since they were last read
        self.freed: Callable[[int], None] | None = None  # told of an account whose call has ended


class Gate:
    """What a call must pass. All of it, or nothing is counted.

    Each call looks at each meter: workers of one machine see at once what the others' calls have taken.

    Args:
        principal: whose calls.
        requests: buckets that a call takes 1 of.
        tokens: buckets that it takes its estimate of.
        counts: calls at once.
        queue_ms: how long a call may wait here.
    """

    __slots__ = (
        "_meters", "_requests", "_tokens", "_told", "counts", "hall", "principal", "queue_ms", "requests",
        "tokens", "touched", "unbound",
    )  # fmt: skip

    def __init__(
        self,
        principal: Principal,
        requests: tuple[Bucket, ...],
        tokens: tuple[TokenBucket, ...],
        counts: tuple[Count, ...],
        queue_ms: int = 0,
    ) -> None:
        self.principal = principal
        self.requests = requests
        self.tokens = tokens
        self.counts = counts
        self.queue_ms = queue_ms
        self._requests, self._tokens = group(requests), token_group(tokens)
        projects = group(tuple(bucket for bucket in tokens if bucket.place.scope == "project"))
        told = ((self._requests, b"requests"), (self._tokens, b"tokens"), (projects, b"project-tokens"))
        self._told = tuple((meters, kind) for meters, kind in told if meters.buckets)
        self._meters: frozenset[Bucket | Count] | None = None
        self.hall = _ALONE
        self.touched = False  # since its buckets were last read
        # Where there is no limit, every call has the same ticket, with nothing to settle.
        self.unbound = None if requests or tokens or counts else Ticket(self, 0, open=False)

    def wait_ns(self, tokens: int, now: MonotonicNs) -> int:
        """Return how long until a call of so many tokens passes; 0: it does now."""
        self.close()
        longest = 0
        for bucket in self.requests:
            wait = bucket.wait_ns(1, now)
            if wait:
                longest = max(longest, wait)
        for bucket in self.tokens:
            wait = bucket.wait_ns(tokens, now)
            if wait:
                longest = max(longest, wait)
        for count in self.counts:
            if not longest and count.full():
                longest = _COUNT_RETRY_NS
        return longest

    def waits(self, tokens: int, now: MonotonicNs) -> Iterator[tuple[Bucket | Count, int]]:
        """Yield each meter and how long until a call of so many tokens passes it."""
        self.close()
        for bucket in self.requests:
            yield bucket, bucket.wait_ns(1, now)
        for bucket in self.tokens:
            yield bucket, bucket.wait_ns(tokens, now)
        for count in self.counts:
            yield count, _COUNT_RETRY_NS if count.full() else 0

    def meters(self) -> frozenset[Bucket | Count]:
        """Return all its meters."""
        if self._meters is None:
            self._meters = frozenset((*self.requests, *self.tokens, *self.counts))
        return self._meters

    def admit(self, tokens: int, now: MonotonicNs) -> Ticket | None:
        """Count a call of so many tokens if it passes; else None, and nothing is counted."""
        for count in self.counts:
            if count.full():
                return None
        passes = self._requests.passes(1, now) and self._tokens.passes(tokens, now)
        return self.take(tokens, now) if passes else None

    def take(self, tokens: int, now: MonotonicNs) -> Ticket:
        """Count a call, whether it passes or not."""
        self.close()
        self.touch()
        self._requests.take(1, now)
        self._tokens.reserve(tokens, now)
        for count in self.counts:
            count.begin()
        return Ticket(self, tokens, now)

    def touch(self) -> None:
        """Note that its buckets change."""
        if not self.touched:
            self.touched = True
            self.hall.changed.append(self)

    def close(self) -> None:
        """Bring the meters up to date. Those that each call looks at always are."""

    def without_counts(self) -> Gate:
        """Return what a call must pass that is counted in another one that is open."""
        gate = Gate(self.principal, self.requests, self.tokens, ())
        gate.hall = self.hall
        return gate

    def settle(self, ticket: Ticket, used: int, now: MonotonicNs, *, failed: bool = False) -> None:
        """End a call: give back, or take, the difference between its estimate and its usage in tokens.

        The second time does nothing.
        """
        if not ticket.open:
            return
        ticket.open = False
        for count in self.counts:
            count.end()
        self.touch()
        if self.tokens:
            self._tokens.settle(ticket.tokens, used, ticket.since, now)
        self._end(now, failed=failed)

    def _end(self, now: MonotonicNs, *, failed: bool) -> None:
        """Count a call no more that failed, where these do not count; tell who waits for its room."""
        if failed and not self.hall.count_failed:
            self.uncount(now)
        if self.hall.freed is not None:
            self.hall.freed(self.principal.account)

    def uncount(self, now: MonotonicNs) -> None:
        """Give back a request, as if it had never come."""
        self.close()
        self.touch()
        for bucket in self.requests:
            bucket.give(1, now)

    # ── what is said ─────────────────────────────────────────────────────────────────────────────

    def lines(self, now: MonotonicNs) -> bytes:
        """Return the `x-ratelimit-*` header lines; b"" without a limit.

        Of several meters the one with the fewest units left is told: so many calls, or tokens, do fit.
        """
        lines = b""
        for meters, kind in self._told:
            limit, left, reset_ns = meters.least(now)
            lines += forms(kind, limit)[1] % (left, go_duration(reset_ns))
        return lines

    def refusal(self, model: str, tokens: int, now: MonotonicNs) -> RateLimited:
        """Return the refusal of a call that does not pass, in OpenAI's words; then whose limit it is.

        Where it would pass by now, but others wait before it, the tightest limit is told.
        """
        self.close()
        for bucket in self.tokens:
            if tokens > bucket.limit:
                return self._too_large(bucket, model, tokens)
        full = next((count for count in self.counts if count.full()), None)
        amounts: list[tuple[Bucket, int]] = [(bucket, 1) for bucket in self.requests]
        amounts += [(bucket, tokens) for bucket in self.tokens]
        waits = [(each.wait_ns(amount, now), -each.remaining(now), each, amount) for each, amount in amounts]
        longest, _, worst, amount = max(waits, key=itemgetter(0, 1), default=(0, 0, None, 0))
        if worst is None or (full is not None and not longest):
            return self._too_many(full or self.counts[0], model)
        longest = longest or _COUNT_RETRY_NS
        used = min(worst.used(now), worst.limit)
        return RateLimited(
            f"Rate limit reached for {model} in organization {self.principal.account_id} on "
            f"{_WORDS[worst.kind]}: Limit {worst.limit}, Used {used}, Requested {amount}. "
            f"Please try again in {go_duration(longest).decode()}. {self._whose(worst)}",
            kind="tokens" if worst.kind[0] == "t" else "requests",
            retry_after_s=longest / 1e9,
        )

    def _too_large(self, bucket: Bucket, model: str, tokens: int) -> RateLimited:
        return RateLimited(
            f"Request too large for {model} in organization {self.principal.account_id} on "
            f"{_WORDS[bucket.kind]}: Limit {bucket.limit}, Requested {tokens}. The input or output tokens "
            f"must be reduced in order to run successfully. {self._whose(bucket)}",
            kind="tokens",
            retry_after_s=None,
        )

    def _too_many(self, full: Count, model: str) -> RateLimited:
        return RateLimited(
            f"Rate limit reached for {model} in organization {self.principal.account_id} on concurrent "
            f"requests: Limit {full.limit}, Used {full.open}, Requested 1. Please try again in "
            f"{go_duration(_COUNT_RETRY_NS).decode()}. {self._whose(full)}",
            kind="requests",
            retry_after_s=_COUNT_RETRY_NS / 1e9,
        )

    def _whose(self, meter: Bucket | Count) -> str:
        place = meter.place
        whose = {
            "key": f"the key {self.principal.name!r}",
            "project": f"the project {self.principal.project_id}",
            "account": f"the organization{f', tier {self.principal.tier}' if self.principal.tier else ''}",
        }[place.scope]
        return f"This is the limit of {whose}{f' for {place.model}' if place.model else ''}."


_ALONE = Hall()  # of gates that belong to nobody's limits


class PassGate(Gate):
    """A gate whose calls take from what it saw of its meters a moment ago: see `passes.py`.

    Args:
        turnstile: of the principal's account.
    """

    __slots__ = ("_pass", "_turnstile")

    def __init__(
        self,
        principal: Principal,
        requests: tuple[Bucket, ...],
        tokens: tuple[TokenBucket, ...],
        counts: tuple[Count, ...],
        queue_ms: int,
        turnstile: Turnstile,
    ) -> None:
        super().__init__(principal, requests, tokens, counts, queue_ms)
        self._turnstile = turnstile
        self._pass = CLOSED

    def admit(self, tokens: int, now: MonotonicNs) -> Ticket | None:
        """Count a call of so many tokens if it passes; else None, and nothing is counted."""
        own = self._pass
        if now >= own.until or own.calls >= own.most or tokens > own.free or own.calls >= own.at_once:
            own = self._open(now)
            if own.most < 1 or tokens > own.free or own.at_once < 1:
                return None
        own.last = now
        own.calls += 1
        own.free -= tokens
        return Ticket(self, tokens, now, own)

    def settle(self, ticket: Ticket, used: int, now: MonotonicNs, *, failed: bool = False) -> None:
        """End a call; see `Gate.settle`."""
        if not ticket.open:
            return
        ticket.open = False
        own = ticket.taken_of
        if now < own.until:
            own.last = now
            own.at_once += 1
            own.ended += used
            unused = ticket.tokens - used
            own.free += unused
            if unused > 0:
                own.back += unused
        else:
            self._settle_late(ticket, used, now)
        if failed or self.hall.freed is not None:
            self._end(now, failed=failed)

    def _settle_late(self, ticket: Ticket, used: int, now: MonotonicNs) -> None:
        """Settle what a call has taken of a pass that is closed, or over."""
        own, taken_of, unused = self._pass, ticket.taken_of, ticket.tokens - used
        since = ticket.since if taken_of is CLOSED else taken_of.last
        if now >= own.until:
            self.close()
            self.touch()
            self._tokens.settle(ticket.tokens, used, since, now)
        elif unused <= 0:
            own.last = now
            own.ended += used
            own.free += unused
        else:
            own.last = now
            own.ended += ticket.tokens
            own.full -= unused
            own.unused[since] = own.unused.get(since, 0) + unused
        for count in self.counts:
            count.end()

    def lines(self, now: MonotonicNs) -> bytes:
        """Return the `x-ratelimit-*` header lines; see `Gate.lines`."""
        own = self._pass
        if now >= own.until:
            own = self._open(now)
        passed, requests = now - own.began, own.requests
        lack = requests.lacked + own.calls * requests.unit - passed * requests.limit
        lines = requests.full if lack <= 0 else requests.lines(lack)
        taken = own.full - own.free
        for told in own.tokens:
            lack = told.lacked + taken * told.unit - passed * told.limit
            lines += told.full if lack <= 0 else told.lines(lack)
        return lines

    def without_counts(self) -> Gate:
        """Return what a call must pass that is counted in another one that is open."""
        gate = PassGate(self.principal, self.requests, self.tokens, (), 0, self._turnstile)
        gate.hall = self.hall
        return gate

    # ── passes ───────────────────────────────────────────────────────────────────────────────────

    def _open(self, now: MonotonicNs) -> Pass:
        """Look at the meters, which all that was taken of is booked in."""
        self.close()
        self.touch()
        own = self._pass = Pass(now)
        self._turnstile.open(self)
        for meters, kind in self._told:
            bucket, lacked, left = meters.tightest(now)
            limit = bucket.limit
            told = Told(limit, bucket.unit, limit * MS_NS, lacked, *forms(kind, limit))
            if meters is self._requests:
                own.requests, own.most = told, left
                continue
            own.tokens.append(told)
            if meters is self._tokens:
                own.room = own.full = own.free = left
        if self.counts:
            own.places = own.at_once = min(count.room() for count in self.counts)
        return own

    def close(self) -> None:
        """Book what the calls of the account's pass have taken."""
        self._turnstile.close()

    def book(self) -> None:
        """Book what the calls of the own pass have taken."""
        own, self._pass = self._pass, CLOSED
        own.until = 0
        own.book(self._requests, self._tokens, self.counts)
