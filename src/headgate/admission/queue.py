"""Calls that wait for a limit instead of being refused: bounded, and fair between keys. Pure.

The calls of an account wait in one line, in a lane for each key. Who is next is told by what a lane has
had: a call costs its share of the shared limits that it takes, and the lane that has had the least comes
first (start-time fair queueing), so a key with few calls passes one with many. A call that stands before
others and does not fit yet keeps those who need the same meters behind it: a large one is not starved by
small ones. Lanes of batch keys wait for those of interactive ones, but of every `TURNS` calls one is theirs.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headgate.admission.gates import Gate, Ticket
    from headgate.admission.meters import Bucket, Count
    from headgate.values import MonotonicNs

TURNS: Final = 8
_MOST_LOOKED_AT: Final = 256  # lanes at a time: those behind them wait until these move
_SCALE: Final = 1 << 40


class Waiter:
    """One waiting call. `ticket` is there once it is admitted."""

    __slots__ = ("gate", "left", "since", "ticket", "tokens", "until")

    def __init__(self, gate: Gate, tokens: int, since: MonotonicNs) -> None:
        self.gate = gate
        self.tokens = tokens
        self.since = since
        self.until = since + gate.queue_ms * 1_000_000
        self.ticket: Ticket | None = None
        self.left = False

    def share(self) -> int:
        """Return the largest share of a shared limit that it takes, times 2^40."""
        gate = self.gate
        shares = [_SCALE // bucket.limit for bucket in gate.requests if bucket.place.scope != "key"]
        shares += [
            self.tokens * _SCALE // bucket.limit for bucket in gate.tokens if bucket.place.scope != "key"
        ]
        return max(shares, default=1)


class _Lane:
    """The waiting calls of one key."""

    __slots__ = ("count", "finish", "key", "standing", "waiters")

    def __init__(self, key: int) -> None:
        self.key = key
        self.waiters: deque[Waiter] = deque()  # those who have left are passed over
        self.count = 0  # of those who have not
        self.finish = 0  # the virtual time at which what it has had is over, and its next call begins
        self.standing = False  # in one of the heaps

    def head(self) -> Waiter | None:
        """Return who is next, past those who have left."""
        waiters = self.waiters
        while waiters and waiters[0].left:
            waiters.popleft()
        return waiters[0] if waiters else None


class _Turn:
    """One look at a line at one moment."""

    __slots__ = ("admitted", "aside", "blocked", "claimed", "next_ns", "now")

    def __init__(self, now: MonotonicNs) -> None:
        self.now = now
        self.claimed: set[Bucket | Count] = set()  # that somebody who stands further ahead waits for
        self.aside: list[_Lane] = []
        self.blocked: list[Waiter] = []  # those whose meters do not allow them yet
        self.admitted: list[Waiter] = []
        self.next_ns = 0  # when somebody may pass; 0: nobody waits for a time

    def passes(self, waiter: Waiter) -> bool:
        """Say whether a call passes now; if not, it claims the meters that it waits for."""
        gate, now, claimed = waiter.gate, self.now, self.claimed
        if not claimed.isdisjoint(gate.meters()):
            return False
        waits = [(meter, wait) for meter, wait in gate.waits(waiter.tokens, now) if wait]
        if not waits:
            return True
        claimed.update(meter for meter, _ in waits)
        self.blocked.append(waiter)
        at = now + max(wait for _, wait in waits)
        self.next_ns = min(self.next_ns or at, at)
        return False


class Line:
    """The waiting calls of one account."""

    __slots__ = ("_batch", "_claimed", "_interactive", "_lanes", "_owed", "_virtual", "blocked", "count")

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}
        self._interactive: list[tuple[int, int]] = []  # heaps of lanes: what they have had, and their key
        self._batch: list[tuple[int, int]] = []
        self._virtual = 0
        self._owed = 0  # interactive calls since the last batch call, while one waited
        self._claimed: set[Bucket | Count] = set()
        self.blocked: list[Waiter] = []  # the first of those who wait for each meter
        self.count = 0  # calls that wait

    def waiting(self, key: int) -> int:
        """Return how many calls of a key wait."""
        lane = self._lanes.get(key)
        return 0 if lane is None else lane.count

    def is_before(self, gate: Gate) -> bool:
        """Say whether somebody waits for a meter of a gate: who comes now stands behind them."""
        return self.count > 0 and not self._claimed.isdisjoint(gate.meters())

    def join(self, waiter: Waiter) -> None:
        """Take a call in, behind the others of its key."""
        key = waiter.gate.principal.key
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
        lane.waiters.append(waiter)
        lane.count += 1
        self.count += 1
        if not lane.standing:
            lane.finish = max(lane.finish, self._virtual)
            self._stand(lane)

    def leave(self, waiter: Waiter) -> None:
        """Let a call go that waits no more."""
        if not waiter.left:
            waiter.left = True
            self._lanes[waiter.gate.principal.key].count -= 1
            self.count -= 1

    def longest(self) -> tuple[int, Waiter]:
        """Return how many calls wait in the longest lane, and the last of them. Somebody must wait."""
        lane = max(self._lanes.values(), key=attrgetter("count"))
        return lane.count, next(waiter for waiter in reversed(lane.waiters) if not waiter.left)

    def turn(self, now: MonotonicNs) -> tuple[list[Waiter], MonotonicNs]:
        """Admit who passes now; return them, and when to look again (0: when a call ends, or never)."""
        turn = _Turn(now)
        while len(turn.aside) < _MOST_LOOKED_AT:
            lane = self._next()
            if lane is None:
                break
            self._look(lane, turn)
        for lane in turn.aside:
            self._stand(lane)
        self._claimed, self.blocked = turn.claimed, turn.blocked
        if not self.count:
            self._lanes, self._virtual = {}, 0
        elif len(self._lanes) > 2 * (len(self._interactive) + len(self._batch)) + _MOST_LOOKED_AT:
            self._lanes = {
                key: lane for key, lane in self._lanes.items() if lane.standing or lane.finish > self._virtual
            }
        return turn.admitted, turn.next_ns

    def _look(self, lane: _Lane, turn: _Turn) -> None:
        waiter = lane.head()
        if waiter is None:
            return
        if not turn.passes(waiter):
            turn.aside.append(lane)
            return
        waiter.ticket = waiter.gate.take(waiter.tokens, turn.now)
        turn.admitted.append(waiter)
        if is_batch(waiter):
            self._owed = 0
        elif self._batch:
            self._owed += 1
        self._virtual = max(self._virtual, lane.finish)
        lane.finish += waiter.share()
        self.leave(waiter)
        if lane.head() is not None:
            self._stand(lane)

    def _stand(self, lane: _Lane) -> None:
        waiter = lane.head()
        if waiter is not None:
            lane.standing = True
            heappush(self._batch if is_batch(waiter) else self._interactive, (lane.finish, lane.key))

    def _next(self) -> _Lane | None:
        first, second = self._interactive, self._batch
        if self._owed >= TURNS - 1:
            first, second = second, first
        heap = first or second
        if not heap:
            return None
        lane = self._lanes[heappop(heap)[1]]
        lane.standing = False
        return lane


def is_batch(waiter: Waiter) -> bool:
    """Say whether a call is of the class that waits for the others."""
    return waiter.gate.principal.priority == "batch"
