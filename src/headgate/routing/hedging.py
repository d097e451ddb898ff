"""When a second target is asked for a call that waits for its first one, and how often that may be. Pure.

It costs the house what the slower of the two takes, so it is for a share of a model's calls: each of them
saves up for it, and a few may be saved up at most, lest a provider in trouble is met with twice the calls.
"""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from headgate.values import Call, MonotonicNs

_MS: Final = 1_000_000
_WHOLE: Final = 1_000_000  # what asking a second target takes of the share; a call adds its part of it
_SAVED: Final = 10  # so many second requests may be saved up
_LATELY: Final = 200  # answers of which the slow ones are told
_LEAST: Final = 20  # before that nobody knows
_SLOW_PERCENT: Final = 95
_OPERATIONS: Final = frozenset({"chat", "completions", "embeddings", "moderations"})


class HedgeTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a call that waits for its first target is sent to the next one, too."""

    after_ms: int | Literal["p95"]  # of waiting; `p95`: when 95 in 100 answers of the model had begun lately
    most_percent: float = 5.0  # of the calls that may be sent twice
    keys: tuple[str, ...] = ()  # whose calls: names of keys, or patterns; none: everybody's

    def wrong(self) -> str:
        """Return what is wrong with it, or an empty text."""
        if self.after_ms != "p95" and not 1 <= self.after_ms <= 600_000:
            return f'after_ms {self.after_ms} is neither 1 to 600000 nor "p95"'
        if not 0 < self.most_percent <= 50:
            return f"most_percent {self.most_percent:g} is not above 0 and at most 50"
        return ""

    def means(self, call: Call) -> bool:
        """Say whether it is for a call: one that does nothing but answer, of the keys that are named."""
        if call.operation not in _OPERATIONS or call.files is not None or call.parent:
            return False
        if bytes(call.members.get("store", b"false")) == b"true":
            return False
        principal = call.principal
        assert principal is not None
        return not self.keys or any(fnmatchcase(principal.name, pattern) for pattern in self.keys)


class Share:
    """How many calls of a model may still be sent twice."""

    __slots__ = ("_part", "_saved")

    def __init__(self, most_percent: float) -> None:
        self._part = round(most_percent * _WHOLE / 100)
        self._saved = 0

    def called(self) -> None:
        """Count a call that might be sent twice."""
        self._saved = min(self._saved + self._part, _SAVED * _WHOLE)

    def take(self) -> bool:
        """Send one twice, if there is enough saved up for it."""
        if self._saved < _WHOLE:
            return False
        self._saved -= _WHOLE
        return True


class Delay:
    """How long a call waits for its first target before the next one is asked, too."""

    __slots__ = ("_after_ms", "_due", "_lately", "_slow_ns")

    def __init__(self, after_ms: int | Literal["p95"]) -> None:
        self._after_ms = after_ms
        self._lately: deque[MonotonicNs] = deque(maxlen=_LATELY)
        self._due = _LEAST  # answers until they are looked at again
        self._slow_ns = 0

    @property
    def ns(self) -> int:
        """Return it; 0: it is not known yet."""
        return self._slow_ns if self._after_ms == "p95" else self._after_ms * _MS

    def took(self, ns: MonotonicNs) -> None:
        """Take in how long a first target took to begin, or at least how long."""
        if self._after_ms != "p95":
            return
        self._lately.append(ns)
        self._due -= 1
        if not self._due:
            self._due = _LEAST
            self._slow_ns = max(_MS, sorted(self._lately)[len(self._lately) * _SLOW_PERCENT // 100])


class Hedging:
    """What a worker knows of the second requests of one model.

    Args:
        terms: in force.
    """

    __slots__ = ("_delays", "share", "terms")

    def __init__(self, terms: HedgeTerms) -> None:
        self.terms = terms
        self.share = Share(terms.most_percent)
        self._delays = {stream: Delay(terms.after_ms) for stream in (False, True)}

    def delay(self, *, stream: bool) -> Delay:
        """Return how long streams, or whole answers, are waited for."""
        return self._delays[stream]
