from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from tests.stores.books import copy_all, figures, journal, make, write
from tests.stores.records import CLOCK, IDS, START, HandClock, opened, settled

from headgate.records import By, CallLine, UsageLine, UsageOrder
from headgate.stores.sql.database import Place, connect
from headgate.stores.sql.recovery import recover
from headgate.stores.sql.reports import SqlReports
from headgate.values import Book

HOUR = 3_600_000_000


def more(data: Place) -> None:
    """Add a second account with two projects, a member and two keys, one of which is its."""
    with closing(connect(data)) as sql:
        sql.execute("INSERT INTO accounts (id, public_id, name, created_at) VALUES (2, 'acct_two', 'b', 0)")
        for number, name in ((2, "proj_two"), (3, "proj_three")):
            sql.execute(
                "INSERT INTO projects (id, public_id, account, name, created_at) VALUES (?, ?, 2, 'p', 0)",
                (number, name),
            )
        sql.execute(
            "INSERT INTO members (id, public_id, account, name, role, created_at)"
            " VALUES (1, 'user_two', 2, 'Li', 'admin', 0)"
        )
        for number, name, member in ((2, "key_two", 1), (3, "key_three", 0)):
            sql.execute(
                "INSERT INTO keys (id, public_id, digest, project, member, kind, name, shown, created_at)"
                " VALUES (?, ?, ?, ?, ?, 'live', 'k', 'sk-hg', 0)",
                (number, name, name.encode(), number, member),
            )


WHO = (
    {"account": 1, "project": 1, "key": 1, "member": 0},
    {"account": 2, "project": 2, "key": 2, "member": 1},
    {"account": 2, "project": 3, "key": 3, "member": 0},
)


def fill(data: Place, *, drained: bool = True) -> list[CallLine]:
    more(data)
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
                **WHO[index // 2 % 3],
            )
            end = settled(record, made=index, status=200 if index % 10 else 502, estimated=index % 7 == 0)
            write(book, [(record, end)])
            if drained and index == 200:
                copy_all(data)  # two thirds in SQL, one third in the journal
    return list(SqlReports(data).calls(UsageOrder()))


@pytest.fixture(scope="module")
def books(shared_place: Place) -> tuple[Place, list[CallLine]]:
    data = make(shared_place)
    return data, fill(data)


def test_a_call_says_everything_about_itself(place: Place) -> None:
    data = make(place)
    record = opened(IDS.next(), at=START + 1_500, streamed=True, model="alias", upstream_model="real")
    end = settled(record)
    with journal(data) as book:
        write(book, [(record, end)])
    due = CallLine(
        request_id="req_" + record.call.hex(),
        opened_at="2025-11-24T00:00:00.001Z",
        book="real",
        account="acct_one",
        project="proj_one",
        member="",
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
    assert list(SqlReports(data).calls(UsageOrder())) == [due]
    copy_all(data)
    assert list(SqlReports(data).calls(UsageOrder())) == [due]


def test_each_call_is_listed_once_wherever_it_is(place: Place) -> None:
    lines = fill(make(place))
    assert len(lines) == 300
    assert len({line.request_id for line in lines}) == 300
    assert figures(place, "SELECT count(*) FROM calls") == [(201,)]


def test_a_retried_call_says_where_it_ended(place: Place) -> None:
    data = make(place)
    first = opened()
    second = opened(first.call, attempt=1, provider="azure", upstream_model="prod")
    with journal(data) as book:
        book.open(first)
        book.open(second)
        book.settle(settled(second))
    (early,) = SqlReports(data).calls(UsageOrder())
    copy_all(data)
    assert list(SqlReports(data).calls(UsageOrder())) == [early]
    assert early.provider == "azure"


def test_a_recovered_call_says_so(place: Place) -> None:
    data = make(place)
    with journal(data) as book:
        book.open(opened())
    assert not list(SqlReports(data).calls(UsageOrder()))
    with closing(connect(data)) as sql:
        recover(data, sql, CLOCK)
    (line,) = SqlReports(data).calls(UsageOrder())
    assert line.estimated
    assert line.recovered


FIELDS = ("account", "project", "member", "key", "model")


def meant(line: CallLine, order: UsageOrder) -> bool:
    at = round(datetime.fromisoformat(line.opened_at).timestamp() * 1e6)
    if at < order.since or (order.until and at >= order.until):
        return False
    if order.book is not None and line.book != order.book.label:
        return False
    wanted = {name: getattr(order, f"{name}s") for name in FIELDS}
    return all(not values or getattr(line, name) in values for name, values in wanted.items())


def expected(lines: list[CallLine], order: UsageOrder, offset_minutes: int) -> list[UsageLine]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * 7)
    where = timezone(timedelta(minutes=offset_minutes))
    for line in lines:
        if not meant(line, order):
            continue
        there = datetime.fromisoformat(line.opened_at).astimezone(where)
        times = {
            "day": there.date().isoformat(),
            "hour": there.isoformat()[:13] + ":00" + there.isoformat()[-6:],
        }
        name = times.get(order.by) or getattr(line, order.by)
        amounts = (
            1,
            line.status >= 400,
            line.estimated,
            line.input_tokens,
            line.output_tokens,
            line.cached_tokens,
            line.cost_nano_usd,
        )
        sums[name] = [old + new for old, new in zip(sums[name], amounts, strict=True)]
    names = UsageLine.__struct_fields__[1:-1]
    return [
        UsageLine(name=name, **dict(zip(names, amounts, strict=True)))
        for name, amounts in sorted(sums.items())
    ]


