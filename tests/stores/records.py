"""Records and a clock for the tests of the stores."""

from __future__ import annotations

import zlib

from headgate.ports import CallIds, Mark, Open, Settle
from headgate.stores.journal import records
from headgate.values import Book, Prices, Usage

PRICES = Prices(150_000, 600_000, 75_000, 150_000, 600_000, 150_000, 600_000)
COSTS = Prices(100_000, 400_000, 50_000, 100_000, 400_000, 100_000, 400_000)
START = 1_763_942_400_000_000  # 2025-11-24 00:00 UTC


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self, wall: int = START) -> None:
        self.now = wall
        self.ns = 0

    def wall(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.ns

    def move(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)
        self.ns += int(seconds * 1e9)


class HandIds(CallIds):
    """Ids by such a clock, which may be turned back."""

    def rewind(self) -> None:
        """Let the next id be later than none."""
        self._last = 0


CLOCK = HandClock()
IDS = HandIds(CLOCK)


def cost_of(given: int, made: int, prices: Prices = PRICES) -> int:
    return -(-(given * prices.input + made * prices.output) // 1000)


def opened(call: bytes | None = None, attempt: int = 0, **changes: object) -> Open:
    fields: dict[str, object] = {
        "call": call or IDS.next(),
        "attempt": attempt,
        "at": CLOCK.wall(),
        "book": Book.REAL,
        "account": 1,
        "project": 1,
        "key": 1,
        "member": 0,
        "operation": "chat",
        "model": "gpt-4o-mini",
        "provider": "openai",
        "upstream_model": "gpt-4o-mini",
        "prices": PRICES,
        "costs": COSTS,
        "hold": 2_000_000,
        "input_bound": 500,
    }
    return Open(**{**fields, **changes})  # type: ignore[arg-type]


def marked(record: Open, made: int, given: int = 300) -> Mark:
    return Mark(record.call, record.attempt, record.at + 1_000_000, Usage(given, made))


def settled(record: Open, given: int = 300, made: int = 200, **changes: object) -> Settle:
    charge = cost_of(given, made, record.prices) if record.prices else 0
    taken = cost_of(given, made, record.costs) if record.costs else 0
    fields: dict[str, object] = {
        "call": record.call,
        "attempt": record.attempt,
        "at": record.at + 2_000_000,
        "status": 200,
        "usage": Usage(given, made),
        "charge": min(charge, record.hold),
        "absorbed": max(0, charge - record.hold),
        "costs": (*([0] * record.attempt), taken),
        "first_byte_us": 900,
        "duration_us": 2_000_000,
    }
    return Settle(**{**fields, **changes})  # type: ignore[arg-type]


def later_version() -> bytes:
    """Return a record of the journal as version 9 will write it."""
    payload = b"\x90"
    check = zlib.crc32(payload, len(payload) << 12 | 9 << 4 | 2)
    return records.HEADER.pack(check, len(payload), 9, 2, 0) + payload
