"""What a call may still try after an attempt failed: elsewhere at once, or here again after a pause. Pure.

The classes of errors decide (`errors.py`): whether another target may help, and whether the same may later.
All attempts of a call together are bounded, and so are the retries that are under way at once, at a provider
and in all (Envoy's retry budget): a provider in trouble never gets much more calls than our callers make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.values import MonotonicNs, Target

MOST_ATTEMPTS: Final = 5
_NS = 1_000_000_000


class RetryTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often, how soon, and how many at once."""

    attempts: int = 3  # of a call in all, where it has not more targets than that; 1: no retries
    base_s: float = 1.0  # the first pause is drawn from 0 to this, the next from twice that
    longest_s: float = 8.0  # pause; a provider that asks for more is not asked again by us
    share_percent: int = 20  # of the open calls that may be retries, at a provider and in all
    floor: int = 3  # so many retries always

    def wrong(self) -> str:
        """Return what is wrong with the numbers, or an empty text."""
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            return f"attempts must be 1 (no retries) to {MOST_ATTEMPTS}"
        if not 0 <= self.base_s <= self.longest_s <= 60:
            return "base_s must be at least 0 and at most longest_s, which is at most 60"
        if not 0 <= self.share_percent <= 100 or not 0 <= self.floor <= 1000:
            return "share_percent must be 0 to 100, floor 0 to 1000"
        return ""


class Active(NamedTuple):
    """How many calls are open."""

    there: int  # at the provider
    in_all: int


class RetryBudget:
    """The retries that are under way."""

    __slots__ = ("_terms", "_there", "in_all")

    def __init__(self, terms: RetryTerms) -> None:
        self._terms = terms
        self._there: dict[str, int] = {}  # by provider
        self.in_all = 0

    def take(self, provider: str, active: Active) -> bool:
        """Begin a retry if there is room; `give` ends it."""
        there = self._there.get(provider, 0)
        if there >= self._most(active.there) or self.in_all >= self._most(active.in_all):
            return False
        self._there[provider] = there + 1
        self.in_all += 1
        return True

    def give(self, provider: str) -> None:
        """End a retry."""
        left = self._there[provider] - 1
        self.in_all -= 1
        if left:
            self._there[provider] = left
        else:
            del self._there[provider]

    def _most(self, active: int) -> int:
        return max(self._terms.floor, active * self._terms.share_percent // 100)


class Step(NamedTuple):
    """What is tried next."""

    target: int  # which of the call's
    pause_ns: int = 0
    again: bool = False  # at a provider that failed in this call: it needs room in the budget


class Tries:
    """What one call has tried and may still try; made when its first attempt has failed.

    Args:
        terms: how often and how soon.
        targets: in the order in which they are asked.
        most: attempts in all.
        until: the caller's deadline.
    """

    __slots__ = ("_again", "_failed", "_most", "_pauses", "_targets", "_terms", "_until", "made")

    def __init__(
        self, terms: RetryTerms, targets: tuple[Target, ...], until: MonotonicNs, *, panic: bool
    ) -> None:
        self._terms = terms
        self._targets = targets
        self._most = len(targets) if panic else min(MOST_ATTEMPTS, max(terms.attempts, len(targets)))
        self._until = until
        self._pauses = 0
        self._again: list[int] = []  # targets that may do better later
        self._failed: set[str] = set()  # providers
        self.made = 1

    def after(self, index: int, error: UpstreamError, now: MonotonicNs, draw: float) -> Step | None:
        """Return what to try after a target has failed; None: nothing, the error is the answer.

        Args:
            index: of the target.
            error: of the attempt.
            now: monotonic time.
            draw: chance from [0, 1).
        """
        self._failed.add(self._targets[index].host.name)
        if not error.another_target or self.made >= min(self._most, MOST_ATTEMPTS) or now >= self._until:
            return None
        if error.same_target and not self._targets[index].simulated:  # its faults are asked for
            self._again.append(index)
        if self.made < len(self._targets):  # each has its turn before one has a second
            self.made += 1
            name = self._targets[self.made - 1].host.name
            return Step(self.made - 1, 0, name in self._failed)
        if not self._again:
            return None
        pause_ns = self._pause_ns(error, draw)
        if (error.retry_after_s or 0.0) > self._terms.longest_s or now + pause_ns >= self._until:
            return None
        self._pauses += 1
        self.made += 1
        return Step(self._again.pop(0), pause_ns, again=True)

    def _pause_ns(self, error: UpstreamError, draw: float) -> int:
        """Return a pause with full jitter, on top of what the provider asks for."""
        most_s = min(self._terms.base_s * 2**self._pauses, self._terms.longest_s)
        return int((draw * most_s + (error.retry_after_s or 0.0)) * _NS)