@pytest.mark.parametrize(
    "by", ["day", "hour", "model", "key", "project", "account", "member", "provider", "book"]
)
@pytest.mark.parametrize(
    ("zone", "minutes"), [("UTC", 0), ("Asia/Kathmandu", 345), ("America/St_Johns", -210)]
)
def test_sums_equal_the_calls_in_any_zone_and_window(
    books: tuple[Place, list[CallLine]], by: By, zone: str, minutes: int
) -> None:
    data, lines = books
    for window in (
        UsageOrder(by=by, tz=zone),
        UsageOrder(by=by, book=Book.SIM, tz=zone),
        UsageOrder(by=by, since=START + 5 * HOUR // 2, until=START + 80 * HOUR + HOUR // 3, tz=zone),
        UsageOrder(by=by, since=START + 3 * HOUR, tz=zone, book=Book.REAL),
    ):
        due = expected(lines, window, minutes)
        assert due
        assert SqlReports(data).sums(window) == due


@pytest.mark.parametrize(
    "wanted",
    [
        {"accounts": ("acct_two",)},
        {"projects": ("proj_one", "proj_three")},
        {"members": ("user_two",)},
        {"keys": ("key_two",), "models": ("gpt-4o", "mine")},
        {"accounts": ("acct_two",), "projects": ("proj_two",), "models": ("gpt-4o",)},
    ],
)
def test_sums_and_calls_of_some_things_equal_those_calls(
    books: tuple[Place, list[CallLine]], wanted: dict[str, tuple[str, ...]]
) -> None:
    data, lines = books
    for by in ("day", "model", "key", "project", "account", "member"):
        order = msgspec.structs.replace(
            UsageOrder(tz="Asia/Kathmandu", since=START + HOUR // 2), by=by, **wanted
        )
        due = expected(lines, order, 345)
        assert due
        assert SqlReports(data).sums(order) == due
        assert list(SqlReports(data).calls(order)) == [line for line in lines if meant(line, order)]


def test_things_that_are_not_there_have_no_calls(place: Place) -> None:
    data = make(place)
    fill(data)
    reports = SqlReports(data)
    for name in ("accounts", "projects", "members", "keys", "models"):
        order = msgspec.structs.replace(UsageOrder(), **{name: ("nothing",)})
        assert reports.sums(order) == []
        assert list(reports.calls(order)) == []


def test_where_a_thing_is(place: Place) -> None:
    data = make(place)
    more(data)
    reports = SqlReports(data)
    assert reports.place("project", "proj_three") == ("acct_two", "proj_three")
    assert reports.place("key", "key_two") == ("acct_two", "proj_two")
    assert reports.place("member", "user_two") == ("acct_two", "")
    assert [reports.place(kind, "x") for kind in ("project", "key", "member")] == [None] * 3


def test_the_books_of_some_things_are_those_with_calls_of_theirs(place: Place) -> None:
    data = make(place)
    more(data)
    record = opened(account=2, project=2, key=2, member=1, book=Book.SIM)
    with journal(data) as book:
        write(book, [(first := opened(), settled(first)), (record, settled(record))])
    reports = SqlReports(data)
    assert reports.books(UsageOrder()) == {Book.REAL, Book.SIM}
    assert reports.books(UsageOrder(accounts=("acct_two",), since=START + HOUR)) == {Book.SIM}


def test_empty_books_have_no_lines(place: Place) -> None:
    data = make(place)
    assert SqlReports(data).sums(UsageOrder(by="day")) == []
    assert list(SqlReports(data).calls(UsageOrder())) == []


def test_a_report_while_the_drain_works_counts_each_call_once(place: Place) -> None:
    data = make(place)
    with journal(data, segment_bytes=4096) as book:
        for index in range(120):
            record = opened()
            write(book, [(record, settled(record))])
            if index % 17 == 0:
                copy_all(data)
                assert sum(line.calls for line in SqlReports(data).sums(UsageOrder(by="book"))) == index + 1
            assert len(list(SqlReports(data).calls(UsageOrder()))) == index + 1


def test_instants_are_utc() -> None:
    assert datetime(2025, 11, 24, tzinfo=UTC).timestamp() * 1e6 == START
