"""What was used and what it cost: from SQL and the journals' tails, the server running or dead."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import msgspec

from headgate.stores.interim.recovery import replay
from headgate.stores.sql.database import connect
from headgate.values import Book, WallMicros

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


Group = Literal["day", "model", "key", "provider", "book"]
_ESTIMATED = 1


class CallLine(msgspec.Struct, frozen=True):
    """One settled call."""

    request_id: str
    opened_at: str
    book: str
    key: str
    provider: str
    model: str
    operation: str
    status: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nano_usd: int
    estimated: bool
    duration_us: int


class UsageLine(msgspec.Struct):
    """The sum of the calls of one group."""

    name: str
    calls: int = 0
    failed: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nano_usd: int = 0


class Window(msgspec.Struct, frozen=True):
    """Which calls: opened at `since` or later and before `until` (0: no bound), in one book or all."""

    since: WallMicros = 0
    until: WallMicros = 0
    book: Book | None = None
    tz: str = "UTC"


_CALLS = (
    "SELECT c.call, c.opened_at, c.book, coalesce(k.public_id, ''), p.name, m.name, o.name, c.status, c.input,"
    " c.output, c.cached, c.charge, c.flags, c.duration_us FROM calls c"
    " JOIN names p ON p.id = c.provider JOIN names m ON m.id = c.model JOIN names o ON o.id = c.operation"
    " LEFT JOIN keys k ON k.id = c.key"
    " WHERE c.opened_at >= ? AND c.opened_at < ? ORDER BY c.call"
)


def calls(data: Path, window: Window) -> Iterator[CallLine]:
    """Yield each settled call once, in order of its id."""
    until = window.until or 2**62
    # The journals first: a call that is drained in between is then found in SQL and counted once.
    tails = [replay(folder) for folder in sorted((data / "journal").glob("slot-*"))]
    sql = connect(data, read_only=True)
    try:
        keys = dict(sql.execute("SELECT id, public_id FROM keys").fetchall())
        seen = set()
        for row in sql.execute(_CALLS, (window.since, until)):
            seen.add(row[0])
            if window.book is None or row[2] == window.book:
                yield _line(row)
        for opened, settled, _ in (pair for tail in tails for pair in tail.settled):
            inside = window.since <= opened.at < until
            if opened.call in seen or not inside or (window.book is not None and opened.book != window.book):
                continue
            seen.add(opened.call)
            usage = settled.usage
            yield _line(
                (
                    opened.call, opened.at, int(opened.book), keys.get(opened.key, ""), opened.provider,
                    opened.model, opened.operation, settled.status, usage.input_tokens, usage.output_tokens,
                    usage.cached_tokens, settled.charge, int(settled.estimated), settled.duration_us,
                )
            )  # fmt: skip
    finally:
        sql.close()


def _line(row: tuple[object, ...]) -> CallLine:
    call, opened_at, book, key, provider, model, operation, status, given, made, cached, charge, flags, us = (
        row
    )
    at = datetime.fromtimestamp(int(opened_at) / 1e6, ZoneInfo("UTC"))  # type: ignore[call-overload]
    return CallLine(
        request_id="req_" + bytes(call).hex(),  # type: ignore[call-overload]
        opened_at=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        book=Book(book).label,
        key=str(key),
        provider=str(provider),
        model=str(model),
        operation=str(operation),
        status=int(status),  # type: ignore[call-overload]
        input_tokens=int(given),  # type: ignore[call-overload]
        output_tokens=int(made),  # type: ignore[call-overload]
        cached_tokens=int(cached),  # type: ignore[call-overload]
        cost_nano_usd=int(charge),  # type: ignore[call-overload]
        estimated=bool(int(flags) & _ESTIMATED),  # type: ignore[call-overload]
        duration_us=int(us),  # type: ignore[call-overload]
    )


def usage(data: Path, by: Group, window: Window) -> list[UsageLine]:
    """Return sums by group, in the group's order."""
    zone = ZoneInfo(window.tz)
    sums: dict[str, UsageLine] = {}
    for call in calls(data, window):
        name = _day(call.opened_at, zone) if by == "day" else str(getattr(call, by))
        line = sums.setdefault(name, UsageLine(name))
        line.calls += 1
        line.failed += call.status >= 400
        line.estimated += call.estimated
        line.input_tokens += call.input_tokens
        line.output_tokens += call.output_tokens
        line.cached_tokens += call.cached_tokens
        line.cost_nano_usd += call.cost_nano_usd
    return [sums[name] for name in sorted(sums)]


def _day(stamp: str, zone: ZoneInfo) -> str:
    return datetime.fromisoformat(stamp).astimezone(zone).date().isoformat()
