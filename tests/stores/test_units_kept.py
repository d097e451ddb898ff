"""What calls used in other units than tokens: in the journal, the books, the reports and the check."""

from contextlib import closing

import msgspec
import pytest
from tests.stores.books import copy_all, drop_trigger, figures, journal, make, write
from tests.stores.records import CLOCK, START, opened, settled

from headgate.money.cost import cost, upper_bound
from headgate.ports import Lost, Open, Settle
from headgate.records import UsageOrder
from headgate.stores.sql.check import check
from headgate.stores.sql.database import Place, connect
from headgate.stores.sql.recovery import recover
from headgate.stores.sql.reports import SqlReports
from headgate.values import Prices, Usage

PRICES = Prices(input=1_000, more=(("image", 40_000_000_000), ("second", 100_000_000)))
USED = Usage(12, more=(("image:1024x1024", 2), ("second", 30), ("image:1024x1024", 1)))


def painted(**changes: object) -> tuple[Open, Settle]:
    record = opened(
        operation="chat", prices=PRICES, costs=PRICES, hold=10**9, units=(("image:1024x1024", 3),), **changes
    )
    due = cost(USED, PRICES)
    return record, settled(record, usage=USED, charge=due, absorbed=0, costs=(due,))


def test_they_reach_the_books_and_the_check_finds_them_right(place: Place) -> None:
    data = make(place)
    plain = opened()
    with journal(data) as book:
        write(book, [painted(), (plain, settled(plain))])
        copy_all(data)
        write(book, [painted()])
    assert figures(data, "SELECT more FROM calls ORDER BY call") == [
        ("",),
        ('{"image:1024x1024":3,"second":30}',),
    ]
    assert check(data, START).findings == []


@pytest.mark.parametrize("more", ['{"image:1024x1024":2,"second":30}', "", '{"second":-1}', "nonsense"])
def test_the_check_finds_changed_counts(place: Place, more: str) -> None:
    data = make(place)
    with journal(data) as book:
        write(book, [painted()])
        copy_all(data)
    with closing(connect(data)) as sql:
        drop_trigger(sql, "calls", "update")
        sql.execute("UPDATE calls SET more = ?", (more,))
    assert "amount" in {finding.kind for finding in check(data, START).findings}


def test_reports_show_them_by_call_and_in_sums(place: Place) -> None:
    data = make(place)
    plain = opened()
    with journal(data) as book:
        write(book, [painted(), (plain, settled(plain))])
        copy_all(data)
        write(book, [painted()])
    order = UsageOrder(by="model")
    each = {"image:1024x1024": 3, "second": 30}
    assert [line.units for line in SqlReports(data).calls(order)] == [{}, each, each]
    (line,) = SqlReports(data).sums(order)
    assert line.units == {"image:1024x1024": 6, "second": 60}
    assert SqlReports(data).sums(UsageOrder(by="day", since=CLOCK.wall() + 1)) == []


def test_an_attempt_that_failed_keeps_its_own(place: Place) -> None:
    data = make(place)
    first, _ = painted()
    lost = (Lost(0, USED),)
    second = msgspec.structs.replace(first, attempt=1, provider="azure", lost=lost)
    due = cost(USED, PRICES)
    end = settled(second, usage=USED, charge=due, absorbed=0, costs=(due, due), lost=lost)
    with journal(data) as book:
        book.open(first)
        write(book, [(second, end)])
        copy_all(data)
    assert figures(data, "SELECT more FROM lost") == [('{"image:1024x1024":3,"second":30}',)]
    assert check(data, START).findings == []


def test_a_call_that_was_cut_is_charged_its_hold_and_its_units_say_why(place: Place) -> None:
    data = make(place)
    hold = upper_bound(500, 0, PRICES, (("image:1024x1024", 3),))
    record, _ = painted()
    with journal(data) as book:
        book.open(msgspec.structs.replace(record, hold=hold))
    with closing(connect(data)) as sql:
        recover(data, sql, CLOCK)
    assert figures(data, "SELECT charge, more FROM calls") == [(hold, '{"image:1024x1024":3}')]
    assert check(data, START).findings == []


def test_records_of_before_are_read(place: Place) -> None:
    old = msgspec.msgpack.encode([1, 2, 3, 4, 5, 6, 7])
    assert msgspec.msgpack.decode(old, type=Usage) == Usage(1, 2, 3, 4, 5, 6, 7)
    fields = list(msgspec.structs.astuple(opened()))[:-1]
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Open)
    assert found.units == ()
