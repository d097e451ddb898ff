"""A canary: a fixed part of a model's callers goes to another target, until that proves to be worse. Pure.

Which part: a caller's name is hashed to a point from 0 to 1, and is the canary's where that is below the
share. So a caller stays on its side, and a larger share never takes anyone back.

When it is worse: two tests that may be asked after every call, as often as one likes. Both compare the
likelihood of what was seen, mixed over all rates (Beta(1/2, 1/2)), with the largest that it can have while
the canary is no worse. Such a ratio ever exceeds 1/a with a probability of at most a (Ville's inequality), so
with a split between the two, at most `false_alarm_percent` of the canaries that are no worse are rolled back.

- It fails more often: the attempts of both sides that failed and that did not.
- It is slower: each of its answers is paired with the main side's latest one of the same kind (stream or
  whole) that is in no pair yet. No worse means slower, by more than `slower_percent`, in half of the pairs.
"""

from __future__ import annotations

from hashlib import blake2b
from math import lgamma, log
from typing import Final, NamedTuple

import msgspec

_SPACE: Final = float(1 << 64)
_HALF: Final = 2 * lgamma(0.5)  # of the Beta function of 1/2 and 1/2, whose sum's is 0


class TrialTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a canary is rolled back."""

    least: int = 5  # attempts of the canary, or pairs, before it may be
    false_alarm_percent: float = 1.0  # how many canaries that are no worse are, at most
    slower_percent: float = 20.0  # how much slower an answer may be than the main side's

    def wrong(self) -> str:
        """Return what is wrong with the numbers, or an empty text."""
        if not 1 <= self.least <= 100_000:
            return "least must be 1 to 100000"
        if not 0 < self.false_alarm_percent <= 50:
            return "false_alarm_percent must be above 0 and at most 50"
        if not 0 <= self.slower_percent <= 1000:
            return "slower_percent must be 0 to 1000"
        return ""


class Tried(NamedTuple):
    """How often something came out well and badly."""

    well: int = 0
    badly: int = 0

    @property
    def all(self) -> int:
        """Return how often it was tried."""
        return self.well + self.badly


def point(name: str, trial: str) -> float:
    """Return where a caller lies, from 0 to 1; in another trial it lies elsewhere."""
    digest = blake2b(name.encode(), digest_size=8, key=trial.encode()[:64]).digest()
    return int.from_bytes(digest) / _SPACE


def fails_more(canary: Tried, main: Tried) -> float:
    """Return the logarithm of the evidence that the canary fails more often; 0: there is none."""
    if canary.badly * main.all <= main.badly * canary.all or not main.all:
        return 0.0
    both = Tried(canary.well + main.well, canary.badly + main.badly)
    return _mixed(canary) + _mixed(main) - _likeliest(both)


def is_slower(pairs: Tried) -> float:
    """Return the same for its being slower; `badly`: it was, by more than is allowed."""
    if pairs.badly <= pairs.well:
        return 0.0
    return _mixed(pairs) + pairs.all * log(2)


def verdict(canary: Tried, main: Tried, pairs: Tried, terms: TrialTerms) -> str:
    """Return why a canary is to be rolled back, in words; empty: it goes on."""
    needed = log(200 / terms.false_alarm_percent)
    if canary.all >= terms.least and fails_more(canary, main) >= needed:
        return (
            f"it failed in {canary.badly} of {canary.all} attempts, "
            f"the main side in {main.badly} of {main.all}"
        )
    if pairs.all >= terms.least and is_slower(pairs) >= needed:
        by = f"{terms.slower_percent:g} %"
        return f"in {pairs.badly} of {pairs.all} pairs of answers it was slower by more than {by}"
    return ""


def _mixed(tried: Tried) -> float:
    """Return the logarithm of the likelihood of some outcomes in one order, mixed over all rates."""
    return lgamma(tried.badly + 0.5) + lgamma(tried.well + 0.5) - lgamma(tried.all + 1) - _HALF


def _likeliest(tried: Tried) -> float:
    """Return the logarithm of the largest likelihood at one rate."""
    return sum(count * log(count / tried.all) for count in tried if count)
