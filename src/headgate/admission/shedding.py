"""Which new calls are refused while this process has more to do than it can. Pure; it is told of the time.

It is overloaded when its loop has run late for a while by its own work, or while more calls are open than
its memory holds. The share of new calls that is refused then grows and shrinks with that. Batch calls are
refused first; of the others each key gets as many in as everybody could have (max-min), so only those that
ask the most lose any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.errors import Crowded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

    from headgate.values import Principal

_LATE_S: Final = 0.025  # of the loop
_STEP: Final = 0.381966  # of a second: fills it evenly, however many there are
_BUSY: Final = 0.3  # of a core: else others keep it from its work, and fewer calls do not help
_ROW: Final = 3  # times in a row,
_FOR_S: Final = 0.75  # and so long, since a burst makes it late, too
_LEAST_ROOM: Final = 50  # calls that are let in between two looks, in any case
_FEWER: Final = 0.7  # times as many are let in after it was late,
_MORE, _AT_LEAST = 1.1, 0.005  # and so many times as many, and this share of them, after it was not
_FEWEST: Final = 0.01  # of new calls


class Shedder:
    """Refuse new calls. One per process.

    Args:
        calls: that are open.
        most: so many may be.
    """

    __slots__ = (
        "_batch", "_calls", "_came", "_credit", "_late", "_late_s", "_most", "_quota", "_spread", "active",
        "share",
    )  # fmt: skip

    def __init__(self, calls: Sized, most: int) -> None:
        self.active = False  # else every call goes in, and nobody asks
        self.share = 0.0  # of new calls that are refused
        self._calls = calls
        self._most = most
        self._late = 0  # times in a row,
        self._late_s = 0.0  # and together
        self._came: dict[int, int] = {}  # calls since the last tick, by key
        self._batch: set[int] = set()  # keys of them whose calls are batch
        self._credit: dict[int, float] = {}  # calls that a key may still make
        self._quota = 0.0  # of a key until the next tick
        self._spread = 0.0

    def tick(self, late_s: float, busy: float) -> None:
        """Take in how late the loop was, and which share of a core it had; twenty times a second at most."""
        if late_s > _LATE_S and busy > _BUSY:
            self._late += 1
            self._late_s += late_s
        else:
            self._late, self._late_s = 0, 0.0
        if (self._late >= _ROW and self._late_s >= _FOR_S) or (self._late and self.share):
            self.share = 1 - max(_FEWEST, (1 - self.share) * _FEWER)
        elif not self._late:
            self.share = 1 - min(1.0, (1 - self.share) * _MORE + _AT_LEAST)
        came, self._came = self._came, {}
        self.active = self.share > 0 or len(self._calls) * 10 >= self._most * 9
        if not self.active:
            self._credit, self._batch = {}, set()
            return
        room = max(_LEAST_ROOM, sum(came.values()) * (1 - self.share))
        own = {key: count for key, count in came.items() if key not in self._batch}
        self._quota = level(own.values(), room)
        rest = level([came[key] for key in came if key not in own], max(0.0, room - sum(own.values())))
        self._credit = {
            key: min(self._credit.get(key, 0.0), 1.0) + (self._quota if key in own else rest) for key in came
        }

    def admits(self, principal: Principal) -> bool:
        """Say whether a new call goes in."""
        key, batch = principal.key, principal.priority == "batch"
        self._came[key] = self._came.get(key, 0) + 1
        if batch:
            self._batch.add(key)
        if len(self._calls) >= self._most:
            return False
        if not self.share:
            return True
        credit = self._credit.get(key)
        if credit is None:  # who has not asked before has one call at least
            credit = 0.0 if batch else 1.0 + self._quota
        self._credit[key] = max(0.0, credit - 1.0)
        return credit >= 1.0

    def refusal(self) -> Crowded:
        """Return the refusal of a call, with a time to come back that differs from that of the others."""
        self._spread = (self._spread + _STEP) % 1.0
        return Crowded(
            "The gateway has more to do than it can. Try again in a moment.", retry_after_s=1.0 + self._spread
        )


def level(wants: Iterable[int], room: float) -> float:
    """Return how much each of some may have at most, so that all together have no more than there is room."""
    ordered = sorted(wants)
    for index, want in enumerate(ordered):
        each = room / (len(ordered) - index)
        if want > each:
            return each
        room -= want
    return room + (ordered[-1] if ordered else 0)
