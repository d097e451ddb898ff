"""What providers' headers say of their limits, right ones and absurd ones."""

from __future__ import annotations

import pytest

from headgate.ports import Head
from headgate.providers.told import told
from headgate.wire.limits import Left, Told

S = 1_000_000_000


def head(limit: str, left: str, reset: str, what: str = "requests", start: str = "x-ratelimit-") -> Head:
    rows = {f"{start}limit-{what}": limit, f"{start}remaining-{what}": left, f"{start}reset-{what}": reset}
    return Head(200, tuple((name.encode(), value.encode()) for name, value in rows.items() if value))


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("1s", 1), ("6m0s", 360), ("12ms", 0.012), ("1.5s", 1.5), ("7.66", 7.66), ("2", 2), ("1h1m1s", 3661)],
)
def test_a_reset_is_read_in_every_form(reset: str, seconds: float) -> None:
    assert told(head("60", "59", reset)) == Told(Left(60, 59, pytest.approx(seconds * S)))


def test_both_limits_are_read() -> None:
    both = Head(200, (*head("60", "0", "1s").headers, *head("40000", "39", "6m0s", "tokens").headers))
    assert told(both) == Told(Left(60, 0, S), Left(40_000, 39, 360 * S))


@pytest.mark.parametrize("limit", ["-1", "", "0", "x", "1e3", "9" * 40, "60.5"])
def test_an_absurd_limit_is_ignored(limit: str) -> None:
    assert told(head(limit, "0", "1s")) == Told()


@pytest.mark.parametrize("left", ["-1", "", "x", "61", "1000000000", "٣", "1_0"])
def test_an_absurd_rest_is_ignored(left: str) -> None:
    assert told(head("60", left, "1s")) == Told()


@pytest.mark.parametrize("reset", ["-1", "", "soon", "1e9", "1000000000", "999h", "1s 2s", "2020-01-01", "s"])
def test_an_absurd_reset_is_ignored(reset: str) -> None:
    assert told(head("60", "0", reset)) == Told()


def claude(reset: str, date: str = "Thu, 26 Nov 2026 10:00:00 GMT") -> Head:
    names = (b"limit", b"remaining", b"reset")
    rows = zip(names, (b"50", b"0", reset.encode()), strict=True)
    return Head(
        429,
        (
            *((b"anthropic-ratelimit-requests-" + name, value) for name, value in rows),
            (b"date", date.encode()),
        ),
    )


def test_an_instant_is_counted_from_the_answers_own_date() -> None:
    assert told(claude("2026-11-26T10:00:07Z")) == Told(Left(50, 0, 7 * S))


@pytest.mark.parametrize(
    ("reset", "date"),
    [
        ("2026-11-26T09:59:00Z", "Thu, 26 Nov 2026 10:00:00 GMT"),
        ("2026-11-26T10:00:07Z", "yesterday"),
        ("2026-11-26T10:00:07", "Thu, 26 Nov 2026 10:00:00 GMT"),
        ("2036-11-26T10:00:07Z", "Thu, 26 Nov 2026 10:00:00 GMT"),
    ],
)
def test_an_absurd_instant_is_ignored(reset: str, date: str) -> None:
    assert told(claude(reset, date)) == Told()
