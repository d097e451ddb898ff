from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from tests.stores.books import copy_all, figures, journal, make, write
from tests.stores.records import CLOCK, IDS, START, HandClock, opened, settled

from headgate.stores.sql.database import connect
from headgate.stores.sql.recovery import recover
from headgate.stores.sql.reports import CallLine, Group, UsageLine, Window, calls, usage
from headgate.values import Book

HOUR = 3_600_000_000


def fill(data: Path, *, drained: bool = True) -> list[CallLine]:
    clock = HandClock()
    with journal(data) as book:
        for index in range(300):
            clock.now = START + index * HOUR // 3
            call = ((clock.now // 1000) << 80 | 7 << 76 | 2 << 62 | index).to_bytes(16)
            record = opened(
                call,
                at=clock.now,
                book=Book(index % 2),
                model=("gpt-4o", "gpt-4o-mini", "mine")[index % 3],
                provider=("openai", "azure")[index // 4 % 2],
            )
            end = settled(record, made=index, status=200 if index % 10 else 502, estimated=index % 7 == 0)
            write(book, [(record, end)])
            if drained and index == 200:
                copy_all(data)  # two thirds in SQL, one third in the journal
    return list(calls(data, Window()))


def test_a_call_says_everything_about_itself(tmp_path: Path) -> None:
    data = make(tmp_path)
    record = opened(IDS.next(), at=START + 1_500, streamed=True, model="alias", upstream_model="real")
    end = settled(record)
    with journal(data) as book:
        write(book, [(record, end)])
    due = CallLine(
        request_id="req_" + record.call.hex(),
        opened_at="2025-11-24T00:00:00.001Z",
        book="real",
        key="key_one",
        provider="openai",
        model="alias",
        operation="chat",
        status=200,
        input_tokens=300,
        output_tokens=200,
        cached_tokens=0,
        cost_nano_usd=end.charge,
        estimated=False,
        recovered=False,
        duration_us=2_000_000,
    )
    assert list(calls(data, Window())) == [due]
    copy_all(data)
    assert list(calls(data, Window())) == [due]


def test_each_call_is_listed_once_wherever_it_is(tmp_path: Path) -> None:
    lines = fill(make(tmp_path))
    assert len(lines) == 300
    assert len({line.request_id for line in lines}) == 300
    assert figures(tmp_path, "SELECT count(*) FROM calls") == [(201,)]


def test_a_retried_call_says_where_it_ended(tmp_path: Path) -> None:
    data = make(tmp_path)
    first = opened()
    second = opened(first.call, attempt=1, provider="azure", upstream_model="prod")
    with journal(data) as book:
        book.open(first)
        book.open(second)
        book.settle(settled(second))
    (early,) = calls(data, Window())
    copy_all(data)
    assert list(calls(data, Window())) == [early]
    assert early.provider == "azure"


def test_a_recovered_call_says_so(tmp_path: Path) -> None:
    data = make(tmp_path)
    with journal(data) as book:
        book.open(opened())
    assert not list(calls(data, Window()))
    with closing(connect(data)) as sql:
        recover(data, sql, CLOCK)
    (line,) = calls(data, Window())
    assert line.estimated
    assert line.recovered


def expected(lines: list[CallLine], by: Group, window: Window, offset_minutes: int) -> list[UsageLine]:
    sums: dict[str, UsageLine] = defaultdict(lambda: UsageLine(""))
    where = timezone(timedelta(minutes=offset_minutes))
    for line in lines:
        instant = datetime.fromisoformat(line.opened_at)
        at = round(instant.timestamp() * 1e6)
        if not window.holds(at, Book[line.book.upper()]):
            continue
        name = instant.astimezone(where).date().isoformat() if by == "day" else getattr(line, by)
        sums[name].name = name
        sums[name].add(
            (
                1,
                line.status >= 400,
                line.estimated,
                line.input_tokens,
                line.output_tokens,
                line.cached_tokens,
                line.cost_nano_usd,
            )
        )
    return [sums[name] for name in sorted(sums)]


@pytest.mark.parametrize("by", ["day", "model", "key", "provider", "book"])
@pytest.mark.parametrize(
    ("zone", "minutes"), [("UTC", 0), ("Asia/Kathmandu", 345), ("America/St_Johns", -210)]
)
def test_sums_equal_the_calls_in_any_zone_and_window(
    tmp_path: Path, by: Group, zone: str, minutes: int
) -> None:
    data = make(tmp_path)
    lines = fill(data)
    for window in (
        Window(tz=zone),
        Window(book=Book.SIM, tz=zone),
        Window(since=START + 5 * HOUR // 2, until=START + 80 * HOUR + HOUR // 3, tz=zone),
        Window(since=START + 3 * HOUR, tz=zone, book=Book.REAL),
    ):
        due = expected(lines, by, window, minutes)
        assert due
        assert usage(data, by, window) == due


def test_empty_books_have_no_lines(tmp_path: Path) -> None:
    data = make(tmp_path)
    assert usage(data, "day", Window()) == []
    assert list(calls(data, Window())) == []


def test_a_report_while_the_drain_works_counts_each_call_once(tmp_path: Path) -> None:
    data = make(tmp_path)
    with journal(data, segment_bytes=4096) as book:
        for index in range(120):
            record = opened()
            write(book, [(record, settled(record))])
            if index % 17 == 0:
                copy_all(data)
                assert sum(line.calls for line in usage(data, "book", Window())) == index + 1
            assert len(list(calls(data, Window()))) == index + 1


def test_instants_are_utc() -> None:
    assert datetime(2025, 11, 24, tzinfo=UTC).timestamp() * 1e6 == START
