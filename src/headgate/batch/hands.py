"""What one worker has in its hands: lines, from their claim until what came of them is kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from headgate.wire.batchjobs import Claim, Finished, KeptBatch, Returned


class Hands:
    """The lines that one worker has. What else the store believes to be here nobody runs."""

    __slots__ = ("_asked", "_calls", "_lines")

    def __init__(self) -> None:
        self._asked: set[bytes] = set()  # the store has been asked for lines to be these calls
        self._calls: dict[tuple[int, int, int], bytes] = {}  # by batch, line and fencing number
        self._lines: Counter[int] = Counter()  # by batch

    def calls(self) -> set[bytes]:
        """Return the calls of all lines that are here, or may just be on their way."""
        return {*self._calls.values(), *self._asked}

    def of(self, batch: KeptBatch) -> int:
        """Return how many lines of a batch are here."""
        return self._lines[batch.n]

    def ask(self, calls: Collection[bytes]) -> None:
        """Take note that lines are being claimed with these ids of calls."""
        self._asked.update(calls)

    def take(self, batch: KeptBatch, calls: Collection[bytes], claims: Collection[Claim]) -> None:
        """Take the lines that were claimed with these ids; none where the store has not said which."""
        self._asked.difference_update(calls)
        if not claims:  # no entry, which nobody would remove
            return
        self._calls.update({(batch.n, claim.n, claim.fence): claim.call for claim in claims})
        self._lines[batch.n] += len(claims)

    def let_go(self, batch: KeptBatch, lines: Iterable[Finished | Returned]) -> None:
        """Let go of lines of which the store has kept what came of them."""
        for line in lines:
            del self._calls[batch.n, line.n, line.fence]
            self._lines[batch.n] -= 1
        if not self._lines[batch.n]:
            del self._lines[batch.n]
