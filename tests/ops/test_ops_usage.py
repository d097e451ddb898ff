from collections.abc import Iterator

import pytest

from headgate.errors import CallerError, PermissionRefused
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.usage import CallLine, UsageLine, UsageOrder, calls, usage
from headgate.values import Book


class FakeReports:
    """Calls in memory, one list for each book."""

    def __init__(self, real: int, sim: int) -> None:
        self.counts = {Book.REAL: real, Book.SIM: sim}

    def books(self) -> frozenset[Book]:
        return frozenset(book for book, count in self.counts.items() if count)

    def calls(self, order: UsageOrder) -> Iterator[CallLine]:
        assert order.book is not None
        for number in range(self.counts[order.book]):
            yield CallLine(
                request_id=f"req_{number}",
                opened_at="2026-11-23T00:00:00Z",
                book=order.book.label,
                key="key_1",
                provider="openai",
                model="m",
                operation="chat",
                status=200,
                input_tokens=3,
                output_tokens=4,
                cached_tokens=0,
                cost_nano_usd=5,
                estimated=False,
                recovered=False,
                duration_us=6,
            )

    def sums(self, order: UsageOrder) -> list[UsageLine]:
        return [
            UsageLine(name=str(number), calls=1, input_tokens=3, cost_nano_usd=5)
            for number, _ in enumerate(self.calls(order))
        ]


@pytest.mark.parametrize(
    ("real", "sim", "book"), [(2, 3, "real"), (0, 3, "sim"), (2, 0, "real"), (0, 0, "real")]
)
def test_real_money_is_meant_unless_only_play_money_was_spent(real: int, sim: int, book: str) -> None:
    used = usage(LOCAL, FakeReports(real, sim), UsageOrder())
    assert used.book == book
    assert used.total == UsageLine(
        name="total",
        calls=len(used.rows),
        input_tokens=3 * len(used.rows),
        cost_nano_usd=5 * len(used.rows),
    )


def test_a_book_that_is_asked_for_is_the_one() -> None:
    rows = list(calls(LOCAL, FakeReports(2, 3), UsageOrder(book=Book.SIM)))
    assert [row.book for row in rows] == ["sim"] * 3


@pytest.mark.parametrize(
    ("order", "param"), [(UsageOrder(tz="X"), "tz"), (UsageOrder(since=5, until=5), "until")]
)
def test_an_order_that_makes_no_sense_names_its_member(order: UsageOrder, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        usage(LOCAL, FakeReports(1, 1), order)
    assert caught.value.param == param


def test_only_an_owner_sees_usage() -> None:
    with pytest.raises(PermissionRefused):
        usage(Actor("guest"), FakeReports(1, 1), UsageOrder())
