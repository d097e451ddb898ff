"""Calls that are booked as a series leave the same books as calls that are booked one by one."""

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.stores.books import anywhere, figures, make
from tests.stores.records import COSTS, PRICES, START, opened, settled

from headgate.money.rules import entries, is_plain
from headgate.ports import Lost, Source
from headgate.stores.journal.cursor import Settled
from headgate.stores.journal.segments import Position
from headgate.stores.sql import ledger
from headgate.stores.sql.database import Place
from headgate.stores.sql.ledger import Books
from headgate.values import Book, Prices, Usage

MINUTE = 60_000_000
MIDDLE = 110  # ten calls before half past six, when a day begins in Kolkata
DEARER = Prices(300_000, 900_000, 150_000, 300_000, 900_000, 300_000, 900_000)
TABLES = {
    "calls": "call, seq, book, account, project, key, member, parent, attempt, operation, model, provider, upstream,"
    " opened_at, settled_at, status, flags, input, output, cached, cache_write, reasoning, input_audio, output_audio,"
    " prices, costs, hold, charge, absorbed, cost, first_byte_us, duration_us, more",
    "entries": "call, kind, attempt, n, book, debit, credit, amount",
    "lost": "*",
    "balances": "*",
    "usage_hours": "*",
    "usage_days": "*",
    "key_uses": "*",
    "books": "*",
    "pots": "kind, ref, period, book, since, until, amount, spent, over",
    "slices": "pot, slot, amount",
    "events": "kind, ref, name",
}
WORDS = {  # columns that hold ids which a database gives, and the tables that say of what
    "calls": {9: "names", 10: "names", 11: "names", 12: "names", 24: "price_rows", 25: "price_rows"},
    "entries": {5: "ledger_accounts", 6: "ledger_accounts"},
    "balances": {0: "ledger_accounts"},
    "usage_hours": {5: "names", 6: "names"},
    "usage_days": {5: "names", 6: "names"},
    "lost": {2: "names", 3: "names", 12: "price_rows"},
}


