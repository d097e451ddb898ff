"""Credit in the books: what postings and calls move, and every corruption of it that the check must find."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.books import copy_all, drop_trigger, figures, journal, make, spoken, write
from tests.stores.copies import filled
from tests.stores.grants import DAY, USD, Credit, balance_of, ended
from tests.stores.records import CLOCK, START, cost_of, marked, opened
from tests.stores.test_check import plant

from headgate.ports import Source
from headgate.stores.sql import pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.check import check
from headgate.stores.sql.database import Place, connect
from headgate.stores.sql.postings import expirable, expire, owed, paid
from headgate.stores.sql.recovery import recover

PRICE = cost_of(300, 200)  # of a call as `Credit.call` makes them
CODE = (
    "INSERT INTO codes (digest, public_id, shown, book, amount, redeemed_at, redeemed_by, created_by,"
    " created_at) VALUES (x'01', 'code_a', 'HG', 0, 7, 5, 1, 'local', 1)"
)


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    CLOCK.now = START
    yield
    CLOCK.now = START


@pytest.fixture
def data(place: Place) -> Path:
    return make(place)


@pytest.fixture
def credit(data: Place) -> Iterator[Credit]:
    made = Credit(data)
    yield made
    made.close()


def spend(data: Place, credit: Credit, holds: list[int]) -> None:
    """Make one call after the other, each booked before the next one is held."""
    with journal(data) as book:
        for hold in holds:
            call = credit.call(hold)
            assert call is not None
            write(book, [call])
            copy_all(data)


def findings(data: Place) -> list[str]:
    return [f"{each.kind}: {each.detail}" for each in check(data, CLOCK.wall()).findings]


# ── what is booked ───────────────────────────────────────────────────────────────────────────────


def test_a_call_is_paid_by_the_first_grant_to_expire_then_by_the_next(data: Place, credit: Credit) -> None:
    credit.top_up(5 * USD)
    credit.give(PRICE // 2, expires_at=CLOCK.wall() + 2 * DAY)
    credit.give(PRICE // 4, expires_at=CLOCK.wall() + DAY)
    spend(data, credit, [2_000_000])
    assert balance_of(data, "grant:3") == 0
    assert balance_of(data, "grant:2") == 0
    assert balance_of(data, "grant:1") == 5 * USD - (PRICE - PRICE // 2 - PRICE // 4)
    codes = "SELECT a.code, e.n, e.amount FROM entries e JOIN ledger_accounts a ON a.id = e.debit WHERE kind = 1 ORDER BY n"
    assert [row[:2] for row in figures(data, codes)] == [("grant:3", 0), ("grant:2", 1), ("grant:1", 2)]
    assert figures(data, "SELECT spent FROM pots ORDER BY id") == [
        (PRICE - PRICE // 2 - PRICE // 4,),
        (PRICE // 2,),
        (PRICE // 4,),
    ]
    assert findings(data) == []


def test_a_grant_in_tokens_makes_its_calls_free_and_loses_what_they_used(data: Place, credit: Credit) -> None:
    credit.top_up(5 * USD)
    credit.give(1_200, model="gpt-4o*")
    spend(data, credit, [2_000_000, 2_000_000])  # the second one may need more tokens than are left
    assert balance_of(data, "tokens:2") == 700
    assert balance_of(data, "grant:1") == 5 * USD - PRICE
    assert balance_of(data, "promotion") == -PRICE
    assert figures(data, "SELECT charge FROM calls ORDER BY seq") == [(0,), (PRICE,)]
    assert findings(data) == []


def test_a_top_up_pays_back_what_is_owed_first(data: Place, credit: Credit) -> None:
    credit.top_up(10 * USD)
    credit.take(10 * USD, debt=3 * USD)
    assert owed(credit.sql, 1, 0) == 3 * USD
    assert paid(credit.sql, 1) == -3 * USD
    posting = credit.top_up(5 * USD)
    assert (posting.amount, posting.debt) == (2 * USD, -3 * USD)
    assert owed(credit.sql, 1, 0) == 0
    assert balance_of(data, "grant:1") == 2 * USD
    assert balance_of(data, "cash:manual") == -2 * USD
    assert balance_of(data, "debt:1") == 0
    assert findings(data) == []


def test_postings_are_never_changed(credit: Credit) -> None:
    credit.top_up(5 * USD)
    for statement in ("UPDATE postings SET amount = 1", "DELETE FROM postings"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            credit.sql.execute(statement)


def test_a_reference_is_posted_once(credit: Credit, data: Place) -> None:
    credit.top_up(5 * USD, "manual:a")
    with pytest.raises(sqlite3.IntegrityError, match="reference"):
        credit.top_up(5 * USD, "manual:a")
    assert balance_of(data, "grant:1") == 5 * USD


# ── expiry ───────────────────────────────────────────────────────────────────────────────────────


def test_a_call_that_opened_before_its_grant_expired_is_charged_to_it(data: Place, credit: Credit) -> None:
    credit.give(3_000_000, expires_at=CLOCK.wall() + 60_000_000)
    credit.top_up(5 * USD)
    with journal(data) as book:
        before = credit.call(2_000_000)
        assert before is not None
        credit.sql.execute("INSERT INTO slices VALUES (1, 'slot-0', 3000000, 0)")  # a worker has it
        book.open(before[0])
        CLOCK.move(61)
        after = credit.call(2_000_000)
        assert after is not None
        assert [source.grant for source in before[0].sources] == [1]
        assert [source.grant for source in after[0].sources] == [2]
        assert not expirable(credit.sql, CLOCK.wall())
        assert expire(credit.sql, CLOCK.wall()) == 0  # a worker still has some of it
        write(book, [after])
        book.settle(before[1])
        copy_all(data)
    credit.sql.execute("DELETE FROM slices")
    assert expirable(credit.sql, CLOCK.wall())
    assert expire(credit.sql, CLOCK.wall()) == 1
    assert expire(credit.sql, CLOCK.wall()) == 0
    assert not expirable(credit.sql, CLOCK.wall())
    assert balance_of(data, "grant:1") == 0
    assert balance_of(data, "expired") == 3_000_000 - PRICE
    assert balance_of(data, "grant:2") == 5 * USD - PRICE
    assert figures(data, "SELECT kind, name FROM events")[0][0] == "grant.expired"
    assert findings(data) == []


def test_tokens_expire_too_and_an_empty_grant_is_only_closed(data: Place, credit: Credit) -> None:
    credit.give(1_000, model="gpt-4o-mini", expires_at=CLOCK.wall() + DAY)
    credit.give(PRICE, expires_at=CLOCK.wall() + DAY)
    credit.give(50, expires_at=CLOCK.wall() + 2 * DAY)
    spend(data, credit, [2_000_000])
    with journal(data) as book:
        held = opened(hold=PRICE, sources=(Source(2, 2, PRICE),))
        write(book, [(held, ended(held))])
        copy_all(data)
    CLOCK.move(90_000)
    assert expire(credit.sql, CLOCK.wall()) == 2
    assert balance_of(data, "tokens:1") == 0
    assert balance_of(data, "tokens:expired") == 500
    kinds = figures(data, "SELECT kind, tokens, amount FROM postings WHERE kind = 'expiry'")
    assert kinds == [("expiry", -500, 0)]
    assert figures(data, "SELECT id FROM grants WHERE closed_at > 0 ORDER BY id") == [(1,), (2,)]
    assert findings(data) == []


@pytest.mark.parametrize("model", ["", "gpt-4o-mini"])
def test_a_grant_of_which_a_part_went_with_a_lost_journal_expires_whole(
    data: Place, credit: Credit, model: str
) -> None:
    credit.give(1_000, model=model, expires_at=CLOCK.wall() + DAY)
    with writing(credit.sql):
        credit.sql.execute("INSERT INTO slices (pot, slot, amount) VALUES (1, 'slot-0', 400)")
        pots.clear(credit.sql, "slot-0", lost=True)
    assert figures(data, "SELECT slot, amount FROM slices") == [("lost", 400)]
    CLOCK.move(90_000)
    assert expire(credit.sql, CLOCK.wall()) == 1
    assert balance_of(data, "tokens:expired" if model else "expired") == 1_000
    assert figures(data, "SELECT closed_at > 0 FROM grants") == [(1,)]
    assert figures(data, "SELECT * FROM slices") == []
    assert findings(data) == []


def test_the_house_pays_a_prepaid_call_that_died_without_a_mark(data: Place, credit: Credit) -> None:
    credit.top_up(5 * USD)
    with journal(data) as book:
        unmarked, streamed = credit.call(2_000_000), credit.call(2_000_000)
        assert unmarked is not None
        assert streamed is not None
        book.open(unmarked[0])
        book.open(streamed[0])
        book.mark(marked(streamed[0], 100))
    with closing(connect(data)) as sql:
        assert recover(data, sql, CLOCK).estimated == 2
    due = cost_of(300, 356)
    assert figures(data, "SELECT charge, absorbed FROM calls ORDER BY charge") == [(0, 2_000_000), (due, 0)]
    assert balance_of(data, "grant:1") == 5 * USD - due
    assert findings(data) == []


# ── corruptions ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def books(place: Place) -> Place:
    """Clean books: every kind of posting, and calls paid in every way."""
    return filled(place, fill)


def fill(place: Place) -> None:
    data = make(place)
    with closing(Credit(data)) as credit:
        post(data, credit)
    CLOCK.move(90_000)
    with closing(connect(data)) as sql:
        assert expire(sql, CLOCK.wall()) == 2
    assert findings(data) == []


def post(data: Place, credit: Credit) -> None:
    credit.top_up(5 * USD)
    credit.give(10 * PRICE, expires_at=CLOCK.wall() + DAY)
    credit.give(2_000, model="gpt-4o-mini")
    credit.sql.execute(spoken(credit.sql, CODE))
    credit.give(7, reference="code:code_a")
    spend(data, credit, [2_000_000] * 4)
    spend(data, credit, [30 * PRICE])
    credit.take(1 * USD)
    credit.give(9 * PRICE, expires_at=CLOCK.wall() + DAY)
    with journal(data) as book:
        both = opened(hold=4_000_000, sources=(Source(5, 5, PRICE - 5), Source(1, 1, 3_000_000)))
        write(book, [(both, ended(both))])
        copy_all(data)
    credit.sql.execute(
        "INSERT INTO payments VALUES (1, 'evt_1', 'manual', 'manual:0', 1, 'topup', 5000000000, 'usd', 'booked', 1)"
    )


PAID = "(SELECT call FROM entries WHERE kind = 1 AND n = 1)"
GIFT = "(SELECT id FROM postings WHERE kind = 'grant' AND amount > 1000 LIMIT 1)"
TOPUP = "(SELECT id FROM postings WHERE kind = 'topup')"
EXPIRY = "(SELECT id FROM postings WHERE kind = 'expiry' LIMIT 1)"
TWICE = (
    "INSERT INTO postings SELECT x'0123456789abcdef0123456789abcdef', (SELECT max(seq) + 1 FROM postings), book, account, grant_id,"
    " kind, amount, tokens, debt, reference || ':2', actor, note, at FROM postings WHERE {}"
)
CORRUPTIONS: dict[str, tuple[str, list[str]]] = {
    "a changed gift": ("posting", [f"UPDATE postings SET amount = amount + 1 WHERE id = {GIFT}"]),
    "a changed entry of a gift": ("posting", [f"UPDATE entries SET amount = amount + 1 WHERE call = {GIFT}"]),
    "a dropped entry of a posting": ("posting", [f"DELETE FROM entries WHERE call = {TOPUP}"]),
    "a dropped posting": ("entry", [f"DELETE FROM postings WHERE id = {GIFT}"]),
    "a dropped posting and its entries": (
        "sequence",
        [
            "DELETE FROM entries WHERE call = (SELECT id FROM postings WHERE reference LIKE 'gift:%' AND amount > 0 LIMIT 1)",
            "DELETE FROM postings WHERE reference LIKE 'gift:%' AND seq = (SELECT min(seq) FROM postings WHERE reference LIKE 'gift:%' AND amount > 0)",
        ],
    ),
    "a top-up posted twice": ("posting", [TWICE.format("kind = 'topup'")]),
    "a doubled entry of a top-up": (
        "posting",
        [
            f"INSERT INTO entries SELECT call, kind, attempt, 7, book, debit, credit, amount FROM entries WHERE call = {TOPUP}"
        ],
    ),
    "a grant moved to another book": ("posting", ["UPDATE grants SET book = 1 WHERE id = 2"]),
    "a gift given twice": ("posting", [TWICE.format(f"id = {GIFT}")]),
    "an expiry before its time": (
        "grant",
        ["UPDATE grants SET expires_at = expires_at + 86400000000 WHERE id = 2"],
    ),
    "an expiry of what never expires": ("grant", ["UPDATE grants SET expires_at = 0 WHERE id = 2"]),
    "an expiry that was dropped": (
        "grant",
        [f"DELETE FROM entries WHERE call = {EXPIRY}", f"DELETE FROM postings WHERE id = {EXPIRY}"],
    ),
    "a grant closed with a rest": ("grant", ["UPDATE grants SET closed_at = 9, expires_at = 9 WHERE id = 3"]),
    "a grant opened again": ("grant", ["UPDATE grants SET closed_at = 0 WHERE id = 2"]),
    "a redemption without its grant": ("code", ["UPDATE codes SET amount = 8"]),
    "a code redeemed by two": ("code", [TWICE.format("reference = 'code:code_a'")]),
    "a code that was given back": ("code", ["UPDATE codes SET redeemed_at = 0"]),
    "a payment of another amount": ("payment", ["UPDATE payments SET amount = amount + 1"]),
    "a payment that was booked nowhere": ("payment", ["UPDATE payments SET reference = 'manual:none'"]),
    "a pot with more than was given": ("pot", ["UPDATE pots SET amount = amount + 1 WHERE id = 1"]),
    "a pot that forgot what was spent": ("pot", ["UPDATE pots SET spent = spent - 1 WHERE id = 1"]),
    "a charge moved between grants": (
        "split",
        [
            f"UPDATE entries SET amount = amount - 1 WHERE kind = 1 AND n = 0 AND call = {PAID}",
            f"UPDATE entries SET amount = amount + 1 WHERE kind = 1 AND n = 1 AND call = {PAID}",
        ],
    ),
    "grants charged in the wrong order": (
        "grant",
        [
            f"UPDATE entries SET n = 11 - n WHERE kind = 1 AND call = {PAID}",
            "UPDATE entries SET n = n - 10 WHERE n >= 10",
        ],
    ),
    "a charge dropped from a grant": (
        "entry",
        [f"DELETE FROM entries WHERE kind = 1 AND n = 1 AND call = {PAID}"],
    ),
    "tokens that were not lost": ("entry", ["DELETE FROM entries WHERE kind = 4"]),
    "more tokens lost than used": ("entry", ["UPDATE entries SET amount = amount + 1 WHERE kind = 4"]),
    "a call paid by an expired grant": (
        "grant",
        [
            # At the instant at which it expires a grant covers nothing any more.
            "UPDATE grants SET expires_at = (SELECT max(opened_at) FROM calls) WHERE id = 2"
        ],
    ),
    "a debt paid back that was none": (
        "posting",
        ["UPDATE postings SET debt = -1, amount = amount - 1 WHERE kind = 'topup'"],
    ),
    "a trigger taken away": ("schema", []),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_check_finds(books: Place, name: str) -> None:
    kind, statements = CORRUPTIONS[name]
    if kind == "schema":
        with closing(connect(books)) as sql:
            drop_trigger(sql, "postings", "update")
    else:
        plant(books, *statements)
    found = {finding.kind for finding in check(books, CLOCK.wall()).findings}
    assert kind in found, found
