"""Who is next of those who wait for a target: accounts take turns, in each its keys, in each its calls. Pure.

Batch calls wait for interactive ones, but of every `TURNS` calls one is theirs. Where a line is full, the
caller with the most calls in it gives way to one with fewer.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headgate.values import MonotonicNs, Principal

TURNS: Final = 8


class Waiter:
    """One call that waits."""

    __slots__ = ("account", "batch", "key", "left", "since", "tokens", "until")

    def __init__(
        self, principal: Principal, tokens: int, since: MonotonicNs, until: MonotonicNs | None = None
    ) -> None:
        self.account = principal.account
        self.key = principal.key
        self.batch = principal.priority == "batch"
        self.tokens = tokens  # that it may use
        self.since = since
        self.until = until  # when its caller wants the answer; None: that is not said
        self.left = False  # it waits no more


class _Ring:
    """The waiting calls of one class."""

    __slots__ = ("accounts", "count")

    def __init__(self) -> None:
        self.accounts: dict[int, dict[int, deque[Waiter]]] = {}  # whose turn it is first, then their keys
        self.count = 0

    def add(self, waiter: Waiter) -> None:
        self.accounts.setdefault(waiter.account, {}).setdefault(waiter.key, deque()).append(waiter)
        self.count += 1

    def head(self) -> Waiter | None:
        for keys in self.accounts.values():
            return next(iter(keys.values()))[0]
        return None

    def remove(self, waiter: Waiter) -> None:
        keys = self.accounts[waiter.account]
        calls = keys[waiter.key]
        calls.remove(waiter)
        self.count -= 1
        if not calls:
            del keys[waiter.key]
        if not keys:
            del self.accounts[waiter.account]

    def served(self, waiter: Waiter) -> None:
        """Take out who is first; its key and its account go behind the others."""
        self.remove(waiter)
        keys = self.accounts.pop(waiter.account, None)
        if keys is not None:
            calls = keys.pop(waiter.key, None)
            if calls is not None:
                keys[waiter.key] = calls
            self.accounts[waiter.account] = keys

    def yielding(self, other: Waiter) -> Waiter | None:
        """Return who gives way to another one; None: nobody has more calls here."""
        sizes = {account: sum(map(len, keys.values())) for account, keys in self.accounts.items()}
        account, most = max(sizes.items(), key=itemgetter(1))
        keys = self.accounts[account]
        calls = max(keys.values(), key=len)
        if account == other.account:
            most, own = len(calls), len(keys.get(other.key, ()))
        else:
            own = sizes.get(other.account, 0)
        return calls[-1] if most > own + 1 else None


class Turns:
    """The order of a line."""

    __slots__ = ("_batch", "_interactive", "_owed")

    def __init__(self) -> None:
        self._interactive = _Ring()
        self._batch = _Ring()
        self._owed = 0  # interactive calls since the last batch call, while one waited

    @property
    def count(self) -> int:
        """Return how many calls wait."""
        return self._interactive.count + self._batch.count

    def join(self, waiter: Waiter) -> None:
        """Take a call in, behind the others of its key."""
        self._ring(waiter).add(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Let a call go that waits no more."""
        if not waiter.left:
            waiter.left = True
            self._ring(waiter).remove(waiter)

    def head(self) -> Waiter | None:
        """Return who is next."""
        first, second = self._interactive, self._batch
        if self._owed >= TURNS - 1 and second.count:
            first, second = second, first
        return first.head() or second.head()

    def served(self, waiter: Waiter) -> None:
        """Let who is next pass."""
        waiter.left = True
        self._ring(waiter).served(waiter)
        if waiter.batch:
            self._owed = 0
        elif self._batch.count:
            self._owed += 1

    def yielding(self, other: Waiter) -> Waiter | None:
        """Return who gives way to another one where there is no room for both; None: the other goes."""
        if not other.batch and self._batch.count:
            heaviest = self._batch.yielding(other)
            return heaviest if heaviest is not None else self._batch.head()
        ring = self._ring(other)
        return ring.yielding(other) if ring.count else None

    def _ring(self, waiter: Waiter) -> _Ring:
        return self._batch if waiter.batch else self._interactive