def drawn(chance: random.Random, number: int) -> Settled:
    """Return a call: mostly a plain one, of a few keys and models, sometimes of a kind that has more to tell."""
    at = START + 1_050 * MINUTE + number * MINUTE // 2 - chance.choice([0] * 8 + [20, 50]) * MINUTE
    call = (at // 1000 << 80 | 7 << 76 | 2 << 62 | number).to_bytes(16)
    key = chance.choice([1, 1, 1, 2])  # of the second one prices change all the time
    which: dict[str, Any] = {
        "at": at,
        "key": key,
        "book": Book(int(chance.random() < 0.2)),
        "model": chance.choice(["gpt-4o"] * 6 + ["gpt-4o-mini"]),
        "streamed": chance.random() < 0.1,
        "pots": chance.choice([()] * 6 + [(1,), (1, 2)]),
        "member": int(chance.random() < 0.1),
        "prices": PRICES if key == 1 else chance.choice([PRICES, DEARER]),
        "costs": COSTS if key == 1 else chance.choice([COSTS, PRICES]),
        "purse": chance.choice([""] * 8 + ["batch:1"]),
        "hold": chance.choice([2_000_000] * 9 + [90_000]),
    }
    if chance.random() < 0.2:
        which["sources"] = (Source(3, chance.randint(1, 2), 2_000_000),)
    if chance.random() < 0.1:
        which |= chance.choice(
            [
                {"sources": (Source(3, 1, 40_000), Source(4, 2, 1_960_000))},
                {"prices": None, "costs": None, "sources": ()},
                {"parent": b"\1" * 16},
                {"replay_of": "02" * 16},
            ]
        )
    record = opened(call, **which)
    how: dict[str, Any] = {}
    usage = Usage(chance.randint(1, 240), chance.randint(1, 300), chance.choice([0, 0, 7]))
    if chance.random() < 0.1:
        how = chance.choice(
            [
                {"estimated": True},
                {"status": 502, "usage": Usage(), "charge": 0, "absorbed": 0, "costs": (0,)},
                {"status": 499, "usage": Usage(5, 0, 1, 1, 0, 2)},
                {"usage": Usage(3, 4, more=(("second", 3),))},
                {"lost": (Lost(0, Usage(9, 1)),)},
            ]
        )
    settle = settled(record, usage.input_tokens, usage.output_tokens, **{"usage": usage, **how})
    opens = [record]
    if chance.random() < 0.05:
        opens.append(opened(call, 1, **{**which, "provider": "azure", "hold": 2_000_000}))
        settle = settled(opens[-1], usage.input_tokens, usage.output_tokens, usage=usage)
    return Settled(opens, settle, recovered=chance.random() < 0.05)


def furnish(data: Place) -> None:
    """Make budgets with periods of every kind, pots with slices, and a grant in each of two pots."""
    with closing(anywhere(data)) as sql:
        for number, (scope, unit, tz) in enumerate(
            [("key", "month", "UTC"), ("account", "month", "UTC"), ("project", "total", "UTC")], 1
        ):
            for book in (0, 1):
                sql.execute(
                    "INSERT INTO budgets (scope, ref, book, origin, public_id, amount, unit, tz, created_at)"
                    " VALUES (?, 1, ?, 'config', ?, 900000000, ?, ?, 0)",
                    (scope, book, f"budget_{number}_{book}", unit, tz),
                )
        for number, kind in enumerate(("budget", "budget", "grant", "grant"), 1):
            sql.execute(
                "INSERT INTO pots (kind, ref, period, book, since, until, amount, spent)"
                " VALUES (?, ?, 'made', 0, 0, ?, 10000000000, 0)",
                (kind, 90 + number, 2**62),
            )
            for slot in ("slot-0", "batch:1"):
                sql.execute(
                    "INSERT INTO slices (pot, slot, amount) VALUES (?, ?, 1000000000)", (number, slot)
                )


def look(data: Place) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is in the books, with the words that ids stand for."""
    words: dict[str, dict[int, str]] = {
        "names": dict(figures(data, "SELECT id, name FROM names")),
        "price_rows": {0: "", **dict(figures(data, "SELECT id, prices FROM price_rows"))},
        "ledger_accounts": dict(figures(data, "SELECT id, code || ' ' || book FROM ledger_accounts")),
    }
    found = {}
    for table, columns in TABLES.items():
        meant = {at: words[kind] for at, kind in WORDS.get(table, {}).items()}
        found[table] = sorted(
            (
                tuple(meant[at][value] if at in meant else value for at, value in enumerate(row))
                for row in figures(data, f"SELECT {columns} FROM {table}")
            ),
            key=repr,
        )
    return found


def change(sql: Any, number: int) -> None:
    """Change a budget, as people do: in the middle of all to one whose days begin within an hour."""
    sql.execute("UPDATE budgets SET amount = amount + 1 WHERE id = 1")
    if number == MIDDLE:
        sql.execute("UPDATE budgets SET unit = 'day', tz = 'Asia/Kolkata' WHERE scope = 'key'")
    sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('budget', 'budget_1_0', 0)")


@pytest.mark.parametrize("seed", range(3))
def test_a_series_leaves_the_books_as_single_calls_do(
    place: Place, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_MOST_SERIES", 30)  # so that it comes to that
    chance = random.Random(seed)
    calls = [drawn(chance, number) for number in range(240)]
    apart = sorted({MIDDLE, 130, *chance.sample([*range(1, 100), *range(160, 240)], 5)})
    other = tmp_path / "other"
    for data in (place, other):
        furnish(make(data))
    with closing(anywhere(place)) as sql:
        books = Books(sql)
        for since, until in zip([0, *apart], [*apart, 240], strict=True):
            books.post(calls[since:until], "slot-0", Position(1, until))
            change(sql, until)
    with closing(anywhere(other)) as sql:
        sql.sync_less()
        for number, item in enumerate(calls, 1):
            Books(sql).post([item], "slot-0", Position(1, number))
            if number in apart:
                change(sql, number)
        change(sql, 240)
    found, due = look(place), look(other)
    for table in TABLES:
        assert found[table] == due[table], table
    assert {row[2] for row in found["pots"]} > {"made"}
    assert sum(is_plain(item.opens, item.settle) for item in calls) > 120


def test_plain_calls_of_one_account_grant_and_provider_differ_in_amounts_alone() -> None:
    chance = random.Random(5)
    forms: dict[tuple[Any, ...], Any] = {}
    for number in range(3_000):
        item = drawn(chance, number)
        if is_plain(item.opens, item.settle):
            first, booked = item.opens[0], entries(item.opens, item.settle)
            assert [row[-1] for row in booked] == [item.settle.charge, *item.settle.costs]
            grant = first.sources[0].grant if first.sources else 0
            form = [row[:-1] for row in booked]
            assert forms.setdefault((first.account, grant, first.provider), form) == form
    assert len(forms) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"absorbed": 1},
        {"charge": 0},
        {"charge": 2_000_001},
        {"costs": (0,)},
        {"costs": (1, 2)},
        {"attempt": 1},
        {"lost": (Lost(0, Usage(1)),)},
        {"promoted": 1},
        {"tokens": 1},
        {"usage": Usage(1, 1, more=(("second", 1),))},
    ],
)
def test_what_books_more_is_not_plain(changes: dict[str, Any]) -> None:
    record = opened(sources=(Source(3, 1, 2_000_000),))
    assert is_plain([record], settled(record))
    assert not is_plain([record], settled(record, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": b"\1" * 16},
        {"replay_of": "02" * 16},
        {"sources": (Source(3, 1, 1_000_000), Source(4, 2, 1_000_000))},
        {"sources": (Source(3, 1, 2_000_000, 900),)},
    ],
)
def test_what_was_opened_as_something_else_is_not_plain(changes: dict[str, Any]) -> None:
    record = opened(**changes)
    assert not is_plain([record], settled(record))
    assert not is_plain([opened(), opened()], settled(record))
