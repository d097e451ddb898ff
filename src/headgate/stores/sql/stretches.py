"""Which sums a stretch of time is read from: days, hours where a day is cut, calls where an hour is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.stores.sql.series import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros


class Rolls(NamedTuple):
    """A table of sums."""

    table: str
    unit: str  # its column of time
    width_us: int


HOURS: Final = Rolls("usage_hours", "hour", HOUR_US)
DAYS: Final = Rolls("usage_days", "day", 24 * HOUR_US)


class Stretch(NamedTuple):
    """Time that is read from one table: from `start` to before `end`."""

    rolls: Rolls | None  # None: the calls themselves
    start: WallMicros
    end: WallMicros

    @property
    def units(self) -> tuple[int, int]:
        """Return the numbers of its first hour or day, and of the one behind its last."""
        width = self.rolls.width_us if self.rolls is not None else 1
        return self.start // width, self.end // width

    @property
    def begun(self) -> tuple[int, int]:
        """Return the number of the first hour that begins in it, and of the first that begins behind it."""
        return -(-self.start // HOUR_US), -(-self.end // HOUR_US)


def clip(sql: Connection, since: WallMicros, until: WallMicros) -> tuple[WallMicros, WallMicros]:
    """Return the part of a window in which the books have calls; `until` 0: there is no end."""
    first, last = sql.execute(
        "SELECT (SELECT min(hour) FROM usage_hours), (SELECT max(hour) FROM usage_hours)"
    ).fetchone()
    if first is None:
        return since, since
    end = (last + 1) * HOUR_US
    return max(since, first * HOUR_US), min(until or end, end)


def stretches(start: WallMicros, end: WallMicros, group_of: Callable[[WallMicros], object]) -> list[Stretch]:
    """Return what a window is read from, in order, as few as can be.

    Args:
        start: of the window.
        end: of it, not in it.
        group_of: what a moment is summed under: where it changes within an hour, calls are read.
    """
    found: list[Stretch] = []
    for piece in _pieces(start, end, group_of):
        if found and found[-1].rolls is piece.rolls:
            found[-1] = found[-1]._replace(end=piece.end)
        else:
            found.append(piece)
    return found


def _pieces(
    start: WallMicros, end: WallMicros, group_of: Callable[[WallMicros], object]
) -> Iterator[Stretch]:
    while start < end:
        for rolls in (DAYS, HOURS):
            after = start + rolls.width_us
            if start % rolls.width_us == 0 and after <= end and group_of(start) == group_of(after - 1):
                yield Stretch(rolls, start, after)
                break
        else:
            after = min(end, start - start % HOUR_US + HOUR_US)
            yield Stretch(None, start, after)
        start = after
